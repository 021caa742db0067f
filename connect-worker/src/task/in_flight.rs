//! Which offsets of a source may be stored: those up to the first record that the cluster has not acknowledged.
//!
//! A batch counts as a whole. Batches become done in the order in which they were sent, so that an offset is never ahead
//! of a record that could still be lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use aqueduct_connect_api::{OffsetMap, SourceOffset};

/// A source partition and an offset in it.
pub type SourcePosition = (Arc<OffsetMap>, Arc<OffsetMap>);

/// The last offset of each partition in a batch, in the order of the records.
#[derive(Debug, Default)]
pub struct BatchOffsets(Vec<(Arc<OffsetMap>, SourceOffset)>);

impl BatchOffsets {
    /// Notes where the source is after the next record.
    pub fn push(&mut self, partition: Arc<OffsetMap>, offset: SourceOffset) {
        match self.0.last_mut() {
            Some((last, at)) if Arc::ptr_eq(last, &partition) || **last == *partition => *at = offset,
            _ => self.0.push((partition, offset)),
        }
    }
}

/// Batches that were sent, each with what tells its fate.
#[derive(Debug)]
pub struct InFlight<D> {
    batches: VecDeque<(D, BatchOffsets)>,
    done: HashMap<String, SourcePosition>,
}

impl<D> InFlight<D> {
    pub fn new() -> Self {
        Self { batches: VecDeque::new(), done: HashMap::new() }
    }

    /// Notes a batch that was sent.
    pub fn push(&mut self, delivery: D, offsets: BatchOffsets) {
        self.batches.push_back((delivery, offsets));
    }

    /// Notes a batch of which nothing had to be sent.
    pub fn push_empty(&mut self, offsets: BatchOffsets) {
        match self.batches.back_mut() {
            Some((_, last)) => offsets.0.into_iter().for_each(|(p, o)| last.push(p, o)),
            None => self.finish(offsets),
        }
    }

    /// The oldest batch that is not done.
    pub fn front(&mut self) -> Option<&mut D> {
        self.batches.front_mut().map(|(delivery, _)| delivery)
    }

    /// The oldest batch is in the cluster.
    pub fn front_done(&mut self) {
        if let Some((_, offsets)) = self.batches.pop_front() {
            self.finish(offsets);
        }
    }

    fn finish(&mut self, offsets: BatchOffsets) {
        for (partition, offset) in offsets.0 {
            let key = serde_json::to_string(&*partition).expect("a JSON map is JSON");
            self.done.insert(key, (partition, offset.into_map()));
        }
    }

    /// Number of batches that are not done.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Offsets that may be stored and have not been.
    pub fn take_done(&mut self) -> Vec<SourcePosition> {
        std::mem::take(&mut self.done).into_values().collect()
    }

    /// Puts back offsets that could not be stored, unless there are newer ones by now.
    pub fn put_back(&mut self, offsets: Vec<SourcePosition>) {
        for (partition, offset) in offsets {
            let key = serde_json::to_string(&*partition).expect("a JSON map is JSON");
            self.done.entry(key).or_insert((partition, offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, value: i64) -> Arc<OffsetMap> {
        let mut map = OffsetMap::new();
        map.insert(name.to_owned(), value.into());
        Arc::new(map)
    }

    fn batch(positions: &[(i64, i64)]) -> BatchOffsets {
        let mut offsets = BatchOffsets::default();
        positions.iter().for_each(|(p, o)| offsets.push(map("p", *p), map("o", *o).into()));
        offsets
    }

    fn done(in_flight: &mut InFlight<u32>) -> Vec<(i64, i64)> {
        let mut done: Vec<_> = in_flight
            .take_done()
            .iter()
            .map(|(p, o)| (p["p"].as_i64().expect("number"), o["o"].as_i64().expect("number")))
            .collect();
        done.sort_unstable();
        done
    }

    #[test]
    fn only_what_is_done_may_be_stored_and_the_last_offset_counts() {
        let mut in_flight = InFlight::new();
        in_flight.push(1, batch(&[(1, 1), (1, 2), (2, 7)]));
        in_flight.push(2, batch(&[(1, 3)]));
        in_flight.push_empty(batch(&[(1, 4)]));
        assert!(done(&mut in_flight).is_empty());
        assert_eq!(in_flight.front(), Some(&mut 1));
        in_flight.front_done();
        let first = in_flight.take_done();
        in_flight.front_done();
        in_flight.put_back(first);
        assert_eq!(done(&mut in_flight), [(1, 4), (2, 7)]);
        in_flight.push_empty(batch(&[(3, 1)]));
        assert_eq!(done(&mut in_flight), [(3, 1)]);
    }
}
