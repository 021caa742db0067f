//! The one way to read and change the cluster's metadata.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{BrokerEpoch, Command, MetadataImage, Outcome, Rejection};
use crate::controller::{Reply, Request};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The command itself was turned down.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The change could not be made durable.
    #[error("metadata journal {path}: {source}")]
    Journal { path: String, source: std::io::Error },
    /// The journal holds bytes that it cannot have been left with by a crash.
    #[error(
        "metadata journal {path} is damaged at byte {at}: {why}; restore it from a backup, or move the log directory away to start anew"
    )]
    Damaged { path: String, at: u64, why: String },
    /// What the cluster is to begin with cannot be read.
    #[error(
        "{path} is damaged, and with it what the cluster is to begin with: move the directory away and format it anew"
    )]
    FirstDamaged { path: String },
    /// There are logs, but nothing that says which topics they belong to and how these are configured.
    #[error(
        "{dir} has no {file}, but the log directories hold {partitions} partitions, such as {first}: they were written by another \
         implementation, or metadata.log.dir or the order of log.dirs was changed; point log.dirs to an empty directory, or \
         metadata.log.dir to where the file is"
    )]
    NoJournal { dir: String, file: &'static str, partitions: usize, first: String },
    /// Another node decides, or none at the moment; the change may still come about where it was on its way.
    #[error("this node is not the active controller")]
    NotController { leader: Option<u64> },
    /// No controller was found in time that decides; the change may still come about where it was on its way.
    #[error("no active controller has decided within {} s: {last}", after.as_secs())]
    NoController { after: std::time::Duration, last: String },
    /// The backend is shutting down.
    #[error("the node is shutting down")]
    Stopping,
}

/// Holds the image and changes it. One node keeps it on its own disk; a quorum replicates it.
#[async_trait]
pub trait MetadataBackend: Send + Sync + 'static {
    /// The image of this moment. Cheap; take it once for each request.
    fn image(&self) -> Arc<MetadataImage>;

    /// Tells of every new image, in order; a slow watcher sees the newest only.
    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>>;

    /// Carries out commands in order, each on what the ones before it left, and returns once what was accepted is
    /// durable and in [`MetadataBackend::image`]. One that is rejected does not keep back the others.
    async fn submit(&self, commands: Vec<Command>) -> Vec<Result<Outcome, MetadataError>> {
        let replies = self.ask(commands.into_iter().map(Request::Command).collect()).await;
        let outcome = |reply| match reply {
            Ok(Reply::Command(outcome)) => Ok(outcome),
            Ok(_) => Err(MetadataError::Stopping),
            Err(error) => Err(error),
        };
        replies.into_iter().map(outcome).collect()
    }

    /// Asks the controller, in order and as [`MetadataBackend::submit`] does: for what brokers ask, not administrators.
    /// A node that decides alone turns down what only several brokers need.
    async fn ask(&self, requests: Vec<Request>) -> Vec<Result<Reply, MetadataError>>;

    /// The present registration of this node's broker; [`BrokerEpoch::NONE`] where there is none, as on a node that decides
    /// alone.
    fn broker_epoch(&self) -> BrokerEpoch;
}
