//! The binary as a user meets it: the demo, `dev`, exit codes, and what bad values and places are answered with.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::{binary, curl};
use aqueduct_tests::connect::Api;
use aqueduct_tests::process::{Process, accepts, free_port};
use serde_json::json;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the binary to its end, which has to come within two minutes.
fn run(args: &[&str]) -> Result<Output> {
    Command::new("timeout").arg("120").arg(binary()?).args(args).output().context("timeout aqueduct")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_demo_ends_with_counts_that_agree() -> Result<()> {
    let output = run(&["demo", "--rows", "300", "--exit"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(0), "{:?}\n{text}\n{}", output.status, stderr(&output));
    ensure!(text.contains("the counts agree, and so does every row"), "{text}");
    let count = |start: &str| -> Result<u64> {
        let line = text.lines().find(|l| l.trim_start().starts_with(start)).with_context(|| text.clone())?;
        line.split_whitespace().find_map(|word| word.parse().ok()).with_context(|| line.to_owned())
    };
    ensure!(count("rows in")? == count("orders in")?, "{text}");
    ensure!(count("rows in")? >= 300 && count("records in topic")? > count("rows in")?, "{text}");
    for part in ["/connectors?expand=status", "--mysql", "--elasticsearch"] {
        ensure!(text.contains(part), "the demo says nothing of {part}:\n{text}");
    }
    ensure!(!stderr(&output).contains("ERROR"), "{}", stderr(&output));
    let dir =
        text.lines().find_map(|l| l.strip_prefix("Aqueduct demo, everything in ")).context("its folder")?;
    ensure!(!Path::new(dir).exists(), "{dir} is left behind");
    Ok(())
}

struct Dev {
    process: Process,
    kafka: u16,
    connect: u16,
    http: u16,
}

fn dev_args(dir: &Path, ports: [u16; 3]) -> Vec<String> {
    let [kafka, connect, http] = ports.map(|port| format!("127.0.0.1:{port}"));
    let data = dir.join("data").display().to_string();
    ["dev", "--data-dir", &data, "--kafka", &kafka, "--connect", &connect, "--http", &http]
        .map(str::to_owned)
        .into()
}

impl Dev {
    fn start(dir: &Path, ports: [u16; 3]) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(dev_args(dir, ports));
        let [kafka, connect, http] = ports;
        let mut dev =
            Self { process: Process::start("dev", &mut command, &dir.join("log"))?, kafka, connect, http };
        let ready = format!("http://127.0.0.1:{connect}/health");
        dev.process.wait_until(LIMIT, || curl("GET", &ready, None).is_ok_and(|a| a.status == 200))?;
        Ok(dev)
    }

    fn api(&self) -> Api {
        Api::new(format!("http://127.0.0.1:{}", self.connect))
    }
}

fn wait_text(path: &Path, wanted: &str) -> Result<()> {
    let from = std::time::Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text == wanted {
            return Ok(());
        }
        ensure!(from.elapsed() < LIMIT, "{} holds {text:?}, not {wanted:?}", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn dev_serves_stops_and_goes_on_where_it_was() -> Result<()> {
    let dir = TempDir::with_prefix("aqueduct-dev-")?;
    let ports = [free_port()?, free_port()?, free_port()?];
    let (input, output) = (dir.path().join("in.txt"), dir.path().join("out.txt"));
    fs::write(&input, "one\ntwo\n")?;
    let text = "org.apache.kafka.connect.storage.StringConverter";

    let mut dev = Dev::start(dir.path(), ports)?;
    ensure!(accepts(dev.kafka), "no broker on {}", dev.kafka);
    for url in [format!("127.0.0.1:{}/metrics", dev.http), format!("127.0.0.1:{}/metrics", dev.connect)] {
        let answer = curl("GET", &format!("http://{url}"), None)?;
        ensure!(answer.status == 200 && answer.body.to_string().contains("# TYPE"), "{url}: {answer:?}");
    }
    for (port, path) in
        [(dev.http, "/health/live"), (dev.http, "/health/ready"), (dev.connect, "/health/ready")]
    {
        ensure!(curl("GET", &format!("http://127.0.0.1:{port}{path}"), None)?.status == 200, "{path}");
    }
    let source = json!({"connector.class": "FileStreamSource", "file": input, "topic": "lines", "value.converter": text});
    dev.api().put("in", &source)?;
    let sink = json!({"connector.class": "FileStreamSink", "file": output, "topics": "lines", "value.converter": text});
    dev.api().put("out", &sink)?;
    wait_text(&output, "one\ntwo\n")?;

    // A second one on the same ports or the same data says so and ends.
    let same = run(&dev_args(dir.path(), ports).iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(!same.status.success() && same.status.code() != Some(124), "{:?}", same.status);
    ensure!(stderr(&same).contains("--http") || stderr(&same).contains("in use"), "{}", stderr(&same));
    let others = [free_port()?, free_port()?, free_port()?];
    let locked = run(&dev_args(dir.path(), others).iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(!locked.status.success() && locked.status.code() != Some(124), "{:?}", locked.status);
    ensure!(stderr(&locked).contains("data"), "{}", stderr(&locked));
    wait_text(&output, "one\ntwo\n")?;

    dev.process.terminate(LIMIT)?;
    ensure!(
        dev.process.exit_code() == Some(0),
        "exit code {:?}\n{}",
        dev.process.exit_code(),
        dev.process.log_tail()
    );
    fs::write(&input, "one\ntwo\nthree\n")?;
    let mut dev = Dev::start(dir.path(), ports)?;
    dev.api().wait_states("in", "RUNNING RUNNING", LIMIT)?;
    dev.api().wait_states("out", "RUNNING RUNNING", LIMIT)?;
    wait_text(&output, "one\ntwo\nthree\n")?;

    dev.process.kill();
    fs::write(&input, "one\ntwo\nthree\nfour\n")?;
    let mut dev = Dev::start(dir.path(), ports)?;
    // What was not committed yet may be written once more.
    let from = std::time::Instant::now();
    while !fs::read_to_string(&output)?.ends_with("four\n") {
        ensure!(from.elapsed() < LIMIT, "{:?}", fs::read_to_string(&output));
        std::thread::sleep(Duration::from_millis(50));
    }
    dev.process.terminate(LIMIT)
}

/// Writes a property file.
fn file(dir: &TempDir, name: &str, lines: &str) -> Result<String> {
    let path = dir.path().join(name);
    fs::write(&path, lines)?;
    Ok(path.to_string_lossy().into_owned())
}

const WORKER: &str = "bootstrap.servers=127.0.0.1:1\ngroup.id=g\nkey.converter=org.apache.kafka.connect.json.JsonConverter\n\
    value.converter=org.apache.kafka.connect.json.JsonConverter\nconfig.storage.topic=c\noffset.storage.topic=o\n\
    status.storage.topic=s\nlisteners=http://127.0.0.1:0\n";

#[test]
fn bad_values_end_with_2_and_a_text_that_says_what_is_allowed() -> Result<()> {
    let dir = TempDir::with_prefix("aqueduct-cli-")?;
    let worker = file(&dir, "worker.properties", WORKER)?;
    let data = dir.path().join("data");
    let broker = file(
        &dir,
        "server.properties",
        &format!(
            "node.id=1\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\n",
            data.display()
        ),
    )?;
    let empty = file(&dir, "empty.properties", "group.id=g\n")?;
    let odd = file(&dir, "odd.json", "[1]")?;
    let nameless = file(&dir, "nameless.properties", "connector.class=FileStreamSource\n")?;
    let standalone = file(
        &dir,
        "standalone.properties",
        &format!("{WORKER}offset.storage.file.filename={}\n", dir.path().join("o").display()),
    )?;
    let cases: &[(&[&str], &[&str])] = &[
        (&["connect", "--config", "no-such-file"], &["no-such-file"]),
        (&["connect", "--config", &empty], &["key.converter"]),
        (&["connect", "--config", &worker, "--set", "nonsense"], &["nonsense", "="]),
        (
            &["connect", "--config", &worker, "--set", "offset.flush.interval.ms=soon"],
            &["offset.flush.interval.ms", "soon"],
        ),
        (
            &["connect", "--config", &worker, "--set", "connect.protocol=odd"],
            &["connect.protocol", "odd", "eager"],
        ),
        (
            &["connect", "--config", &worker, "--set", "listeners=https://127.0.0.1:0"],
            &["listeners", "https", "ssl.keystore.location"],
        ),
        (
            &["connect", "--config", &worker, "--set", "listeners=ftp://127.0.0.1:0"],
            &["listeners", "ftp://127.0.0.1:0", "http"],
        ),
        (
            &["connect", "--config", &worker, "--set", "session.timeout.ms=1000"],
            &["session.timeout.ms", "1000", "heartbeat.interval.ms"],
        ),
        (
            &["connect", "--config", &worker, "--set", "exactly.once.source.support=maybe"],
            &["exactly.once.source.support", "maybe"],
        ),
        (&["connect", "--config", &worker, "--set", "key.converter=Nope"], &["key.converter", "Nope"]),
        (&["connect", "--config", &worker, &nameless], &["--standalone"]),
        (&["connect", "--standalone", "--config", &standalone, &odd], &["odd.json", "object"]),
        (&["connect", "--standalone", "--config", &standalone, &nameless], &["nameless.properties", "name"]),
        (&["broker", "--config", "no-such-file"], &["no-such-file"]),
        (&["broker", "--config", &broker, "--set", "num.partitions=many"], &["num.partitions", "many"]),
        (&["broker", "--config", &broker, "--set", "num.partitions=0"], &["num.partitions", "0", "1"]),
        (
            &["broker", "--config", &broker, "--set", "compression.type=best"],
            &["compression.type", "best", "zstd"],
        ),
        (
            &["broker", "--config", &broker, "--set", "listeners=PLAINTEXT:127.0.0.1"],
            &["listeners", "PLAINTEXT:127.0.0.1"],
        ),
        (&["dev", "--kafka", "nowhere"], &["--kafka", "nowhere"]),
        (&["dive"], &["dive", "--help"]),
    ];
    let mut wrong = Vec::new();
    for (args, parts) in cases {
        let output = run(args)?;
        let text = stderr(&output);
        let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
        if output.status.code() != Some(2) || !missing.is_empty() {
            wrong.push(format!("{}: {:?}, without {missing:?}:\n{text}", args.join(" "), output.status));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn unknown_keys_are_warnings() -> Result<()> {
    let dir = TempDir::with_prefix("aqueduct-cli-")?;
    let port = free_port()?;
    let config = file(
        &dir,
        "server.properties",
        &format!(
            "node.id=1\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\nnum.partitons=3\n",
            dir.path().join("data").display()
        ),
    )?;
    let mut command = Command::new(binary()?);
    command.args(["broker", "--config", &config]);
    let mut broker = Process::start("broker", &mut command, &dir.path().join("log"))?;
    broker.wait_until(LIMIT, || accepts(port))?;
    let log = broker.log();
    ensure!(log.lines().any(|l| l.contains("WARN") && l.contains("num.partitons")), "{log}");

    let worker = file(&dir, "worker.properties", &format!("{WORKER}group.idd=g\n"))?;
    let bootstrap = format!("bootstrap.servers=127.0.0.1:{port}");
    let listen = free_port()?;
    let listener = format!("listeners=http://127.0.0.1:{listen}");
    let mut command = Command::new(binary()?);
    command.args(["connect", "--config", &worker, "--set", &bootstrap, "--set", &listener]);
    for store in ["config", "offset", "status"] {
        command.args(["--set", &format!("{store}.storage.replication.factor=1")]);
    }
    let mut worker = Process::start("worker", &mut command, &dir.path().join("worker.log"))?;
    let health = format!("http://127.0.0.1:{listen}/health");
    worker.wait_until(LIMIT, || curl("GET", &health, None).is_ok_and(|a| a.status == 200))?;
    let log = worker.log();
    ensure!(log.lines().any(|l| l.contains("WARN") && l.contains("group.idd")), "{log}");
    worker.terminate(LIMIT)?;
    broker.terminate(LIMIT)
}

#[test]
fn directories_are_formatted_for_a_quorum() -> Result<()> {
    let dir = TempDir::with_prefix("aqueduct-cli-")?;
    let lines = format!(
        "node.id=1\nprocess.roles=broker,controller\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n\
         controller.quorum.bootstrap.servers=127.0.0.1:9093\nlog.dirs={}\n",
        dir.path().join("data").display()
    );
    let config = file(&dir, "server.properties", &lines)?;
    let id = String::from_utf8(run(&["storage", "random-uuid"])?.stdout)?;
    let format =
        |id: &str, more: &[&str]| run(&[&["storage", "format", "-t", id, "-c", &config], more].concat());
    let (id, list) = (id.trim(), format!("1@127.0.0.1:9093:{}", id.trim()));
    for (args, code, part) in [
        (&[][..], 2, "you must specify one of the following"),
        (&["--standalone", "-N"], 2, "cannot be used with"),
        (&["-I", "1@127.0.0.1:9093"], 2, "ID@HOST:PORT:DIRECTORY_ID"),
        (&["-N"], 2, "nobody to join"),
        (&["-I", &list], 0, "Formatting dynamic metadata voter directory"),
        (&["-I", &list], 1, "is already formatted"),
        (&["-I", &list, "--ignore-formatted"], 0, "already formatted"),
    ] {
        let output = format(id, args)?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
        ensure!(output.status.code() == Some(code) && text.contains(part), "{args:?}: {text}");
    }
    let other = format("AnotherClusterAAAAAAAA", &["-s"])?;
    ensure!(stderr(&other).contains("Expected AnotherClusterAAAAAAAA"), "{}", stderr(&other));
    Ok(())
}

#[test]
fn places_that_belong_to_others_are_refused() -> Result<()> {
    let dir = TempDir::with_prefix("aqueduct-cli-")?;
    let data = dir.path().join("data");
    fs::create_dir(&data)?;
    fs::write(
        data.join("meta.properties"),
        "version=1\ncluster.id=AnotherClusterAAAAAAAA\nnode.id=7\ndirectory.id=7QAAAAAAAAAAAAAAAAAAAA\n",
    )?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let lines = |listen: u16, dirs: &Path| {
        format!(
            "node.id=1\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://127.0.0.1:{listen}\nlog.dirs={}\n",
            dirs.display()
        )
    };
    let other = file(&dir, "other.properties", &lines(0, &data))?;
    let output = run(&["broker", "--config", &other])?;
    let text = stderr(&output);
    ensure!(!output.status.success() && output.status.code() != Some(124), "{:?}\n{text}", output.status);
    for part in ["meta.properties", "node.id", "7"] {
        ensure!(text.contains(part), "without {part}: {text}");
    }
    let names: Vec<_> = fs::read_dir(&data)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(
        names.iter().all(|name| name == "meta.properties" || name == ".lock"),
        "{names:?} are in the folder of another"
    );
    ensure!(
        fs::read_to_string(data.join("meta.properties"))?.contains("node.id=7"),
        "the folder of another was changed"
    );

    let busy = file(&dir, "busy.properties", &lines(port, &dir.path().join("fresh")))?;
    let output = run(&["broker", "--config", &busy])?;
    let text = stderr(&output);
    ensure!(!output.status.success() && output.status.code() != Some(124), "{:?}\n{text}", output.status);
    for part in [port.to_string().as_str(), "listeners", "in use"] {
        ensure!(text.contains(part), "without {part}: {text}");
    }

    let worker = file(&dir, "worker.properties", WORKER)?;
    let listener = format!("listeners=http://127.0.0.1:{port}");
    let output = run(&["connect", "--config", &worker, "--set", &listener])?;
    let text = stderr(&output);
    ensure!(!output.status.success() && output.status.code() != Some(124), "{:?}\n{text}", output.status);
    for part in [port.to_string().as_str(), "listeners", "in use"] {
        ensure!(text.contains(part), "without {part}: {text}");
    }
    Ok(())
}
