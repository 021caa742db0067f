//! The metadata of a cluster of several nodes: the controller decides, the quorum agrees, every node applies.
//!
//! ```text
//! ask ─▶ Service ─▶ Controller ─▶ records ─▶ MetadataQuorum::propose ─▶ ImageMachine of every node ─▶ image, watchers
//! ```
//! A node that does not lead the quorum turns requests down with NOT_CONTROLLER.
//!
//! To be started in this order: [`ImageMachine::new`], the quorum with it, then [`QuorumMetadata::start`].

mod decided;
mod image_machine;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aqueduct_quorum::MetadataQuorum;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::controller::{ControllerSettings, Reply, Request};
use crate::metadata::{BrokerEpoch, MetadataBackend, MetadataError, MetadataImage};
use crate::tasks::Tasks;

pub use decided::Decided;
pub use image_machine::{ImageCell, ImageMachine};
use service::{Ask, Service};

/// Requests that wait for the controller; more wait for a place.
const QUEUE: usize = 256;

/// The backend of a node of a cluster.
#[derive(Debug)]
pub struct QuorumMetadata {
    cell: Arc<ImageCell>,
    asks: mpsc::Sender<Ask>,
    epoch: AtomicI64,
    decided: Arc<Decided>,
}

impl QuorumMetadata {
    /// Starts deciding whenever this node leads the quorum. `cell` is the one of the quorum's [`ImageMachine`].
    pub fn start(
        cell: Arc<ImageCell>,
        quorum: Arc<dyn MetadataQuorum>,
        settings: ControllerSettings,
        tasks: &Tasks,
    ) -> Self {
        let (asks, queue) = mpsc::channel(QUEUE);
        let decided = Arc::new(Decided::default());
        let service = Service::new(queue, quorum, cell.clone(), settings, decided.clone());
        let stopping = tasks.clone();
        tasks.spawn(async move { service.run(&stopping).await });
        Self { cell, asks, epoch: AtomicI64::new(BrokerEpoch::NONE.0), decided }
    }

    /// What this node has decided while it led the quorum.
    pub fn decided(&self) -> &Decided {
        &self.decided
    }

    /// Takes note of the registration that this node's broker has from now on.
    pub fn registered(&self, epoch: BrokerEpoch) {
        self.epoch.store(epoch.0, Ordering::Release);
    }
}

#[async_trait]
impl MetadataBackend for QuorumMetadata {
    fn image(&self) -> Arc<MetadataImage> {
        self.cell.image()
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.cell.watch()
    }

    async fn ask(&self, requests: Vec<Request>) -> Vec<Result<Reply, MetadataError>> {
        let count = requests.len();
        let stopping = || (0..count).map(|_| Err(MetadataError::Stopping)).collect();
        let (answer, answered) = oneshot::channel();
        match self.asks.send(Ask { requests, answer }).await {
            Ok(()) => answered.await.unwrap_or_else(|_| stopping()),
            Err(_) => stopping(),
        }
    }

    fn broker_epoch(&self) -> BrokerEpoch {
        BrokerEpoch(self.epoch.load(Ordering::Acquire))
    }
}
