//! Where the transactions of a source end. Pure: batches, records and time come in, ends come out.

use std::collections::BTreeMap;
use std::time::Instant;

use aqueduct_connect_api::TransactionContext;
use parking_lot::Mutex;

use crate::config::TransactionBoundary;

/// How a transaction ends. Offsets are stored either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    /// Its records are dropped.
    Abort,
}

/// What a task has said of the batch that it gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub records: BTreeMap<usize, End>,
    pub batch: Option<End>,
}

/// What a task says while it is polled. An abort counts more than a commit at the same place.
#[derive(Debug, Default)]
pub struct Said(Mutex<Marks>);

impl Said {
    fn take(&self) -> Marks {
        std::mem::take(&mut self.0.lock())
    }
}

impl TransactionContext for Said {
    fn commit(&self) {
        self.0.lock().batch.get_or_insert(End::Commit);
    }

    fn commit_after(&self, record: usize) {
        self.0.lock().records.entry(record).or_insert(End::Commit);
    }

    fn abort(&self) {
        self.0.lock().batch = Some(End::Abort);
    }

    fn abort_after(&self, record: usize) {
        self.0.lock().records.insert(record, End::Abort);
    }
}

/// Decides where transactions end.
#[derive(Debug)]
pub struct Boundaries {
    kind: TransactionBoundary,
    last: Instant,
}

impl Boundaries {
    pub fn new(kind: TransactionBoundary, now: Instant) -> Self {
        Self { kind, last: now }
    }

    /// Whether the task says where transactions end.
    pub fn by_task(&self) -> bool {
        self.kind == TransactionBoundary::Connector
    }

    /// Ends within a batch and after it. `records` is how many it has.
    pub fn of_batch(&mut self, now: Instant, said: &Said, records: usize) -> Marks {
        match self.kind {
            TransactionBoundary::Poll if records > 0 => {
                Marks { batch: Some(End::Commit), ..Marks::default() }
            }
            TransactionBoundary::Interval(every) if now.saturating_duration_since(self.last) >= every => {
                self.last = now;
                Marks { batch: Some(End::Commit), ..Marks::default() }
            }
            TransactionBoundary::Connector => {
                let mut marks = said.take();
                // What lies behind the batch was counted wrongly: it holds for all of it.
                let behind = marks.records.split_off(&records);
                if let Some((_, end)) = behind.last_key_value() {
                    marks.batch.get_or_insert(*end);
                }
                marks
            }
            _ => Marks::default(),
        }
    }

    /// The end when the task pauses or stops.
    pub fn at_rest(&mut self, now: Instant, said: &Said) -> Option<End> {
        self.last = now;
        match self.kind {
            TransactionBoundary::Poll | TransactionBoundary::Interval(_) => Some(End::Commit),
            TransactionBoundary::Connector => said.take().batch,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_batch_or_every_interval() {
        let (start, said) = (Instant::now(), Said::default());
        let mut poll = Boundaries::new(TransactionBoundary::Poll, start);
        assert_eq!(poll.of_batch(start, &said, 3).batch, Some(End::Commit));
        assert_eq!(poll.of_batch(start, &said, 0).batch, None, "nothing to end");
        assert_eq!(poll.at_rest(start, &said), Some(End::Commit));
        let every = Duration::from_secs(10);
        let mut interval = Boundaries::new(TransactionBoundary::Interval(every), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let ends: Vec<bool> =
            [1, 9, 10, 11, 19, 21].map(|s| interval.of_batch(at(s), &said, 1).batch.is_some()).into();
        assert_eq!(ends, [false, false, true, false, false, true]);
        assert_eq!(interval.at_rest(at(22), &said), Some(End::Commit));
        assert_eq!(interval.of_batch(at(31), &said, 1).batch, None, "a new interval began at the rest");
    }

    #[test]
    fn the_task_says_where() {
        let (now, said) = (Instant::now(), Said::default());
        let mut boundaries = Boundaries::new(TransactionBoundary::Connector, now);
        assert_eq!(boundaries.of_batch(now, &said, 5), Marks::default(), "it stays open");
        assert_eq!(boundaries.at_rest(now, &said), None, "also when the task stops");
        said.commit_after(1);
        said.abort_after(3);
        said.commit_after(3);
        said.commit();
        let marks = boundaries.of_batch(now, &said, 5);
        assert_eq!(marks.records, [(1, End::Commit), (3, End::Abort)].into());
        assert_eq!(marks.batch, Some(End::Commit));
        assert_eq!(boundaries.of_batch(now, &said, 5), Marks::default(), "said once");
        said.commit();
        said.abort();
        said.commit();
        assert_eq!(boundaries.at_rest(now, &said), Some(End::Abort));
        said.commit_after(5);
        assert_eq!(boundaries.of_batch(now, &said, 5).batch, Some(End::Commit));
    }
}
