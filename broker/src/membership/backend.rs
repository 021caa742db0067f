//! The metadata of a member: read from its own image, changed by the active controller wherever that is.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_quorum::Status;
use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::controllers::Controllers;
use super::message::{Answered, Wish};
use crate::controller::{Reply, Request};
use crate::metadata::{BrokerEpoch, MetadataBackend, MetadataError, MetadataImage};
use crate::replicated::QuorumMetadata;
use crate::tasks::Tasks;

/// How long an active controller is looked for.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two rounds of looking for it.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the image of this node may take to have what another node decided.
const CATCH_UP: Duration = Duration::from_secs(10);

pub(super) struct MemberMetadata {
    pub local: Arc<QuorumMetadata>,
    pub controllers: Arc<Controllers>,
    pub status: watch::Receiver<Status>,
    pub tasks: Tasks,
}

impl MemberMetadata {
    /// Has requests decided, within a time limit. They are asked for again where it is not known what became of them, so
    /// that one may find itself carried out already.
    pub async fn decide(&self, requests: Vec<Request>, limit: Duration) -> Vec<Result<Reply, MetadataError>> {
        let count = requests.len();
        let all = |make: &dyn Fn() -> MetadataError| (0..count).map(|_| Err(make())).collect();
        let mut last = "none is known".to_owned();
        let deadline = Instant::now() + limit;
        let deciding = async {
            loop {
                match self.decide_once(&requests).await {
                    Ok(replies) => return replies,
                    Err(why) => last = why,
                }
                // An election ends the wait early.
                let mut status = self.status.clone();
                let before = status.borrow_and_update().leader;
                let _ = timeout(PAUSE, status.wait_for(|now| now.leader != before)).await;
            }
        };
        tokio::select! {
            decided = timeout_at(deadline, deciding) => match decided {
                Ok(replies) => replies,
                Err(_) => all(&|| MetadataError::NoController { after: limit, last: last.clone() }),
            },
            () = self.tasks.stopping() => all(&|| MetadataError::Stopping),
        }
    }

    async fn decide_once(&self, requests: &[Request]) -> Result<Vec<Result<Reply, MetadataError>>, String> {
        if self.status.borrow().active_epoch.is_some() {
            let replies = self.local.ask(requests.to_vec()).await;
            return match replies.iter().any(|reply| matches!(reply, Err(MetadataError::NotController { .. })))
            {
                true => Err("this node is not the active controller any more".to_owned()),
                false => Ok(replies),
            };
        }
        match self.controllers.ask(&Wish::Decide(requests.to_vec())).await? {
            Answered::Decided { version, replies } if replies.len() == requests.len() => {
                let mut images = self.local.watch();
                let _ = timeout(CATCH_UP, images.wait_for(|image| image.version >= version)).await;
                Ok(replies.into_iter().map(Into::into).collect())
            }
            Answered::Stranger(rejection) | Answered::Refused(rejection) => {
                Ok(requests.iter().map(|_| Err(rejection.clone().into())).collect())
            }
            _ => Err("the active controller's answer does not fit the question".to_owned()),
        }
    }
}

#[async_trait]
impl MetadataBackend for MemberMetadata {
    fn image(&self) -> Arc<MetadataImage> {
        self.local.image()
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.local.watch()
    }

    async fn ask(&self, requests: Vec<Request>) -> Vec<Result<Reply, MetadataError>> {
        match requests.is_empty() {
            true => Vec::new(),
            false => self.decide(requests, LIMIT).await,
        }
    }

    fn broker_epoch(&self) -> BrokerEpoch {
        self.local.broker_epoch()
    }
}
