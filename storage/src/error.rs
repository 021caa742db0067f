use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::RecordError;

use crate::TopicPartition;

/// Everything that can go wrong with a log. [`Error::code`] is the number that the wire has for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refuses something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The log is closed, or was given up after an earlier failure to write.
    #[error("{partition}: the log is closed")]
    Closed { partition: TopicPartition },
    /// The data directory failed before, or was not there at the start.
    #[error("{} is offline", path.display())]
    DirectoryFailed { path: PathBuf },
    /// A file of ours does not read as one.
    #[error("{} is damaged: {why}", path.display())]
    DamagedFile { path: PathBuf, why: String },
    /// A log file holds something else where a batch should be.
    #[error("{} is damaged at position {position}: {source}", path.display())]
    DamagedLog { path: PathBuf, position: u64, source: RecordError },
    /// The data directory is in use by another process.
    #[error("{} is locked: another broker process uses this data directory; stop it or set another log.dirs", path.display())]
    DirectoryInUse { path: PathBuf },
    /// The data directory belongs to another cluster or node.
    #[error(
        "{} says {key}={found}, this broker has {key}={expected}: the directory belongs to another broker; point \
         log.dirs to an empty directory, or set {key} back",
        path.display()
    )]
    ForeignDirectory { path: PathBuf, key: &'static str, found: String, expected: String },
    /// A directory name that is not `<topic>-<partition>`.
    #[error("{} is not named <topic>-<partition>", path.display())]
    BadDirectoryName { path: PathBuf },
    /// A directory that should be new is there already.
    #[error("{} exists already", path.display())]
    AlreadyExists { path: PathBuf },

    /// An offset that the log does not hold.
    #[error("{partition}@{offset}: the log holds {start} to {end}")]
    OffsetOutOfRange { partition: TopicPartition, offset: Offset, start: Offset, end: Offset },
    /// The batch exceeds `max.message.bytes`.
    #[error("{partition}: batch of {size} bytes exceeds max.message.bytes={limit}")]
    MessageTooLarge { partition: TopicPartition, size: usize, limit: usize },
    /// The batch exceeds `segment.bytes`.
    #[error("{partition}: batch of {size} bytes exceeds segment.bytes={limit}")]
    RecordListTooLarge { partition: TopicPartition, size: usize, limit: usize },
    /// The checksum is wrong, or the length is.
    #[error("{partition}: {source}")]
    CorruptMessage { partition: TopicPartition, source: RecordError },
    /// The batch breaks a rule.
    #[error("{partition}: {why}")]
    InvalidRecord { partition: TopicPartition, why: String, records: Vec<RecordIssue> },
    /// Timestamps outside of what the topic allows.
    #[error("{partition}: {why}")]
    InvalidTimestamp { partition: TopicPartition, why: String, records: Vec<RecordIssue> },
    /// The producer is fenced by a newer one with its id.
    #[error("{partition}: producer {producer} has epoch {found}, the newest is {newest}")]
    InvalidProducerEpoch {
        partition: TopicPartition,
        producer: ProducerId,
        found: ProducerEpoch,
        newest: ProducerEpoch,
    },
    /// The sequence number is not the next one.
    #[error("{partition}: producer {producer} sends sequence {found}, after {last} was expected the next")]
    OutOfOrderSequence { partition: TopicPartition, producer: ProducerId, found: i32, last: i32 },
    /// A write that does not fit the state of the producer's transaction.
    #[error("{partition}: producer {producer}: {why}")]
    InvalidTxnState { partition: TopicPartition, producer: ProducerId, why: &'static str },
    /// A marker from a transaction coordinator that has been replaced.
    #[error(
        "{partition}: marker for producer {producer} from coordinator epoch {found}, the newest is {newest}"
    )]
    TransactionCoordinatorFenced { partition: TopicPartition, producer: ProducerId, found: i32, newest: i32 },
    /// The cleaning of a log was stopped, or what it worked on is not part of the log any more. Another one may succeed.
    #[error("{partition}: the cleaning is given up")]
    CleaningAborted { partition: TopicPartition },
    /// A log that cannot be cleaned with these settings.
    #[error("{partition}@{offset}: {why}")]
    Uncleanable { partition: TopicPartition, offset: Offset, why: String },
    /// Bytes for a follower that do not continue its log.
    #[error("{partition}@{found}: the next offset to append is {expected}")]
    UnexpectedAppendOffset { partition: TopicPartition, found: Offset, expected: Offset },
    /// Bytes for a follower from a leader newer than the one it follows.
    #[error("{partition}@{offset}: batch of leader epoch {found}, following epoch {expected}")]
    UnexpectedLeaderEpoch {
        partition: TopicPartition,
        offset: Offset,
        found: LeaderEpoch,
        expected: LeaderEpoch,
    },
    /// Whoever appends has lost the partition to a newer leader.
    #[error("{partition}: epoch {found} is over, the leader epoch is {newest} by now")]
    FencedLeaderEpoch { partition: TopicPartition, found: LeaderEpoch, newest: LeaderEpoch },
}

/// What a failure says of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the request was wrong, or the process is short of something.
    None,
    /// There is no room left. Nothing was written; it works again when there is.
    Space,
    /// One file is not there, or not what it should be; whether the directory is still good has to be looked at.
    Unclear,
    /// The directory cannot be used any more.
    Directory,
}

/// What is wrong with one record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordIssue {
    /// Index of the record in its batch.
    pub index: i32,
    pub message: String,
}

impl Error {
    /// Kafka's error code.
    pub fn code(&self) -> i16 {
        match self {
            Self::OffsetOutOfRange { .. } => 1,
            Self::CorruptMessage { .. } | Self::DamagedLog { .. } => 2,
            // NOT_LEADER_OR_FOLLOWER
            Self::FencedLeaderEpoch { .. } => 6,
            Self::MessageTooLarge { .. } => 10,
            Self::RecordListTooLarge { .. } => 18,
            Self::InvalidTimestamp { .. } => 32,
            Self::OutOfOrderSequence { .. } => 45,
            Self::InvalidProducerEpoch { .. } => 47,
            Self::InvalidTxnState { .. } => 48,
            Self::TransactionCoordinatorFenced { .. } => 52,
            Self::InvalidRecord { .. } => 87,
            // KAFKA_STORAGE_ERROR: clients look for another replica and try again.
            _ => 56,
        }
    }

    /// Whether the disk would have had to be waited for; see [`crate::if_cached`].
    pub fn is_cold(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// What the failure says of the disk.
    pub fn fault(&self) -> Fault {
        match self {
            // What a failed sync has lost, nobody can tell.
            Self::Io { action: "sync", source, .. } if source.raw_os_error().is_some() => {
                match fault_of(source) {
                    Fault::Space => Fault::Directory,
                    other => other,
                }
            }
            Self::Io { source, .. } => fault_of(source),
            _ => Fault::None,
        }
    }

    /// The records at fault, where single ones are.
    pub fn record_issues(&self) -> &[RecordIssue] {
        match self {
            Self::InvalidRecord { records, .. } | Self::InvalidTimestamp { records, .. } => records,
            _ => &[],
        }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::DamagedFile { path: path.to_owned(), why: why.into() }
    }
}

/// What an error of the operating system says of the disk.
pub fn fault_of(error: &std::io::Error) -> Fault {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else {
        let is_cold = error.kind() == std::io::ErrorKind::WouldBlock;
        return if is_cold { Fault::None } else { Fault::Unclear };
    };
    match Errno::from_raw_os_error(code) {
        Errno::NOSPC | Errno::DQUOT => Fault::Space,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN => Fault::None,
        Errno::IO
        | Errno::ROFS
        | Errno::NXIO
        | Errno::NODEV
        | Errno::STALE
        | Errno::UCLEAN
        | Errno::SHUTDOWN
        | Errno::NOTCONN
        | Errno::REMOTEIO
        | Errno::ACCESS
        | Errno::PERM => Fault::Directory,
        _ => Fault::Unclear,
    }
}

/// Names the file and the action in an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}

impl<T> IoContext<T> for Result<T, rustix::io::Errno> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|errno| Error::Io { action, path: path.to_owned(), source: errno.into() })
    }
}
