//! Which log is cleaned next.

use std::collections::{HashMap, HashSet};

use aqueduct_protocol::ids::Uuid;

/// A partition of a topic that may be deleted and made again under the same name.
pub(super) type Key = (Uuid, i32);

/// A log that could be cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub key: Key,
    /// Share of dirty bytes.
    pub ratio: f64,
    pub is_due: bool,
}

/// A log that is left alone since its cleaning failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quarantined {
    /// Index of its directory.
    pub directory: usize,
    /// Bytes that it would be good to clean.
    pub bytes: u64,
}

/// The logs that are being cleaned, and those that cannot be.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    busy: HashSet<Key>,
    uncleanable: HashMap<Key, Quarantined>,
}

impl Schedule {
    /// Whether nothing keeps the log from being cleaned.
    pub fn is_free(&self, key: &Key) -> bool {
        !self.busy.contains(key) && !self.uncleanable.contains_key(key)
    }

    /// Takes the dirtiest of those that are due, until [`Schedule::done`].
    pub fn take(&mut self, candidates: &[Candidate]) -> Option<Key> {
        let due = candidates.iter().filter(|candidate| candidate.is_due && self.is_free(&candidate.key));
        let dirtiest = due.max_by(|a, b| a.ratio.total_cmp(&b.ratio))?.key;
        self.busy.insert(dirtiest);
        Some(dirtiest)
    }

    /// The cleaning is over, whatever came of it.
    pub fn done(&mut self, key: &Key) {
        self.busy.remove(key);
    }

    /// Leaves the log alone from now on, until the node starts again.
    pub fn quarantine(&mut self, key: Key, quarantined: Quarantined) {
        self.uncleanable.insert(key, quarantined);
    }

    /// Forgets partitions that are no more.
    pub fn retain(&mut self, exists: impl Fn(&Key) -> bool) {
        self.uncleanable.retain(|key, _| exists(key));
    }

    /// The logs that are left alone.
    pub fn uncleanable(&self) -> impl Iterator<Item = (&Key, &Quarantined)> {
        self.uncleanable.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: i32) -> Key {
        (Uuid([7; 16]), n)
    }

    fn candidate(n: i32, ratio: f64, is_due: bool) -> Candidate {
        Candidate { key: key(n), ratio, is_due }
    }

    #[test]
    fn the_dirtiest_goes_first_and_none_twice() {
        let mut schedule = Schedule::default();
        let all = [candidate(0, 0.6, true), candidate(1, 0.9, true), candidate(2, 0.95, false)];
        assert_eq!(schedule.take(&all), Some(key(1)));
        assert_eq!(schedule.take(&all), Some(key(0)));
        assert_eq!(schedule.take(&all), None);
        schedule.done(&key(0));
        assert_eq!(schedule.take(&all), Some(key(0)));
    }

    #[test]
    fn a_log_that_cannot_be_cleaned_is_left_alone_while_it_is_there() {
        let mut schedule = Schedule::default();
        let all = [candidate(0, 0.6, true), candidate(1, 0.9, true)];
        schedule.quarantine(key(1), Quarantined { directory: 0, bytes: 5 });
        assert_eq!(schedule.take(&all), Some(key(0)));
        assert_eq!(schedule.take(&all), None);
        assert_eq!(schedule.uncleanable().count(), 1);
        schedule.retain(|known| *known != key(1));
        assert_eq!(schedule.take(&all), Some(key(1)));
    }
}
