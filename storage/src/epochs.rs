use std::fmt::Write;
use std::path::PathBuf;

use aqueduct_protocol::ids::{LeaderEpoch, Offset};

use crate::{Error, checkpoint, files};

/// Where each leader's reign began, as `leader-epoch-checkpoint` holds it: epochs and start offsets both rise.
#[derive(Debug)]
pub(crate) struct LeaderEpochs {
    path: PathBuf,
    entries: Vec<(LeaderEpoch, Offset)>,
    /// Written, but not synced.
    dirty: bool,
    /// The file could not be written.
    unstored: bool,
}

impl LeaderEpochs {
    /// Those of a log without any.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, entries: Vec::new(), dirty: false, unstored: false }
    }

    /// Reads the file; a missing or damaged one is taken as empty, for the log itself has the epochs.
    pub(crate) fn load(path: PathBuf) -> Result<Self, Error> {
        let lines = match checkpoint::read_lines(&path) {
            Ok(lines) => lines.unwrap_or_default(),
            Err(Error::DamagedFile { path, why }) => {
                tracing::warn!(path = %path.display(), why, "leader epochs are read from the log again");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let mut epochs = Self::new(path);
        for line in lines {
            let mut fields = line.split_ascii_whitespace().map(str::parse::<i64>);
            if let (Some(Ok(epoch)), Some(Ok(start))) = (fields.next(), fields.next()) {
                epochs.insert(LeaderEpoch(epoch as i32), Offset(start));
            }
        }
        Ok(epochs)
    }

    /// Notes that `epoch` wrote the batch at `offset`; says whether that is news, to be stored.
    pub(crate) fn insert(&mut self, epoch: LeaderEpoch, offset: Offset) -> bool {
        if epoch.0 < 0 || offset.0 < 0 || self.entries.last().is_some_and(|(last, _)| *last == epoch) {
            return false;
        }
        // An entry that contradicts what the log holds gives way.
        self.entries.retain(|(e, start)| *e < epoch && *start < offset);
        self.entries.push((epoch, offset));
        true
    }

    /// Has the same history as `other`; to be stored.
    pub(crate) fn follow(&mut self, other: &Self) {
        self.entries.clone_from(&other.entries);
    }

    /// Each epoch and where it began.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> &Vec<(LeaderEpoch, Offset)> {
        &self.entries
    }

    /// Writes the file. It is not synced, as it can be made from the log again; [`LeaderEpochs::sync`] goes with a flush.
    pub(crate) fn store(&mut self) -> Result<(), Error> {
        self.dirty = true;
        self.unstored = true;
        let mut lines = String::new();
        for (epoch, start) in &self.entries {
            let _ = writeln!(lines, "{epoch} {start}");
        }
        checkpoint::write_lines_unsynced(&self.path, self.entries.len(), &lines)?;
        self.unstored = false;
        Ok(())
    }

    /// Makes what was stored durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.unstored {
            self.store()?;
        }
        if self.dirty {
            files::sync(&self.path)?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Whether the file lags behind.
    pub(crate) fn is_unstored(&self) -> bool {
        self.unstored
    }

    /// Whether `epoch` is the newest one, in the file, too.
    pub(crate) fn is_current(&self, epoch: LeaderEpoch) -> bool {
        self.latest() == Some(epoch) && !self.unstored
    }

    /// The newest epoch.
    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// The epoch that wrote `offset`.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|i| self.entries[i].0)
    }

    /// The largest known epoch not above `epoch` and where it ends, in a log that ends at `log_end`. One before the first
    /// that is known ended where that began; no epoch (-1) has no end.
    pub(crate) fn end_offset(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch == LeaderEpoch(-1) {
            return None;
        }
        let after = self.entries.partition_point(|(e, _)| *e <= epoch);
        let found = after.checked_sub(1).map_or(epoch, |last| self.entries[last].0);
        Some((found, self.entries.get(after).map_or(log_end, |(_, start)| *start)))
    }

    /// Forgets what lies at or behind `end`; says whether anything did.
    pub(crate) fn truncate_end(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, start)| *start < end);
        before != self.entries.len()
    }

    /// Forgets what ends before `start`; the epoch that `start` lies in begins there. Says whether anything changed.
    pub(crate) fn truncate_start(&mut self, start: Offset) -> bool {
        let after = self.entries.partition_point(|(_, begins)| *begins <= start);
        let Some(current) = after.checked_sub(1) else { return false };
        if current == 0 && self.entries[0].1 == start {
            return false;
        }
        self.entries.drain(..current);
        self.entries[0].1 = start;
        true
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs =
            LeaderEpochs { path: PathBuf::new(), entries: Vec::new(), dirty: false, unstored: false };
        for (epoch, start) in entries {
            epochs.insert(LeaderEpoch(*epoch), Offset(*start));
        }
        epochs
    }

    fn raw(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs.entries.iter().map(|(e, o)| (e.0, o.0)).collect()
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = epochs(&[(2, 0), (4, 10), (5, 30)]);
        let end = |epoch| epochs.end_offset(LeaderEpoch(epoch), Offset(50)).map(|(e, o)| (e.0, o.0));
        assert_eq!(end(-1), None);
        assert_eq!(end(1), Some((1, 0)));
        assert_eq!(end(2), Some((2, 10)));
        assert_eq!(end(3), Some((2, 10)));
        assert_eq!(end(4), Some((4, 30)));
        assert_eq!(end(9), Some((5, 50)));
        assert_eq!(epochs.at(Offset(29)), Some(LeaderEpoch(4)));
        assert_eq!(epochs.latest(), Some(LeaderEpoch(5)));
    }

    #[test]
    fn contradicting_entries_give_way_and_both_ends_are_cut() {
        let mut cache = epochs(&[(1, 0), (2, 10), (3, 20)]);
        assert!(!cache.insert(LeaderEpoch(3), Offset(25)));
        assert!(cache.insert(LeaderEpoch(4), Offset(15)));
        assert_eq!(raw(&cache), [(1, 0), (2, 10), (4, 15)]);
        assert!(cache.truncate_start(Offset(12)));
        assert_eq!(raw(&cache), [(2, 12), (4, 15)]);
        assert!(!cache.truncate_start(Offset(12)));
        assert!(cache.truncate_end(Offset(15)));
        assert!(!cache.truncate_end(Offset(15)));
        assert_eq!(raw(&cache), [(2, 12)]);
    }
}
