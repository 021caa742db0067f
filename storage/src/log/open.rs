use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use aqueduct_protocol::ids::{Offset, Uuid};
use parking_lot::{Mutex, RwLock};

use super::recover::Loader;
use super::{Log, View, Writer};
use crate::epochs::LeaderEpochs;
use crate::error::IoContext;
use crate::producers::Producers;
use crate::segment::Segment;
use crate::{Error, LogConfig, TopicPartition, files, partition_metadata};

const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// What the data directory says about how a log was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The broker was shut down in order: what is on disk can be trusted.
    pub clean: bool,
    /// From here on nothing is certain after a crash.
    pub recovery_point: Offset,
    /// The log start offset of the checkpoint.
    pub log_start: Offset,
}

impl Recovery {
    /// Nothing is known: every segment is checked.
    pub const UNKNOWN: Self = Self { clean: false, recovery_point: Offset(0), log_start: Offset(0) };
}

impl Log {
    /// Makes the directory of a new, empty log in `data_dir`.
    pub fn create(
        data_dir: &Path,
        partition: &TopicPartition,
        topic_id: Option<Uuid>,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let dir = data_dir.join(partition.to_string());
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::AlreadyExists { path: dir });
            }
            done => done.at("create", &dir)?,
        }
        if let Some(id) = topic_id {
            partition_metadata::write(&dir, id)?;
        }
        files::sync_dir(data_dir)?;
        Self::open(&dir, config, Recovery { clean: true, ..Recovery::UNKNOWN }, now_ms)
    }

    /// Opens the log in `dir`, which is named after its partition.
    ///
    /// Leftovers of deletions and of interrupted compaction are cleared up. After an unclean stop, everything from the
    /// recovery point on is read, and the log ends before the first batch that is not sound. The high watermark is at the
    /// log start; the caller knows better.
    pub fn open(dir: &Path, config: LogConfig, recovery: Recovery, now_ms: i64) -> Result<Self, Error> {
        let name = dir.file_name().and_then(|n| n.to_str()).and_then(TopicPartition::parse);
        let partition = name.ok_or_else(|| Error::BadDirectoryName { path: dir.to_owned() })?;
        let epochs = LeaderEpochs::load(dir.join(LEADER_EPOCHS))?;
        let mut loader =
            Loader { dir, partition: &partition, config: &config, now_ms, epochs, first_recovered: None };
        let (mut segments, mut end) = loader.load(&recovery)?;
        let producers_from = loader.first_recovered.unwrap_or(end).min(end);
        if segments.is_empty() {
            segments.push(Segment::create(dir, recovery.log_start, &config, now_ms)?);
            end = recovery.log_start;
        }
        let mut epochs = loader.epochs;
        let start = recovery.log_start.max(segments[0].base_offset);
        let cut = epochs.truncate_end(end);
        if epochs.truncate_start(start) || cut {
            epochs.store()?;
        }
        let end_position = segments[segments.len() - 1].size();
        let view = View {
            segments: Arc::new(segments.into_iter().map(Arc::new).collect()),
            start,
            end,
            end_position,
            high_watermark: start,
            first_unstable: None,
        };
        let recovery_point = if recovery.clean { end } else { recovery.recovery_point.min(end) };
        let log = Self {
            topic_id: RwLock::new(partition_metadata::read(dir)?),
            partition,
            dir: dir.to_owned(),
            config: RwLock::new(Arc::new(config)),
            view: RwLock::new(view),
            writer: Mutex::new(Writer {
                producers: Producers::default(),
                closed: false,
                last_flush_ms: now_ms,
            }),
            epochs: RwLock::new(epochs),
            recovery_point: AtomicI64::new(recovery_point.0),
            doomed: Mutex::new(Vec::new()),
        };
        log.load_producers(&mut log.writer.lock(), producers_from)?;
        log.remove_stray_snapshots()?;
        Ok(log)
    }
}
