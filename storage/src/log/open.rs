use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use aqueduct_protocol::ids::{LeaderEpoch, Offset, Uuid};
use parking_lot::{Mutex, RwLock};

use super::recover::Loader;
use super::{Log, View, Writer};
use crate::epochs::LeaderEpochs;
use crate::error::IoContext;
use crate::producers::Producers;
use crate::segment::Segment;
use crate::{Error, LogConfig, TopicPartition, partition_metadata};

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
    /// Makes the directory of a new, empty log in `data_dir`. It outlives this process; a power failure it outlives from
    /// the first [`Log::flush`] on, like all that is in it.
    pub fn create(
        data_dir: &Path,
        partition: &TopicPartition,
        topic_id: Option<Uuid>,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Self, Error> {
        Self::create_in(data_dir.join(partition.to_string()), partition, topic_id, Offset(0), config, now_ms)
    }

    /// The same in a directory of any name, beginning at `start`.
    pub(super) fn create_in(
        dir: PathBuf,
        partition: &TopicPartition,
        topic_id: Option<Uuid>,
        start: Offset,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Self, Error> {
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::AlreadyExists { path: dir });
            }
            done => done.at("create", &dir)?,
        }
        let filled = topic_id
            .map_or(Ok(()), |id| partition_metadata::write_new(&dir, id))
            .and_then(|()| Segment::create(&dir, start, &config, now_ms));
        let segment = filled.inspect_err(|_| {
            // Half a directory would stand in the way of the next try.
            let _ = std::fs::remove_dir_all(&dir);
        })?;
        let epochs = LeaderEpochs::new(dir.join(LEADER_EPOCHS));
        let log = Self::of_segments(dir, partition.clone(), config, vec![segment], epochs, start, now_ms);
        *log.topic_id.write() = topic_id;
        Ok(log)
    }

    /// Opens the log in `dir`, which is named after its partition.
    ///
    /// Leftovers of deletions and of interrupted compaction are cleared up. After an unclean stop, everything from the
    /// recovery point on is read, and the log ends before the first batch that is not sound. The high watermark is at the
    /// log start; the caller knows better.
    pub fn open(dir: &Path, config: LogConfig, recovery: Recovery, now_ms: i64) -> Result<Self, Error> {
        let name = dir.file_name().and_then(|n| n.to_str()).and_then(TopicPartition::parse);
        let partition = name.ok_or_else(|| Error::BadDirectoryName { path: dir.to_owned() })?;
        Self::open_as(dir, partition, config, recovery, now_ms)
    }

    /// The same for a directory of any name.
    pub(super) fn open_as(
        dir: &Path,
        partition: TopicPartition,
        config: LogConfig,
        recovery: Recovery,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let epochs = LeaderEpochs::load(dir.join(LEADER_EPOCHS))?;
        let mut loader = Loader {
            dir,
            partition: &partition,
            config: &config,
            now_ms,
            epochs,
            names: Vec::new(),
            first_recovered: None,
        };
        let (mut segments, mut end) = loader.load(&recovery)?;
        let producers_from = loader.first_recovered.unwrap_or(end).min(end);
        if segments.is_empty() {
            segments.push(Segment::create(dir, recovery.log_start, &config, now_ms)?);
            end = recovery.log_start;
        }
        let (mut epochs, names) = (loader.epochs, loader.names);
        let start = recovery.log_start.max(segments[0].base_offset);
        let cut = epochs.truncate_end(end);
        if epochs.truncate_start(start) || cut {
            epochs.store()?;
        }
        let topic_id = match partition_metadata::read(dir) {
            Err(Error::DamagedFile { path, why }) => {
                tracing::warn!(path = %path.display(), why, "the topic's id is taken from the metadata again");
                None
            }
            read => read?,
        };
        let log = Self::of_segments(dir.to_owned(), partition, config, segments, epochs, end, now_ms);
        log.publish(|view| (view.start, view.high_watermark) = (start, start));
        *log.topic_id.write() = topic_id;
        if !recovery.clean {
            log.recovery_point.store(recovery.recovery_point.min(end).0, Ordering::Release);
        }
        log.is_new.store(!recovery.clean && recovery.recovery_point <= start, Ordering::Release);
        log.load_producers(&mut log.writer.lock(), producers_from, &names)?;
        log.remove_stray_snapshots(&names)?;
        Ok(log)
    }

    /// A log of these segments that ends at `end` and begins with the first of them; all of it counts as durable, the
    /// directory as new.
    fn of_segments(
        dir: PathBuf,
        partition: TopicPartition,
        config: LogConfig,
        segments: Vec<Segment>,
        epochs: LeaderEpochs,
        end: Offset,
        now_ms: i64,
    ) -> Self {
        let start = segments.first().map_or(end, |first| first.base_offset);
        let view = View {
            end_position: segments.last().map_or(0, Segment::size),
            segments: Arc::new(segments.into_iter().map(Arc::new).collect()),
            start,
            end,
            high_watermark: start,
            first_unstable: None,
        };
        let producers = Producers::default();
        let fence = LeaderEpoch(-1);
        let writer = Writer { producers, closed: false, fence, last_flush_ms: now_ms, snapshot_at: None };
        Self {
            partition,
            dir,
            config: RwLock::new(Arc::new(config)),
            view: RwLock::new(view),
            writer: Mutex::new(writer),
            epochs: RwLock::new(epochs),
            recovery_point: AtomicI64::new(end.0),
            doomed: Mutex::default(),
            cleaning: Mutex::default(),
            generation: AtomicU64::default(),
            topic_id: RwLock::default(),
            is_new: AtomicBool::new(true),
        }
    }
}
