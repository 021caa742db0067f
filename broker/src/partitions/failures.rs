//! What follows from a failed directory or a failed write.

use std::sync::Arc;

use aqueduct_protocol::ids::{PartitionIndex, Uuid};

use super::Partitions;
use crate::metadata::{Command, MetadataError};
use crate::node::Node;
use crate::partition::Partition;

/// Takes the partitions of failed directories out of service and tells the metadata, until the node stops.
pub(crate) async fn watch_directories(node: Arc<Node>) {
    loop {
        tokio::select! {
            () = node.partitions.directories().news.notified() => {}
            () = node.tasks.stopping() => return,
        }
        node.partitions.take_down();
        if let Err(error) = node.partitions.tell_directories().await {
            tracing::error!(%error, "the metadata does not know of the failed log directory");
        }
        if node.partitions.directories().is_lost() {
            tracing::error!("no log directory is left: the node stops");
            node.partitions.lost.cancel();
            return;
        }
    }
}

impl Partitions {
    /// Tells the metadata which directories there are, and where logs were found. At the start, and when one fails.
    pub async fn tell_directories(&self) -> Result<(), MetadataError> {
        let broker = self.settings.node_id;
        let image = self.metadata.image();
        let found = self.directories.held().into_iter().filter_map(|(partition, at)| {
            let found = self.directories.find(&partition)?;
            let topic = image.topic(&partition.topic)?;
            let is_its_own = found.topic_id.is_none_or(|id| id == topic.id);
            is_its_own.then(|| (topic.id, partition.partition, self.directories.id_of(at)))
        });
        let commands = vec![
            Command::AssignDirectories { broker, found: found.collect() },
            Command::OnlineDirectories { broker, directories: self.directories.online_ids() },
        ];
        self.metadata.submit(commands).await.into_iter().try_for_each(|outcome| outcome.map(|_| ()))
    }

    /// Resolves when no directory is left.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether a partition of this node is in a directory that cannot be used.
    pub(super) fn is_out_of_reach(&self, topic: Uuid, index: PartitionIndex) -> bool {
        self.metadata.image().directories.is_offline(topic, index, self.settings.node_id)
    }

    /// Takes partitions out of service whose directories failed.
    fn take_down(&self) {
        let mut taken: Vec<Arc<Partition>> = Vec::new();
        self.open.write().retain(|_, cell| match cell.get().filter(|partition| partition.is_offline()) {
            Some(partition) => {
                taken.push(partition.clone());
                false
            }
            None => true,
        });
        taken.iter().for_each(|partition| partition.go_offline());
        if !taken.is_empty() {
            tracing::error!(partitions = taken.len(), "partitions are offline");
        }
    }

    /// Has a log opened anew that a failed write left closed, which recovers it.
    pub fn reopen(&self, partition: &Arc<Partition>) {
        let key = (partition.topic_id, partition.name().partition.0);
        let mut open = self.open.write();
        let is_current =
            open.get(&key).and_then(|cell| cell.get()).is_some_and(|now| Arc::ptr_eq(now, partition));
        if !is_current || partition.is_deleted() {
            return;
        }
        partition.go_offline();
        self.directories.distrust(partition.directory(), &partition.log());
        open.remove(&key);
        tracing::warn!(partition = %partition.name(), "log is recovered after a failed write");
    }

    /// Draws the consequences of a failure to read a file while it was sent.
    pub fn judge_file(&self, path: &std::path::Path, error: std::io::Error) {
        if let Some(directory) = self.directories.containing(path) {
            let error = aqueduct_storage::Error::Io { action: "send", path: path.to_owned(), source: error };
            tracing::error!(%error, "log cannot be read");
            self.directories.judge(directory, &error);
        }
    }
}
