//! `aqueduct produce`: lines of standard input or of a file become records.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use aqueduct_client::{Delivery, Header, Producer, ProducerRecord};
use aqueduct_protocol::ids::PartitionIndex;
use bytes::Bytes;

use super::connect::{Cluster, pair};
use super::output::Failures;
use crate::options::BadConfig;

/// Records that may be on their way before the next line is read.
const IN_FLIGHT: usize = 10_000;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// The topic to write to.
    #[arg(required_unless_present = "topic_flag")]
    topic: Option<String>,
    #[arg(long = "topic", hide = true)]
    topic_flag: Option<String>,
    /// Read this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line is KEY, this text, VALUE; \t stands for a tab.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// One key for all records.
    #[arg(long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of every record, KEY=VALUE; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// Each line begins with headers, NAME:VALUE,NAME:VALUE, and this text; \t stands for a tab.
    #[arg(long, value_name = "TEXT")]
    headers_separator: Option<String>,
    /// The partition to write to; without it the key decides.
    #[arg(long)]
    partition: Option<i32>,
    /// Timestamp of all records, in milliseconds since 1970 or as 2024-05-31T12:00:00Z; without it the time of sending.
    #[arg(long)]
    timestamp: Option<String>,
    /// A key or value that is this text is null.
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<String>,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, visible_alias = "compression-codec")]
    compression: Option<String>,
    /// The whole input is one record.
    #[arg(long)]
    whole: bool,
    /// Print where each record was written.
    #[arg(long)]
    show_offsets: bool,
}

/// How lines are taken apart.
struct Shape {
    topic: String,
    key: Option<Bytes>,
    key_separator: Option<Vec<u8>>,
    headers_separator: Option<Vec<u8>>,
    headers: Vec<Header>,
    partition: Option<PartitionIndex>,
    timestamp: Option<i64>,
    null: Option<Vec<u8>>,
}

pub async fn run(args: Args) -> Result<()> {
    let mut defaults = vec![("linger.ms", "5")];
    if let Some(codec) = &args.compression {
        defaults.push(("compression.type", codec));
    }
    let timestamp = match &args.timestamp {
        Some(text) => Some(super::consume::timestamp(text).ok_or_else(|| {
            BadConfig(format!("--timestamp {text}: must be milliseconds since 1970 or 2024-05-31T12:00:00Z"))
        })?),
        None => None,
    };
    let separator = |text: &String| text.replace("\\t", "\t").into_bytes();
    let shape = Shape {
        topic: args.topic.or(args.topic_flag).context("no topic is named")?,
        key: args.key.map(Into::into),
        key_separator: args.key_separator.as_ref().map(separator),
        headers_separator: args.headers_separator.as_ref().map(separator),
        headers: args.header.into_iter().map(|(key, value)| header(&key, Some(value.into()))).collect(),
        partition: args.partition.map(PartitionIndex),
        timestamp,
        null: args.null_marker.map(String::into_bytes),
    };
    let input: Box<dyn Read + Send> = match &args.file {
        Some(path) => Box::new(std::fs::File::open(path).with_context(|| path.display().to_string())?),
        None => Box::new(std::io::stdin()),
    };
    let producer = Producer::new(args.cluster.client(&defaults)?);
    let outcome =
        send_all(&producer, BufReader::with_capacity(1 << 16, input), &shape, args.whole, args.show_offsets)
            .await;
    producer.close().await;
    outcome
}

async fn send_all(
    producer: &Producer,
    mut input: impl BufRead,
    shape: &Shape,
    whole: bool,
    show: bool,
) -> Result<()> {
    let mut waiting: VecDeque<Delivery> = VecDeque::new();
    let mut failures = Failures::default();
    let mut number = 0u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        // Reading blocks this thread alone; the producer's task has others.
        let read = tokio::task::block_in_place(|| match whole {
            true => input.read_to_end(&mut line),
            false => input.read_until(b'\n', &mut line),
        })
        .context("standard input")?;
        if read == 0 {
            break;
        }
        if !whole && line.last() == Some(&b'\n') {
            line.pop();
        }
        number += 1;
        let record = shape.record(&line).map_err(|why| anyhow::anyhow!("line {number}: {why}"))?;
        waiting.push_back(producer.send(record).await.with_context(|| format!("line {number}"))?);
        if waiting.len() >= IN_FLIGHT {
            settle(&mut waiting, IN_FLIGHT / 2, shape, show, &mut failures).await;
        }
        if whole {
            break;
        }
    }
    producer.flush().await;
    settle(&mut waiting, 0, shape, show, &mut failures).await;
    failures.finish()
}

/// Waits for the oldest records until no more than `left` are on their way.
async fn settle(
    waiting: &mut VecDeque<Delivery>,
    left: usize,
    shape: &Shape,
    show: bool,
    failures: &mut Failures,
) {
    while waiting.len() > left {
        let Some(delivery) = waiting.pop_front() else { return };
        if let Some(written) = failures.check(delivery.await)
            && show
        {
            println!("{}-{}@{}", shape.topic, written.partition, written.offset);
        }
    }
}

fn header(key: &str, value: Option<Bytes>) -> Header {
    Header { key: key.into(), value }
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

impl Shape {
    fn bytes(&self, text: &[u8]) -> Option<Bytes> {
        (self.null.as_deref() != Some(text)).then(|| Bytes::copy_from_slice(text))
    }

    fn record(&self, mut line: &[u8]) -> Result<ProducerRecord, String> {
        let mut headers = self.headers.clone();
        if let Some(separator) = &self.headers_separator {
            let (text, rest) = split(line, separator).ok_or("no headers separator in it")?;
            line = rest;
            for entry in text.split(|byte| *byte == b',').filter(|entry| !entry.is_empty()) {
                let (key, value) = split(entry, b":").ok_or("a header must be NAME:VALUE")?;
                headers.push(header(&String::from_utf8_lossy(key), self.bytes(value)));
            }
        }
        let (key, value) = match &self.key_separator {
            Some(separator) => {
                let (key, value) = split(line, separator).ok_or_else(|| {
                    format!("no key separator '{}' in it", String::from_utf8_lossy(separator))
                })?;
                (self.bytes(key), value)
            }
            None => (self.key.clone(), line),
        };
        Ok(ProducerRecord {
            topic: self.topic.as_str().into(),
            partition: self.partition,
            key,
            value: self.bytes(value),
            timestamp: self.timestamp,
            headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let shape = Shape {
            topic: "t".into(),
            key: None,
            key_separator: Some(b":".to_vec()),
            headers_separator: Some(b"\t".to_vec()),
            headers: Vec::new(),
            partition: None,
            timestamp: None,
            null: Some(b"NULL".to_vec()),
        };
        let record = shape.record(b"a:1,b:NULL\tkey:va:lue").unwrap();
        assert_eq!(
            (record.key.as_deref(), record.value.as_deref()),
            (Some(&b"key"[..]), Some(&b"va:lue"[..]))
        );
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.headers[1].value, None);
        assert_eq!(shape.record(b"\tk:NULL").unwrap().value, None);
        assert!(shape.record(b"\tno separator").is_err());
    }
}
