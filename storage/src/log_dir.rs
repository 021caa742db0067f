use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::Uuid;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::IoContext;
use crate::{Error, OffsetCheckpoint, TopicPartition, checkpoint, files};

const LOCK: &str = ".lock";
const PROBE: &str = ".probe";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
const DELETED: &str = "-delete";
const FUTURE: &str = "-future";
const STRAY: &str = "-stray";
/// What file systems allow, in bytes.
const LONGEST_NAME: usize = 255;

/// A data directory (one of `log.dirs`), held by this process until dropped.
#[derive(Debug)]
pub struct LogDir {
    path: PathBuf,
    clean: bool,
    epoch: Option<i64>,
    /// The lock goes with it.
    lock: Mutex<Option<File>>,
}

/// The directory of a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLog {
    pub partition: TopicPartition,
    pub path: PathBuf,
}

/// The name of a directory with a copy of a log on its way from another data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FutureName {
    pub partition: TopicPartition,
    unique: u128,
}

impl FutureName {
    /// `unique` tells it from others that were begun before.
    pub fn new(partition: TopicPartition, unique: Uuid) -> Self {
        Self { partition, unique: u128::from_be_bytes(unique.0) }
    }

    /// Reads the name of a directory; `None` where it is not `<topic>-<partition>.<32 hexadecimal digits>-future`.
    pub fn parse(name: &str) -> Option<Self> {
        let (partition, unique) = name.strip_suffix(FUTURE)?.rsplit_once('.')?;
        let digits = unique.len() == 32 && unique.bytes().all(|b| b.is_ascii_hexdigit());
        let unique = u128::from_str_radix(unique, 16).ok().filter(|_| digits)?;
        Some(Self { partition: TopicPartition::parse(partition)?, unique })
    }

    /// Whether file systems allow a name that is as long.
    pub fn fits(&self) -> bool {
        self.to_string().len() <= LONGEST_NAME
    }
}

impl fmt::Display for FutureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:032x}{FUTURE}", self.partition, self.unique)
    }
}

/// Reads the mark of a clean shutdown: a small JSON object, also as Kafka writes it.
fn broker_epoch(mark: &str) -> Option<i64> {
    let (_, after) = mark.split_once("\"brokerEpoch\"")?;
    let number = after.trim_start().strip_prefix(':')?.trim_start();
    let end = number.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

impl LogDir {
    /// Takes possession of `path`, which is made if missing. [`Error::DirectoryInUse`] if another process has it, be it
    /// ours or a Java broker.
    ///
    /// The mark of a clean shutdown is taken away: until [`LogDir::mark_clean_shutdown`], a stop counts as a crash.
    pub fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).at("create", path)?;
        let lock = lock(path)?;
        let mark = path.join(CLEAN_SHUTDOWN);
        let clean = mark.exists();
        let epoch = files::read_text(&mark).ok().flatten().and_then(|text| broker_epoch(&text));
        files::remove(&mark)?;
        Ok(Self { path: path.to_owned(), clean, epoch, lock: Mutex::new(Some(lock)) })
    }

    /// The broker epoch that was told to [`LogDir::mark_clean_shutdown`]; `None` after a crash.
    pub fn clean_shutdown_epoch(&self) -> Option<i64> {
        self.epoch
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last broker here was shut down in order.
    pub fn had_clean_shutdown(&self) -> bool {
        self.clean
    }

    /// Says that all logs are closed and all checkpoints written. The last act of a broker.
    pub fn mark_clean_shutdown(&self, broker_epoch: i64) -> Result<(), Error> {
        let mark = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        files::write_atomically(&self.path.join(CLEAN_SHUTDOWN), mark.as_bytes())
    }

    /// Gives the directory up, so that another process (or this one, anew) may have it. After this nothing may be written.
    pub fn release(&self) {
        if let Some(lock) = self.lock.lock().take() {
            // Closing alone would leave it to a child that was just forked and has not come to its own program yet.
            let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
        }
    }

    /// Looks whether the directory can still be listed, read and written.
    pub fn probe(&self) -> Result<(), Error> {
        let path = self.path.join(PROBE);
        fs::read_dir(&self.path).at("list", &self.path)?;
        fs::metadata(self.path.join(LOCK)).at("find", &self.path.join(LOCK))?;
        File::create(&path).at("create", &path)?;
        files::remove(&path)
    }

    /// Makes everything durable that was written to the file system of this directory, by whomever: for a large number
    /// of logs that takes far less time than one after the other.
    pub fn sync_file_system(&self) -> Result<(), Error> {
        let dir = File::open(&self.path).at("open", &self.path)?;
        rustix::fs::syncfs(&dir).at("sync", &self.path)
    }

    /// The logs in this directory. What is left of deleted topics is removed on the way; other names are left alone.
    pub fn logs(&self) -> Result<Vec<FoundLog>, Error> {
        let mut found = Vec::new();
        for name in files::names(&self.path)? {
            let path = self.path.join(&name);
            if !path.is_dir() {
                continue;
            }
            if name.ends_with(DELETED) {
                fs::remove_dir_all(&path).at("remove", &path)?;
            } else if FutureName::parse(&name).is_some() {
                // For [`LogDir::futures`].
            } else if name.ends_with(FUTURE) || name.ends_with(STRAY) {
                tracing::warn!(path = %path.display(), "a directory is left alone");
            } else if let Some(partition) = TopicPartition::parse(&name) {
                found.push(FoundLog { partition, path });
            } else if !name.starts_with('.') && name != "lost+found" {
                tracing::warn!(path = %path.display(), "not named <topic>-<partition>: left alone");
            }
        }
        Ok(found)
    }

    /// The copies that were being made here of logs in other directories.
    pub fn futures(&self) -> Result<Vec<FoundLog>, Error> {
        let names = files::names(&self.path)?.into_iter();
        let named =
            names.filter_map(|name| Some((FutureName::parse(&name)?.partition, self.path.join(name))));
        Ok(named
            .filter(|(_, path)| path.is_dir())
            .map(|(partition, path)| FoundLog { partition, path })
            .collect())
    }

    /// Where the log of `partition` is or would be.
    pub fn log_path(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(partition.to_string())
    }

    /// Takes the log of `partition` out of service by giving its directory a name with `-delete`; `unique` tells it from
    /// others deleted before. Returns the new path, for [`LogDir::remove_deleted`]. The log must be closed.
    pub fn rename_for_delete(&self, partition: &TopicPartition, unique: Uuid) -> Result<PathBuf, Error> {
        self.rename_dir_for_delete(&self.log_path(partition), partition, unique)
    }

    /// The same for a directory of any name: a copy that is not wanted any more ([`LogDir::futures`]).
    pub fn rename_dir_for_delete(
        &self,
        source: &Path,
        partition: &TopicPartition,
        unique: Uuid,
    ) -> Result<PathBuf, Error> {
        let suffix = format!(".{:032x}{DELETED}", u128::from_be_bytes(unique.0));
        let mut name = partition.to_string();
        // Topic names may have 249 bytes.
        name.truncate(LONGEST_NAME - suffix.len());
        let target = self.path.join(name + &suffix);
        fs::rename(source, &target).at("rename", source)?;
        files::sync_dir(&self.path)?;
        Ok(target)
    }

    /// Gives the copy at `path` the name of its log, which there must not be.
    pub fn promote_future(&self, path: &Path, partition: &TopicPartition) -> Result<(), Error> {
        crate::log::rename_to_current(path, partition)
    }

    /// Gives a log the name of a copy, for its end to be compared with that of the log in another directory.
    pub fn demote(&self, partition: &TopicPartition, unique: Uuid) -> Result<PathBuf, Error> {
        let (source, name) = (self.log_path(partition), FutureName::new(partition.clone(), unique));
        let target = self.path.join(name.to_string());
        fs::rename(&source, &target).at("rename", &source)?;
        files::sync_dir(&self.path)?;
        Ok(target)
    }

    /// Removes a directory that [`LogDir::rename_for_delete`] returned, after `file.delete.delay.ms`.
    pub fn remove_deleted(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.at("remove", path),
        }
    }

    /// Up to where each log is on disk for certain.
    pub fn read_recovery_points(&self) -> Result<OffsetCheckpoint, Error> {
        checkpoint::read_offsets(&self.path.join(RECOVERY_POINTS))
    }

    /// Writes [`crate::Log::recovery_point`] of all logs.
    pub fn write_recovery_points(&self, offsets: &OffsetCheckpoint) -> Result<(), Error> {
        checkpoint::write_offsets(&self.path.join(RECOVERY_POINTS), offsets)
    }

    /// Log start offsets of the logs that do not begin with their first segment.
    pub fn read_log_starts(&self) -> Result<OffsetCheckpoint, Error> {
        checkpoint::read_offsets(&self.path.join(LOG_STARTS))
    }

    /// Writes [`crate::Log::log_start_offset`] of all logs.
    pub fn write_log_starts(&self, offsets: &OffsetCheckpoint) -> Result<(), Error> {
        checkpoint::write_offsets(&self.path.join(LOG_STARTS), offsets)
    }

    /// High watermarks as they were when last written.
    pub fn read_high_watermarks(&self) -> Result<OffsetCheckpoint, Error> {
        checkpoint::read_offsets(&self.path.join(HIGH_WATERMARKS))
    }

    /// Writes [`crate::Log::high_watermark`] of all logs.
    pub fn write_high_watermarks(&self, offsets: &OffsetCheckpoint) -> Result<(), Error> {
        checkpoint::write_offsets(&self.path.join(HIGH_WATERMARKS), offsets)
    }

    /// Up to where compaction has cleaned each log.
    pub fn read_cleaner_offsets(&self) -> Result<OffsetCheckpoint, Error> {
        checkpoint::read_offsets(&self.path.join(CLEANER_OFFSETS))
    }

    /// Writes the offsets that compaction has come to.
    pub fn write_cleaner_offsets(&self, offsets: &OffsetCheckpoint) -> Result<(), Error> {
        checkpoint::write_offsets(&self.path.join(CLEANER_OFFSETS), offsets)
    }
}

/// Two locks: one that other processes of ours respect, also within this process, and one that a Java broker takes.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .at("open", &path)?;
    let ours = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    let locked = ours.and_then(|()| rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive));
    match locked {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::DirectoryInUse { path: dir.to_owned() }),
        Err(errno) => Err(errno).at("lock", &path),
    }
}
