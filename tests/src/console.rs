//! Records of a topic as Kafka's console consumer prints them.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::kafka::tool;

/// A record as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    pub partition: String,
    pub headers: String,
    pub key: String,
    pub value: String,
}

impl Printed {
    /// The value as JSON; null for a tombstone.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.value).with_context(|| format!("{} = {}", self.key, self.value))
    }
}

/// Every record of a topic, in the order of its partition.
pub fn read_topic(bootstrap: &str, topic: &str) -> Result<Vec<Printed>> {
    // On a busy machine nothing may come for a while.
    let records = read_within(bootstrap, topic, "3000")?;
    if records.is_empty() { read_within(bootstrap, topic, "15000") } else { Ok(records) }
}

/// What comes without a longer pause than this, in milliseconds.
fn read_within(bootstrap: &str, topic: &str, pause: &str) -> Result<Vec<Printed>> {
    let mut args =
        vec!["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--timeout-ms", pause];
    for property in [
        "print.partition=true",
        "print.headers=true",
        "print.key=true",
        "key.separator=\u{1f}",
        "headers.separator=\u{1e}",
        "line.separator=\u{1d}",
    ] {
        args.extend(["--formatter-property", property]);
    }
    let text = tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &args)?;
    // What follows the last record are the tool's own words.
    let records = text.rsplit_once('\u{1d}').map_or("", |(records, _)| records);
    let parsed = |record: &str| parse(record).with_context(|| format!("a printed record: {record}"));
    records.split('\u{1d}').filter(|record| !record.is_empty()).map(parsed).collect()
}

fn parse(line: &str) -> Option<Printed> {
    let mut parts = line.split('\u{1f}').map(str::to_owned);
    let (partition, headers) = (parts.next()?, parts.next()?);
    Some(Printed { partition, headers, key: parts.next()?, value: parts.next()? })
}
