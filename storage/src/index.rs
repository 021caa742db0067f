//! Index files: sorted entries of a fixed size.
//!
//! Entries are gathered in memory and written some hundred at a time, which a crash may lose: segments that may have lost
//! entries are recovered from their log. Lookups read the file; nothing of it is kept in memory, so that thousands of
//! partitions cost little.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::error::IoContext;
use crate::open_files::LazyFile;

/// What an index file is made of.
pub(crate) trait Entry: Copy {
    const LEN: usize;
    fn read(bytes: &[u8]) -> Self;
    fn write(self, out: &mut Vec<u8>);
}

/// An entry of `.index`: the batch with this last offset begins at this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Counted from the segment's base offset.
    pub(crate) relative: i32,
    pub(crate) position: i32,
}

/// An entry of `.timeindex`: no record up to this offset is younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    /// Counted from the segment's base offset.
    pub(crate) relative: i32,
}

impl Entry for OffsetEntry {
    const LEN: usize = 8;

    fn read(bytes: &[u8]) -> Self {
        Self { relative: int(bytes, 0), position: int(bytes, 4) }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }
}

impl Entry for TimeEntry {
    const LEN: usize = 12;

    fn read(bytes: &[u8]) -> Self {
        let timestamp = (int(bytes, 0) as i64) << 32 | int(bytes, 4) as u32 as i64;
        Self { timestamp, relative: int(bytes, 8) }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative.to_be_bytes());
    }
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// One index file and the entries that are still to be written to it.
#[derive(Debug)]
pub(crate) struct IndexFile<E> {
    file: LazyFile,
    stored: usize,
    pending: Vec<E>,
    last: Option<E>,
}

impl<E: Entry> IndexFile<E> {
    const PENDING: usize = 256;

    /// A new, empty file, in the place of any other.
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        File::create(&path).at("create", &path)?;
        Ok(Self { file: LazyFile::new(path.into()), stored: 0, pending: Vec::new(), last: None })
    }

    /// The file at `path`; `None` where it is missing or no whole number of entries long.
    pub(crate) fn open(path: PathBuf) -> Result<Option<Self>, Error> {
        let len = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len() as usize,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).at("open", &path),
        };
        if !len.is_multiple_of(E::LEN) {
            return Ok(None);
        }
        let file = LazyFile::new(path.into());
        let mut index = Self { file, stored: len / E::LEN, pending: Vec::new(), last: None };
        if index.stored > 0 {
            index.last = Some(index.get(index.stored - 1)?);
        }
        // Most segments are never read from: no descriptor is kept for them.
        index.file.rest();
        Ok(Some(index))
    }

    pub(crate) fn len(&self) -> usize {
        self.stored + self.pending.len()
    }

    pub(crate) fn last(&self) -> Option<E> {
        self.last
    }

    pub(crate) fn push(&mut self, entry: E) -> Result<(), Error> {
        self.pending.push(entry);
        self.last = Some(entry);
        if self.pending.len() >= Self::PENDING { self.flush() } else { Ok(()) }
    }

    /// Writes what is pending to the file.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.pending.len() * E::LEN);
        self.pending.iter().for_each(|entry| entry.write(&mut bytes));
        let at = (self.stored * E::LEN) as u64;
        self.file.get()?.write_all_at(&bytes, at).at("write", &self.path())?;
        self.stored += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    /// Writes what is pending and makes it durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.get()?.sync_data().at("sync", &self.path())
    }

    /// Gives up the descriptor and spare memory, until they are needed again.
    pub(crate) fn rest(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.rest();
        self.pending = Vec::new();
        Ok(())
    }

    /// The last entry for which `not_after` holds; it must hold for all entries before, too.
    pub(crate) fn last_where(&mut self, not_after: impl Fn(&E) -> bool) -> Result<Option<E>, Error> {
        Ok(match self.count_where(&not_after)? {
            0 => None,
            count if count == self.len() => self.last,
            count => Some(self.get(count - 1)?),
        })
    }

    /// The first entry for which `before` does not hold; it must hold for all entries before, and none after.
    pub(crate) fn first_unless(&mut self, before: impl Fn(&E) -> bool) -> Result<Option<E>, Error> {
        let count = self.count_where(&before)?;
        if count < self.len() { self.get(count).map(Some) } else { Ok(None) }
    }

    /// Bytes of all entries.
    pub(crate) fn bytes(&self) -> u64 {
        (self.len() * E::LEN) as u64
    }

    /// Drops all entries behind those for which `keep` holds.
    pub(crate) fn truncate_where(&mut self, keep: impl Fn(&E) -> bool) -> Result<(), Error> {
        let count = self.count_where(&keep)?;
        if count < self.stored {
            self.file.get()?.set_len((count * E::LEN) as u64).at("truncate", &self.path())?;
            self.stored = count;
        }
        self.pending.truncate(count - self.stored);
        self.last = if count == 0 { None } else { Some(self.get(count - 1)?) };
        Ok(())
    }

    fn count_where(&mut self, holds: &impl Fn(&E) -> bool) -> Result<usize, Error> {
        if self.last.is_none_or(|last| holds(&last)) {
            return Ok(self.len());
        }
        if self.pending.first().is_some_and(holds) {
            return Ok(self.stored + self.pending.partition_point(holds));
        }
        let (mut low, mut high) = (0, self.stored);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(&self.get(middle)?) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    fn get(&mut self, index: usize) -> Result<E, Error> {
        if index >= self.stored {
            return Ok(self.pending[index - self.stored]);
        }
        let mut bytes = [0u8; 16];
        let bytes = &mut bytes[..E::LEN];
        self.file.get()?.read_exact_at(bytes, (index * E::LEN) as u64).at("read", &self.path())?;
        Ok(E::read(bytes))
    }

    pub(crate) fn path(&self) -> Arc<Path> {
        self.file.path()
    }

    /// Follows the file to a new name.
    pub(crate) fn renamed(&mut self, path: Arc<Path>) {
        self.file.renamed(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_see_stored_and_pending_entries_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000.index");
        let mut index = IndexFile::create(path.clone()).unwrap();
        let entry = |i: i32| OffsetEntry { relative: i * 10, position: i * 100 };
        for i in 0..1000 {
            index.push(entry(i)).unwrap();
        }
        for target in [-1, 0, 5, 9, 10, 2549, 2560, 5000, 9989, 9990, 20_000] {
            let found = index.last_where(|e| e.relative <= target).unwrap();
            let expected = (target >= 0).then(|| entry((target / 10).min(999)));
            assert_eq!(found, expected, "{target}");
        }
        index.truncate_where(|e| e.relative < 9900).unwrap();
        assert_eq!((index.len(), index.last()), (990, Some(entry(989))));
        index.truncate_where(|e| e.relative < 500).unwrap();
        assert_eq!((index.len(), index.last()), (50, Some(entry(49))));
        index.push(entry(50)).unwrap();
        index.rest().unwrap();
        let mut index = IndexFile::<OffsetEntry>::open(path.clone()).unwrap().unwrap();
        assert_eq!((index.len(), index.last()), (51, Some(entry(50))));
        assert_eq!(index.last_where(|e| e.relative <= 77).unwrap(), Some(entry(7)));
        std::fs::write(&path, [0; 9]).unwrap();
        assert!(IndexFile::<OffsetEntry>::open(path).unwrap().is_none());
    }
}
