//! Producers and consumers of the tools: console, performance, and the verifiable pair in a group.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct_tests::kafka::java;
use aqueduct_tests::on_both;
use aqueduct_tests::process::signal;
use aqueduct_tests::server::Server;
use serde_json::Value;

use crate::{TOPICS, consume, create_topic, numbered, on, produce};

on_both!(
    console_producer_and_consumer,
    console_consumer_resumes_in_its_group,
    performance_tools,
    verifiable_producer_and_group_of_three,
);

/// Keys and headers through a topic that the producer's first request creates, in every compression.
fn console_producer_and_consumer(server: &Server) -> Result<()> {
    let reader = ["--reader-property", "parse.key=true", "--reader-property", "parse.headers=true"];
    let printer = ["print.key=true", "print.headers=true", "print.partition=true", "print.offset=true"];
    let printer = printer.iter().flat_map(|p| ["--formatter-property", *p]);
    let printer: Vec<&str> = printer.chain(["--from-beginning"]).collect();
    produce(server, "java.console", "h1:x,h1:y\tk\tv1\n", &reader)?;
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        produce(
            server,
            "java.console",
            &format!("h:1\tk\t{codec}\n"),
            &[&reader[..], &["--compression-codec", codec]].concat(),
        )?;
    }
    let lines = consume(server, "java.console", 5, &printer)?;
    assert_eq!(lines[0], "Partition:0\tOffset:0\th1:x,h1:y\tk\tv1");
    for (at, codec) in ["gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        assert_eq!(lines[at + 1], format!("Partition:0\tOffset:{}\th:1\tk\t{codec}", at + 1));
    }
    let described = on(server, TOPICS, &["--describe", "--topic", "java.console"])?;
    assert!(described.contains("PartitionCount: 1\t"), "{described}");
    Ok(())
}

/// A group member that comes back goes on where it committed.
fn console_consumer_resumes_in_its_group(server: &Server) -> Result<()> {
    create_topic(server, "java.resume", 1)?;
    produce(server, "java.resume", &numbered("r", 6).join("\n"), &[])?;
    let group = ["--group", "java-resume", "--command-property", "auto.offset.reset=earliest"];
    assert_eq!(consume(server, "java.resume", 4, &group)?, numbered("r", 6)[..4]);
    assert_eq!(consume(server, "java.resume", 2, &group)?, numbered("r", 6)[4..]);
    Ok(())
}

/// The performance tools move what they are told to.
fn performance_tools(server: &Server) -> Result<()> {
    create_topic(server, "java.perf", 3)?;
    let count = "40000";
    let args = ["--topic", "java.perf", "--num-records", count, "--record-size", "200", "--throughput", "-1"];
    let printed = on(server, "org.apache.kafka.tools.ProducerPerformance", &args)?;
    assert!(printed.contains(&format!("{count} records sent")), "{printed}");
    let args = ["--topic", "java.perf", "--num-records", count, "--timeout", "60000"];
    let printed = on(server, "org.apache.kafka.tools.ConsumerPerformance", &args)?;
    let fields: Vec<&str> = printed.lines().last().unwrap_or_default().split(", ").collect();
    assert_eq!(fields.get(4).copied(), Some(count), "{printed}");
    Ok(())
}

/// A group of three: each gets partitions, one leaves and the others take over, another is killed and comes back,
/// and at the end every record was read once.
fn verifiable_producer_and_group_of_three(server: &Server) -> Result<()> {
    create_topic(server, "java.verify", 6)?;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(Member::start(server)?);
    }
    wait("three members with two partitions each", &mut members, |m| {
        m.iter().all(|m| m.assigned.len() == 2)
    })?;
    assert_eq!(send(server)?, 300);
    wait("300 records committed", &mut members, |m| m.iter().map(|m| m.committed).sum::<u64>() == 300)?;

    let mut gone = [members.pop().context("three")?];
    gone[0].end()?;
    wait("two members with three partitions each", &mut members, |m| {
        m.iter().all(|m| m.assigned.len() == 3)
    })?;
    assert_eq!(send(server)?, 300);
    let earlier = gone[0].committed;
    wait("600 records committed", &mut members, |m| {
        m.iter().map(|m| m.committed).sum::<u64>() + earlier == 600
    })?;

    for member in &mut members {
        member.end()?;
    }
    let mut last = vec![Member::start(server)?];
    wait("the last member has all", &mut last, |m| m[0].assigned.len() == 6)?;
    assert_eq!(send(server)?, 300);
    wait("the last 300", &mut last, |m| m[0].committed == 300)?;
    let total: u64 = gone.iter().chain(&members).chain(&last).map(|m| m.consumed).sum();
    assert_eq!(total, 900, "each record is read once");
    Ok(())
}

/// Sends 300 records with the verifiable producer and gives how many were acknowledged.
fn send(server: &Server) -> Result<u64> {
    let args = [
        "--topic",
        "java.verify",
        "--max-messages",
        "300",
        "--acks",
        "-1",
        "--value-prefix",
        "1",
        "--repeating-keys",
        "60",
    ];
    let printed = on(server, "org.apache.kafka.tools.VerifiableProducer", &args)?;
    let last: Value = serde_json::from_str(printed.lines().last().unwrap_or_default())?;
    last["acked"].as_u64().with_context(|| format!("no count of acknowledged records in {last}"))
}

/// A verifiable consumer and what it has told.
struct Member {
    child: Child,
    lines: Receiver<String>,
    assigned: BTreeSet<i64>,
    consumed: u64,
    committed: u64,
    positions: BTreeMap<i64, i64>,
}

impl Member {
    fn start(server: &Server) -> Result<Self> {
        let mut command = java("256m", "org.apache.kafka.tools.VerifiableConsumer")?;
        command.args(["--bootstrap-server", &server.bootstrap(), "--topic", "java.verify"]);
        command.args([
            "--group-id",
            "java-verify",
            "--group-protocol",
            "classic",
            "--session-timeout",
            "60000",
        ]);
        let mut child = command.args(["--reset-policy", "earliest"]).stdout(Stdio::piped()).spawn()?;
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let (assigned, positions) = (BTreeSet::new(), BTreeMap::new());
        Ok(Self { child, lines, assigned, consumed: 0, committed: 0, positions })
    }

    /// Asks the consumer to leave the group, waits for its end and takes all that it told.
    fn end(&mut self) -> Result<()> {
        signal(self.child.id(), "TERM")?;
        self.child.wait()?;
        while let Ok(line) = self.lines.recv() {
            self.take(&line)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
            self.take(&line)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return Ok(()) };
        let partitions = || event["partitions"].as_array().cloned().unwrap_or_default();
        match event["name"].as_str() {
            Some("partitions_assigned") => {
                self.assigned.extend(partitions().iter().filter_map(|p| p["partition"].as_i64()));
            }
            Some("partitions_revoked" | "partitions_lost") => {
                for partition in partitions() {
                    self.assigned.remove(&partition["partition"].as_i64().unwrap_or(-1));
                }
            }
            Some("records_consumed") => self.consumed += event["count"].as_u64().unwrap_or(0),
            Some("offsets_committed") => {
                anyhow::ensure!(event["success"] == true, "{event}");
                for offset in event["offsets"].as_array().into_iter().flatten() {
                    let partition = offset["partition"].as_i64().unwrap_or(-1);
                    self.positions.insert(partition, offset["offset"].as_i64().unwrap_or(-1));
                }
                self.committed = self.consumed;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(what: &str, members: &mut [Member], done: impl Fn(&[Member]) -> bool) -> Result<()> {
    let from = Instant::now();
    while !done(members) {
        if from.elapsed() > Duration::from_secs(120) {
            let seen: Vec<_> =
                members.iter().map(|m| (&m.assigned, m.consumed, m.committed, &m.positions)).collect();
            bail!("waited in vain for {what}: {seen:?}");
        }
        for member in &mut *members {
            member.drain()?;
        }
    }
    Ok(())
}
