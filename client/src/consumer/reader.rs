//! From chunks to records: what both kinds of consumers have in common.

use std::collections::HashMap;

use aqueduct_protocol::ids::Offset;
use tokio::time::Instant;

use super::chunk::{FetchedBatches, RecordStream};
use super::fetcher::Fetcher;
use super::positions::Position;
use crate::client::Client;
use crate::error::Result;
use crate::types::{ConsumerRecord, OffsetSpec, TopicPartition};

/// Reads records of assigned partitions.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) fetcher: Fetcher,
    /// The chunk that is being read, and the epoch of its partition.
    current: Option<(RecordStream, u64)>,
}

impl Reader {
    pub(super) fn new(client: Client) -> Self {
        Self { fetcher: Fetcher::new(client), current: None }
    }

    /// Up to `most` records; empty at `deadline`. Errors only where there is no record to return before. Cancel-safe.
    pub(super) async fn records(&mut self, most: usize, deadline: Instant) -> Result<Vec<ConsumerRecord>> {
        loop {
            let (records, is_late) = self.step(most, deadline).await?;
            if is_late || !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// As [`Reader::records`], but returns as well once a chunk has been read of which nothing is to be seen, as of aborted
    /// transactions. True where nothing came until `deadline`.
    pub(super) async fn step(
        &mut self,
        most: usize,
        deadline: Instant,
    ) -> Result<(Vec<ConsumerRecord>, bool)> {
        let mut out = Vec::new();
        loop {
            let has_read = self.current.is_some();
            self.read_current(most, &mut out)?;
            if out.len() >= most || has_read && out.is_empty() {
                return Ok((out, false));
            }
            // With records in hand there must be no waiting: they would be lost if the caller gave up.
            let chunk = if out.is_empty() {
                self.fetcher.next_chunk(deadline).await?
            } else {
                self.fetcher.chunk_at_hand()
            };
            let Some(chunk) = chunk else {
                let is_late = out.is_empty();
                return Ok((out, is_late));
            };
            let epoch =
                self.fetcher.positions.get(&chunk.fetched.partition).map_or(0, |assigned| assigned.epoch);
            let check_crcs = self.fetcher.client.config().check_crcs;
            let stream = RecordStream::new(&chunk.fetched, chunk.aborted, check_crcs);
            self.current = Some((stream, epoch));
        }
    }

    /// The next chunk as bytes; `None` at `deadline`.
    pub(super) async fn batches(&mut self, deadline: Instant) -> Result<Option<FetchedBatches>> {
        let Some(chunk) = self.fetcher.next_chunk(deadline).await? else { return Ok(None) };
        let partition = &chunk.fetched.partition;
        self.fetcher.finished(partition);
        self.fetcher.returned_up_to(partition, chunk.fetched.next_offset);
        Ok(Some(chunk.fetched))
    }

    fn read_current(&mut self, most: usize, out: &mut Vec<ConsumerRecord>) -> Result<()> {
        let Some((stream, epoch)) = &mut self.current else { return Ok(()) };
        let partition = stream.partition().clone();
        let assigned = self.fetcher.positions.get(&partition);
        if assigned.is_none_or(|assigned| assigned.epoch != *epoch) {
            self.current = None;
            return Ok(());
        }
        if assigned.is_some_and(|assigned| assigned.paused) {
            // Read again from here after the pause.
            let position = stream.position();
            self.current = None;
            return self.fetcher.positions.seek(&partition, Position::At(position));
        }
        let mut failed = None;
        while out.len() < most {
            match stream.next() {
                Some(Ok(record)) => out.push(record),
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                None => {
                    let position = stream.position();
                    self.current = None;
                    self.fetcher.finished(&partition);
                    self.fetcher.returned_up_to(&partition, position);
                    return Ok(());
                }
            }
        }
        let position = stream.position();
        self.fetcher.returned_up_to(&partition, position);
        let Some(error) = failed else { return Ok(()) };
        self.current = None;
        // The next poll tries again, should the broker have a sound copy by then.
        self.fetcher.positions.seek(&partition, Position::At(position))?;
        if out.is_empty() {
            return Err(error);
        }
        self.fetcher.tell_later(error);
        Ok(())
    }

    /// Replaces the assignment; partitions that stay keep their place.
    pub(super) fn assign(&mut self, partitions: HashMap<TopicPartition, Option<Offset>>) -> Result<()> {
        self.fetcher.positions.retain(|partition| partitions.contains_key(partition));
        for (partition, at) in partitions {
            if self.fetcher.positions.get(&partition).is_none() {
                self.fetcher.positions.add(partition, at)?;
            }
        }
        Ok(())
    }

    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        let mut all: Vec<_> = self.fetcher.positions.partitions().cloned().collect();
        all.sort();
        all
    }

    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        match self.fetcher.positions.get(partition)?.position {
            Position::At(offset) => Some(offset),
            Position::Wanted(_) | Position::LookingUp => None,
        }
    }

    pub(super) fn end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.fetcher.positions.get(partition)?.end
    }

    pub(super) fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<()> {
        self.fetcher.positions.seek(partition, Position::At(offset))
    }

    pub(super) fn seek_to(&mut self, partition: &TopicPartition, spec: OffsetSpec) -> Result<()> {
        self.fetcher.positions.seek(partition, Position::Wanted(spec))
    }

    pub(super) fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(assigned) = self.fetcher.positions.get_mut(partition) {
                assigned.paused = paused;
            }
        }
    }

    pub(super) fn paused(&self) -> Vec<TopicPartition> {
        let positions = &self.fetcher.positions;
        let paused = |p: &&TopicPartition| positions.get(p).is_some_and(|assigned| assigned.paused);
        positions.partitions().filter(paused).cloned().collect()
    }
}
