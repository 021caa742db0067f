//! From a record of a topic to one for the sink.

use std::collections::VecDeque;
use std::fmt;

use aqueduct_client::{ConsumerRecord, Header as TopicHeader, TimestampType as ClientTimestampType};
use aqueduct_connect_api::convert::RawHeader;
use aqueduct_connect_api::{
    Error as PluginError, Header, Plugin, Record, Result as PluginResult, SinkRecord, TimestampType,
};
use aqueduct_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};

use super::super::conversion::Conversion;
use super::super::errors::{Failure, Stage};
use crate::converters::explain::{Part, Unreadable, explain};

impl Conversion {
    /// The record for the sink; `None` where a transform drops it.
    pub fn for_sink(&mut self, raw: &ConsumerRecord) -> Result<Option<SinkRecord>, Failure> {
        let raw_headers: Vec<RawHeader> =
            raw.headers.iter().map(|h| RawHeader { key: h.key.clone(), value: h.value.clone() }).collect();
        let key = self
            .key
            .decode(&raw.topic, &raw_headers, raw.key.as_ref())
            .map_err(|e| Failure::new(Stage::KeyConverter, &self.key_class, e))?;
        let value = self
            .value
            .decode(&raw.topic, &raw_headers, raw.value.as_ref())
            .map_err(|e| Failure::new(Stage::ValueConverter, &self.value_class, e))?;
        let mut headers = Vec::with_capacity(raw_headers.len());
        for header in raw_headers {
            let value = self
                .headers
                .decode(&raw.topic, &header.key, header.value.as_ref())
                .map_err(|e| Failure::new(Stage::HeaderConverter, &self.header_class, e))?;
            headers.push(Header { key: header.key, value });
        }
        let record = Record {
            topic: raw.topic.clone(),
            partition: Some(raw.partition.0),
            key,
            value,
            headers,
            timestamp: (raw.timestamp >= 0).then_some(raw.timestamp),
            offset: Some(raw.offset.0),
        };
        Ok(self.transforms.apply(record)?.map(|record| SinkRecord {
            record,
            offset: raw.offset.0,
            timestamp_type: match raw.timestamp_type {
                _ if raw.timestamp < 0 => TimestampType::NoTimestamp,
                ClientTimestampType::CreateTime => TimestampType::CreateTime,
                ClientTimestampType::LogAppendTime => TimestampType::LogAppendTime,
            },
            original_topic: raw.topic.clone(),
            original_partition: raw.partition.0,
        }))
    }

    /// A converter's failure with what the record seems to be and which setting to change.
    pub fn explained(&self, raw: &ConsumerRecord, failure: Failure) -> Failure {
        let (part, converter, bytes) = match failure.stage {
            Stage::KeyConverter => (Part::Key, &self.key_class, raw.key.as_deref()),
            Stage::ValueConverter => (Part::Value, &self.value_class, raw.value.as_deref()),
            _ => return failure,
        };
        let (topic, partition, offset) = (&*raw.topic, raw.partition.0, raw.offset.0);
        let record = Unreadable { topic, partition, offset, part, converter, bytes };
        let explanation = explain(&record, &|class| Plugin::by_class(class).is_some());
        failure.explained(explanation)
    }

    /// The bytes of a record whose original is not at hand any more.
    ///
    /// # Errors
    /// Where the converters cannot write what they have read.
    pub fn back(&mut self, sink: &SinkRecord) -> PluginResult<ConsumerRecord> {
        let (record, topic) = (&sink.record, &sink.original_topic);
        let failed = |what: &str, e: PluginError| {
            PluginError::connect(format!(
                "the {what} of {topic}-{}@{} cannot be written to the dead-letter topic",
                sink.original_partition, sink.offset
            ))
            .caused_by(e)
        };
        let key = self
            .key
            .encode(topic, &record.headers, record.key.schema.as_ref(), &record.key.value)
            .map_err(|e| failed("key", e))?;
        let value = self
            .value
            .encode(topic, &record.headers, record.value.schema.as_ref(), &record.value.value)
            .map_err(|e| failed("value", e))?;
        let mut headers = Vec::with_capacity(record.headers.len());
        for header in &record.headers {
            let value = self
                .headers
                .encode(topic, &header.key, header.value.schema.as_deref(), &header.value.value)
                .map_err(|e| failed("headers", e))?;
            headers.push(TopicHeader { key: header.key.clone(), value });
        }
        Ok(ConsumerRecord {
            topic: topic.clone(),
            partition: PartitionIndex(sink.original_partition),
            offset: Offset(sink.offset),
            timestamp: record.timestamp.unwrap_or(-1),
            timestamp_type: ClientTimestampType::CreateTime,
            leader_epoch: LeaderEpoch(-1),
            key,
            value,
            headers,
        })
    }
}

/// A topic's record in messages: where it is, never what is in it.
pub struct Shown<'a>(pub &'a ConsumerRecord);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConsumerRecord { topic, partition, offset, timestamp, .. } = self.0;
        let kind = match self.0.timestamp_type {
            ClientTimestampType::CreateTime => "CreateTime",
            ClientTimestampType::LogAppendTime => "LogAppendTime",
        };
        write!(
            f,
            "{topic}-{partition}@{offset} {{topic='{topic}', partition={partition}, offset={offset}, timestamp={timestamp}, timestampType={kind}}}"
        )
    }
}

/// Records as they were read, for the dead-letter topic; the newest ones, up to a limit in bytes.
pub struct RecentRaw {
    batches: VecDeque<(usize, Vec<ConsumerRecord>)>,
    bytes: usize,
    limit: usize,
}

impl RecentRaw {
    /// Keeps nothing where there is no dead-letter topic.
    pub fn new(enabled: bool) -> Self {
        const LIMIT: usize = 16 << 20;
        Self { batches: VecDeque::new(), bytes: 0, limit: if enabled { LIMIT } else { 0 } }
    }

    pub fn keep(&mut self, records: Vec<ConsumerRecord>) {
        if self.limit == 0 {
            return;
        }
        let size = |r: &ConsumerRecord| {
            128 + r.key.as_ref().map_or(0, bytes::Bytes::len) + r.value.as_ref().map_or(0, bytes::Bytes::len)
        };
        let bytes = records.iter().map(size).sum();
        self.bytes += bytes;
        self.batches.push_back((bytes, records));
        while self.bytes > self.limit && self.batches.len() > 1 {
            let (bytes, _) = self.batches.pop_front().expect("more than one");
            self.bytes -= bytes;
        }
    }

    pub fn find(&self, sink: &SinkRecord) -> Option<ConsumerRecord> {
        let is = |r: &&ConsumerRecord| {
            r.offset.0 == sink.offset
                && r.partition.0 == sink.original_partition
                && r.topic == sink.original_topic
        };
        self.batches.iter().rev().find_map(|(_, batch)| batch.iter().find(is)).cloned()
    }
}
