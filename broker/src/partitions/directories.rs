//! The log directories of a node: which holds which partition, and their checkpoint files.

mod futures;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aqueduct_protocol::ids::{BrokerId, Offset, Uuid};
use aqueduct_storage::{
    Error, FoundLog, Log, LogConfig, LogDir, MetaProperties, OffsetCheckpoint, Recovery, TopicPartition,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Checkpoint;
use super::directory::Health;
use crate::node::random_uuid;

use futures::FoundFuture;
pub(super) use futures::Taken;

/// Where a partition's log is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub directory: usize,
    /// `None` where the directory does not say.
    pub topic_id: Option<Uuid>,
}

/// All log directories, locked by this process.
#[derive(Debug)]
pub(crate) struct Directories {
    list: Vec<Directory>,
    logs: Mutex<HashMap<TopicPartition, Found>>,
    /// Of partitions that two directories hold, the second, until [`Directories::settle`].
    doubles: Mutex<Vec<(TopicPartition, Found)>>,
    /// Copies on their way to another directory that nobody has looked at yet.
    futures: Mutex<HashMap<TopicPartition, FoundFuture>>,
    /// Where partitions are to be made that are not there yet.
    preferred: Mutex<HashMap<TopicPartition, usize>>,
    /// Told when a directory fails.
    pub(super) news: Arc<Notify>,
    /// The present registration of this node's broker, for the mark of a clean stop; -1 for none.
    epoch: AtomicI64,
}

#[derive(Debug)]
struct Directory {
    /// [`Uuid::ZERO`] where the directory could not be read.
    id: Uuid,
    health: Arc<Health>,
    /// `None` where the directory could not be opened.
    log_dir: Option<LogDir>,
    /// What the files said at the start, kept up for logs that are never opened.
    recovery_points: Mutex<OffsetCheckpoint>,
    log_starts: Mutex<OffsetCheckpoint>,
    high_watermarks: Mutex<OffsetCheckpoint>,
    /// Partitions that are gone from here but may still be named in the files.
    stale: Mutex<HashSet<TopicPartition>>,
    /// Logs that this process gave up after a failed write, to be recovered when they are opened again.
    distrusted: Mutex<HashSet<TopicPartition>>,
}

impl Directory {
    fn new(path: &Path, id: Uuid, log_dir: Option<LogDir>, news: Arc<Notify>) -> Self {
        let read = |name: &str, offsets: Option<Result<OffsetCheckpoint, Error>>| match offsets {
            None => Mutex::default(),
            Some(Ok(offsets)) => Mutex::new(offsets),
            Some(Err(error)) => {
                tracing::error!(path = %path.display(), name, %error, "checkpoint cannot be read and counts as empty");
                Mutex::default()
            }
        };
        let dir = log_dir.as_ref();
        Self {
            id,
            health: Health::new(path, news),
            recovery_points: read("recovery points", dir.map(LogDir::read_recovery_points)),
            log_starts: read("log start offsets", dir.map(LogDir::read_log_starts)),
            high_watermarks: read("high watermarks", dir.map(LogDir::read_high_watermarks)),
            log_dir,
            stale: Mutex::default(),
            distrusted: Mutex::default(),
        }
    }

    /// Takes partitions that are gone out of the files, before a new one gets the name of one of them.
    fn clear_stale(&self, newcomer: &TopicPartition) -> Result<(), Error> {
        let Some(log_dir) = self.usable() else { return Ok(()) };
        let mut stale = self.stale.lock();
        if stale.contains(newcomer) {
            log_dir.write_recovery_points(&self.recovery_points.lock())?;
            log_dir.write_log_starts(&self.log_starts.lock())?;
            stale.clear();
        }
        Ok(())
    }

    /// The directory, as long as it works.
    fn usable(&self) -> Option<&LogDir> {
        self.log_dir.as_ref().filter(|_| !self.health.is_failed())
    }

    fn or_failed(&self) -> Result<&LogDir, Error> {
        self.usable().ok_or_else(|| Error::DirectoryFailed { path: self.health.path().to_owned() })
    }
}

/// What belongs to nobody but the user stops the start; what a broken disk may cause does not.
fn is_survivable(error: &Error) -> bool {
    matches!(error, Error::Io { .. })
}

impl Directories {
    /// Locks the directories and reads what they hold. Returns them with the id of the cluster that they belong to,
    /// which is new where they are empty. One that cannot be read is passed over while there are others. Blocks.
    pub fn open(paths: &[PathBuf], node_id: BrokerId) -> Result<(Self, String), Error> {
        let news = Arc::new(Notify::new());
        let mut opened: Vec<(Result<LogDir, Error>, Option<MetaProperties>)> = Vec::new();
        let mut cluster: Option<String> = None;
        for path in paths {
            let found = LogDir::open(path).and_then(|dir| Ok((dir, MetaProperties::read(path)?)));
            match found {
                Ok((dir, meta)) => {
                    if let Some(meta) = &meta {
                        meta.check(path, cluster.as_deref().unwrap_or(&meta.cluster_id), node_id)?;
                        cluster = Some(meta.cluster_id.clone());
                    }
                    opened.push((Ok(dir), meta));
                }
                Err(error) if is_survivable(&error) => opened.push((Err(error), None)),
                Err(error) => return Err(error),
            }
        }
        let cluster_id = cluster.unwrap_or_else(|| random_uuid().to_string());
        let mut list = Vec::with_capacity(paths.len());
        let mut last_error = None;
        for (path, (log_dir, meta)) in paths.iter().zip(opened) {
            let formatted = log_dir.and_then(|log_dir| {
                let id = match meta {
                    Some(meta) if !meta.directory_id.is_zero() => meta.directory_id,
                    _ => format(path, &cluster_id, node_id)?,
                };
                Ok((id, log_dir))
            });
            match formatted {
                Ok((id, log_dir)) => list.push(Directory::new(path, id, Some(log_dir), news.clone())),
                Err(error) if is_survivable(&error) => {
                    let directory = Directory::new(path, Uuid::ZERO, None, news.clone());
                    directory.health.fail(&error.to_string());
                    list.push(directory);
                    last_error = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let all = Self {
            list,
            logs: Mutex::default(),
            doubles: Mutex::default(),
            futures: Mutex::default(),
            preferred: Mutex::default(),
            news,
            epoch: AtomicI64::new(-1),
        };
        all.list_logs();
        match last_error {
            Some(error) if all.is_lost() => Err(error),
            _ => Ok((all, cluster_id)),
        }
    }

    fn list_logs(&self) {
        let mut logs = self.logs.lock();
        for (at, directory) in self.list.iter().enumerate() {
            let Some(log_dir) = &directory.log_dir else { continue };
            let found = match log_dir.logs() {
                Ok(found) => found,
                Err(error) => {
                    directory.health.fail(&error.to_string());
                    continue;
                }
            };
            for FoundLog { partition, path } in found {
                if partition.topic.starts_with("__cluster_metadata") {
                    continue;
                }
                let topic_id = aqueduct_storage::read_topic_id(&path).unwrap_or_else(|error| {
                    tracing::warn!(%partition, %error, "the topic's id is taken from the metadata");
                    None
                });
                let found = Found { directory: at, topic_id };
                match logs.entry(partition) {
                    Entry::Vacant(place) => {
                        place.insert(found);
                    }
                    Entry::Occupied(first) => self.doubles.lock().push((first.key().clone(), found)),
                }
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The broker epoch of the last process, where that left all directories in order; -1 where it did not.
    pub fn previous_epoch(&self) -> i64 {
        let mut epochs = self.list.iter().map(|directory| directory.usable()?.clean_shutdown_epoch());
        let first = epochs.next().flatten().unwrap_or(-1);
        if epochs.all(|epoch| epoch == Some(first)) { first } else { -1 }
    }

    /// Takes note of the broker epoch from now on.
    pub fn set_epoch(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Whether none of them works any more.
    pub fn is_lost(&self) -> bool {
        self.list.iter().all(|directory| directory.usable().is_none())
    }

    /// The health of each, in the order of `log.dirs`.
    pub fn health(&self) -> impl Iterator<Item = &Arc<Health>> {
        self.list.iter().map(|directory| &directory.health)
    }

    /// The health of one.
    pub(super) fn health_of(&self, directory: usize) -> &Arc<Health> {
        &self.list[directory].health
    }

    /// Draws the consequences of a failure in a directory.
    pub fn judge(&self, directory: usize, error: &Error) {
        let directory = &self.list[directory];
        directory.health.judge(error, || directory.log_dir.as_ref().map_or(Ok(()), LogDir::probe));
    }

    /// The ids of those that work.
    pub fn online_ids(&self) -> BTreeSet<Uuid> {
        self.list
            .iter()
            .filter(|directory| directory.usable().is_some())
            .map(|directory| directory.id)
            .collect()
    }

    pub(super) fn id_of(&self, directory: usize) -> Uuid {
        self.list[directory].id
    }

    /// The directory in which a file lies.
    pub(super) fn containing(&self, file: &Path) -> Option<usize> {
        self.list.iter().position(|directory| file.starts_with(directory.health.path()))
    }

    /// Whether the last process that had them stopped in order.
    pub fn all_clean(&self) -> bool {
        let mut dirs = self.list.iter().filter_map(|directory| directory.log_dir.as_ref());
        dirs.all(LogDir::had_clean_shutdown) || self.logs.lock().is_empty()
    }

    /// The partitions on disk whose topic id is known.
    pub fn known(&self) -> Vec<(Uuid, TopicPartition)> {
        let logs = self.logs.lock();
        logs.iter().filter_map(|(partition, found)| Some((found.topic_id?, partition.clone()))).collect()
    }

    /// Whether a partition of the topic is on disk.
    pub fn has(&self, topic: Uuid, partition: &TopicPartition) -> bool {
        self.find(partition).is_some_and(|found| found.topic_id == Some(topic))
    }

    /// The partitions on disk, with the index of their directory.
    pub fn held(&self) -> Vec<(TopicPartition, usize)> {
        self.logs.lock().iter().map(|(partition, found)| (partition.clone(), found.directory)).collect()
    }

    pub(super) fn of_topic(&self, id: Uuid) -> Vec<(TopicPartition, usize)> {
        let logs = self.logs.lock();
        let of_topic = logs.iter().filter(|(_, found)| found.topic_id == Some(id));
        of_topic.map(|(partition, found)| (partition.clone(), found.directory)).collect()
    }

    pub(super) fn find(&self, partition: &TopicPartition) -> Option<Found> {
        self.logs.lock().get(partition).copied()
    }

    pub(super) fn note(&self, partition: &TopicPartition, topic_id: Uuid, directory: usize) {
        self.logs.lock().insert(partition.clone(), Found { directory, topic_id: Some(topic_id) });
    }

    /// Makes a log in the directory that it is assigned to; without an assignment in the one that holds the fewest.
    pub(super) fn create(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        assigned: Option<Uuid>,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<(usize, Log), Error> {
        let preferred = self.take_preferred(partition);
        let directory = match assigned {
            _ if preferred.is_some() => preferred,
            Some(id) => self.list.iter().position(|directory| directory.id == id),
            None => self.fewest(),
        };
        let path = |at: usize| self.list[at].health.path().to_owned();
        let Some(directory) = directory else {
            let path = assigned.map_or_else(|| path(0), |id| PathBuf::from(format!("directory.id={id}")));
            return Err(Error::DirectoryFailed { path });
        };
        let log_dir = self.list[directory].or_failed()?;
        let cleared = self.list[directory].clear_stale(partition);
        cleared.inspect_err(|error| self.judge(directory, error))?;
        let log = Log::create(log_dir.path(), partition, Some(topic_id), config, now_ms)
            .inspect_err(|error| self.judge(directory, error))?;
        self.note(partition, topic_id, directory);
        Ok((directory, log))
    }

    /// A partition without an assignment may be on the disk that is missing: then it is not made anew.
    fn fewest(&self) -> Option<usize> {
        if self.list.iter().any(|directory| directory.log_dir.is_none()) {
            return None;
        }
        let mut counts = vec![0usize; self.list.len()];
        self.logs.lock().values().for_each(|found| counts[found.directory] += 1);
        let usable = (0..counts.len()).filter(|at| self.list[*at].usable().is_some());
        usable.min_by_key(|at| counts[*at])
    }

    pub(crate) fn path(&self, directory: usize, partition: &TopicPartition) -> PathBuf {
        self.list[directory].health.path().join(partition.to_string())
    }

    /// How a log was left; an error where its directory does not work.
    pub(super) fn recovery(&self, directory: usize, partition: &TopicPartition) -> Result<Recovery, Error> {
        let held = &self.list[directory];
        let log_dir = held.or_failed()?;
        let of =
            |offsets: &Mutex<OffsetCheckpoint>| offsets.lock().get(partition).copied().unwrap_or(Offset(0));
        Ok(Recovery {
            clean: log_dir.had_clean_shutdown() && !held.distrusted.lock().contains(partition),
            recovery_point: of(&held.recovery_points),
            log_start: of(&held.log_starts),
        })
    }

    /// Up to where a log was committed when that was written down last.
    pub(super) fn high_watermark(&self, directory: usize, partition: &TopicPartition) -> Offset {
        let known = self.list[directory].high_watermarks.lock();
        known.get(partition).copied().unwrap_or(Offset(0))
    }

    /// Has a log recovered from `point` on when it is opened again.
    pub(super) fn distrust(&self, directory: usize, log: &Log) {
        let held = &self.list[directory];
        held.recovery_points.lock().insert(log.partition().clone(), log.recovery_point());
        held.log_starts.lock().insert(log.partition().clone(), log.log_start_offset());
        held.distrusted.lock().insert(log.partition().clone());
    }

    /// Removes the log of a topic that was deleted while the log was being made.
    pub(super) fn discard(&self, partition: &TopicPartition, topic_id: Uuid) {
        let Some(found) = self.find(partition).filter(|found| found.topic_id == Some(topic_id)) else {
            return;
        };
        let removed = self
            .rename_for_delete(found.directory, partition)
            .and_then(|path| self.remove(found.directory, &path));
        if let Err(error) = removed {
            tracing::warn!(%partition, %error, "directory of a deleted partition stays");
        }
    }

    /// Takes a log that does not belong to its topic out of the way, under a name with `-stray` as Kafka gives such.
    pub(super) fn set_aside(&self, directory: usize, partition: &TopicPartition) -> Result<PathBuf, Error> {
        let log_dir = self.list[directory].or_failed()?;
        self.forget(directory, partition);
        let source = log_dir.log_path(partition);
        let suffix = format!(".{:032x}-stray", u128::from_be_bytes(random_uuid().0));
        let mut name = partition.to_string();
        name.truncate(255 - suffix.len());
        let target = log_dir.path().join(name + &suffix);
        let action = "rename";
        std::fs::rename(&source, &target).map_err(|error| Error::Io {
            action,
            path: source,
            source: error,
        })?;
        Ok(target)
    }

    fn forget(&self, directory: usize, partition: &TopicPartition) {
        self.logs.lock().remove(partition);
        self.forget_offsets(directory, partition);
    }

    fn forget_offsets(&self, directory: usize, partition: &TopicPartition) {
        let held = &self.list[directory];
        let mut is_named = false;
        for offsets in [&held.recovery_points, &held.log_starts, &held.high_watermarks] {
            is_named |= offsets.lock().remove(partition).is_some();
        }
        if is_named {
            held.stale.lock().insert(partition.clone());
        }
        held.distrusted.lock().remove(partition);
    }

    /// Up to where compaction has come in the logs of a directory. Blocks.
    pub fn read_cleaner_offsets(&self, directory: usize) -> Result<OffsetCheckpoint, Error> {
        self.list[directory].or_failed()?.read_cleaner_offsets()
    }

    /// Writes [`Directories::read_cleaner_offsets`]. Blocks.
    pub fn write_cleaner_offsets(&self, directory: usize, offsets: &OffsetCheckpoint) -> Result<(), Error> {
        let written = self.list[directory].or_failed()?.write_cleaner_offsets(offsets);
        written.inspect_err(|error| self.judge(directory, error))
    }

    pub(super) fn rename_for_delete(
        &self,
        directory: usize,
        partition: &TopicPartition,
    ) -> Result<PathBuf, Error> {
        let log_dir = self.list[directory].or_failed()?;
        self.forget(directory, partition);
        log_dir.rename_for_delete(partition, random_uuid()).inspect_err(|error| self.judge(directory, error))
    }

    pub(super) fn remove(&self, directory: usize, path: &Path) -> Result<(), Error> {
        let removed = self.list[directory].or_failed()?.remove_deleted(path);
        removed.inspect_err(|error| self.judge(directory, error))
    }

    /// Writes one kind of checkpoint file, where anything in it changed; says whether all could be written.
    pub(super) fn write_checkpoint(&self, what: Checkpoint, news: Vec<OffsetCheckpoint>) -> bool {
        let mut all = true;
        for (at, (directory, news)) in self.list.iter().zip(news).enumerate() {
            let Some(log_dir) = directory.usable() else { continue };
            let offsets = match what {
                Checkpoint::HighWatermarks => &directory.high_watermarks,
                Checkpoint::RecoveryPoints => &directory.recovery_points,
                Checkpoint::LogStarts => &directory.log_starts,
            };
            let mut offsets = offsets.lock();
            let mut merged: BTreeMap<_, _> = offsets.clone();
            merged.extend(news);
            if merged == *offsets {
                continue;
            }
            let written = match what {
                Checkpoint::HighWatermarks => log_dir.write_high_watermarks(&merged),
                Checkpoint::RecoveryPoints => log_dir.write_recovery_points(&merged),
                Checkpoint::LogStarts => log_dir.write_log_starts(&merged),
            };
            match written {
                Ok(()) => *offsets = merged,
                Err(error) => {
                    all = false;
                    tracing::error!(%error, "checkpoint is not written");
                    self.judge(at, &error);
                }
            }
        }
        all
    }

    /// Makes everything in a directory durable.
    pub(super) fn sync(&self, directory: usize) -> Result<(), Error> {
        let synced = self.list[directory].or_failed()?.sync_file_system();
        synced.inspect_err(|error| self.judge(directory, error))
    }

    /// Gives the directories up for others to have.
    pub(super) fn release(&self) {
        self.list.iter().filter_map(|directory| directory.log_dir.as_ref()).for_each(LogDir::release);
    }

    /// Leaves the directories as they were found, for a node that does not start after all.
    pub fn put_back(&self) {
        for log_dir in self.list.iter().filter_map(Directory::usable).filter(|dir| dir.had_clean_shutdown()) {
            if let Err(error) = log_dir.mark_clean_shutdown(log_dir.clean_shutdown_epoch().unwrap_or(-1)) {
                tracing::warn!(path = %log_dir.path().display(), %error, "mark of the clean stop is lost");
            }
        }
    }

    /// Marks a directory as left in order.
    pub(super) fn mark_clean(&self, directory: usize) {
        let Some(log_dir) = self.list[directory].usable() else { return };
        if let Err(error) = log_dir.mark_clean_shutdown(self.epoch.load(Ordering::Acquire)) {
            tracing::error!(path = %log_dir.path().display(), %error, "clean stop is not marked");
        }
    }
}

/// Writes `meta.properties` into a directory that has none, or one without an id; returns the directory's id.
fn format(path: &Path, cluster_id: &str, node_id: BrokerId) -> Result<Uuid, Error> {
    let directory_id = random_uuid();
    MetaProperties { cluster_id: cluster_id.to_owned(), node_id, directory_id }.write(path)?;
    Ok(directory_id)
}
