//! Kafka's own command line tools, on our broker and on Apache Kafka's.

mod admin;
mod clients;
mod cluster;
mod dump_log;
mod groups;
mod records;

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use aqueduct_tests::kafka::{java, text_of, tool};
use aqueduct_tests::server::Server;
use aqueduct_tests::settle::settle;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// Runs a tool that takes `--bootstrap-server`.
fn on(server: &Server, class: &str, args: &[&str]) -> Result<String> {
    let printed = tool(class, &[&["--bootstrap-server", &server.bootstrap()], args].concat())?;
    settle(server)?;
    Ok(printed)
}

/// What a tool prints where it must fail.
fn refused(server: &Server, class: &str, args: &[&str]) -> Result<String> {
    let output =
        java("256m", class)?.args(["--bootstrap-server", &server.bootstrap()]).args(args).output()?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    anyhow::ensure!(
        !output.status.success() || printed.contains("Error") || printed.contains("Exception"),
        "{class} {args:?} should fail:\n{printed}"
    );
    Ok(printed)
}

fn create_topic(server: &Server, topic: &str, partitions: u32) -> Result<()> {
    let partitions = partitions.to_string();
    on(server, TOPICS, &["--create", "--topic", topic, "--partitions", &partitions]).map(drop)
}

/// Sends lines with the console producer.
fn produce(server: &Server, topic: &str, lines: &str, args: &[&str]) -> Result<()> {
    let mut command = java("256m", "org.apache.kafka.tools.ConsoleProducer")?;
    command.args(["--bootstrap-server", &server.bootstrap(), "--topic", topic]).args(args);
    text_of("console producer", &with_input(&mut command, lines)?).map(drop)
}

/// Reads lines with the console consumer, which ends after `count` of them.
fn consume(server: &Server, topic: &str, count: usize, args: &[&str]) -> Result<Vec<String>> {
    let count = count.to_string();
    let fixed = ["--topic", topic, "--max-messages", &count, "--timeout-ms", "60000"];
    let text = on(server, "org.apache.kafka.tools.consumer.ConsoleConsumer", &[&fixed, args].concat())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn with_input(command: &mut Command, input: &str) -> Result<std::process::Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

/// The lines `prefix0`, `prefix1` and so on.
fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}

/// The rows of a table that a tool printed, as words; empty lines and the head are left out.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|row| !row.is_empty() && row[0] != "GROUP" && row[0] != "TOPIC").collect()
}
