//! The files of one node.
//!
//! Each call is durable when it returns: the bytes and, for new names, the directory are synced. A crash within a call
//! leaves an append cut short at any byte or with holes, and a replaced file as it was or as it was to be.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use crate::error::StartError;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    Identity,
    Voters,
    Vote,
    Log,
    Snapshot,
}

impl FileKind {
    pub const ALL: [Self; 5] = [Self::Identity, Self::Voters, Self::Vote, Self::Log, Self::Snapshot];

    /// Its name in a directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "quorum.identity",
            Self::Voters => "quorum.voters",
            Self::Vote => "quorum.vote",
            Self::Log => "quorum.log",
            Self::Snapshot => "quorum.snapshot",
        }
    }
}

/// Where a node keeps its files. Calls block.
pub trait Disk: Send + Sync + 'static {
    /// A whole file; `None` where it is not there.
    fn read(&self, file: FileKind) -> io::Result<Option<Bytes>>;
    /// Bytes of a file that has them.
    fn read_at(&self, file: FileKind, at: u64, length: usize) -> io::Result<Bytes>;
    /// Adds bytes at the end, which is at `at`, and syncs them.
    fn append(&self, file: FileKind, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Shortens a file and syncs that.
    fn cut(&self, file: FileKind, length: u64) -> io::Result<()>;
    /// Puts a file in the place of the one that is there, as a whole or not at all.
    fn replace(&self, file: FileKind, bytes: &[u8]) -> io::Result<()>;
}

/// A directory of the machine, which no other process may use at the same time.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
    log: Mutex<Option<File>>,
}

impl Directory {
    /// Opens a directory, creating it where it is missing.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::Io { place: path.display().to_string(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("quorum.lock"));
        let lock = lock.map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => StartError::InUse,
            other => failed(other.into()),
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock, log: Mutex::new(None) })
    }

    /// The log is written and read often, so it stays open.
    fn with<T>(&self, file: FileKind, act: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        let open = || OpenOptions::new().read(true).write(true).open(self.path.join(file.name()));
        if file != FileKind::Log {
            return act(&open()?);
        }
        let mut log = self.log.lock();
        let handle = match log.take() {
            Some(handle) => handle,
            None => open()?,
        };
        let result = act(&handle);
        *log = Some(handle);
        result
    }
}

impl Disk for Directory {
    fn read(&self, file: FileKind) -> io::Result<Option<Bytes>> {
        match std::fs::read(self.path.join(file.name())) {
            Ok(content) => Ok(Some(content.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_at(&self, file: FileKind, at: u64, length: usize) -> io::Result<Bytes> {
        self.with(file, |file| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at)?;
            Ok(bytes.into())
        })
    }

    fn append(&self, file: FileKind, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(file, |file| {
            file.write_all_at(bytes, at)?;
            file.sync_data()
        })
    }

    fn cut(&self, file: FileKind, length: u64) -> io::Result<()> {
        self.with(file, |file| {
            file.set_len(length)?;
            file.sync_all()
        })
    }

    fn replace(&self, file: FileKind, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(file.name());
        let new = path.with_extension("new");
        let handle = File::create(&new)?;
        handle.write_all_at(bytes, 0)?;
        handle.sync_all()?;
        let mut log = self.log.lock();
        std::fs::rename(&new, &path)?;
        if file == FileKind::Log {
            *log = None;
        }
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_cut_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        assert_eq!(disk.read(FileKind::Log).unwrap(), None);
        disk.replace(FileKind::Log, b"abc").unwrap();
        disk.append(FileKind::Log, 3, b"defg").unwrap();
        assert_eq!(&disk.read_at(FileKind::Log, 2, 3).unwrap()[..], b"cde");
        disk.cut(FileKind::Log, 5).unwrap();
        assert_eq!(&disk.read(FileKind::Log).unwrap().unwrap()[..], b"abcde");
        disk.replace(FileKind::Log, b"x").unwrap();
        disk.append(FileKind::Log, 1, b"y").unwrap();
        assert_eq!(&disk.read(FileKind::Log).unwrap().unwrap()[..], b"xy");
    }

    #[test]
    fn a_directory_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        assert!(matches!(Directory::open(dir.path()), Err(StartError::InUse)));
        drop(disk);
        Directory::open(dir.path()).unwrap();
    }
}
