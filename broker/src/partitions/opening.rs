//! Opening a log: where it is, how it was left, what its settings are.

use std::sync::Arc;

use aqueduct_protocol::ids::{PartitionIndex, Uuid};
use aqueduct_protocol::records::{Compression, TimestampType};
use aqueduct_storage::{Error, Log, LogConfig};

use super::directories::Taken;
use super::moves::Move;
use super::{Partitions, name};
use crate::config::TopicConfig;
use crate::metadata::{Command, TopicImage};
use crate::partition::Partition;
use crate::recompress::Target;

/// Why a log is not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Storage(#[from] Error),
    #[error("the node is shutting down")]
    Stopping,
}

impl Partitions {
    pub(super) async fn open(
        &self,
        topic: &TopicImage,
        index: PartitionIndex,
    ) -> Result<Arc<Partition>, OpenError> {
        let partition = name(topic, index);
        let topic_id = topic.id;
        let image = self.metadata.image();
        let settings = self.topic_config(&image, &topic.name);
        let assigned = image.directories.of(topic_id, index, self.settings.node_id);
        let (config, target) = (log_config(&settings), compression(&settings));
        let min_isr = settings.min_insync_replicas;
        let (directories, clock, around) =
            (self.directories.clone(), self.clock.clone(), self.around.clone());
        let wanted = image.topic_by_id(topic_id).and_then(|topic| topic.partition(index)).cloned();
        let wanted = wanted.filter(|_| self.around.may_act(&image));
        let work = aqueduct_quorum::blocking::spawn(move || -> Result<_, Error> {
            let now_ms = clock.now_ms();
            let mut resumed = None;
            let (directory, log) = match directories.find(&partition) {
                Some(found) if found.topic_id.is_some_and(|id| id != topic_id) => {
                    // Most likely left over from a topic of the same name whose deletion a crash cut short. Nobody can say
                    // for certain, so the data is kept.
                    let path = directories.set_aside(found.directory, &partition)?;
                    tracing::warn!(%partition, path = %path.display(), "log of another topic of this name is set aside");
                    directories.create(&partition, topic_id, assigned, config, now_ms)?
                }
                Some(found) => {
                    let open = |at: usize, config: LogConfig| -> Result<Log, Error> {
                        let recovery = directories.recovery(at, &partition)?;
                        let opened = Log::open(&directories.path(at, &partition), config, recovery, now_ms);
                        let opened = opened.and_then(|log| log.set_topic_id(topic_id).map(|()| log));
                        opened.inspect_err(|error| directories.judge(at, error))
                    };
                    let log = open(found.directory, config.clone())?;
                    directories.note(&partition, topic_id, found.directory);
                    match directories.take_future(&partition, found.directory, &log, now_ms) {
                        Taken::Nothing => (found.directory, log),
                        Taken::Promoted { directory } => (directory, open(directory, config)?),
                        Taken::Resumed { directory, future } => {
                            resumed = Some(Move::new(topic_id, partition.clone(), directory, *future));
                            (found.directory, log)
                        }
                    }
                }
                None => directories.create(&partition, topic_id, assigned, config, now_ms)?,
            };
            let health = directories.health_of(directory).clone();
            log.set_high_watermark(directories.high_watermark(directory, &partition));
            let partition = Partition::new(topic_id, log, directory, health, clock, around);
            partition.set_compression(target);
            partition.set_min_isr(min_isr);
            partition.set_throttled(&settings);
            let partition = Arc::new(partition);
            if let Some(wanted) = &wanted {
                partition.assume(wanted);
            }
            Ok((partition, resumed))
        });
        let (partition, resumed) = work.await.map_err(|_| OpenError::Stopping)??;
        if let Some(resumed) = resumed {
            self.moves.add(resumed);
        }
        self.note_directory(&partition, assigned).await;
        Ok(partition)
    }
}

impl Partitions {
    /// Tells the metadata of a log that is elsewhere than it says.
    async fn note_directory(&self, partition: &Partition, assigned: Option<Uuid>) {
        let found = self.directories.id_of(partition.directory());
        if assigned.is_none_or(|assigned| assigned == found) {
            return;
        }
        let found = vec![(partition.topic_id, partition.name().partition, found)];
        let command = Command::AssignDirectories { broker: self.settings.node_id, found };
        if let Some(Err(error)) = self.metadata.submit(vec![command]).await.pop() {
            tracing::error!(partition = %partition.name(), %error, "the metadata does not know where a log is");
        }
    }
}

/// The codec that a topic's logs are kept in, where that is not the producer's choice.
pub(super) fn compression(topic: &TopicConfig) -> Option<Target> {
    let (gzip, lz4, zstd) = topic.compression_levels;
    Some(match topic.compression.as_deref()? {
        "gzip" => (Compression::Gzip, Some(gzip)),
        "snappy" => (Compression::Snappy, None),
        "lz4" => (Compression::Lz4, Some(lz4)),
        "zstd" => (Compression::Zstd, Some(zstd)),
        _ => (Compression::None, None),
    })
}

/// A topic's settings as its logs take them.
pub(super) fn log_config(topic: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: topic.segment_bytes as u64,
        segment_ms: topic.segment_ms,
        segment_jitter_ms: topic.segment_jitter_ms,
        index_interval_bytes: topic.index_interval_bytes as u64,
        segment_index_bytes: topic.segment_index_bytes as u64,
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
        delete: topic.delete,
        compact: topic.compact,
        delete_retention_ms: topic.delete_retention_ms,
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
        max_message_bytes: topic.max_message_bytes as usize,
        message_timestamp_type: match topic.log_append_time {
            true => TimestampType::LogAppendTime,
            false => TimestampType::CreateTime,
        },
        message_timestamp_before_max_ms: topic.timestamp_before_max_ms,
        message_timestamp_after_max_ms: topic.timestamp_after_max_ms,
        flush_messages: topic.flush_messages,
        flush_ms: topic.flush_ms,
        file_delete_delay_ms: topic.file_delete_delay.as_millis() as i64,
        preallocate: topic.preallocate,
    }
}
