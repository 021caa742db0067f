//! Which replicas this node has, as the metadata says: their roles, and those that are to go.

use std::sync::Arc;

use aqueduct_protocol::ids::{PartitionIndex, Uuid};

use super::{Closed, Doomed, Partitions, in_parallel};
use crate::metadata::{MetadataImage, TopicImage, is_internal};
use crate::partition::Partition;

impl Partitions {
    /// Gives an open partition the role that the newest image has for it. Blocks.
    pub(super) fn settle(&self, partition: &Arc<Partition>) {
        let image = self.metadata.image();
        if !self.around.may_act(&image) {
            return;
        }
        let topic = image.topic_by_id(partition.topic_id);
        if let Some(wanted) = topic.and_then(|topic| topic.partition(partition.name().partition)) {
            partition.assume(wanted);
        }
    }

    /// The same, on a thread that may block.
    pub(super) async fn settle_soon(self: &Partitions, partition: &Arc<Partition>) {
        let image = self.metadata.image();
        if !self.around.may_act(&image) {
            return;
        }
        let partition = partition.clone();
        let work = aqueduct_quorum::blocking::spawn(move || {
            let topic = image.topic_by_id(partition.topic_id);
            if let Some(wanted) = topic.and_then(|topic| topic.partition(partition.name().partition)) {
                partition.assume(wanted);
            }
        });
        let _ = work.await;
    }

    /// Has this node do what an image wants of it: opens replicas that others need, changes roles, removes what belongs
    /// here no more. `before` is the image that this was done for last; what did not change since is passed over.
    pub async fn follow(self: &Arc<Self>, before: Option<&MetadataImage>, image: &Arc<MetadataImage>) {
        let me = self.settings.node_id;
        let (mut to_open, mut changed, mut gone) = (Vec::<Closed>::new(), Vec::new(), Vec::new());
        for topic in image.topics() {
            let old = before.and_then(|before| before.topic_by_id(topic.id));
            if old.is_some_and(|old| Arc::ptr_eq(old, topic)) {
                continue;
            }
            for (index, partition) in topic.partitions.iter().enumerate() {
                let index = PartitionIndex(index as i32);
                if old.and_then(|old| old.partition(index)) == Some(partition) {
                    continue;
                }
                let is_here = partition.replicas.contains(&me);
                match self.opened(topic.id, index) {
                    Some(open) if is_here => changed.push(open),
                    Some(_) => gone.push((topic.clone(), index)),
                    None if is_here && is_eager(image, topic, partition.replicas.len()) => {
                        to_open.push((topic.clone(), index));
                    }
                    None if !is_here && self.has_on_disk(topic, index) => gone.push((topic.clone(), index)),
                    None => {}
                }
            }
        }
        let this = self.clone();
        let work = aqueduct_quorum::blocking::spawn(move || {
            in_parallel(&changed, |partition| this.settle(partition));
        });
        let _ = work.await;
        self.open_all_of(to_open).await;
        for (topic, index) in gone {
            tracing::info!(topic = %topic.name, partition = index.0, "replica belongs to this node no more and is removed");
            self.remove(topic.id, Some(index)).await;
        }
        let topics = before.into_iter().flat_map(MetadataImage::topics);
        for topic in topics.filter(|topic| image.topic_by_id(topic.id).is_none()) {
            self.remove(topic.id, None).await;
        }
    }

    /// Opens the replicas that others need and that are not open.
    pub async fn open_missing(&self, image: &MetadataImage) {
        let me = self.settings.node_id;
        let mut missing = Vec::new();
        for topic in image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let index = PartitionIndex(index as i32);
                if partition.replicas.contains(&me)
                    && is_eager(image, topic, partition.replicas.len())
                    && !image.directories.is_offline(topic.id, index, me)
                    && self.opened(topic.id, index).is_none()
                {
                    missing.push((topic.clone(), index));
                }
            }
        }
        self.open_all_of(missing).await;
    }

    fn has_on_disk(&self, topic: &TopicImage, index: PartitionIndex) -> bool {
        let found = self.directories.find(&super::name(topic, index));
        found.is_some_and(|found| found.topic_id == Some(topic.id))
    }

    /// Takes the partitions of a deleted topic out of service; their files follow after `file.delete.delay.ms`.
    pub async fn remove_topic(self: &Arc<Self>, id: Uuid) {
        self.remove(id, None).await;
    }

    async fn remove(self: &Arc<Self>, id: Uuid, only: Option<PartitionIndex>) {
        let _one_at_a_time = self.removing.lock().await;
        let is_meant = move |index: i32| only.is_none_or(|only| only.0 == index);
        let mut removed = Vec::new();
        self.open.write().retain(|(topic, index), cell| {
            let keep = *topic != id || !is_meant(*index);
            if !keep {
                removed.extend(cell.get().cloned());
            }
            keep
        });
        let this = self.clone();
        let now_ms = self.clock.now_ms();
        let delay_ms =
            removed.first().map_or(60_000, |partition| partition.log().config().file_delete_delay_ms);
        let work = aqueduct_quorum::blocking::spawn(move || {
            removed.iter().for_each(|partition| partition.delete());
            if only.is_none() {
                this.end_moves_of(id);
            }
            let mut held = this.directories.of_topic(id);
            held.retain(|(partition, _)| is_meant(partition.partition.0));
            in_parallel(&held, |(partition, directory)| {
                match this.directories.rename_for_delete(*directory, partition) {
                    Ok(path) => {
                        let due_ms = now_ms.saturating_add(delay_ms);
                        this.doomed.lock().push(Doomed { due_ms, delay_ms, directory: *directory, path });
                    }
                    Err(error) => {
                        tracing::warn!(%partition, %error, "directory of a deleted partition stays")
                    }
                }
            });
        });
        let _ = work.await;
    }
}

/// Whether a replica has work to do without being asked for. Where this node decides alone there is none.
fn is_eager(image: &MetadataImage, topic: &TopicImage, replicas: usize) -> bool {
    replicas > 1 || is_internal(&topic.name) && image.brokers.len() > 1
}
