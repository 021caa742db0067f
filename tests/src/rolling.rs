//! Load on a cluster while its nodes are restarted one after another, and the check that nobody noticed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::kafka::{java, text_of};
use crate::process::Process;

/// For what takes a few seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(180);
/// Records a second.
const RATE: &str = "300";
/// Records that are acknowledged before anything is done, and between two steps.
const SOME: usize = 150;

/// An idempotent producer that waits for all replicas, and a group that reads what it writes; both of Apache Kafka's.
pub struct Load {
    producer: Process,
    group: Process,
    topic: String,
    config: Option<String>,
    _dir: TempDir,
}

/// What a load came to.
#[derive(Debug)]
pub struct Outcome {
    pub acknowledged: usize,
    /// Records that the group was given again.
    pub redelivered: usize,
}

fn binary_output(cluster: &Cluster, config: Option<&str>, args: &[&str]) -> Result<String> {
    let mut command = Command::new(crate::aqueduct::binary()?);
    command.args(args).args(["--bootstrap-server", &cluster.bootstrap()]);
    if let Some(config) = config {
        command.args(["--command-config", config]);
    }
    text_of("aqueduct", &command.output()?)
}

impl Load {
    /// Creates the topic and starts both; returns when records arrive. `config` is a file with properties of the clients.
    ///
    /// # Errors
    /// Where either does not start to work.
    pub fn start(cluster: &Cluster, topic: &str, config: Option<&Path>) -> Result<Self> {
        let config = config.map(|path| path.display().to_string());
        let create = ["topics", "create", topic, "--partitions", "6", "--replication-factor", "3"];
        let create = [&create[..], &["--config", "min.insync.replicas=2", "--if-not-exists"]].concat();
        cluster.eventually("a topic", LIMIT, || binary_output(cluster, config.as_deref(), &create))?;
        let dir = TempDir::with_prefix("rolling-")?;
        let bootstrap = cluster.bootstrap();
        let mut producer = java("128m", "org.apache.kafka.tools.VerifiableProducer")?;
        producer.args(["--bootstrap-server", &bootstrap, "--topic", topic, "--acks", "-1"]);
        producer.args(["--max-messages", "-1", "--throughput", RATE]);
        // By itself it does not try again, which every other producer does.
        let own = config.as_deref().map_or(Ok(String::new()), std::fs::read_to_string)?;
        let properties = dir.path().join("producer.properties");
        std::fs::write(&properties, format!("{own}\nretries=2147483647\nenable.idempotence=true\n"))?;
        producer.arg("--command-config").arg(&properties);
        let mut group = java("128m", "org.apache.kafka.tools.VerifiableConsumer")?;
        group.args(["--bootstrap-server", &bootstrap, "--topic", topic, "--group-id", topic]);
        group.args(["--reset-policy", "earliest", "--verbose"]);
        group.args(config.iter().flat_map(|path| ["--command-config", path.as_str()]));
        let load = Self {
            producer: Process::start("producer", &mut producer, &dir.path().join("producer"))?,
            group: Process::start("group", &mut group, &dir.path().join("group"))?,
            topic: topic.to_owned(),
            config,
            _dir: dir,
        };
        load.go_on(cluster)?;
        Ok(load)
    }

    /// The values that were acknowledged, and the lines about what was not.
    fn written(&self) -> (Vec<i64>, Vec<String>) {
        let (mut acknowledged, mut failed) = (Vec::new(), Vec::new());
        for line in self.producer.log().lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            match event["name"].as_str() {
                Some("producer_send_success") => acknowledged.extend(number(&event["value"])),
                Some("producer_send_error") => failed.push(line.to_owned()),
                _ => {}
            }
        }
        (acknowledged, failed)
    }

    fn read(&self) -> Vec<i64> {
        let log = self.group.log();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let records = events.filter(|event| event["name"] == "record_data");
        records.filter_map(|event| number(&event["value"])).collect()
    }

    /// Waits until more records are written and read.
    ///
    /// # Errors
    /// Where they are not.
    pub fn go_on(&self, cluster: &Cluster) -> Result<()> {
        let (written, read) = (self.written().0.len(), self.read().len());
        let failed = cluster.eventually("more records", LIMIT, || {
            let (now, failed) = self.written();
            let (writes, reads) = (now.len(), self.read().len());
            let is_more = writes >= written + SOME && reads >= read + SOME;
            ensure!(
                is_more || !failed.is_empty(),
                "{writes} written, {reads} read\n{}\n{}",
                self.producer.log_tail(),
                self.group.log_tail()
            );
            Ok(failed)
        })?;
        ensure!(failed.is_empty(), "the producer failed: {failed:?}\n{}", cluster.logs());
        Ok(())
    }

    /// Ends the producer, and checks that each record was acknowledged without an error, is in the topic exactly once and
    /// has come to the group.
    ///
    /// # Errors
    /// With what is missing or there twice.
    pub fn end(mut self, cluster: &Cluster) -> Result<Outcome> {
        self.producer.terminate(LIMIT)?;
        let (acknowledged, failed) = self.written();
        ensure!(failed.is_empty(), "the producer failed: {failed:?}");
        let wanted: BTreeSet<i64> = acknowledged.iter().copied().collect();
        ensure!(wanted.len() == acknowledged.len(), "a record was acknowledged twice");
        let consume = ["consume", &self.topic, "--from-beginning", "--exit-at-end"];
        let printed = binary_output(cluster, self.config.as_deref(), &consume)?;
        let stored: Vec<i64> = printed.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let distinct: BTreeSet<i64> = stored.iter().copied().collect();
        ensure!(distinct.len() == stored.len(), "{} records are there twice", stored.len() - distinct.len());
        let missing: Vec<_> = wanted.difference(&distinct).collect();
        ensure!(missing.is_empty(), "acknowledged records are missing: {missing:?}");
        cluster.eventually("all records read by the group", LIMIT, || {
            let read: BTreeSet<i64> = self.read().into_iter().collect();
            let skipped: Vec<_> = distinct.difference(&read).collect();
            ensure!(skipped.is_empty(), "the group has not read {skipped:?}");
            Ok(())
        })?;
        let read = self.read();
        Ok(Outcome { acknowledged: wanted.len(), redelivered: read.len() - distinct.len() })
    }

    /// Stops each node in order and starts it again, as `start` does, when the one before is in sync again.
    ///
    /// # Errors
    /// Where a client notices, or a node does not come back.
    pub fn roll(
        &self,
        cluster: &mut Cluster,
        mut start: impl FnMut(&mut Cluster, i32) -> Result<()>,
    ) -> Result<()> {
        for id in cluster.ids() {
            cluster.stop(id)?;
            start(cluster, id)?;
            let args = ["topics", "describe", "--under-replicated-partitions", "--json"];
            cluster.eventually("all replicas in sync", LIMIT, || {
                let printed = binary_output(cluster, self.config.as_deref(), &args)?;
                let topics: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
                let missed =
                    |topic: &Value| topic["partitions"].as_array().is_some_and(|all| !all.is_empty());
                ensure!(!topics.as_array().is_some_and(|all| all.iter().any(missed)), "{printed}");
                Ok(())
            })?;
            self.go_on(cluster)?;
        }
        Ok(())
    }
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
