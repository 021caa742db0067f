use std::collections::{BTreeMap, HashSet};

use aqueduct_protocol::ids::{Offset, Uuid};
use aqueduct_storage::{Error, OffsetCheckpoint, TopicPartition};

use crate::partitions::Directories;

/// Up to where each log is clean, as `cleaner-offset-checkpoint` of each directory says. The file knows partitions by
/// name; here the topic's id goes with it, so that a new topic does not inherit from a deleted one of its name.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    by_directory: Vec<BTreeMap<TopicPartition, (Uuid, Offset)>>,
}

impl Checkpoints {
    /// Reads the files; what cannot be read is taken as empty, so that all is cleaned again. Blocks.
    pub fn load(directories: &Directories) -> Self {
        let ids: BTreeMap<TopicPartition, Uuid> =
            directories.known().into_iter().map(|(id, partition)| (partition, id)).collect();
        let read = |directory| {
            let offsets = directories.read_cleaner_offsets(directory).unwrap_or_else(|error| {
                tracing::warn!(%error, "logs are cleaned from their beginning");
                OffsetCheckpoint::new()
            });
            let known = offsets.into_iter().filter_map(|(partition, offset)| {
                let id = *ids.get(&partition)?;
                Some((partition, (id, offset)))
            });
            known.collect()
        };
        Self { by_directory: (0..directories.len()).map(read).collect() }
    }

    /// Up to where a log is clean, if it has been cleaned; be it in a directory that it was moved from.
    pub fn get(&self, directory: usize, partition: &TopicPartition, topic: Uuid) -> Option<Offset> {
        let known = |offsets: &BTreeMap<TopicPartition, (Uuid, Offset)>| {
            let (id, offset) = offsets.get(partition)?;
            (*id == topic).then_some(*offset)
        };
        let here = known(self.by_directory.get(directory)?);
        here.or_else(|| self.by_directory.iter().filter_map(known).max())
    }

    /// Notes and writes down up to where a log is clean; forgets logs that are no more. Blocks.
    pub fn set(
        &mut self,
        directories: &Directories,
        directory: usize,
        partition: &TopicPartition,
        topic: Uuid,
        offset: Offset,
    ) -> Result<(), Error> {
        self.by_directory.iter_mut().for_each(|offsets| {
            offsets.remove(partition);
        });
        let Some(offsets) = self.by_directory.get_mut(directory) else { return Ok(()) };
        let known: HashSet<(Uuid, TopicPartition)> = directories.known().into_iter().collect();
        offsets.retain(|partition, (id, _)| known.contains(&(*id, partition.clone())));
        offsets.insert(partition.clone(), (topic, offset));
        let lines = offsets.iter().map(|(partition, (_, offset))| (partition.clone(), *offset)).collect();
        directories.write_cleaner_offsets(directory, &lines)
    }
}
