//! The backend of a cluster of one node: decisions are journalled on its own disk.

use std::path::Path;
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::journal::{FILE_NAME, Journal};
use super::{
    BrokerEpoch, Command, MetadataBackend, MetadataError, MetadataImage, Outcome, Rejection, decide, first,
};
use crate::controller::{Reply, Request};

/// The image of one node, and the journal behind it.
#[derive(Debug)]
pub struct LocalMetadata {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    image: ArcSwap<MetadataImage>,
    changes: watch::Sender<Arc<MetadataImage>>,
    journal: Mutex<Journal>,
}

impl LocalMetadata {
    /// Whether `dir` holds a journal to open.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE_NAME).exists()
    }

    /// Opens what is in `dir`, or begins anew. Blocks on the disk.
    pub fn open(dir: &Path, cluster_id: &str) -> Result<Self, MetadataError> {
        let (mut journal, mut image) = Journal::open(dir, cluster_id)?;
        if image.version == 0 {
            let records = first::read(dir)?;
            if !records.is_empty() {
                journal.append(&records)?;
                records.iter().for_each(|record| image.apply(record));
            }
        }
        let image = Arc::new(image);
        let changes = watch::Sender::new(image.clone());
        let shared = Shared { image: ArcSwap::new(image), changes, journal: Mutex::new(journal) };
        Ok(Self { shared: Arc::new(shared) })
    }
}

#[async_trait]
impl MetadataBackend for LocalMetadata {
    fn image(&self) -> Arc<MetadataImage> {
        self.shared.image.load_full()
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.shared.changes.subscribe()
    }

    async fn submit(&self, commands: Vec<Command>) -> Vec<Result<Outcome, MetadataError>> {
        let shared = self.shared.clone();
        let count = commands.len();
        match aqueduct_quorum::blocking::spawn(move || shared.submit(&commands)).await {
            Ok(outcomes) => outcomes,
            Err(_) => (0..count).map(|_| Err(MetadataError::Stopping)).collect(),
        }
    }

    async fn ask(&self, requests: Vec<Request>) -> Vec<Result<Reply, MetadataError>> {
        let mut replies = Vec::with_capacity(requests.len());
        for request in requests {
            replies.push(match request {
                Request::Command(command) => match self.submit(vec![command]).await.pop() {
                    Some(outcome) => outcome.map(Reply::Command),
                    None => Err(MetadataError::Stopping),
                },
                _ => {
                    let why = "this node decides alone: it has no brokers to register, and no in-sync sets";
                    Err(Rejection::new(ErrorCode::InvalidRequest, why).into())
                }
            });
        }
        replies
    }

    fn broker_epoch(&self) -> BrokerEpoch {
        BrokerEpoch::NONE
    }
}

impl Shared {
    fn submit(&self, commands: &[Command]) -> Vec<Result<Outcome, MetadataError>> {
        let mut journal = self.journal.lock();
        let mut image = MetadataImage::clone(&self.image.load());
        let mut records = Vec::new();
        let mut outcomes: Vec<Result<Outcome, Rejection>> = Vec::with_capacity(commands.len());
        for command in commands {
            let decided = decide(&image, command);
            outcomes.push(decided.map(|(changes, outcome)| {
                changes.iter().for_each(|record| image.apply(record));
                records.extend(changes);
                outcome
            }));
        }
        if records.is_empty() {
            return outcomes.into_iter().map(|outcome| outcome.map_err(Into::into)).collect();
        }
        if let Err(error) = journal.append(&records) {
            tracing::error!(%error, "metadata change is not durable and was dropped");
            let text = error.to_string();
            let failed = |outcome: Result<Outcome, Rejection>| match outcome {
                Err(rejection) => Err(rejection.into()),
                Ok(_) => Err(MetadataError::Journal {
                    path: FILE_NAME.into(),
                    source: std::io::Error::other(text.clone()),
                }),
            };
            return outcomes.into_iter().map(failed).collect();
        }
        if let Err(error) = journal.maybe_rewrite(&image) {
            tracing::warn!(%error, "metadata journal could not be rewritten and keeps growing");
        }
        let image = Arc::new(image);
        self.image.store(image.clone());
        self.changes.send_replace(image);
        outcomes.into_iter().map(|outcome| outcome.map_err(Into::into)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_durable_swapped_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let backend = LocalMetadata::open(dir.path(), "c").unwrap();
        let mut watch = backend.watch();
        let outcome = backend.submit(vec![Command::AllocateProducerIds { count: 1000 }]).await;
        assert_eq!(outcome[0].as_ref().unwrap(), &Outcome::ProducerIds(0));
        assert_eq!(backend.image().next_producer_id, 1000);
        watch.changed().await.unwrap();
        assert_eq!(watch.borrow().next_producer_id, 1000);
        let again = LocalMetadata::open(dir.path(), "c").unwrap();
        let outcome = again.submit(vec![Command::AllocateProducerIds { count: 1000 }]).await;
        assert_eq!(outcome[0].as_ref().unwrap(), &Outcome::ProducerIds(1000));
    }
}
