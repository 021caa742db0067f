//! Producers: fenced by their transactional ids.

use aqueduct_protocol::ids::ProducerEpoch;
use bytestring::ByteString;
use futures_util::future::join_all;

use super::{Admin, Each};
use crate::error::Result;
use crate::transactions::Coordinator;

impl Admin {
    /// Ends the producers that use these transactional ids: their open transactions are aborted, and whatever they still
    /// send is refused. Gives the epoch that each id has now.
    pub async fn fence_producers(&self, ids: &[ByteString]) -> Each<ByteString, ProducerEpoch> {
        let config = self.client.config();
        let (limit, timeout) = (config.default_api_timeout, config.request_timeout);
        let fence = |id: &ByteString| {
            let (id, client) = (id.clone(), self.client.clone());
            async move {
                let coordinator = Coordinator::new(client, id.clone(), timeout);
                let fenced: Result<_> = coordinator.init(None, limit).await;
                (id, fenced.map(|(identity, _)| identity.epoch))
            }
        };
        join_all(ids.iter().map(fence)).await.into_iter().collect()
    }
}
