//! Copies of logs that are on their way to another directory, and what a crash in the midst of that has left.

use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::{BrokerId, Offset, Uuid};
use aqueduct_storage::{Error, FoundLog, FutureLog, FutureName, Log, LogDir, Recovery, TopicPartition};

use super::{Directories, Found};
use crate::metadata::MetadataImage;
use crate::node::random_uuid;

/// A partition may be asked for in a directory before there is such a partition; so many are remembered.
const MOST_PREFERRED: usize = 10_000;

/// A copy that was found at the start and is not in use yet.
#[derive(Debug, Clone)]
pub(crate) struct FoundFuture {
    pub directory: usize,
    pub path: PathBuf,
    topic_id: Uuid,
    /// Not a copy by its name, but one of two logs of a partition: it may be the former one.
    is_double: bool,
}

/// What becomes of a copy that was found beside its log.
pub(crate) enum Taken {
    /// There is none.
    Nothing,
    /// Copying goes on.
    Resumed { directory: usize, future: Box<FutureLog> },
    /// It had taken the place of the log already, and now does so for good.
    Promoted { directory: usize },
}

impl Directories {
    /// The directory of this absolute path.
    pub fn by_path(&self, path: &str) -> Option<usize> {
        self.list.iter().position(|directory| {
            let own = std::path::absolute(directory.health.path());
            own.is_ok_and(|own| own.components().collect::<PathBuf>().to_str() == Some(path))
        })
    }

    /// Whether a directory can be used.
    pub fn is_usable(&self, directory: usize) -> bool {
        self.list.get(directory).is_some_and(|directory| directory.usable().is_some())
    }

    /// Has a partition that is not there yet made in this directory.
    pub fn prefer(&self, partition: &TopicPartition, directory: usize) {
        let mut preferred = self.preferred.lock();
        if preferred.len() < MOST_PREFERRED || preferred.contains_key(partition) {
            preferred.insert(partition.clone(), directory);
        }
    }

    pub(super) fn take_preferred(&self, partition: &TopicPartition) -> Option<usize> {
        self.preferred.lock().remove(partition).filter(|directory| self.is_usable(*directory))
    }

    /// Puts in order what a crash has left of logs that were being moved, as far as names tell; the rest is decided when
    /// the log is opened. Once, before any log is. Blocks.
    pub fn settle(&self, image: &MetadataImage, broker: BrokerId) {
        for (partition, double) in std::mem::take(&mut *self.doubles.lock()) {
            self.settle_double(image, broker, &partition, double);
        }
        for (at, directory) in self.list.iter().enumerate() {
            let Some(log_dir) = directory.usable() else { continue };
            match log_dir.futures() {
                Ok(found) => found.into_iter().for_each(|found| self.settle_future(image, broker, at, found)),
                Err(error) => self.judge(at, &error),
            }
        }
    }

    fn settle_double(
        &self,
        image: &MetadataImage,
        broker: BrokerId,
        partition: &TopicPartition,
        other: Found,
    ) {
        let Some(first) = self.find(partition) else { return };
        let topic = image.topic(&partition.topic);
        let assigned = topic.and_then(|topic| image.directories.of(topic.id, partition.partition, broker));
        let is_own = |found: &Found| topic.is_some_and(|topic| found.topic_id == Some(topic.id));
        let second_stays = match (is_own(&first), is_own(&other)) {
            (true, true) => assigned == Some(self.id_of(other.directory)),
            (false, stays) => stays,
            (true, false) => false,
        };
        let (stays, goes) = if second_stays { (other, first) } else { (first, other) };
        let path = |found: &Found| self.path(found.directory, partition);
        if let (Some(topic_id), true) = (goes.topic_id, is_own(&stays) && is_own(&goes)) {
            match self.list[goes.directory].or_failed().and_then(|dir| dir.demote(partition, random_uuid())) {
                Ok(path) => {
                    let future = FoundFuture { directory: goes.directory, path, topic_id, is_double: true };
                    self.futures.lock().insert(partition.clone(), future);
                }
                Err(error) => self.judge(goes.directory, &error),
            }
        } else {
            tracing::error!(path = %path(&goes).display(), other = %path(&stays).display(),
                "two directories hold this partition: the first is set aside");
            if let Err(error) = self.set_aside(goes.directory, partition) {
                self.judge(goes.directory, &error);
            }
        }
        self.logs.lock().insert(partition.clone(), stays);
    }

    fn settle_future(&self, image: &MetadataImage, broker: BrokerId, at: usize, found: FoundLog) {
        let FoundLog { partition, path } = found;
        let shown = path.display().to_string();
        let topic_id = match aqueduct_storage::read_topic_id(&path) {
            Ok(Some(topic_id)) => topic_id,
            // It was just being made.
            Ok(None) => return self.drop_future(at, &path, &partition),
            Err(error) => return tracing::warn!(path = shown, %error, "a copy is left alone"),
        };
        if self.futures.lock().get(&partition).is_some_and(|known| known.path == path) {
            return;
        }
        if image.topic_by_id(topic_id).is_none_or(|topic| *topic.name != *partition.topic) {
            tracing::info!(path = shown, "the copy of a deleted partition is removed");
            return self.drop_future(at, &path, &partition);
        }
        if self.find(&partition).is_none() {
            let assigned = image.directories.of(topic_id, partition.partition, broker);
            let online = self.online_ids();
            if assigned.is_some_and(|id| id != self.id_of(at) && !online.contains(&id)) {
                tracing::warn!(
                    path = shown,
                    "a copy is left alone while the directory of its log is missing"
                );
                return;
            }
            let promoted = self.list[at].or_failed().and_then(|dir| dir.promote_future(&path, &partition));
            match promoted {
                Ok(()) => {
                    tracing::info!(
                        path = shown,
                        "a copy takes the place of its log, which had been removed for it"
                    );
                    self.note(&partition, topic_id, at);
                }
                Err(error) => self.judge(at, &error),
            }
            return;
        }
        let mut futures = self.futures.lock();
        if let Some(other) = futures.get(&partition) {
            tracing::error!(path = shown, other = %other.path.display(), "a second copy of a log is left alone");
            return;
        }
        futures.insert(partition, FoundFuture { directory: at, path, topic_id, is_double: false });
    }

    /// Partitions with a copy that nobody has looked at yet.
    pub fn found_futures(&self) -> Vec<TopicPartition> {
        self.futures.lock().keys().cloned().collect()
    }

    /// Decides about the copy of a log that is being opened, if there is one. Where the copy is found to be the log, `log`
    /// is removed. Blocks.
    pub(in crate::partitions) fn take_future(
        &self,
        partition: &TopicPartition,
        directory: usize,
        log: &Log,
        now_ms: i64,
    ) -> Taken {
        let Some(found) = self.futures.lock().remove(partition) else { return Taken::Nothing };
        let at = found.directory;
        let taken = self.try_take(partition, directory, log, &found, now_ms);
        taken.unwrap_or_else(|error| {
            tracing::error!(path = %found.path.display(), %error, "a copy cannot be used and is left alone");
            self.judge(at, &error);
            Taken::Nothing
        })
    }

    fn try_take(
        &self,
        partition: &TopicPartition,
        directory: usize,
        log: &Log,
        found: &FoundFuture,
        now_ms: i64,
    ) -> Result<Taken, Error> {
        let at = found.directory;
        if log.topic_id() != Some(found.topic_id) || at == directory {
            self.drop_future(at, &found.path, partition);
            return Ok(Taken::Nothing);
        }
        let recovery = self.recovery(at, partition)?;
        let recovery = Recovery { log_start: Offset(0), ..recovery };
        let config = (*log.config()).clone();
        let future = FutureLog::open(&found.path, partition, config, recovery, now_ms)?;
        let path = found.path.display().to_string();
        if future.is_continuation_of(log)? {
            tracing::warn!(
                path,
                end = future.log_end_offset().0,
                other = log.log_end_offset().0,
                "a copy is longer than its log, whose place it had taken"
            );
            future.set_log_start(log.log_start_offset());
            future.flush()?;
            log.abandon();
            let start = future.log_start_offset();
            let retired = self.retire(directory, partition)?;
            future.promote()?;
            self.note(partition, found.topic_id, at);
            let mut starts = self.list[at].log_starts.lock();
            starts.insert(partition.clone(), start);
            self.list[at].or_failed()?.write_log_starts(&starts)?;
            drop(starts);
            if let Err(error) = self.remove(directory, &retired) {
                tracing::warn!(path = %retired.display(), %error, "the former log is not removed");
            }
            return Ok(Taken::Promoted { directory: at });
        }
        if found.is_double && future.log_end_offset() < log.log_end_offset() {
            // It is the former log, and not a copy, which would have everything.
            tracing::warn!(path, "a log was found twice: the shorter one is removed");
            future.abandon();
            self.drop_future(at, &found.path, partition);
            return Ok(Taken::Nothing);
        }
        if !future.is_beginning_of(log)? {
            future.start_over(log, now_ms)?;
        }
        tracing::info!(path, end = future.log_end_offset().0, "a log that was being moved is copied on");
        Ok(Taken::Resumed { directory: at, future: Box::new(future) })
    }

    /// Begins a copy of a log in another directory. Blocks.
    pub(in crate::partitions) fn begin_future(
        &self,
        directory: usize,
        log: &Log,
        now_ms: i64,
    ) -> Result<FutureLog, Error> {
        let log_dir = self.list[directory].or_failed()?;
        self.forget_offsets(directory, log.partition());
        let cleared = self.list[directory].clear_stale(log.partition());
        cleared.inspect_err(|error| self.judge(directory, error))?;
        FutureLog::create(log_dir.path(), log, random_uuid(), now_ms)
            .inspect_err(|error| self.judge(directory, error))
    }

    /// Opens a copy again that a failed write left closed. Blocks.
    pub(in crate::partitions) fn reopen_future(
        &self,
        directory: usize,
        path: &Path,
        recovery_point: Offset,
        log: &Log,
        now_ms: i64,
    ) -> Result<FutureLog, Error> {
        self.list[directory].or_failed()?;
        let recovery = Recovery { clean: false, recovery_point, log_start: Offset(0) };
        let future = FutureLog::open(path, log.partition(), (*log.config()).clone(), recovery, now_ms)?;
        if !future.is_beginning_of(log)? {
            future.start_over(log, now_ms)?;
        }
        Ok(future)
    }

    /// Removes a copy that is not wanted any more. Blocks.
    pub(in crate::partitions) fn drop_future(
        &self,
        directory: usize,
        path: &Path,
        partition: &TopicPartition,
    ) {
        let held = &self.list[directory];
        let removed = held.or_failed().and_then(|log_dir: &LogDir| {
            let renamed = log_dir.rename_dir_for_delete(path, partition, random_uuid())?;
            log_dir.remove_deleted(&renamed)
        });
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "a copy that is not wanted stays");
            self.judge(directory, &error);
        }
        if self.find(partition).is_none_or(|found| found.directory != directory) {
            self.forget_offsets(directory, partition);
        }
    }

    /// Removes copies of a deleted topic that nobody has looked at yet. Blocks.
    pub(in crate::partitions) fn drop_futures_of(&self, topic: Uuid) {
        let mut of_topic = Vec::new();
        self.futures.lock().retain(|partition, found| {
            let keep = found.topic_id != topic;
            if !keep {
                of_topic.push((partition.clone(), found.clone()));
            }
            keep
        });
        for (partition, found) in of_topic {
            self.drop_future(found.directory, &found.path, &partition);
        }
    }

    /// Takes a log out of service that has another place now; returns where its files are until they are removed.
    pub(in crate::partitions) fn retire(
        &self,
        directory: usize,
        partition: &TopicPartition,
    ) -> Result<PathBuf, Error> {
        let log_dir = self.list[directory].or_failed()?;
        self.forget_offsets(directory, partition);
        let renamed = log_dir.rename_for_delete(partition, random_uuid());
        renamed.inspect_err(|error| self.judge(directory, error))
    }

    /// Whether the name of a partition's copy would be longer than file systems allow.
    pub fn is_name_too_long(partition: &TopicPartition) -> bool {
        !FutureName::new(partition.clone(), Uuid::ZERO).fits()
    }
}
