//! A Connect worker: file to topic to file on Apache Kafka, and what an idle one costs.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct_tests::kafka::{Kafka, plugins, text_of, tool, tuned_java};
use aqueduct_tests::process::{Process, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{cpu_seconds, memory_mib};
use crate::peer::aqueduct;
use crate::report::{OURS, Report};

#[derive(clap::Args)]
pub struct Args {
    /// Runs of each peer.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Lines of 100 bytes in the file.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
}

/// Runs both workers in turn on one Kafka node, then an idle `aqueduct dev`.
pub fn run(args: &Args) -> Result<()> {
    let mut report = Report::new("connect");
    let kafka = Kafka::start_tuned()?;
    let dir = TempDir::with_prefix("bench-connect-")?;
    let input = dir.path().join("in.txt");
    let mut file = std::io::BufWriter::new(fs::File::create(&input)?);
    for line in 0..args.records {
        writeln!(file, "{line:099}")?;
    }
    file.flush()?;
    for round in 1..=args.rounds {
        for name in [OURS, "jvm worker"] {
            eprintln!("round {round} of {}: {name}", args.rounds);
            let worker = Worker::start(name, &format!("{}-{round}", &name[..3]), &kafka, dir.path())?;
            worker.measure(&kafka, &input, args.records, dir.path(), &mut report)?;
        }
    }
    idle_dev(&mut report)?;
    report.finish()
}

struct Worker {
    name: &'static str,
    run: String,
    process: Process,
    port: u16,
}

impl Worker {
    fn start(name: &'static str, run: &str, kafka: &Kafka, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let config = dir.join(format!("{run}.properties"));
        let string = "org.apache.kafka.connect.storage.StringConverter";
        fs::write(
            &config,
            format!(
                "bootstrap.servers={}\ngroup.id={run}\nlisteners=http://127.0.0.1:{port}\nkey.converter={string}\n\
                 value.converter={string}\nconfig.storage.topic={run}-configs\noffset.storage.topic={run}-offsets\n\
                 status.storage.topic={run}-status\nconfig.storage.replication.factor=1\n\
                 offset.storage.replication.factor=1\nstatus.storage.replication.factor=1\noffset.flush.interval.ms=1000\n\
                 plugin.path={}\n",
                kafka.bootstrap(),
                plugins()?.display()
            ),
        )?;
        let mut command = if name == OURS {
            let mut command = Command::new(aqueduct()?);
            command.arg("connect").arg("--config").arg(&config);
            command
        } else {
            let mut command = tuned_java("2g", "org.apache.kafka.connect.cli.ConnectDistributed")?;
            command.arg(&config);
            command
        };
        let process = Process::start(name, &mut command, &dir.join(format!("{run}.log")))?;
        let mut worker = Self { name, run: run.to_owned(), process, port };
        worker
            .process
            .wait_until(Duration::from_secs(120), || curl(port, "GET", "/connectors", None).is_ok())?;
        Ok(worker)
    }

    fn measure(
        &self,
        kafka: &Kafka,
        input: &Path,
        records: u64,
        dir: &Path,
        report: &mut Report,
    ) -> Result<()> {
        let id = self.process.id();
        std::thread::sleep(Duration::from_secs(3));
        report.add("worker, idle", "resident, MiB", self.name, memory_mib(id)?.0);
        let topic = format!("{}-lines", self.run);
        let bootstrap = kafka.bootstrap();
        tool(
            "org.apache.kafka.tools.TopicCommand",
            &["--bootstrap-server", &bootstrap, "--create", "--topic", &topic],
        )?;
        let source = json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
            "file": input, "topic": topic,
        });
        let mut phase =
            |scenario: &str, name: &str, config: &Value, done: &dyn Fn() -> Result<bool>| -> Result<()> {
                let (before, from) = (cpu_seconds(id)?, Instant::now());
                curl(self.port, "PUT", &format!("/connectors/{name}/config"), Some(config))?;
                while !done()? {
                    if from.elapsed() > Duration::from_secs(600) {
                        bail!("{scenario} of {} did not end within ten minutes", self.name);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                let (seconds, cpu) = (from.elapsed().as_secs_f64(), cpu_seconds(id)? - before);
                report.add(scenario, "records/s", self.name, records as f64 / seconds);
                report.add(scenario, "records/CPU s", self.name, records as f64 / cpu);
                curl(self.port, "DELETE", &format!("/connectors/{name}"), None)?;
                Ok(())
            };
        // The log's size on disk tells when the source is done without a client's help.
        let log = kafka.data().join(format!("{topic}-0"));
        let all_bytes = records * 99;
        phase("file -> topic", &format!("{}-source", self.run), &source, &|| {
            let size: u64 = fs::read_dir(&log)?
                .flatten()
                .filter(|e| e.path().extension().is_some_and(|x| x == "log"))
                .filter_map(|e| Some(e.metadata().ok()?.len()))
                .sum();
            Ok(size >= all_bytes && end_offset(&bootstrap, &topic)? >= records)
        })?;
        let output = dir.join(format!("{}.out", self.run));
        let sink = json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
            "file": output, "topics": topic,
        });
        phase("topic -> file", &format!("{}-sink", self.run), &sink, &|| {
            Ok(fs::metadata(&output).map_or(0, |m| m.len()) >= records * 100)
        })?;
        if fs::read(&output)? != fs::read(input)? {
            bail!("{}: what came out is not what went in", self.name);
        }
        fs::remove_file(&output)?;
        report.add("worker, after load", "peak resident, MiB", self.name, memory_mib(id)?.1);
        Ok(())
    }
}

fn end_offset(bootstrap: &str, topic: &str) -> Result<u64> {
    let text =
        tool("org.apache.kafka.tools.GetOffsetShell", &["--bootstrap-server", bootstrap, "--topic", topic])?;
    let last = text.trim().rsplit(':').next().context("no offset")?;
    Ok(last.parse()?)
}

fn curl(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["-fsS", "-X", method, "-H", "Content-Type: application/json"]);
    if let Some(body) = body {
        command.arg("--data-binary").arg(body.to_string());
    }
    let output = command.arg(format!("http://127.0.0.1:{port}{path}")).output().context("curl")?;
    text_of(path, &output)
}

fn idle_dev(report: &mut Report) -> Result<()> {
    let dir = TempDir::with_prefix("bench-dev-")?;
    let (kafka, connect) = (free_port()?, free_port()?);
    let mut command = Command::new(aqueduct()?);
    command.arg("dev").arg("--data-dir").arg(dir.path().join("data"));
    command.args(["--kafka", &format!("127.0.0.1:{kafka}"), "--connect", &format!("127.0.0.1:{connect}")]);
    let mut process = Process::start("aqueduct dev", &mut command, &dir.path().join("log"))?;
    process.wait_until(Duration::from_secs(30), || curl(connect, "GET", "/connectors", None).is_ok())?;
    std::thread::sleep(Duration::from_secs(10));
    let before = cpu_seconds(process.id())?;
    std::thread::sleep(Duration::from_secs(10));
    report.add("aqueduct dev, idle", "CPU %", OURS, (cpu_seconds(process.id())? - before) * 10.0);
    report.add("aqueduct dev, idle", "resident, MiB", OURS, memory_mib(process.id())?.0);
    process.terminate(Duration::from_secs(20))
}
