//! The log directories of a node: which holds which partition, and their checkpoint files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::{BrokerId, Offset, Uuid};
use aqueduct_storage::{
    Error, FoundLog, Log, LogConfig, LogDir, MetaProperties, OffsetCheckpoint, Recovery, TopicPartition,
};
use parking_lot::Mutex;

use super::Checkpoint;
use crate::node::random_uuid;

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
}

#[derive(Debug)]
struct Directory {
    log_dir: LogDir,
    /// What the files said at the start, kept up for logs that are never opened.
    recovery_points: Mutex<OffsetCheckpoint>,
    log_starts: Mutex<OffsetCheckpoint>,
    high_watermarks: Mutex<OffsetCheckpoint>,
}

impl Directories {
    /// Locks the directories and reads what they hold. Returns them with the id of the cluster that they belong to,
    /// which is new where they are empty. Blocks.
    pub fn open(paths: &[PathBuf], node_id: BrokerId) -> Result<(Self, String), Error> {
        let mut list = Vec::with_capacity(paths.len());
        let mut cluster: Option<String> = None;
        let mut unformatted = Vec::new();
        for path in paths {
            let log_dir = LogDir::open(path)?;
            match MetaProperties::read(path)? {
                Some(meta) => {
                    meta.check(path, cluster.as_deref().unwrap_or(&meta.cluster_id), node_id)?;
                    cluster = Some(meta.cluster_id);
                }
                None => unformatted.push(path),
            }
            let directory = Directory {
                recovery_points: Mutex::new(log_dir.read_recovery_points()?),
                log_starts: Mutex::new(log_dir.read_log_starts()?),
                high_watermarks: Mutex::new(log_dir.read_high_watermarks()?),
                log_dir,
            };
            list.push(directory);
        }
        let cluster_id = cluster.unwrap_or_else(|| random_uuid().to_string());
        for path in unformatted {
            let directory_id = random_uuid();
            MetaProperties { cluster_id: cluster_id.clone(), node_id, directory_id }.write(path)?;
        }
        let mut logs = HashMap::new();
        for (directory, held) in list.iter().enumerate() {
            for FoundLog { partition, path } in held.log_dir.logs()? {
                if partition.topic.starts_with("__cluster_metadata") {
                    continue;
                }
                let topic_id = aqueduct_storage::read_topic_id(&path)?;
                logs.insert(partition, Found { directory, topic_id });
            }
        }
        Ok((Self { list, logs: Mutex::new(logs) }, cluster_id))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Their paths, in the order of `log.dirs`.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.list.iter().map(|directory| directory.log_dir.path())
    }

    /// Whether the last process that had them stopped in order.
    pub fn all_clean(&self) -> bool {
        self.list.iter().all(|directory| directory.log_dir.had_clean_shutdown())
            || self.logs.lock().is_empty()
    }

    /// The partitions on disk whose topic id is known.
    pub fn known(&self) -> Vec<(Uuid, TopicPartition)> {
        let logs = self.logs.lock();
        logs.iter().filter_map(|(partition, found)| Some((found.topic_id?, partition.clone()))).collect()
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

    /// Makes a log in the directory that holds the fewest.
    pub(super) fn create(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<(usize, Log), Error> {
        let directory = {
            let logs = self.logs.lock();
            let mut counts = vec![0usize; self.list.len()];
            logs.values().for_each(|found| counts[found.directory] += 1);
            (0..counts.len()).min_by_key(|at| counts[*at]).unwrap_or(0)
        };
        let path = self.list[directory].log_dir.path();
        let log = Log::create(path, partition, Some(topic_id), config, now_ms)?;
        self.note(partition, topic_id, directory);
        Ok((directory, log))
    }

    pub(crate) fn path(&self, directory: usize, partition: &TopicPartition) -> PathBuf {
        self.list[directory].log_dir.log_path(partition)
    }

    pub(super) fn recovery(&self, directory: usize, partition: &TopicPartition) -> Recovery {
        let held = &self.list[directory];
        let of =
            |offsets: &Mutex<OffsetCheckpoint>| offsets.lock().get(partition).copied().unwrap_or(Offset(0));
        Recovery {
            clean: held.log_dir.had_clean_shutdown(),
            recovery_point: of(&held.recovery_points),
            log_start: of(&held.log_starts),
        }
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
        self.forget(directory, partition);
        let held = &self.list[directory];
        let source = held.log_dir.log_path(partition);
        let suffix = format!(".{:032x}-stray", u128::from_be_bytes(random_uuid().0));
        let mut name = partition.to_string();
        name.truncate(255 - suffix.len());
        let target = held.log_dir.path().join(name + &suffix);
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
        let held = &self.list[directory];
        for offsets in [&held.recovery_points, &held.log_starts, &held.high_watermarks] {
            offsets.lock().remove(partition);
        }
    }

    pub(super) fn rename_for_delete(
        &self,
        directory: usize,
        partition: &TopicPartition,
    ) -> Result<PathBuf, Error> {
        self.forget(directory, partition);
        self.list[directory].log_dir.rename_for_delete(partition, random_uuid())
    }

    pub(super) fn remove(&self, directory: usize, path: &Path) -> Result<(), Error> {
        self.list[directory].log_dir.remove_deleted(path)
    }

    /// Writes one kind of checkpoint file, where anything in it changed.
    pub(super) fn write_checkpoint(
        &self,
        what: Checkpoint,
        news: Vec<OffsetCheckpoint>,
    ) -> Result<(), Error> {
        for (directory, news) in self.list.iter().zip(news) {
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
            match what {
                Checkpoint::HighWatermarks => directory.log_dir.write_high_watermarks(&merged)?,
                Checkpoint::RecoveryPoints => directory.log_dir.write_recovery_points(&merged)?,
                Checkpoint::LogStarts => directory.log_dir.write_log_starts(&merged)?,
            }
            *offsets = merged;
        }
        Ok(())
    }

    /// Gives the directories up for others to have.
    pub(super) fn release(&self) {
        self.list.iter().for_each(|directory| directory.log_dir.release());
    }

    /// Leaves the directories as they were found, for a node that does not start after all.
    pub fn put_back(&self) {
        for directory in self.list.iter().filter(|directory| directory.log_dir.had_clean_shutdown()) {
            if let Err(error) = directory.log_dir.mark_clean_shutdown(-1) {
                tracing::warn!(path = %directory.log_dir.path().display(), %error, "mark of the clean stop is lost");
            }
        }
    }

    /// Marks all directories as left in order.
    pub(super) fn mark_clean(&self) {
        for directory in &self.list {
            if let Err(error) = directory.log_dir.mark_clean_shutdown(-1) {
                tracing::error!(path = %directory.log_dir.path().display(), %error, "clean stop is not marked");
            }
        }
    }
}
