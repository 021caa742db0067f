//! File to topic to file: how much a worker does with a second of CPU.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::Run;
use super::control::source;
use super::worker::{PEERS, Worker, until};
use crate::measure::{cpu_seconds, memory_mib};
use crate::report::Demand;

/// Bytes of a line, its end included.
pub const LINE: u64 = 100;

/// How values are written to the topic.
struct Format {
    name: &'static str,
    class: &'static str,
    schemas: bool,
}

const FORMATS: [Format; 3] = [
    Format { name: "text", class: "org.apache.kafka.connect.storage.StringConverter", schemas: false },
    Format { name: "JSON", class: "org.apache.kafka.connect.json.JsonConverter", schemas: false },
    Format { name: "JSON with schemas", class: "org.apache.kafka.connect.json.JsonConverter", schemas: true },
];

/// Names of the scenarios.
pub fn names() -> Vec<String> {
    FORMATS.iter().map(Format::name).collect()
}

impl Format {
    fn name(&self) -> String {
        format!("file -> topic -> file, {}", self.name)
    }

    fn add_to(&self, config: &mut Value) {
        let settings: Map<String, Value> = [
            ("value.converter", json!(self.class)),
            ("value.converter.schemas.enable", json!(self.schemas.to_string())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
        if let Some(config) = config.as_object_mut() {
            config.extend(settings);
        }
    }
}

/// Writes a file of so many lines.
fn lines(path: &Path, count: u64) -> Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    for line in 0..count {
        writeln!(file, "{line:0width$}", width = LINE as usize - 1)?;
    }
    Ok(file.flush()?)
}

/// Runs the formats that are wanted through both workers.
pub fn measure(run: &mut Run<'_>) -> Result<()> {
    let records = run.args.records();
    let (warm, input) = (run.dir.join("warm.txt"), run.dir.join("lines.txt"));
    lines(&warm, records / 4)?;
    lines(&input, records)?;
    for peer in PEERS {
        let group = run.group(peer, "flow");
        let worker = Worker::start(peer, &group, run.broker, run.dir)?;
        let formats: Vec<&Format> = FORMATS.iter().filter(|format| run.wants(&format.name())).collect();
        for format in formats {
            // A first pass, so that the JVM has compiled what is measured.
            Pass { run, worker: &worker, format, input: &warm, records: records / 4, counts: false }.go()?;
            Pass { run, worker: &worker, format, input: &input, records, counts: true }.go()?;
        }
        worker.stop()?;
    }
    Ok(())
}

/// A file through a topic into another file.
struct Pass<'a, 'b> {
    run: &'a mut Run<'b>,
    worker: &'a Worker,
    format: &'a Format,
    input: &'a PathBuf,
    records: u64,
    counts: bool,
}

impl Pass<'_, '_> {
    fn go(mut self) -> Result<()> {
        let topic = self.run.name("flow");
        self.run.create(&topic, 1)?;
        let output = self.run.dir.join(format!("{topic}.out"));
        let mut from_file = source(&self.input.to_string_lossy(), &topic);
        self.format.add_to(&mut from_file);
        let mut to_file = json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
            "file": output, "topics": topic,
        });
        self.format.add_to(&mut to_file);
        let records = self.records;
        let read = self
            .phase("source", &topic, &from_file, |run| Ok(run.end(&topic, 1)? >= i64::try_from(records)?))?;
        let size = records * LINE;
        let written = self.phase("sink", &topic, &to_file, |_| {
            Ok(fs::metadata(&output).is_ok_and(|found| found.len() >= size))
        })?;
        ensure!(
            fs::read(&output)? == fs::read(self.input)?,
            "{}: what came out is not what went in",
            self.worker.peer
        );
        fs::remove_file(&output)?;
        if self.counts {
            let (name, peer) = (self.format.name(), self.worker.peer);
            self.run.report.demand(&name, "records/CPU s", Demand::Times(5.0));
            self.run.report.add(&name, "records/CPU s", peer, records as f64 / (read + written));
            let (resident, peak) = memory_mib(self.worker.id())?;
            self.run.report.add(&name, "resident MiB", peer, resident);
            self.run.report.add(&name, "peak resident MiB", peer, peak);
        }
        Ok(())
    }

    /// Runs a connector until `done`, and gives the CPU seconds that its worker took.
    fn phase(
        &mut self,
        kind: &str,
        topic: &str,
        config: &Value,
        done: impl Fn(&mut Run<'_>) -> Result<bool>,
    ) -> Result<f64> {
        let name = format!("{topic}-{kind}");
        let (cpu, broker) = (self.worker.cpu()?, cpu_seconds(self.run.broker.id())?);
        let from = Instant::now();
        self.worker.rest.done("PUT", &format!("/connectors/{name}/config"), Some(config))?;
        until(&name, Duration::from_millis(20), || done(self.run))?;
        let seconds = from.elapsed().as_secs_f64();
        let cpu = self.worker.cpu()? - cpu;
        if self.counts {
            let way = if kind == "source" { "file -> topic" } else { "topic -> file" };
            let (scenario, peer) = (format!("{way}, {}", self.format.name), self.worker.peer);
            let records = self.records as f64;
            for (measure, value) in [
                ("records/s", records / seconds),
                ("records/CPU s", records / cpu),
                ("CPU s, worker", cpu),
                ("CPU s, broker", cpu_seconds(self.run.broker.id())? - broker),
            ] {
                self.run.report.add(&scenario, measure, peer, value);
            }
        }
        self.worker.rest.done("DELETE", &format!("/connectors/{name}"), None)?;
        Ok(cpu)
    }
}
