//! The quorum of controllers that keeps the metadata (KIP-595, KIP-853).

use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::DescribeQuorumRequest;
use aqueduct_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use aqueduct_protocol::messages::describe_quorum_response::ReplicaState;
use aqueduct_protocol::raft_voters::{AddRaftVoterRequest, RemoveRaftVoterRequest, VoterListener};

use super::Admin;
use crate::error::{Error, Result};

const DESCRIBE: &str = "DescribeQuorum";
/// The log of the metadata.
const TOPIC: &str = "__cluster_metadata";

/// The quorum as its leader sees it.
#[derive(Debug, Clone)]
pub struct QuorumDescription {
    pub leader: i32,
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub voters: Vec<QuorumMember>,
    pub observers: Vec<QuorumMember>,
}

/// A node that has the metadata log.
#[derive(Debug, Clone)]
pub struct QuorumMember {
    pub node: i32,
    /// [`Uuid::ZERO`] where the broker does not tell.
    pub directory: Uuid,
    /// -1 where the leader has not heard of it.
    pub log_end_offset: i64,
    /// When it had everything, in milliseconds since 1970; -1 where that is not known.
    pub last_caught_up_ms: i64,
    /// Where it is reached, NAME://HOST:PORT; empty where the broker does not tell, as of observers.
    pub endpoints: Vec<String>,
}

impl Admin {
    /// Who votes, who follows, and how far each is.
    pub async fn describe_quorum(&self) -> Result<QuorumDescription> {
        let mut retry = self.retry(DESCRIBE);
        loop {
            match self.describe_quorum_once().await {
                Ok(found) => return Ok(found),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn describe_quorum_once(&self) -> Result<QuorumDescription> {
        let partitions = vec![PartitionData { partition_index: 0 }];
        let request =
            DescribeQuorumRequest { topics: vec![TopicData { topic_name: TOPIC.into(), partitions }] };
        let (broker, mut answer) = self.client.call_any(i16::MAX, |_| request).await?;
        let address = broker.address();
        let what = || "the metadata quorum".to_owned();
        Error::check(&address, DESCRIBE, what, answer.error_code, answer.error_message.as_deref())?;
        let found = answer.topics.pop().and_then(|mut topic| topic.partitions.pop());
        let found = found.ok_or_else(|| Error::left_out(&address, DESCRIBE, &TOPIC))?;
        Error::check(&address, DESCRIBE, what, found.error_code, found.error_message.as_deref())?;
        let nodes = answer.nodes;
        let member = |state: ReplicaState| {
            let own = nodes.iter().find(|node| node.node_id == state.replica_id);
            let listeners = own.map(|node| node.listeners.as_slice()).unwrap_or_default();
            let endpoint = |at: &aqueduct_protocol::messages::describe_quorum_response::Listener| {
                format!("{}://{}:{}", at.name, at.host, at.port)
            };
            QuorumMember {
                node: state.replica_id,
                directory: state.replica_directory_id,
                log_end_offset: state.log_end_offset,
                last_caught_up_ms: state.last_caught_up_timestamp,
                endpoints: listeners.iter().map(endpoint).collect(),
            }
        };
        Ok(QuorumDescription {
            leader: found.leader_id,
            leader_epoch: found.leader_epoch,
            high_watermark: found.high_watermark,
            voters: found.current_voters.into_iter().map(&member).collect(),
            observers: found.observers.into_iter().map(&member).collect(),
        })
    }

    /// Gives a controller that follows the quorum a vote. It is reached by `listeners`, which Apache Kafka wants to be told.
    /// Not asked again after a failure: what became of it [`Admin::describe_quorum`] tells.
    pub async fn add_raft_voter(
        &self,
        node: i32,
        directory: Uuid,
        listeners: Vec<VoterListener>,
    ) -> Result<()> {
        let request = AddRaftVoterRequest {
            cluster_id: self.client.cluster_id().await?,
            timeout_ms: self.timeout_ms(),
            voter_id: node,
            voter_directory_id: directory,
            listeners,
            ack_when_committed: true,
        };
        let (broker, answer) = self.client.call_any(i16::MAX, |_| request).await?;
        let (what, message) = (|| format!("node {node}"), answer.error_message.as_deref());
        Error::check(&broker.address(), "AddRaftVoter", what, answer.error_code, message)
    }

    /// Takes a node's vote away. Not asked again after a failure.
    pub async fn remove_raft_voter(&self, node: i32, directory: Uuid) -> Result<()> {
        let request = RemoveRaftVoterRequest {
            cluster_id: self.client.cluster_id().await?,
            voter_id: node,
            voter_directory_id: directory,
        };
        let (broker, answer) = self.client.call_any(i16::MAX, |_| request).await?;
        let (what, message) = (|| format!("node {node}"), answer.error_message.as_deref());
        Error::check(&broker.address(), "RemoveRaftVoter", what, answer.error_code, message)
    }
}
