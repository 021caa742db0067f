//! Segments: batches and their records.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aqueduct_protocol::records::{BatchHeader, EndTransactionMarker, Record, RecordBatch, TimestampType};
use bytes::Bytes;

use super::super::output::print_lines;

/// A batch larger than this is taken for damage.
const LARGEST: usize = 1 << 30;
/// Bytes of a batch that tell how long it is.
const PREFIX: usize = 12;

/// Reads key and value of a record; `None` where they are not what was expected.
pub type Decoder = fn(Option<&Bytes>, Option<&Bytes>) -> Option<(String, String)>;

/// What is shown of records.
pub struct Records {
    pub data: bool,
    pub deep: bool,
    pub metadata: bool,
    pub decoder: Option<Decoder>,
    pub max_bytes: u64,
}

/// Walks over the batches of a segment file.
pub struct Batches {
    file: BufReader<File>,
    /// Where the next batch begins, and where the file ends.
    pub at: u64,
    end: u64,
}

impl Batches {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file: BufReader::with_capacity(1 << 20, file), at: 0, end })
    }

    /// The next batch with its position; `None` at the end, which may be preallocated zeros.
    ///
    /// # Errors
    /// Bytes that are no batch, with their position.
    pub fn next(&mut self) -> Result<Option<(u64, RecordBatch)>> {
        let at = self.at;
        if self.end - at < PREFIX as u64 {
            return if self.end == at {
                Ok(None)
            } else {
                bail!("{} bytes are left over at {at}", self.end - at)
            };
        }
        let mut prefix = [0; PREFIX];
        self.file.read_exact(&mut prefix)?;
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        if prefix == [0; PREFIX] {
            return Ok(None);
        }
        let size = usize::try_from(length).ok().map(|length| length + PREFIX).filter(|size| *size <= LARGEST);
        let Some(size) = size.filter(|size| at + *size as u64 <= self.end) else {
            bail!("no batch at {at}: it claims {length} bytes, the file ends {} bytes later", self.end - at);
        };
        let mut bytes = vec![0; size];
        bytes[..PREFIX].copy_from_slice(&prefix);
        self.file.read_exact(&mut bytes[PREFIX..])?;
        self.at += size as u64;
        let batch = RecordBatch::parse(bytes.into()).with_context(|| format!("no batch at {at}"))?;
        Ok(Some((at, batch)))
    }
}

/// The offset that a file's name stands for.
pub fn base_offset(path: &Path) -> Option<i64> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

pub fn dump(path: &Path, show: &Records) -> Result<()> {
    if let Some(start) = base_offset(path) {
        println!("Log starting offset: {start}");
    }
    let mut batches = Batches::open(path)?;
    while let Some((at, batch)) = batches.next()? {
        let mut lines = vec![batch_line(at, &batch)];
        if show.data || show.deep {
            match batch.records() {
                Ok(records) => {
                    for (index, record) in records.enumerate() {
                        match record {
                            Ok(record) => lines.push(record_line(&batch.header, index, &record, show)),
                            Err(error) => lines.push(format!("| record {index} is damaged: {error}")),
                        }
                    }
                }
                Err(error) => lines.push(format!("| records are damaged: {error}")),
            }
        }
        print_lines(lines)?;
        if batches.at >= show.max_bytes {
            break;
        }
    }
    Ok(())
}

fn time_name(kind: TimestampType) -> &'static str {
    match kind {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn batch_line(at: u64, batch: &RecordBatch) -> String {
    let header = &batch.header;
    let horizon = match header.delete_horizon() {
        Some(horizon) => format!("OptionalLong[{horizon}]"),
        None => "OptionalLong.empty".to_owned(),
    };
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} position: {at} {}: {} \
         size: {} magic: 2 compresscodec: {} crc: {} isvalid: {}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        header.base_sequence,
        header.last_sequence(),
        header.producer_id,
        header.producer_epoch,
        header.leader_epoch,
        header.attributes.is_transactional(),
        header.attributes.is_control(),
        time_name(header.attributes.timestamp_type()),
        header.max_timestamp,
        header.size(),
        header.attributes.compression().map_or("unknown", |codec| codec.name()),
        header.crc,
        batch.check_crc().is_ok(),
    )
}

fn record_line(header: &BatchHeader, index: usize, record: &Record, show: &Records) -> String {
    let mut line = String::from("|");
    if show.metadata {
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(-1, |bytes| bytes.len() as i64);
        let sequence = match header.base_sequence {
            ..0 => -1,
            base => base.wrapping_add((record.offset.0 - header.base_offset.0) as i32) & i32::MAX,
        };
        let keys: Vec<&str> = record.headers.iter().map(|header| &*header.key).collect();
        line += &format!(
            " offset: {} {}: {} keySize: {} valueSize: {} sequence: {sequence} headerKeys: [{}]",
            record.offset,
            time_name(header.attributes.timestamp_type()),
            record.timestamp,
            size(&record.key),
            size(&record.value),
            keys.join(",")
        );
    }
    if header.attributes.is_control() {
        line += &match EndTransactionMarker::parse(record) {
            Ok(Some(marker)) => {
                let kind = if marker.committed { "COMMIT" } else { "ABORT" };
                format!(" endTxnMarker: {kind} coordinatorEpoch: {}", marker.coordinator_epoch)
            }
            Ok(None) => " controlType: of the quorum".to_owned(),
            Err(error) => format!(" damaged control record {index}: {error}"),
        };
        return line;
    }
    if !show.data {
        return line;
    }
    if let Some((key, value)) =
        show.decoder.and_then(|decoder| decoder(record.key.as_ref(), record.value.as_ref()))
    {
        line += &format!(" key: {key} payload: {value}");
        return line;
    }
    if let Some(key) = &record.key {
        line += &format!(" key: {}", String::from_utf8_lossy(key));
    }
    if let Some(value) = &record.value {
        line += &format!(" payload: {}", String::from_utf8_lossy(value));
    }
    line
}
