//! The log of a partition as it is on the broker's disk, ours or Apache Kafka's: both write the same bytes. It tells what
//! no consumer does: when the broker appended what, and which transaction it was part of.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aqueduct_protocol::records::{Batches, EndTransactionMarker, Record, RecordBatch};

/// A record that counts: it is in no transaction, or in one that was committed.
#[derive(Clone, Debug)]
pub struct Counted {
    pub record: Record,
    /// When the broker appended it, in milliseconds since 1970, where the topic keeps that time.
    pub appended: i64,
    /// When it began to count: then, or when the marker of its transaction was appended.
    pub counts_from: i64,
}

/// Follows the log of one partition.
pub struct LogFile {
    dir: PathBuf,
    /// The segment that is being read, and how far.
    segment: Option<PathBuf>,
    at: u64,
    /// Records of open transactions by producer.
    open: HashMap<i64, Vec<(Record, i64)>>,
}

impl LogFile {
    /// `data` is the broker's folder of logs. The partition need not be there yet.
    pub fn new(data: &Path, topic: &str, partition: i32) -> Self {
        let dir = data.join(format!("{topic}-{partition}"));
        Self { dir, segment: None, at: 0, open: HashMap::new() }
    }

    /// What has begun to count since the last call, in order.
    pub fn read(&mut self) -> Result<Vec<Counted>> {
        let mut counted = Vec::new();
        loop {
            let segments = self.segments()?;
            let current = match &self.segment {
                Some(current) => current.clone(),
                None => match segments.first() {
                    Some(first) => first.clone(),
                    None => return Ok(counted),
                },
            };
            self.segment = Some(current.clone());
            self.read_segment(&current, &mut counted).with_context(|| current.display().to_string())?;
            // Listed before it was read: nothing is appended to a segment that has a successor.
            match segments.into_iter().find(|segment| *segment > current) {
                Some(next) => (self.segment, self.at) = (Some(next), 0),
                None => return Ok(counted),
            }
        }
    }

    fn segments(&self) -> Result<Vec<PathBuf>> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Ok(Vec::new()) };
        let paths = entries.flatten().map(|entry| entry.path());
        let mut segments: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        segments.sort();
        Ok(segments)
    }

    fn read_segment(&mut self, path: &Path, counted: &mut Vec<Counted>) -> Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        for batch in Batches::new(bytes.into()) {
            // A batch that is only half there now is read the next time.
            let Ok(batch) = batch else { break };
            if batch.check_crc().is_err() {
                break;
            }
            self.at += batch.bytes.len() as u64;
            self.take(&batch, counted)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch, counted: &mut Vec<Counted>) -> Result<()> {
        let (header, records) = (&batch.header, batch.records()?);
        let (producer, appended) = (header.producer_id.0, header.max_timestamp);
        if header.attributes.is_control() {
            let Some(marker) = records.last().transpose()? else { return Ok(()) };
            let ended = self.open.remove(&producer).unwrap_or_default();
            if EndTransactionMarker::parse(&marker)?.is_some_and(|marker| marker.committed) {
                let count = |(record, at)| Counted { record, appended: at, counts_from: appended };
                counted.extend(ended.into_iter().map(count));
            }
            return Ok(());
        }
        for record in records {
            let record = record?;
            if header.attributes.is_transactional() {
                self.open.entry(producer).or_default().push((record, appended));
            } else {
                counted.push(Counted { record, appended, counts_from: appended });
            }
        }
        Ok(())
    }
}
