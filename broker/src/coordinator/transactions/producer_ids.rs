//! Producer ids, from blocks that are taken from the metadata.

use std::ops::Range;
use std::sync::Arc;

use aqueduct_protocol::ids::ProducerId;
use tokio::sync::Mutex;

use crate::metadata::{Command, MetadataBackend, MetadataError, Outcome};
use crate::tasks::Tasks;

/// Ids of a block.
const BLOCK: i64 = 1000;
/// The next block is fetched when so many of this one are left.
const FETCH_AT: i64 = BLOCK / 10;

/// Hands out ids that no producer has had; cheap to clone.
#[derive(Clone)]
pub(crate) struct ProducerIds {
    metadata: Arc<dyn MetadataBackend>,
    tasks: Tasks,
    blocks: Arc<Mutex<Blocks>>,
}

#[derive(Debug, Default)]
struct Blocks {
    current: Range<i64>,
    next: Option<Range<i64>>,
    is_fetching: bool,
}

impl ProducerIds {
    pub fn new(metadata: Arc<dyn MetadataBackend>, tasks: Tasks) -> Self {
        Self { metadata, tasks, blocks: Arc::default() }
    }

    /// The next id.
    pub async fn next(&self) -> Result<ProducerId, MetadataError> {
        let mut blocks = self.blocks.lock().await;
        if blocks.current.is_empty() {
            blocks.current = match blocks.next.take() {
                Some(next) => next,
                None => allocate(&*self.metadata).await?,
            };
        }
        let id = blocks.current.start;
        blocks.current.start += 1;
        let left = blocks.current.end - blocks.current.start;
        if left <= FETCH_AT && blocks.next.is_none() && !blocks.is_fetching {
            blocks.is_fetching = true;
            self.tasks.spawn(self.clone().fetch());
        }
        Ok(ProducerId(id))
    }

    async fn fetch(self) {
        let next = allocate(&*self.metadata).await;
        let mut blocks = self.blocks.lock().await;
        blocks.is_fetching = false;
        match next {
            Ok(next) => blocks.next = Some(next),
            Err(error) => tracing::warn!(%error, "no block of producer ids; it is asked for again"),
        }
    }
}

async fn allocate(metadata: &dyn MetadataBackend) -> Result<Range<i64>, MetadataError> {
    let command = Command::AllocateProducerIds { count: BLOCK };
    match metadata.submit(vec![command]).await.pop() {
        Some(Ok(Outcome::ProducerIds(first))) => Ok(first..first + BLOCK),
        Some(Err(error)) => Err(error),
        _ => Err(MetadataError::Stopping),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::LocalMetadata;

    #[tokio::test]
    async fn ids_go_on_from_block_to_block() {
        let dir = tempfile::tempdir().unwrap();
        let metadata: Arc<dyn MetadataBackend> = Arc::new(LocalMetadata::open(dir.path(), "c").unwrap());
        let ids = ProducerIds::new(metadata.clone(), Tasks::default());
        let mut given = std::collections::HashSet::new();
        for _ in 0..2 * BLOCK + 1 {
            assert!(given.insert(ids.next().await.unwrap()), "given twice");
        }
        let others = ProducerIds::new(metadata, Tasks::default());
        assert!(!given.contains(&others.next().await.unwrap()), "nobody else gets them");
    }
}
