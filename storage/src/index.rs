//! Index files: sorted entries of a fixed size.
//!
//! Entries are gathered in memory and written some hundred at a time, which a crash may lose: segments that may have lost
//! entries are recovered from their log. Lookups read the file; nothing of it is kept in memory, so that thousands of
//! partitions cost little.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::IoContext;
use crate::open_files::LazyFile;
use crate::{Error, cold};

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
    /// Written to since the last sync.
    is_dirty: bool,
    /// The stored entries that the last lookup ended among: who reads on finds the next ones there, too.
    page: Option<Page<E>>,
}

/// Some stored entries that follow each other.
#[derive(Debug)]
pub(crate) struct Page<E> {
    first: usize,
    entries: Vec<E>,
}

/// A lookup among the stored entries, for which nothing needs to be locked.
#[derive(Debug)]
pub(crate) struct Search<E> {
    file: Arc<File>,
    path: Arc<Path>,
    stored: usize,
    marker: std::marker::PhantomData<E>,
}

impl<E: Entry> Search<E> {
    const PAGE: usize = 512;

    /// How many of the stored entries come before the first for which `holds` does not; and the entries around there.
    fn count_where(&self, holds: &impl Fn(&E) -> bool) -> Result<(usize, Page<E>), Error> {
        let (mut low, mut high) = (0, self.stored.div_ceil(Self::PAGE));
        // The last page whose first entry holds.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let first = self.read(middle * Self::PAGE, 1)?;
            if first.first().is_some_and(holds) { low = middle } else { high = middle }
        }
        let first = low * Self::PAGE;
        // One more, which tells where the next page begins.
        let entries = self.read(first, (self.stored - first).min(Self::PAGE + 1))?;
        let count = first + entries.partition_point(holds);
        Ok((count, Page { first, entries }))
    }

    /// The last stored entry for which `holds` does.
    pub(crate) fn last_where(&self, holds: impl Fn(&E) -> bool) -> Result<(Option<E>, Page<E>), Error> {
        let (count, page) = self.count_where(&holds)?;
        let found = count.checked_sub(1).and_then(|last| page.get(last));
        Ok((found, page))
    }

    fn read(&self, from: usize, count: usize) -> Result<Vec<E>, Error> {
        let mut bytes = vec![0; count * E::LEN];
        cold::read_exact_at(&self.file, &mut bytes, (from * E::LEN) as u64).at("read", &self.path)?;
        Ok(bytes.chunks_exact(E::LEN).map(E::read).collect())
    }
}

impl<E: Entry> Page<E> {
    fn get(&self, index: usize) -> Option<E> {
        self.entries.get(index.checked_sub(self.first)?).copied()
    }
}

impl<E: Entry> IndexFile<E> {
    const PENDING: usize = 256;

    fn new(path: PathBuf, stored: usize) -> Self {
        let file = LazyFile::new(path.into());
        Self { file, stored, pending: Vec::new(), last: None, is_dirty: false, page: None }
    }

    /// A new, empty file, in the place of any other.
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        File::create(&path).at("create", &path)?;
        Ok(Self { is_dirty: true, ..Self::new(path, 0) })
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
        let mut index = Self::new(path, len / E::LEN);
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
        self.is_dirty = true;
        self.page = None;
        self.stored += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    /// Writes what is pending and makes it durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        if self.is_dirty {
            self.file.get()?.sync_data().at("sync", &self.path())?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Gives up the descriptor and spare memory, until they are needed again.
    pub(crate) fn rest(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.rest();
        self.pending = Vec::new();
        self.page = None;
        Ok(())
    }

    /// The last entry for which `not_after` holds; it must hold for all entries before, too. What is not in memory is
    /// left to a [`Search`], which needs no lock, and [`IndexFile::remember`].
    pub(crate) fn last_where(
        &self,
        not_after: impl Fn(&E) -> bool,
    ) -> Result<Result<Option<E>, Search<E>>, Error> {
        if self.last.is_none_or(|last| not_after(&last)) {
            return Ok(Ok(self.last));
        }
        if self.pending.first().is_some_and(&not_after) {
            let count = self.pending.partition_point(&not_after);
            return Ok(Ok(Some(self.pending[count - 1])));
        }
        if self.stored == 0 {
            return Ok(Ok(None));
        }
        if let Some(page) = &self.page
            && page.entries.first().is_some_and(&not_after)
        {
            let count = page.entries.partition_point(&not_after);
            // Behind the page there may be more for which it holds, unless that is the end.
            if count < page.entries.len() || page.first + count == self.stored {
                return Ok(Ok(Some(page.entries[count - 1])));
            }
        }
        self.search().map(Err)
    }

    /// Keeps the entries among which a search ended.
    pub(crate) fn remember(&mut self, page: Page<E>) {
        if page.first + page.entries.len() <= self.stored {
            self.page = Some(page);
        }
    }

    fn search(&self) -> Result<Search<E>, Error> {
        let marker = std::marker::PhantomData;
        Ok(Search { file: self.file.get()?, path: self.path(), stored: self.stored, marker })
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
            self.is_dirty = true;
            self.page = None;
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
        if self.stored == 0 {
            return Ok(0);
        }
        self.search()?.count_where(holds).map(|(count, _)| count)
    }

    fn get(&mut self, index: usize) -> Result<E, Error> {
        if index >= self.stored {
            return Ok(self.pending[index - self.stored]);
        }
        let mut bytes = [0u8; 16];
        let bytes = &mut bytes[..E::LEN];
        cold::read_exact_at(&*self.file.get()?, bytes, (index * E::LEN) as u64).at("read", &self.path())?;
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

    fn last_where(
        index: &mut IndexFile<OffsetEntry>,
        holds: impl Fn(&OffsetEntry) -> bool,
    ) -> Option<OffsetEntry> {
        match index.last_where(&holds).unwrap() {
            Ok(found) => found,
            Err(search) => {
                let (found, page) = search.last_where(&holds).unwrap();
                index.remember(page);
                found
            }
        }
    }

    #[test]
    fn who_reads_on_finds_what_comes_next_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = IndexFile::create(dir.path().join("00000000000000000000.index")).unwrap();
        for i in 0..2100 {
            index.push(OffsetEntry { relative: i * 10, position: i * 100 }).unwrap();
        }
        let mut searches = 0;
        for target in 0..20_000 {
            searches += usize::from(index.last_where(|e| e.relative <= target).unwrap().is_err());
            let found = last_where(&mut index, |e| e.relative <= target).unwrap();
            assert_eq!(found.relative, target / 10 * 10);
        }
        assert_eq!(searches, 4, "one for each page");
    }

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
            let found = last_where(&mut index, |e| e.relative <= target);
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
        assert_eq!(last_where(&mut index, |e| e.relative <= 77), Some(entry(7)));
        std::fs::write(&path, [0; 9]).unwrap();
        assert!(IndexFile::<OffsetEntry>::open(path).unwrap().is_none());
    }
}
