//! Sinks with more and more tasks: how throughput grows, and what ends the growth.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_tests::elasticsearch::Elasticsearch;
use serde_json::{Value, json};

use super::Run;
use super::flow::LINE;
use super::worker::{PEERS, Worker, until};
use crate::measure::{cpu_seconds, memory_mib};
use crate::report::OURS;

pub const FILE: &str = "tasks.max, file sink";
pub const SEARCH: &str = "tasks.max, Elasticsearch sink";

/// Partitions of the topic, and so the most tasks that get any.
const PARTITIONS: i32 = 8;
const TASKS: [usize; 4] = [1, 2, 4, 8];

/// The file sink of both workers.
pub fn file(run: &mut Run<'_>) -> Result<()> {
    let topic = run.name("scale");
    let records = run.args.records() * 2;
    run.fill(&topic, PARTITIONS, records, |number| format!("{number:0width$}", width = LINE as usize - 1))?;
    for peer in PEERS {
        let group = run.group(peer, "scale");
        let worker = Worker::start(peer, &group, run.broker, run.dir)?;
        // One pass beforehand, so that the JVM has compiled what is measured.
        for (pass, tasks) in [1].into_iter().chain(TASKS).enumerate() {
            let output = run.dir.join(format!("{group}-{pass}.out"));
            let config = json!({
                "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
                "file": output, "topics": topic, "tasks.max": tasks.to_string(),
            });
            let size = || Ok(fs::metadata(&output).map_or(0, |found| found.len()));
            let sink = Sink { name: &format!("{group}-{pass}"), config: &config, server: None };
            let measured = sink.run(run, &worker, records * LINE, &size)?;
            if pass > 0 {
                measured.note(run, peer, FILE, tasks, records)?;
            }
            fs::remove_file(&output)?;
        }
        run.report.add(FILE, "peak resident MiB", peer, memory_mib(worker.id())?.1);
        worker.stop()?;
    }
    Ok(())
}

/// The Elasticsearch sink of ours: Apache Kafka brings none.
pub fn search(run: &mut Run<'_>, server: &mut Elasticsearch) -> Result<()> {
    let topic = run.name("documents");
    let records = (run.args.records() / 10).max(1);
    run.fill(&topic, PARTITIONS, records, |number| {
        format!("{{\"id\":{number},\"text\":\"document {number}\"}}")
    })?;
    let group = run.group(OURS, "documents");
    let worker = Worker::start(OURS, &group, run.broker, run.dir)?;
    for (pass, tasks) in [1].into_iter().chain(TASKS).enumerate() {
        let config = json!({
            "connector.class": "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
            "connection.url": server.url(""), "topics": topic, "tasks.max": tasks.to_string(),
            "key.ignore": "true", "schema.ignore": "true",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
        });
        let id = server.process().id();
        let indexed = || {
            let found = server.rest("GET", &format!("/{topic}/_stats/indexing"), None)?.body;
            Ok(found["_all"]["primaries"]["indexing"]["index_total"].as_u64().unwrap_or(0))
        };
        let sink = Sink { name: &format!("{group}-{pass}"), config: &config, server: Some(id) };
        let measured = sink.run(run, &worker, records, &indexed)?;
        if pass > 0 {
            measured.note(run, OURS, SEARCH, tasks, records)?;
        }
        server.rest("DELETE", &format!("/{topic}"), None)?;
    }
    run.report.add(SEARCH, "peak resident MiB", OURS, memory_mib(worker.id())?.1);
    worker.stop()
}

/// A sink connector that is run until all is there.
struct Sink<'a> {
    name: &'a str,
    config: &'a Value,
    /// Process of the server that it writes to.
    server: Option<u32>,
}

/// Processors that each process kept busy, from the first record to the last.
struct Measured {
    seconds: f64,
    worker: f64,
    broker: f64,
    server: Option<f64>,
}

impl Sink<'_> {
    fn run(
        &self,
        run: &Run<'_>,
        worker: &Worker,
        all: u64,
        progress: &dyn Fn() -> Result<u64>,
    ) -> Result<Measured> {
        let path = format!("/connectors/{}", self.name);
        worker.rest.done("PUT", &format!("{path}/config"), Some(self.config))?;
        until(self.name, Duration::from_millis(2), || Ok(progress()? > 0))?;
        // The group has settled and the first records have come.
        let (from, began) = (Instant::now(), progress()?);
        let cpu = || -> Result<(f64, f64, Option<f64>)> {
            Ok((worker.cpu()?, cpu_seconds(run.broker.id())?, self.server.map(cpu_seconds).transpose()?))
        };
        let before = cpu()?;
        until(self.name, Duration::from_millis(5), || Ok(progress()? >= all))?;
        let after = cpu()?;
        // What had come before the clock ran takes the time that the rest took.
        let part = 1.0 - began as f64 / all.max(1) as f64;
        let seconds = from.elapsed().as_secs_f64() / part.max(0.01);
        let busy = |after: f64, before: f64| (after - before) / from.elapsed().as_secs_f64().max(0.001);
        worker.rest.done("DELETE", &path, None)?;
        Ok(Measured {
            seconds,
            worker: busy(after.0, before.0),
            broker: busy(after.1, before.1),
            server: after.2.zip(before.2).map(|(after, before)| busy(after, before)),
        })
    }
}

impl Measured {
    fn note(
        &self,
        run: &mut Run<'_>,
        peer: &'static str,
        kind: &str,
        tasks: usize,
        records: u64,
    ) -> Result<()> {
        let scenario = format!("{kind}, {tasks}");
        let rate = records as f64 / self.seconds;
        run.report.add(&scenario, "records/s", peer, rate);
        run.report.add(&scenario, "CPUs busy, worker", peer, self.worker);
        run.report.add(&scenario, "CPUs busy, broker", peer, self.broker);
        if let Some(server) = self.server {
            run.report.add(&scenario, "CPUs busy, sink", peer, server);
        }
        let processors = std::thread::available_parallelism().context("no processors")?.get();
        let limit = self.limit(tasks, processors);
        let round = run.round;
        run.report
            .note(format!("{scenario}, {peer}, round {round}: {rate:.0} records/s; the limit is {limit}"));
        Ok(())
    }

    /// What keeps the sink from being faster, by how busy each process was.
    fn limit(&self, tasks: usize, processors: usize) -> String {
        let mut loads = vec![("the worker", self.worker), ("the broker", self.broker)];
        loads.extend(self.server.map(|server| ("the sink's server", server)));
        loads.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (most, busy) = loads[0];
        let total: f64 = loads.iter().map(|load| load.1).sum();
        let cpus = processors as f64;
        let lanes = tasks.min(processors) as f64;
        if total >= 0.85 * cpus {
            let shares: Vec<String> = loads.iter().map(|(name, busy)| format!("{name} {busy:.2}")).collect();
            format!("the machine, {total:.2} of its {processors} processors are busy: {}", shares.join(", "))
        } else if most == "the worker" && busy >= 0.8 * lanes {
            format!("the worker: its {tasks} tasks keep {busy:.2} processors busy")
        } else if busy >= 0.4 {
            format!(
                "{most}, which others wait for: it keeps {busy:.2} processors busy, all together {total:.2} of {processors}"
            )
        } else {
            format!(
                "none of the processes, {total:.2} of {processors} processors are busy: they wait for the disk or for each other"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_process_is_the_limit() {
        let limit =
            |worker, broker, server, tasks| Measured { seconds: 1.0, worker, broker, server }.limit(tasks, 2);
        assert!(limit(0.9, 0.2, None, 1).starts_with("the worker: its 1 tasks"));
        assert!(limit(1.5, 0.4, None, 4).starts_with("the machine, 1.90 of its 2"));
        assert!(limit(0.2, 0.1, Some(1.2), 4).starts_with("the sink's server"));
        assert!(limit(0.3, 0.7, None, 2).starts_with("the broker"));
        assert!(limit(0.1, 0.1, None, 2).starts_with("none of the processes"));
    }
}
