//! The cluster as a whole.

use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::DescribeClusterRequest;

use super::{Admin, ClusterDescription};
use crate::error::{Error, Result};
use crate::metadata::Broker;

const API: &str = "DescribeCluster";
/// `DescribeClusterRequest.EndpointType` of brokers.
const BROKERS: i8 = 1;

impl Admin {
    /// Cluster id, controller and brokers.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let mut retry = self.retry(API);
        loop {
            match self.describe_cluster_once().await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn describe_cluster_once(&self) -> Result<ClusterDescription> {
        let request = |_| DescribeClusterRequest { endpoint_type: BROKERS, ..Default::default() };
        let (broker, answer) = self.client.call_any(i16::MAX, request).await?;
        let message = answer.error_message.as_deref();
        Error::check(&broker.address(), API, || "the cluster".to_owned(), answer.error_code, message)?;
        let brokers = answer.brokers.into_iter().map(|broker| Broker {
            id: BrokerId(broker.broker_id),
            host: broker.host,
            port: u16::try_from(broker.port).unwrap_or(0),
            rack: broker.rack,
        });
        Ok(ClusterDescription {
            cluster_id: answer.cluster_id,
            controller: Some(BrokerId(answer.controller_id)).filter(|id| id.0 >= 0),
            brokers: brokers.collect(),
        })
    }
}
