//! Replicas that are moved between two log directories with the stock tools and with ours, on our broker and on Apache
//! Kafka; and on ours under kill -9.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::binary;
use aqueduct_tests::kafka::tool;
use aqueduct_tests::server::{Kind, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server with two log directories, and the topic `moved`.
struct Disks {
    server: Server,
    root: TempDir,
}

impl Disks {
    fn start(kind: Kind) -> Result<Self> {
        let root = TempDir::with_prefix("aqueduct-disks-")?;
        let dirs = format!("{},{}", root.path().join("a").display(), root.path().join("b").display());
        let settings = [
            ("log.dirs", dirs.as_str()),
            ("log.segment.delete.delay.ms", "1000"),
            ("log.segment.bytes", "1048576"),
            // Small pieces: Apache Kafka forgets a large one after eleven seconds, and copies the next.
            ("replica.fetch.max.bytes", "65536"),
        ];
        let server = Server::start_with(kind, &settings)?;
        let this = Self { server, root };
        this.aqueduct(&["topics", "create", "moved", "--partitions", "1"])?;
        Ok(this)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn aqueduct(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(binary()?)
            .args(args)
            .args(["--bootstrap-server", &self.server.bootstrap()])
            .output()?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{args:?}: {said}");
        Ok(said)
    }

    /// Where the replica is, and where it is not.
    fn sides(&self) -> (PathBuf, PathBuf) {
        let (a, b) = (self.dir("a"), self.dir("b"));
        if a.join("moved-0").exists() { (a, b) } else { (b, a) }
    }

    /// Directory, whether it is on its way, and lag of each replica that a topic has.
    fn told(&self, topic: &str) -> Result<Vec<(PathBuf, bool, i64)>> {
        let stock = ["--bootstrap-server", &self.server.bootstrap(), "--describe", "--topic-list", topic];
        let said = tool("org.apache.kafka.tools.LogDirsCommand", &stock)?;
        let line = said.lines().find(|line| line.starts_with('{')).context("JSON")?;
        let told: Value = serde_json::from_str(line)?;
        let mut found = Vec::new();
        for dir in told["brokers"][0]["logDirs"].as_array().context("logDirs")? {
            for partition in dir["partitions"].as_array().context("partitions")? {
                let path = PathBuf::from(dir["logDir"].as_str().context("logDir")?);
                let lag = partition["offsetLag"].as_i64().context("offsetLag")?;
                found.push((path, partition["isFuture"] == true, lag));
            }
        }
        found.sort_by_key(|(_, is_future, _)| *is_future);
        Ok(found)
    }

    fn until_gone_from(&self, dir: &Path) -> Result<()> {
        let started = Instant::now();
        while std::fs::read_dir(dir)?
            .flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("moved-0"))
        {
            ensure!(started.elapsed() < PATIENCE, "files stay in {}", dir.display());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

fn reassign(disks: &Disks, action: &[&str], to: &Path) -> Result<String> {
    let plan = json!({"version": 1, "partitions": [
        {"topic": "moved", "partition": 0, "replicas": [1], "log_dirs": [to]}
    ]});
    let file = disks.root.path().join("plan.json");
    std::fs::write(&file, plan.to_string())?;
    let bootstrap = disks.server.bootstrap();
    let file = file.to_string_lossy().into_owned();
    let args = [&["--bootstrap-server", &bootstrap, "--reassignment-json-file", &file][..], action].concat();
    tool("org.apache.kafka.tools.reassign.ReassignPartitionsCommand", &args)
}

/// The same with the stock tools on both: a slow move that is told of and called off, and one that arrives.
fn moved_by_tools(kind: Kind) -> Result<()> {
    let disks = Disks::start(kind)?;
    disks.aqueduct(&["perf", "produce", "moved", "--num-records", "3000", "--record-size", "1000"])?;
    let (from, to) = disks.sides();

    let said = reassign(&disks, &["--execute", "--replica-alter-log-dirs-throttle", "1000"], &to)?;
    let started =
        format!("Successfully started moving log directory to {} for replica moved-0", to.display());
    assert!(said.contains(&started), "{said}");
    let told = disks.told("moved")?;
    assert_eq!((&told[0].0, told[0].1, told[0].2), (&from, false, 0), "{told:?}");
    assert_eq!((&told[1].0, told[1].1), (&to, true), "{told:?}");
    assert!(told[1].2 > 0, "{told:?}");
    let said = reassign(&disks, &["--verify", "--preserve-throttles"], &to)?;
    assert!(said.contains("is still in progress"), "{said}");
    // Called off with the same tool.
    reassign(&disks, &["--execute", "--additional"], &from)?;
    assert_eq!(disks.told("moved")?.len(), 1);
    disks.until_gone_from(&to)?;

    let said = reassign(
        &disks,
        &["--execute", "--additional", "--replica-alter-log-dirs-throttle", "100000000"],
        &to,
    )?;
    assert!(said.contains(&started), "{said}");
    let begun = Instant::now();
    loop {
        let said = reassign(&disks, &["--verify"], &to)?;
        if said.contains("completed successfully") {
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "{said}");
    }
    assert_eq!(disks.told("moved")?, [(to.clone(), false, 0)]);
    assert!(to.join("moved-0").exists());
    disks.until_gone_from(&from)?;
    let read = disks.aqueduct(&["perf", "consume", "moved", "--json"])?;
    assert_eq!(serde_json::from_str::<Value>(&read)?["records"], 3000, "{read}");

    // Back with our tool, and what it says of mistakes.
    let path = from.to_string_lossy().into_owned();
    let said = disks.aqueduct(&["log-dirs", "move", "moved-0", &path, "--wait"])?;
    assert!(said.contains("is in"), "{said}");
    assert_eq!(disks.told("moved")?, [(from.clone(), false, 0)]);
    let refused =
        |args: &[&str]| disks.aqueduct(args).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        refused(&["log-dirs", "move", "moved-0", "/no/such/dir"]).contains("no broker has a log directory")
    );
    assert!(
        refused(&["log-dirs", "move", "moved-0", "/no/such/dir", "--broker", "1"])
            .contains("LOG_DIR_NOT_FOUND")
    );
    // A topic that is not there yet is made where it was asked for.
    for (topic, dir) in [("later", &from), ("more", &to)] {
        let dir = dir.to_string_lossy();
        assert!(
            refused(&["log-dirs", "move", &format!("{topic}-0"), &dir])
                .contains("UNKNOWN_TOPIC_OR_PARTITION")
        );
        disks.aqueduct(&["topics", "create", topic])?;
        let started = Instant::now();
        while disks.told(topic)?.is_empty() {
            ensure!(started.elapsed() < PATIENCE);
        }
        assert_eq!(disks.told(topic)?, [(PathBuf::from(&*dir), false, 0)], "{topic}");
    }
    Ok(())
}

#[test]
fn replicas_are_moved_by_tools_on_our_broker() -> Result<()> {
    moved_by_tools(Kind::Aqueduct)
}

#[test]
fn replicas_are_moved_by_tools_on_apache_kafka() -> Result<()> {
    moved_by_tools(Kind::ApacheKafka)
}

/// A move that is interrupted by kill -9 again and again, while records are written one after the other.
#[test]
fn a_killed_broker_loses_nothing_of_what_it_moves() -> Result<()> {
    let mut disks = Disks::start(Kind::Aqueduct)?;
    let value = "v".repeat(2000);
    let mut written = 0;
    for round in 0..8 {
        let lines: String = (0..300).map(|n| format!("{} {value}\n", written + n)).collect();
        let mut child = Command::new(binary()?)
            .args(["produce", "moved", "--bootstrap-server", &disks.server.bootstrap()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()?;
        std::io::Write::write_all(&mut child.stdin.take().context("stdin")?, lines.as_bytes())?;
        ensure!(child.wait()?.success());
        written += 300;
        let (_, to) = disks.sides();
        disks.aqueduct(&["log-dirs", "move", "moved-0", &to.to_string_lossy()])?;
        std::thread::sleep(Duration::from_millis(round * 7));
        let Server::Aqueduct(broker) = &mut disks.server else { unreachable!("it is ours") };
        broker.restart()?;
        let read = disks.aqueduct(&[
            "consume",
            "moved",
            "--from-beginning",
            "--max-messages",
            &written.to_string(),
        ])?;
        let numbers: Vec<_> =
            read.lines().filter_map(|line| line.split(' ').next()?.parse::<i32>().ok()).collect();
        assert_eq!(numbers, (0..written).collect::<Vec<_>>(), "round {round}");
        // It arrives in the end.
        let started = Instant::now();
        while !to.join("moved-0").exists() {
            ensure!(started.elapsed() < PATIENCE, "round {round}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
