//! All partitions of this node. A log is opened when it is first needed, so that a node with many partitions starts
//! fast and an unused one costs a directory.

mod coordinated;
mod directories;
mod directory;
mod failures;
mod moves;
mod opening;
mod replicas;
mod retention;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};
use aqueduct_storage::{Error, OffsetCheckpoint, TopicPartition};
use futures_util::{StreamExt, stream};
use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Settings, TopicConfig};
use crate::metadata::{EffectiveConfig, MetadataBackend, MetadataImage, TopicImage};
use crate::partition::Partition;
use crate::replication::Around;

pub(crate) use directories::Directories;
pub(crate) use directory::Health;
pub(crate) use failures::watch_directories;
pub(crate) use moves::{HELD_UP, Move, Moves, Progress, stretch_at};

/// Logs that are opened, closed or moved at the same time.
const AT_ONCE: usize = 16;

/// From so many logs on, syncing their whole file system is faster than one log after the other.
const MANY: usize = 64;

/// Where a partition is once its log has been opened, which happens once however many ask for it.
type Slot = Arc<OnceCell<Arc<Partition>>>;

/// A partition whose log is not open.
pub(crate) type Closed = (Arc<TopicImage>, PartitionIndex);

/// The directory of a deleted partition.
#[derive(Debug, Clone)]
struct Doomed {
    /// When it may be removed.
    due_ms: i64,
    delay_ms: i64,
    directory: usize,
    path: std::path::PathBuf,
}

/// The registry of open partitions.
pub(crate) struct Partitions {
    settings: Arc<Settings>,
    metadata: Arc<dyn MetadataBackend>,
    directories: Arc<Directories>,
    clock: Clock,
    open: RwLock<HashMap<(Uuid, i32), Slot>>,
    around: Arc<Around>,
    /// One removal of replicas at a time.
    removing: tokio::sync::Mutex<()>,
    /// Directories of deleted partitions, still to be removed.
    doomed: Mutex<Vec<Doomed>>,
    moves: Moves,
    /// After a crash, whether every log has been recovered since; only then may the next start trust them all.
    recovered: AtomicBool,
    /// No directory is left.
    lost: CancellationToken,
}

impl Partitions {
    pub fn new(
        settings: Arc<Settings>,
        metadata: Arc<dyn MetadataBackend>,
        directories: Directories,
        clock: Clock,
    ) -> Self {
        let recovered = AtomicBool::new(directories.all_clean());
        let directories = Arc::new(directories);
        let around = Around::new(settings.node_id, metadata.clone(), settings.replication.lag_max_ms);
        Self {
            settings,
            metadata,
            directories,
            clock,
            open: RwLock::default(),
            around,
            removing: tokio::sync::Mutex::default(),
            doomed: Mutex::default(),
            moves: Moves::default(),
            recovered,
            lost: CancellationToken::new(),
        }
    }

    /// What partitions know of the node around them; observers of their roles register there.
    pub fn around(&self) -> &Arc<Around> {
        &self.around
    }

    /// The directories of the logs.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// A partition whose log is open already.
    pub fn opened(&self, topic: Uuid, index: PartitionIndex) -> Option<Arc<Partition>> {
        let open = self.open.read();
        open.get(&(topic, index.0)).and_then(|cell| cell.get()).filter(|found| !found.is_offline()).cloned()
    }

    /// Those of the wanted partitions whose logs are not open yet.
    pub fn closed<'a>(&self, wanted: impl Iterator<Item = (&'a Arc<TopicImage>, i32)>) -> Vec<Closed> {
        wanted
            .map(|(topic, index)| (topic, PartitionIndex(index)))
            .filter(|(topic, index)| self.opened(topic.id, *index).is_none())
            .map(|(topic, index)| (topic.clone(), index))
            .collect()
    }

    /// Opens several logs at the same time; what fails is found out by [`Partitions::get`].
    pub async fn open_at_once(&self, closed: Vec<Closed>) {
        if closed.len() >= 2 {
            self.open_all_of(closed).await;
        }
    }

    /// The same, where there is no [`Partitions::get`] to follow.
    pub async fn open_all_of(&self, closed: Vec<Closed>) {
        let open = |(topic, index): Closed| async move {
            let _ = self.hosted(&topic, index).await;
        };
        stream::iter(closed).for_each_concurrent(AT_ONCE, open).await;
    }

    /// A partition that this node leads, its log opened if it was not yet.
    pub async fn get(&self, topic: &TopicImage, index: PartitionIndex) -> Result<Arc<Partition>, ErrorCode> {
        if let Some(partition) = self.opened(topic.id, index).filter(|found| found.leads().is_some()) {
            return Ok(partition);
        }
        let Some(image) = topic.partition(index) else { return Err(ErrorCode::UnknownTopicOrPartition) };
        if self.is_out_of_reach(topic.id, index) {
            return Err(ErrorCode::KafkaStorageError);
        }
        if image.leader != self.settings.node_id {
            let code = if image.leader == BrokerId(-1) {
                ErrorCode::LeaderNotAvailable
            } else {
                ErrorCode::NotLeaderOrFollower
            };
            return Err(code);
        }
        let partition = self.hosted(topic, index).await?;
        if partition.leads().is_none() {
            // The news of it is on its way here, or this node has lost it again.
            self.settle_soon(&partition).await;
        }
        match partition.leads() {
            Some(_) => Ok(partition),
            None => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// A partition that this node leads or follows the leader of; as [`Partitions::get`].
    pub async fn readable(
        &self,
        topic: &TopicImage,
        index: PartitionIndex,
    ) -> Result<Arc<Partition>, ErrorCode> {
        if let Some(partition) = self.opened(topic.id, index).filter(|found| found.serves().is_some()) {
            return Ok(partition);
        }
        self.get(topic, index).await
    }

    /// A partition that this node has a replica of, in whatever role, its log opened if it was not yet.
    pub async fn hosted(
        &self,
        topic: &TopicImage,
        index: PartitionIndex,
    ) -> Result<Arc<Partition>, ErrorCode> {
        if let Some(partition) = self.opened(topic.id, index) {
            return Ok(partition);
        }
        let Some(image) = topic.partition(index) else { return Err(ErrorCode::UnknownTopicOrPartition) };
        if self.is_out_of_reach(topic.id, index) {
            return Err(ErrorCode::KafkaStorageError);
        }
        if !image.replicas.contains(&self.settings.node_id) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let cell = self.open.write().entry((topic.id, index.0)).or_default().clone();
        let opened = cell.get_or_try_init(|| self.open(topic, index)).await;
        let is_deleted = self.metadata.image().topic_by_id(topic.id).is_none();
        let partition = match opened {
            Ok(partition) => partition,
            // Its directory was renamed under the opening.
            Err(_) if is_deleted => {
                self.open.write().remove(&(topic.id, index.0));
                return Err(ErrorCode::UnknownTopicOrPartition);
            }
            Err(error) => {
                if !matches!(error, opening::OpenError::Storage(Error::DirectoryFailed { .. })) {
                    tracing::error!(topic = %topic.name, partition = index.0, %error, "log cannot be opened");
                }
                return Err(ErrorCode::KafkaStorageError);
            }
        };
        // The topic may have been deleted while its log was being opened.
        if is_deleted {
            partition.delete();
            self.open.write().remove(&(topic.id, index.0));
            let (directories, partition) = (self.directories.clone(), partition.clone());
            aqueduct_quorum::blocking::spawn(move || {
                directories.discard(partition.name(), partition.topic_id)
            });
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        Ok(partition.clone())
    }

    /// A partition by the name of its topic.
    pub async fn by_name(&self, topic: &str, index: PartitionIndex) -> Result<Arc<Partition>, ErrorCode> {
        let image = self.metadata.image();
        match image.topic(topic) {
            Some(topic) => self.get(topic, index).await,
            None => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }

    /// Every partition whose log is open.
    pub fn all_open(&self) -> Vec<Arc<Partition>> {
        self.open.read().values().filter_map(|cell| cell.get().cloned()).collect()
    }

    /// Removes files that are due. Blocks.
    pub fn reap(&self, now_ms: i64) {
        let mut due = Vec::new();
        self.doomed.lock().retain_mut(|doomed| {
            // A clock that was set back must not keep it for as long as it was ahead.
            doomed.due_ms = doomed.due_ms.min(now_ms.saturating_add(doomed.delay_ms));
            let is_due = doomed.due_ms <= now_ms;
            if is_due {
                due.push(doomed.clone());
            }
            !is_due
        });
        for Doomed { directory, path, .. } in due {
            if let Err(error) = self.directories.remove(directory, &path) {
                tracing::warn!(path = %path.display(), %error, "deleted directory is not removed");
            }
        }
        for partition in self.all_open() {
            if let Err(error) = partition.log().reap(now_ms) {
                tracing::warn!(partition = %partition.name(), %error, "deleted segments are not removed");
            }
        }
    }

    /// Gives every open log the settings that the image has for it.
    pub fn apply_configs(&self, image: &MetadataImage) {
        let mut by_topic = HashMap::new();
        for partition in self.all_open() {
            let Some(topic) = image.topic_by_id(partition.topic_id) else { continue };
            let topic = by_topic.entry(topic.id).or_insert_with(|| self.topic_config(image, &topic.name));
            let config = opening::log_config(topic);
            if *partition.log().config() != config {
                partition.log().set_config(config);
            }
            partition.set_compression(opening::compression(topic));
            partition.set_min_isr(topic.min_insync_replicas);
            partition.set_throttled(topic);
        }
    }

    /// Opens every log on disk that belongs to a topic; after a crash that recovers them, a few in each directory at the
    /// same time.
    pub async fn open_all(&self) {
        let image = self.metadata.image();
        let known = self.directories.known().into_iter();
        let of_topics =
            known.filter_map(|(id, partition)| Some((image.topic_by_id(id)?.clone(), partition.partition)));
        let open = |(topic, index): Closed| async move {
            let _ = self.hosted(&topic, index).await;
        };
        let at_once = self.settings.recovery_threads.max(1) * self.directories.len();
        stream::iter(of_topics).for_each_concurrent(at_once, open).await;
        self.recovered.store(true, Ordering::Release);
    }

    /// Whether logs are still as a crash left them.
    pub fn needs_recovery(&self) -> bool {
        !self.recovered.load(Ordering::Acquire)
    }

    /// Writes the checkpoint files of all directories, where they changed; says whether all could be written. Blocks.
    pub fn checkpoint(&self, what: Checkpoint) -> bool {
        let mut offsets: Vec<OffsetCheckpoint> = vec![OffsetCheckpoint::new(); self.directories.len()];
        for partition in self.all_open() {
            if partition.is_deleted() {
                continue;
            }
            let log = partition.log();
            let offset = match what {
                Checkpoint::HighWatermarks => log.high_watermark(),
                Checkpoint::RecoveryPoints => log.recovery_point(),
                Checkpoint::LogStarts => log.log_start_offset(),
            };
            offsets[partition.directory()].insert(log.partition().clone(), offset);
        }
        if what == Checkpoint::RecoveryPoints {
            self.add_future_points(&mut offsets);
        }
        self.directories.write_checkpoint(what, offsets)
    }

    /// Closes all logs and leaves the directories so that the next start can trust them. Blocks.
    pub fn shut_down(&self) {
        let mut dirty: Vec<Vec<Arc<Partition>>> = vec![Vec::new(); self.directories.len()];
        let mut in_order = vec![!self.needs_recovery(); self.directories.len()];
        let (left, failed) = (Mutex::new(Vec::new()), Mutex::new(self.close_futures()));
        let open: Vec<_> = self.all_open().into_iter().filter(|partition| !partition.is_offline()).collect();
        in_parallel(&open, |partition| match partition.log().finish() {
            Ok(true) => left.lock().push(partition.clone()),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(partition = %partition.name(), %error, "log did not close");
                failed.lock().push(partition.directory());
            }
        });
        left.into_inner().into_iter().for_each(|partition| dirty[partition.directory()].push(partition));
        failed.into_inner().into_iter().for_each(|directory| in_order[directory] = false);
        for (directory, partitions) in dirty.iter().enumerate() {
            in_order[directory] &= self.make_durable(directory, partitions);
        }
        let all = [Checkpoint::RecoveryPoints, Checkpoint::LogStarts, Checkpoint::HighWatermarks];
        // All of them are tried, whichever fails.
        let failed = all.into_iter().filter(|what| !self.checkpoint(*what)).count();
        let written = failed == 0;
        for (directory, in_order) in in_order.into_iter().enumerate() {
            if in_order && written {
                self.directories.mark_clean(directory);
            } else {
                let path = self.directories.health_of(directory).path().display().to_string();
                tracing::warn!(path, "logs will be recovered at the next start");
            }
        }
        self.directories.release();
    }

    /// Makes closed logs of one directory durable: a few one by one, many by a sync of their file system.
    fn make_durable(&self, directory: usize, closed: &[Arc<Partition>]) -> bool {
        if closed.len() > MANY {
            return match self.directories.sync(directory) {
                Ok(()) => {
                    closed.iter().for_each(|partition| partition.log().flushed_with_others());
                    true
                }
                Err(error) => {
                    tracing::error!(%error, "logs are not on disk for certain");
                    false
                }
            };
        }
        let failed = AtomicBool::new(false);
        in_parallel(closed, |partition| {
            if let Err(error) = partition.log().flush() {
                failed.store(true, Ordering::Relaxed);
                tracing::error!(partition = %partition.name(), %error, "log is not on disk for certain");
            }
        });
        !failed.into_inner()
    }

    fn topic_config(&self, image: &MetadataImage, topic: &str) -> TopicConfig {
        let effective =
            EffectiveConfig { image, broker: self.settings.node_id, file: &self.settings.properties };
        effective.topic_config(topic)
    }
}

/// The checkpoint files of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    HighWatermarks,
    RecoveryPoints,
    LogStarts,
}

/// Works on all items at once, on a few threads: most of the time goes into waiting for the disk, which takes many writes
/// as one.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    if items.len() < 4 || aqueduct_quorum::blocking::is_inline() {
        return items.iter().for_each(work);
    }
    let next = AtomicUsize::new(0);
    // What comes of the work may be tasks.
    let runtime = tokio::runtime::Handle::try_current().ok();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                let _inside = runtime.as_ref().map(|runtime| runtime.enter());
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// `<topic>-<index>` as the storage names it.
pub(crate) fn name(topic: &TopicImage, index: PartitionIndex) -> TopicPartition {
    TopicPartition::new(&*topic.name, index.0)
}
