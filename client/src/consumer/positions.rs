//! Which partitions are read, from where, and which of them can be fetched now. Pure.

use std::collections::HashMap;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Offset;
use tokio::time::Instant;

use crate::config::OffsetReset;
use crate::error::{Error, Result};
use crate::types::{OffsetSpec, TopicPartition};

/// Chunks of one partition that may wait to be read; one more is on its way while one is being read.
const AHEAD: usize = 2;

/// Where a partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// To be looked up.
    Wanted(OffsetSpec),
    /// Being looked up.
    LookingUp,
    /// The next record that is not returned yet.
    At(Offset),
}

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) position: Position,
    /// Where the next fetch begins; ahead of the position.
    pub(super) fetch_at: Offset,
    /// Changes with every seek, so that answers to earlier fetches are known as such.
    pub(super) epoch: u64,
    pub(super) paused: bool,
    pub(super) fetching: bool,
    /// Chunks fetched and not read to their end.
    pub(super) buffered: usize,
    /// The high watermark that the last answer had.
    pub(super) end: Option<Offset>,
    /// Not to be fetched before, after an error.
    pub(super) not_before: Option<Instant>,
    failures: u32,
}

/// All assigned partitions.
#[derive(Debug)]
pub(super) struct Positions {
    reset: OffsetReset,
    assigned: HashMap<TopicPartition, Assigned>,
    epochs: u64,
}

impl Positions {
    pub(super) fn new(reset: OffsetReset) -> Self {
        Self { reset, assigned: HashMap::new(), epochs: 0 }
    }

    /// Adds partitions that are not there yet, at the given offsets or as `auto.offset.reset` says.
    pub(super) fn add(&mut self, partition: TopicPartition, at: Option<Offset>) -> Result<()> {
        let position = match at {
            Some(offset) => Position::At(offset),
            None => Position::Wanted(self.reset_spec(|| Error::NoOffset { partition: partition.clone() })?),
        };
        self.epochs += 1;
        let epoch = self.epochs;
        self.assigned.entry(partition).or_insert(Assigned {
            position,
            fetch_at: at.unwrap_or(Offset(-1)),
            epoch,
            paused: false,
            fetching: false,
            buffered: 0,
            end: None,
            not_before: None,
            failures: 0,
        });
        Ok(())
    }

    /// Drops all partitions but those that `keep` names.
    pub(super) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        self.assigned.retain(|partition, _| keep(partition));
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&Assigned> {
        self.assigned.get(partition)
    }

    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Assigned> {
        self.assigned.get_mut(partition)
    }

    pub(super) fn note_end(&mut self, partition: &TopicPartition, end: Option<Offset>) {
        if let (Some(assigned), Some(end)) = (self.assigned.get_mut(partition), end) {
            assigned.end = Some(end);
        }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.assigned.keys()
    }

    /// Moves a partition; what was fetched for the old place is void.
    pub(super) fn seek(&mut self, partition: &TopicPartition, to: Position) -> Result<()> {
        self.epochs += 1;
        let epoch = self.epochs;
        let assigned = self
            .assigned
            .get_mut(partition)
            .ok_or_else(|| Error::Invalid(format!("{partition} is not assigned to this consumer")))?;
        assigned.position = to;
        if let Position::At(offset) = to {
            assigned.fetch_at = offset;
        }
        assigned.epoch = epoch;
        assigned.fetching = false;
        assigned.buffered = 0;
        assigned.not_before = None;
        Ok(())
    }

    /// Takes those that have to be looked up.
    pub(super) fn take_wanted(&mut self) -> HashMap<TopicPartition, (OffsetSpec, u64)> {
        let mut wanted = HashMap::new();
        for (partition, assigned) in &mut self.assigned {
            if let Position::Wanted(spec) = assigned.position {
                assigned.position = Position::LookingUp;
                wanted.insert(partition.clone(), (spec, assigned.epoch));
            }
        }
        wanted
    }

    /// Those that can be fetched now, and when others can be.
    pub(super) fn fetchable(&self, now: Instant) -> (Vec<&TopicPartition>, Option<Instant>) {
        let mut now_ready = Vec::new();
        let mut later: Option<Instant> = None;
        for (partition, assigned) in &self.assigned {
            let known = matches!(assigned.position, Position::At(_));
            if !known || assigned.paused || assigned.fetching || assigned.buffered >= AHEAD {
                continue;
            }
            match assigned.not_before.filter(|at| *at > now) {
                Some(at) => later = later.into_iter().chain([at]).min(),
                None => now_ready.push(partition),
            }
        }
        (now_ready, later)
    }

    /// Whether every partition has a position.
    pub(super) fn all_known(&self) -> bool {
        self.assigned.values().all(|assigned| matches!(assigned.position, Position::At(_)))
    }

    /// A fetch of this partition brought something, or nothing but no error either.
    pub(super) fn fetched(&mut self, partition: &TopicPartition, next: Option<Offset>) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.fetching = false;
            assigned.failures = 0;
            assigned.not_before = None;
            if let Some(next) = next {
                assigned.fetch_at = next;
                assigned.buffered += 1;
            }
        }
    }

    /// A fetch of this partition failed; an error that the application has to know comes back.
    pub(super) fn failed(
        &mut self,
        partition: &TopicPartition,
        error: Error,
        retry_at: impl FnOnce(u32) -> Duration,
    ) -> Option<Error> {
        let assigned = self.assigned.get_mut(partition)?;
        assigned.fetching = false;
        assigned.failures = assigned.failures.saturating_add(1);
        assigned.not_before = Some(Instant::now() + retry_at(assigned.failures));
        if error.code() == Some(ErrorCode::OffsetOutOfRange) {
            let offset = assigned.fetch_at;
            if assigned.buffered > 0 {
                // What was fetched before is still read; then this is asked again.
                return None;
            }
            let refused = || Error::OffsetOutOfRange { partition: partition.clone(), offset };
            return match self.reset_spec(refused) {
                Ok(spec) => {
                    tracing::info!(%partition, offset = offset.0, ?spec, "offset out of range, resetting");
                    self.seek(partition, Position::Wanted(spec)).err()
                }
                Err(error) => Some(error),
            };
        }
        (!error.is_retriable()).then_some(error)
    }

    fn reset_spec(&self, refused: impl FnOnce() -> Error) -> Result<OffsetSpec> {
        match self.reset {
            OffsetReset::Earliest => Ok(OffsetSpec::Earliest),
            OffsetReset::Latest => Ok(OffsetSpec::Latest),
            OffsetReset::None => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Option<Offset> {
        Some(Offset(offset))
    }

    fn ready(positions: &Positions) -> usize {
        positions.fetchable(Instant::now()).0.len()
    }

    #[test]
    fn reads_two_chunks_ahead_and_not_what_is_paused() {
        let partition = TopicPartition::new("t", 0);
        let mut positions = Positions::new(OffsetReset::Latest);
        positions.add(partition.clone(), at(5)).expect("added");
        assert_eq!(ready(&positions), 1);
        positions.get_mut(&partition).expect("there").paused = true;
        assert_eq!(ready(&positions), 0);
        positions.get_mut(&partition).expect("there").paused = false;
        positions.fetched(&partition, at(10));
        assert_eq!((ready(&positions), positions.get(&partition).expect("there").fetch_at), (1, Offset(10)));
        positions.fetched(&partition, at(20));
        assert_eq!(ready(&positions), 0, "enough for now");
        positions.seek(&partition, Position::At(Offset(0))).expect("assigned");
        assert_eq!((ready(&positions), positions.get(&partition).expect("there").fetch_at), (1, Offset(0)));
    }

    #[test]
    fn out_of_range_resets_or_tells() {
        let partition = TopicPartition::new("t", 0);
        let error = || Error::Api {
            broker: "b:1".to_owned(),
            api: "Fetch",
            what: "t-0".to_owned(),
            code: ErrorCode::OffsetOutOfRange,
            message: Default::default(),
        };
        let mut positions = Positions::new(OffsetReset::Earliest);
        positions.add(partition.clone(), at(5)).expect("added");
        assert!(positions.failed(&partition, error(), |_| Duration::ZERO).is_none());
        assert_eq!(positions.take_wanted()[&partition].0, OffsetSpec::Earliest);
        assert!(positions.take_wanted().is_empty(), "looked up once");
        let mut positions = Positions::new(OffsetReset::None);
        positions.add(partition.clone(), at(5)).expect("added");
        let told = positions.failed(&partition, error(), |_| Duration::ZERO).expect("told").to_string();
        assert_eq!(told, "t-0@5: out of range, and auto.offset.reset=none");
        let none = positions.add(TopicPartition::new("t", 1), None).expect_err("no offset");
        assert_eq!(none.to_string(), "t-1: no committed offset, and auto.offset.reset=none");
    }
}
