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
    /// Connectors that a script creates.
    #[arg(long, default_value_t = 1000)]
    connectors: u32,
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
    for name in [OURS, "jvm worker"] {
        control(name, &kafka, dir.path(), args.connectors, &mut report)?;
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
        let config = dir.join(format!("{run}-{port}.properties"));
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
        let process = Process::start(name, &mut command, &dir.join(format!("{run}-{port}.log")))?;
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

/// How long it takes until what was asked for runs: one connector on one worker, a change on three, and many connectors.
fn control(
    name: &'static str,
    kafka: &Kafka,
    dir: &Path,
    connectors: u32,
    report: &mut Report,
) -> Result<()> {
    let run = format!("{}-control", &name[..3]);
    let mut workers = vec![Worker::start(name, &run, kafka, dir)?];
    let input = dir.join("control.txt");
    fs::write(&input, "")?;
    let config = |batch: u32| {
        json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
            "file": input, "topic": format!("{run}-lines"), "batch.size": batch.to_string(),
        })
    };
    let create = |worker: &Worker, name: &str| {
        let body = json!({ "name": name, "config": config(1) });
        curl(worker.port, "POST", "/connectors", Some(&body))
    };
    let from = Instant::now();
    create(&workers[0], "one")?;
    until(&workers[0], "one", 1)?;
    report.add("POST -> RUNNING", "ms", name, from.elapsed().as_secs_f64() * 1000.0);
    let from = Instant::now();
    for number in 0..connectors {
        create(&workers[0], &format!("many-{number}"))?;
    }
    report.add("connectors created by a script", "s", name, from.elapsed().as_secs_f64());
    until(&workers[0], &format!("many-{}", connectors.saturating_sub(1)), 1)?;
    report.add("connectors created by a script, the last RUNNING", "s", name, from.elapsed().as_secs_f64());
    for number in 0..connectors {
        curl(workers[0].port, "DELETE", &format!("/connectors/many-{number}"), None)?;
    }
    for _ in 0..2 {
        workers.push(Worker::start(name, &run, kafka, dir)?);
    }
    // Until the group has settled.
    std::thread::sleep(Duration::from_secs(15));
    until(&workers[0], "one", 1)?;
    let from = Instant::now();
    curl(workers[1].port, "PUT", "/connectors/one/config", Some(&config(2)))?;
    until(&workers[2], "one", 2)?;
    report.add("config change -> new task, 3 workers", "ms", name, from.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

/// Waits until the connector runs and its one task has these settings.
fn until(worker: &Worker, name: &str, batch: u32) -> Result<()> {
    let from = Instant::now();
    loop {
        let get = |end: &str| -> Value {
            let text = curl(worker.port, "GET", &format!("/connectors/{name}/{end}"), None);
            text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
        };
        let status = get("status");
        if get("tasks")[0]["config"]["batch.size"] == batch.to_string().as_str()
            && status["connector"]["state"] == "RUNNING"
            && status["tasks"][0]["state"] == "RUNNING"
        {
            return Ok(());
        }
        if from.elapsed() > Duration::from_secs(120) {
            bail!("connector {name} of {} does not run: {status}", worker.name);
        }
        std::thread::sleep(Duration::from_millis(5));
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
