//! Elasticsearch: one node, out of its published jars.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::aqueduct::{Answer, curl};
use crate::install::{find, maven, run, workspace};
use crate::process::{Process, free_port};

/// Resolves the jars into `dir` and compiles the launcher.
pub fn install(dir: &Path) -> Result<()> {
    let source = workspace().join("tests/java/elasticsearch");
    let (lib, netty, classes) = (dir.join("lib"), dir.join("modules/transport-netty4"), dir.join("classes"));
    for part in [&lib, &netty, &classes] {
        if part.exists() {
            fs::remove_dir_all(part)?;
        }
        fs::create_dir_all(part)?;
    }
    let output = format!("-DoutputDirectory={}", lib.display());
    maven(&source, &["dependency:copy-dependencies", "-DincludeScope=runtime", &output])?;
    run(Command::new("javac")
        .args(["-proc:none", "-nowarn", "-cp"])
        .arg(lib.join("*"))
        .arg("-d")
        .arg(&classes)
        .arg(source.join("TestNode.java")))?;
    // The HTTP transport is a module with a class loader of its own.
    for entry in fs::read_dir(&lib)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("netty-") || name.starts_with("transport-netty4-") {
            fs::rename(entry.path(), netty.join(name))?;
        }
    }
    let jar = fs::read_dir(&netty)?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("transport-netty4-")));
    let Some(jar) = jar else { bail!("no transport-netty4 jar came from Maven") };
    run(Command::new("unzip")
        .arg("-qoj")
        .arg(jar)
        .arg("META-INF/es-plugins/transport-netty4/*")
        .arg("-d")
        .arg(&netty))?;
    // Loaded from a class path, not as a Java module.
    let descriptor = netty.join("plugin-descriptor.properties");
    let lines = fs::read_to_string(&descriptor)?;
    let kept: Vec<&str> = lines.lines().filter(|l| !l.starts_with("modulename=")).collect();
    fs::write(descriptor, kept.join("\n") + "\n")?;
    Ok(())
}

/// A running node without security.
pub struct Elasticsearch {
    process: Process,
    dir: TempDir,
    installed: PathBuf,
    port: u16,
}

impl Elasticsearch {
    /// Starts a node on a free port with an empty data directory.
    pub fn start() -> Result<Self> {
        let installed = find("AQUEDUCT_ELASTICSEARCH_HOME", "elasticsearch", "classes/TestNode.class")?;
        let dir = TempDir::with_prefix("elasticsearch-")?;
        for part in ["config", "data", "logs"] {
            fs::create_dir(dir.path().join(part))?;
        }
        std::os::unix::fs::symlink(installed.join("modules"), dir.path().join("modules"))?;
        let port = free_port()?;
        let process = launch(&installed, dir.path(), port)?;
        let mut node = Self { process, dir, installed, port };
        node.wait()?;
        Ok(node)
    }

    fn wait(&mut self) -> Result<()> {
        let health = self.url("/_cluster/health?wait_for_status=yellow&timeout=5s");
        self.process.wait_until(Duration::from_secs(120), || {
            curl("GET", &health, None).is_ok_and(|a| a.status == 200)
        })
    }

    /// Address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Sends a request.
    pub fn rest(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        curl(method, &self.url(path), body)
    }

    /// How many documents an index holds, all that were acknowledged included; 0 where there is no such index.
    pub fn count(&self, index: &str) -> Result<u64> {
        if self.rest("POST", &format!("/{index}/_refresh"), None)?.status == 404 {
            return Ok(0);
        }
        Ok(self.rest("GET", &format!("/{index}/_count"), None)?.body["count"].as_u64().unwrap_or_default())
    }

    /// Every document of an index by its id, at most 10,000.
    pub fn documents(&self, index: &str) -> Result<std::collections::BTreeMap<String, Value>> {
        if self.rest("POST", &format!("/{index}/_refresh"), None)?.status == 404 {
            return Ok(Default::default());
        }
        let found = self.rest("GET", &format!("/{index}/_search?size=10000"), None)?.body;
        let hits = found["hits"]["hits"].as_array().cloned().unwrap_or_default();
        Ok(hits
            .iter()
            .map(|h| (h["_id"].as_str().unwrap_or_default().to_owned(), h["_source"].clone()))
            .collect())
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills the node without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the node again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(&self.installed, self.dir.path(), self.port)?;
        self.wait()
    }
}

fn launch(installed: &Path, dir: &Path, port: u16) -> Result<Process> {
    let class_path = format!("{}:{}/*", installed.join("classes").display(), installed.join("lib").display());
    let mut command = Command::new("java");
    command.args([
        "-Xms512m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.awt.headless=true",
    ]);
    command.args(["-XX:-OmitStackTraceInFastThrow", "-Dlog4j2.level=WARN", "-Des.distribution.type=tar"]);
    command.args(["-cp", &class_path, "TestNode"]);
    command.arg(format!("path.home={}", dir.display()));
    command.args([
        "node.name=test",
        "cluster.name=aqueduct-tests",
        "discovery.type=single-node",
        "network.host=127.0.0.1",
    ]);
    command.arg(format!("http.port={port}")).arg(format!("transport.port={}", free_port()?));
    command.arg("cluster.routing.allocation.disk.threshold_enabled=false");
    Process::start("Elasticsearch", &mut command, &dir.join("log"))
}
