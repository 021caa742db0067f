//! Records of a topic as a stock consumer finds them.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::java::program;
use crate::kafka::text_of;

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

/// Every record that a topic has now, in the order of its partition; none where there is no such topic.
pub fn read_topic(bootstrap: &str, topic: &str) -> Result<Vec<Printed>> {
    read(bootstrap, topic, "read_uncommitted")
}

/// The same without what is not committed.
pub fn read_committed(bootstrap: &str, topic: &str) -> Result<Vec<Printed>> {
    read(bootstrap, topic, "read_committed")
}

fn read(bootstrap: &str, topic: &str, isolation: &str) -> Result<Vec<Printed>> {
    let mut command = program("256m", "ReadTopic")?;
    // What it might log would stand between the records.
    command.env("JDK_JAVA_OPTIONS", "-Dlog4j2.level=OFF").args([bootstrap, topic, isolation]);
    let output = command.output().context("java")?;
    let text = text_of(&format!("reading {topic}"), &output)?;
    let parsed = |record: &str| parse(record).with_context(|| format!("a printed record: {record}"));
    text.split('\u{1d}').filter(|record| !record.is_empty()).map(parsed).collect()
}

fn parse(line: &str) -> Option<Printed> {
    let mut parts = line.split('\u{1f}').map(str::to_owned);
    let (partition, headers) = (parts.next()?, parts.next()?);
    Some(Printed { partition, headers, key: parts.next()?, value: parts.next()? })
}
