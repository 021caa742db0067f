//! Finds the shard of a group, and starts and ends shards as partitions come and go.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};
use aqueduct_protocol::records::Compression;
use parking_lot::Mutex;

use super::consumer::options::ConsumerOptions;
use super::groups::Groups;
use super::ids::partition_of;
use super::options::GroupOptions;
use super::shard::{OpenLog, Shard, Surroundings};
use crate::clock::Clock;
use crate::config::{GroupSettings, Settings};
use crate::metadata::{MetadataBackend, MetadataImage, TopicImage};
use crate::metrics::GroupMetrics;
use crate::node::OFFSETS_TOPIC;
use crate::partitions::Partitions;
use crate::state_log::StateLog;
use crate::tasks::Tasks;

/// The group coordinator of one broker: the shards of the partitions of `__consumer_offsets` that it leads.
#[derive(Clone)]
pub(crate) struct Coordinator {
    shared: Arc<Shared>,
}

struct Shared {
    node_id: BrokerId,
    options: GroupOptions,
    around: Surroundings,
    metadata: Arc<dyn MetadataBackend>,
    partitions: Arc<Partitions>,
    /// By the topic's id as well: a topic that was deleted and made again starts empty.
    shards: Mutex<HashMap<(Uuid, i32), Shard>>,
}

impl Coordinator {
    /// Begins to load what is on disk. Must be called within a tokio runtime.
    pub fn start(
        settings: &Settings,
        metadata: Arc<dyn MetadataBackend>,
        partitions: Arc<Partitions>,
        clock: Clock,
        tasks: Tasks,
        metrics: GroupMetrics,
    ) -> Self {
        let around = Surroundings {
            clock,
            tasks,
            metrics,
            compression: compression(settings.groups.offsets_compression),
            load_buffer: settings.groups.load_buffer_bytes,
        };
        let shared = Shared {
            node_id: settings.node_id,
            options: options(&settings.groups, settings.node_id),
            around,
            metadata,
            partitions,
            shards: Mutex::default(),
        };
        let this = Self { shared: Arc::new(shared) };
        this.load_existing();
        let following = this.clone().follow_metadata();
        this.shared.around.tasks.spawn(following);
        this
    }

    /// The shard that coordinates a group. One whose partition nobody has used yet is started here.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`: another broker is, or nobody yet. The client asks FindCoordinator then.
    pub fn shard(&self, group: &str) -> Result<Shard, ErrorCode> {
        if group.len() > i16::MAX as usize {
            // It is the key of records, where text has no more bytes.
            return Err(ErrorCode::InvalidGroupId);
        }
        let image = self.shared.metadata.image();
        let topic = image.topic(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let index = partition_of(group, topic.partitions.len() as i32);
        match topic.partition(PartitionIndex(index)) {
            Some(partition) if partition.leader == self.shared.node_id => {
                Ok(self.lead(topic.id, index, true))
            }
            _ => Err(ErrorCode::NotCoordinator),
        }
    }

    /// The shard of one partition.
    ///
    /// # Errors
    /// As [`Coordinator::shard`].
    pub fn shard_of(&self, index: i32) -> Result<Shard, ErrorCode> {
        let image = self.shared.metadata.image();
        let topic = image.topic(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        match topic.partition(PartitionIndex(index)) {
            Some(partition) if partition.leader == self.shared.node_id => {
                Ok(self.lead(topic.id, index, true))
            }
            _ => Err(ErrorCode::NotCoordinator),
        }
    }

    /// The partition that a group belongs to, where there is one.
    pub fn partition_of(&self, group: &str) -> Option<i32> {
        let image = self.shared.metadata.image();
        image.topic(OFFSETS_TOPIC).map(|topic| partition_of(group, topic.partitions.len() as i32))
    }

    /// Every shard that may have groups.
    pub fn shards(&self) -> Vec<Shard> {
        self.shared.shards.lock().values().cloned().collect()
    }

    fn lead(&self, topic_id: Uuid, index: i32, quick: bool) -> Shard {
        let mut shards = self.shared.shards.lock();
        let start = || {
            let partitions = self.shared.partitions.clone();
            let open: OpenLog = Box::pin(async move {
                let partition = partitions.by_name(OFFSETS_TOPIC, PartitionIndex(index)).await?;
                Ok(Arc::new(partition) as Arc<dyn StateLog>)
            });
            let mut groups = Groups::new(self.shared.options.clone());
            groups.on_metadata(&self.shared.metadata.image(), &[]);
            Shard::start(index, open, quick, groups, self.shared.around.clone())
        };
        shards.entry((topic_id, index)).or_insert_with(start).clone()
    }

    /// Starts the shards whose partitions have something on disk: sessions and retention run for their groups. The others
    /// are empty, and cost nothing until they are asked.
    fn load_existing(&self) {
        let image = self.shared.metadata.image();
        let Some(topic) = image.topic(OFFSETS_TOPIC) else { return };
        for (id, found) in self.shared.partitions.directories().known() {
            let leads = topic.partition(found.partition).is_some_and(|p| p.leader == self.shared.node_id);
            if id == topic.id && leads {
                self.lead(topic.id, found.partition.0, false);
            }
        }
    }

    /// Lets the offsets of deleted topics go with them, and gives up partitions that this broker leads no more.
    async fn follow_metadata(self) {
        let mut images = self.shared.metadata.watch();
        let mut before = images.borrow_and_update().clone();
        let tasks = self.shared.around.tasks.clone();
        loop {
            tokio::select! {
                changed = images.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tasks.stopping() => return,
            }
            let now = images.borrow_and_update().clone();
            self.resign(&now);
            let gone: Arc<[Arc<str>]> = deleted(&before, &now).into();
            let changed: Arc<[Arc<str>]> = changed(&before, &now).into();
            let configs = before.configs_version != now.configs_version;
            before = now.clone();
            if changed.is_empty() && !configs {
                continue;
            }
            for shard in self.shards() {
                let (gone, changed, image) = (gone.clone(), changed.clone(), now.clone());
                let tell = move |groups: &mut Groups, now| {
                    groups.on_metadata(&image, &changed);
                    if gone.is_empty() { Vec::new() } else { groups.on_topics_deleted(now, &gone) }
                };
                shard.tell(tell).await;
            }
        }
    }

    fn resign(&self, image: &MetadataImage) {
        let leads = |topic_id: Uuid, index: i32| {
            image
                .topic_by_id(topic_id)
                .and_then(|topic| topic.partition(PartitionIndex(index)))
                .is_some_and(|partition| partition.leader == self.shared.node_id)
        };
        self.shared.shards.lock().retain(|(topic_id, index), _| leads(*topic_id, *index));
    }
}

/// Names of the topics that are no more; one that was made again under its name is another topic.
fn deleted(before: &MetadataImage, now: &MetadataImage) -> Vec<Arc<str>> {
    before
        .topics()
        .filter(|topic| now.topic_by_id(topic.id).is_none())
        .map(|topic| Arc::from(&*topic.name))
        .collect()
}

/// Names of the topics that have come, gone, or changed.
fn changed(before: &MetadataImage, now: &MetadataImage) -> Vec<Arc<str>> {
    let same = |topic: &Arc<TopicImage>, other: &MetadataImage| {
        other.topic(&topic.name).is_some_and(|other| Arc::ptr_eq(topic, other) || topic == other)
    };
    let gone = before.topics().filter(|topic| now.topic(&topic.name).is_none());
    now.topics()
        .filter(|topic| !same(topic, before))
        .chain(gone)
        .map(|topic| Arc::from(&*topic.name))
        .collect()
}

fn options(settings: &GroupSettings, node_id: BrokerId) -> GroupOptions {
    GroupOptions {
        min_session_timeout_ms: settings.min_session_timeout_ms,
        max_session_timeout_ms: settings.max_session_timeout_ms,
        max_size: settings.max_size,
        initial_rebalance_delay_ms: settings.initial_rebalance_delay_ms.into(),
        offset_metadata_max: settings.offset_metadata_max_bytes,
        offsets_retention_ms: settings.offsets_retention_ms,
        retention_check_interval_ms: settings.offsets_check_interval.as_millis() as i64,
        consumer: ConsumerOptions { node_id, ..settings.consumer.clone() },
        ..GroupOptions::default()
    }
}

fn compression(code: i32) -> Compression {
    match code {
        1 => Compression::Gzip,
        2 => Compression::Snappy,
        3 => Compression::Lz4,
        4 => Compression::Zstd,
        _ => Compression::None,
    }
}
