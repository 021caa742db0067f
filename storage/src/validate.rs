//! The rules for a batch that a client sends: pure, and run before anything is locked.

use aqueduct_protocol::records::{
    BatchHeader, NO_TIMESTAMP, OutputLimit, RawRecord, RecordBatch, RecordError, RecordsSummary,
    TimestampType,
};
use bytes::Bytes;

use crate::{Error, LogConfig, RecordIssue, TopicPartition};

/// Who wrote a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: every rule holds, sequence numbers are checked.
    Client,
    /// A coordinator in this broker: it may write control records, and into internal topics.
    Coordinator,
}

/// A batch that keeps the rules, and what the broker still has to set in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) header: BatchHeader,
    /// Timestamp type and maximum to be written, where they are not what the batch says.
    pub(crate) stamp: Option<(TimestampType, i64)>,
}

/// At most so many records at fault are named one by one.
const MAX_ISSUES: usize = 100;

/// Checks `bytes`, which should be exactly one batch with offsets from 0.
pub(crate) fn check(
    partition: &TopicPartition,
    bytes: &Bytes,
    config: &LogConfig,
    origin: Origin,
    now_ms: i64,
) -> Result<Checked, Error> {
    let invalid =
        |why: String| Error::InvalidRecord { partition: partition.clone(), why, records: Vec::new() };
    let batch = RecordBatch::parse(bytes.clone()).map_err(|e| invalid(e.to_string()))?;
    let header = batch.header;
    if header.base_offset.0 != 0 {
        return Err(invalid(format!("base offset {} of a new batch, 0 expected", header.base_offset)));
    }
    let size = bytes.len();
    if origin == Origin::Client && size > config.max_message_bytes {
        let limit = config.max_message_bytes;
        return Err(Error::MessageTooLarge { partition: partition.clone(), size, limit });
    }
    batch.check_crc().map_err(|source| Error::CorruptMessage { partition: partition.clone(), source })?;
    check_header(&header, origin).map_err(invalid)?;
    let summary =
        batch.check_records(OutputLimit::default(), &mut Vec::new()).map_err(|e| invalid(e.to_string()))?;
    if config.compact && summary.first_without_key.is_some() && !header.attributes.is_control() {
        let records = issues(&batch, |raw| raw.key.is_none().then(|| String::from("a key is needed")));
        let why = String::from("compacted topics take no records without a key");
        return Err(Error::InvalidRecord { partition: partition.clone(), why, records });
    }
    let stamp = check_timestamps(partition, &batch, &summary, config, now_ms)?;
    if size as u64 > config.segment_bytes {
        let limit = config.segment_bytes as usize;
        return Err(Error::RecordListTooLarge { partition: partition.clone(), size, limit });
    }
    Ok(Checked { header, stamp })
}

fn check_header(header: &BatchHeader, origin: Origin) -> Result<(), String> {
    if header.record_count <= 0 || header.last_offset_delta as i64 + 1 != header.record_count as i64 {
        return Err(format!(
            "{} records declared with a last offset delta of {}",
            header.record_count, header.last_offset_delta
        ));
    }
    let attributes = header.attributes;
    if origin == Origin::Client && attributes.is_control() {
        return Err(String::from("clients may not write control records"));
    }
    if origin == Origin::Client && header.has_producer() && header.base_sequence < 0 {
        return Err(format!("producer {} without a sequence number", header.producer_id));
    }
    if attributes.is_transactional() && !header.has_producer() {
        return Err(String::from("transactional records without a producer id"));
    }
    Ok(())
}

/// Returns what must be set: timestamp type and maximum.
fn check_timestamps(
    partition: &TopicPartition,
    batch: &RecordBatch,
    summary: &RecordsSummary,
    config: &LogConfig,
    now_ms: i64,
) -> Result<Option<(TimestampType, i64)>, Error> {
    let refuse =
        |why: String, records| Error::InvalidTimestamp { partition: partition.clone(), why, records };
    let claimed = batch.header.attributes.timestamp_type();
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        if claimed == TimestampType::LogAppendTime {
            let why = "producers may not set the log append time";
            return Err(refuse(String::from(why), issues(batch, |_| Some(String::from(why)))));
        }
        return Ok(Some((TimestampType::LogAppendTime, now_ms)));
    }
    let oldest = now_ms.saturating_sub(config.message_timestamp_before_max_ms);
    let newest = now_ms.saturating_add(config.message_timestamp_after_max_ms);
    if summary.min_timestamp < oldest || summary.max_timestamp > newest {
        let base = batch.header.base_timestamp;
        let records = issues(batch, |raw| {
            let timestamp = base.wrapping_add(raw.timestamp_delta);
            let fits = timestamp == NO_TIMESTAMP || (oldest..=newest).contains(&timestamp);
            (!fits).then(|| format!("timestamp {timestamp} is outside of {oldest} to {newest}"))
        });
        if !records.is_empty() {
            let why = String::from(
                "timestamps outside of what message.timestamp.before.max.ms and message.timestamp.after.max.ms allow",
            );
            return Err(refuse(why, records));
        }
    }
    let sound = claimed == TimestampType::CreateTime && batch.header.max_timestamp == summary.max_timestamp;
    Ok((!sound).then_some((TimestampType::CreateTime, summary.max_timestamp)))
}

fn issues(batch: &RecordBatch, fault: impl Fn(&RawRecord<'_>) -> Option<String>) -> Vec<RecordIssue> {
    let mut found = Vec::new();
    let walked: Result<i64, RecordError> =
        batch.for_each_raw(OutputLimit::default(), &mut Vec::new(), |index, raw| {
            if found.len() < MAX_ISSUES {
                found.extend(fault(&raw).map(|message| RecordIssue { index, message }));
            }
            Ok(())
        });
    debug_assert!(walked.is_ok(), "the records were walked over before");
    found
}
