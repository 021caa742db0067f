//! Finds the shard of a group, and starts and ends shards as partitions come and go.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::records::Compression;
use aqueduct_storage::TopicPartition;

use super::consumer::options::ConsumerOptions;
use super::groups::Groups;
use super::ids::partition_of;
use super::options::GroupOptions;
use super::reigns::{Reign, Reigns};
use super::shard::{OpenLog, Shard, Surroundings};
use crate::clock::Clock;
use crate::config::{GroupSettings, Settings};
use crate::metadata::{MetadataBackend, MetadataImage, TopicImage};
use crate::metrics::GroupMetrics;
use crate::node::OFFSETS_TOPIC;
use crate::partitions::Partitions;
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
    reigns: Reigns<Shard>,
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
            reigns: Reigns::default(),
        };
        let this = Self { shared: Arc::new(shared) };
        this.load(&this.shared.metadata.image());
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
        self.shard_of(self.partition_of(group).ok_or(ErrorCode::NotCoordinator)?)
    }

    /// The shard of one partition.
    ///
    /// # Errors
    /// As [`Coordinator::shard`].
    pub fn shard_of(&self, index: i32) -> Result<Shard, ErrorCode> {
        let image = self.shared.metadata.image();
        self.lead(Reign::of(&image, OFFSETS_TOPIC, index, self.shared.node_id)?)
    }

    /// The partition that a group belongs to, where there is one.
    pub fn partition_of(&self, group: &str) -> Option<i32> {
        let image = self.shared.metadata.image();
        image.topic(OFFSETS_TOPIC).map(|topic| partition_of(group, topic.partitions.len() as i32))
    }

    /// Every shard that may have groups.
    pub fn shards(&self) -> Vec<Shard> {
        self.shared.reigns.shards()
    }

    fn lead(&self, reign: Reign) -> Result<Shard, ErrorCode> {
        let begin = |end| {
            let (partitions, metadata) = (self.shared.partitions.clone(), self.shared.metadata.clone());
            let open: OpenLog = Box::new(move || {
                let partitions = partitions.clone();
                Box::pin(async move { partitions.state_log(OFFSETS_TOPIC, reign.index, reign.epoch).await })
            });
            let options = self.shared.options.clone();
            let begin = move || {
                let mut groups = Groups::new(options.clone());
                groups.on_metadata(&metadata.image(), &[]);
                groups
            };
            Shard::start(reign.index, open, !self.is_on_disk(reign), begin, end, self.shared.around.clone())
        };
        self.shared.reigns.hold(reign, begin)
    }

    fn is_on_disk(&self, reign: Reign) -> bool {
        let partition = TopicPartition::new(OFFSETS_TOPIC, reign.index);
        self.shared.partitions.directories().has(reign.topic, &partition)
    }

    /// Starts the shards whose partitions have something on disk: sessions and retention run for their groups. The others
    /// are empty, and cost nothing until they are asked.
    fn load(&self, image: &MetadataImage) {
        for reign in Reign::all(image, OFFSETS_TOPIC, self.shared.node_id) {
            if !self.shared.reigns.has(reign) && self.is_on_disk(reign) {
                // A later reign has its shard already.
                let _ = self.lead(reign);
            }
        }
    }

    /// Lets the offsets of deleted topics go with them, takes over partitions that this broker has come to lead, and gives up
    /// those that it leads no more.
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
            self.shared.reigns.keep_only(&now, self.shared.node_id);
            self.load(&now);
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
