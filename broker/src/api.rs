//! The APIs that are served: one row and one file each. A row is advertised only when its meaning is implemented for
//! every version that it names.
//!
//! A file has `pub(crate) async fn handle(context: Context, request: XRequest) -> XResponse`; decoding the request and
//! encoding the response is done here.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use aqueduct_protocol::api::ApiKey;
use aqueduct_protocol::fetch_plan::Chunks;
use aqueduct_protocol::{DecodeError, EncodeError, Request, frame};
use aqueduct_storage::Slice;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::membership::message::{AskController, QuorumMessage};
use crate::node::Node;
use crate::security::Principal;

/// What a handler knows beside the request itself.
#[derive(Clone)]
pub(crate) struct Context {
    pub node: Arc<Node>,
    /// Version of the request, and of the response.
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<ByteString>,
    pub client: Arc<Client>,
    /// Bytes of the request, its header included.
    pub request_bytes: usize,
    /// The pause that the client's quotas cost it.
    pub throttle: Arc<Throttle>,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// As Kafka shows it: a slash and the address.
    pub host: String,
    /// In canonical form: an IPv4 address is one however it came.
    pub ip: IpAddr,
    /// Who it is; [`Principal::anonymous`] where the listener does not authenticate.
    pub principal: Principal,
    /// Name of the listener that it came in by.
    pub listener: ByteString,
}

/// What goes back to the client.
#[derive(Debug)]
pub(crate) enum Answer {
    /// One frame, its size included.
    Frame(BytesMut),
    /// One frame in pieces, some of them still in files.
    Chunks(Chunks<Slice>),
    /// Nothing: the client asked for no answer.
    Nothing,
}

/// Why the connection is closed instead of answering.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    #[error("request cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("response cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// A producer that wants no answer learns of an error by losing the connection.
    #[error("producer without acknowledgements: {0}")]
    Unacknowledged(String),
}

pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send>>;

/// One API as it is served.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub key: i16,
    pub name: &'static str,
    /// Oldest version that is advertised.
    pub min: i16,
    /// Oldest version that is served; below it the connection is closed.
    pub served: i16,
    pub max: i16,
    pub handle: fn(Context, Bytes) -> HandlerFuture,
}

/// The row of an API whose file decodes and encodes the plain way.
macro_rules! row {
    ($request:ident, $min:literal ..= $max:literal, $module:ident $(, $pause:ident)?) => {
        Row {
            key: <aqueduct_protocol::messages::$request as Request>::API_KEY,
            name: <aqueduct_protocol::messages::$request as Request>::NAME,
            min: $min,
            served: $min,
            max: $max,
            handle: |context, body| {
                type Asked = aqueduct_protocol::messages::$request;
                answer::<Asked, _, _>(context, body, $module::handle, row!(@tell $($pause)?))
            },
        }
    };
    (@tell) => { |response, pause| response.throttle_time_ms = pause };
    // A response without a field for it: the connection pauses all the same.
    (@tell silent) => { |_, _| {} };
}

mod acls;
mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod add_raft_voter;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod alter_user_scram_credentials;
pub(crate) mod api_versions;
mod authorize;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod members;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod remove_raft_voter;
mod sasl_authenticate;
mod sasl_handshake;
mod shared;
mod sync_group;
mod throttle;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod view;
mod write_txn_markers;

use aqueduct_protocol::raft_voters::{AddRaftVoterRequest, RemoveRaftVoterRequest};
pub(crate) use shared::own;
pub(crate) use throttle::Throttle;
use throttle::Work;

/// Every API that is served, by key.
pub(crate) const APIS: &[Row] = &[
    Row { key: ApiKey::PRODUCE, name: "Produce", min: 0, served: 3, max: 13, handle: produce::serve },
    Row { key: ApiKey::FETCH, name: "Fetch", min: 4, served: 4, max: 18, handle: fetch::serve },
    row!(ListOffsetsRequest, 1..=11, list_offsets),
    row!(MetadataRequest, 0..=13, metadata),
    row!(OffsetCommitRequest, 2..=10, offset_commit),
    row!(OffsetFetchRequest, 1..=10, offset_fetch),
    row!(FindCoordinatorRequest, 0..=6, find_coordinator),
    row!(JoinGroupRequest, 0..=9, join_group),
    row!(HeartbeatRequest, 0..=4, heartbeat),
    row!(LeaveGroupRequest, 0..=5, leave_group),
    row!(SyncGroupRequest, 0..=5, sync_group),
    row!(DescribeGroupsRequest, 0..=6, describe_groups),
    row!(ListGroupsRequest, 0..=5, list_groups),
    row!(SaslHandshakeRequest, 0..=1, sasl_handshake, silent),
    row!(ApiVersionsRequest, 0..=5, api_versions),
    row!(CreateTopicsRequest, 2..=7, create_topics),
    row!(DeleteTopicsRequest, 1..=6, delete_topics),
    row!(DeleteRecordsRequest, 0..=2, delete_records),
    row!(InitProducerIdRequest, 0..=5, init_producer_id),
    row!(OffsetForLeaderEpochRequest, 2..=4, offset_for_leader_epoch),
    row!(AddPartitionsToTxnRequest, 0..=5, add_partitions_to_txn),
    row!(AddOffsetsToTxnRequest, 0..=4, add_offsets_to_txn),
    row!(EndTxnRequest, 0..=5, end_txn),
    row!(WriteTxnMarkersRequest, 1..=2, write_txn_markers, silent),
    row!(TxnOffsetCommitRequest, 0..=5, txn_offset_commit),
    row!(DescribeAclsRequest, 1..=3, describe_acls),
    row!(CreateAclsRequest, 1..=3, create_acls),
    row!(DeleteAclsRequest, 1..=3, delete_acls),
    row!(DescribeConfigsRequest, 1..=4, describe_configs),
    row!(AlterConfigsRequest, 0..=2, alter_configs),
    row!(AlterReplicaLogDirsRequest, 1..=2, alter_replica_log_dirs),
    row!(DescribeLogDirsRequest, 1..=5, describe_log_dirs),
    row!(SaslAuthenticateRequest, 0..=2, sasl_authenticate, silent),
    row!(CreatePartitionsRequest, 0..=3, create_partitions),
    row!(DeleteGroupsRequest, 0..=2, delete_groups),
    row!(ElectLeadersRequest, 0..=2, elect_leaders),
    row!(IncrementalAlterConfigsRequest, 0..=1, incremental_alter_configs),
    row!(AlterPartitionReassignmentsRequest, 0..=1, alter_partition_reassignments),
    row!(ListPartitionReassignmentsRequest, 0..=0, list_partition_reassignments),
    row!(OffsetDeleteRequest, 0..=0, offset_delete),
    row!(DescribeClientQuotasRequest, 0..=1, describe_client_quotas),
    row!(AlterClientQuotasRequest, 0..=1, alter_client_quotas),
    row!(DescribeUserScramCredentialsRequest, 0..=0, describe_user_scram_credentials),
    row!(AlterUserScramCredentialsRequest, 0..=0, alter_user_scram_credentials),
    row!(DescribeQuorumRequest, 0..=2, describe_quorum, silent),
    row!(UpdateFeaturesRequest, 0..=2, update_features),
    row!(DescribeClusterRequest, 0..=2, describe_cluster),
    row!(DescribeProducersRequest, 0..=0, describe_producers),
    row!(UnregisterBrokerRequest, 0..=0, unregister_broker),
    row!(DescribeTransactionsRequest, 0..=0, describe_transactions),
    row!(ListTransactionsRequest, 0..=2, list_transactions),
    row!(ConsumerGroupHeartbeatRequest, 0..=1, consumer_group_heartbeat),
    row!(ConsumerGroupDescribeRequest, 0..=1, consumer_group_describe),
    row!(ListConfigResourcesRequest, 0..=1, list_config_resources),
    row!(DescribeTopicPartitionsRequest, 0..=0, describe_topic_partitions),
];

/// What nodes of a cluster say to each other, by key.
const MEMBER_APIS: &[Row] = &[
    Row {
        key: ApiKey::QUORUM_MESSAGE,
        name: "QuorumMessage",
        min: 0,
        served: 0,
        max: 0,
        handle: |context, body| {
            answer::<QuorumMessage, _, _>(context, body, members::quorum_message, |_, _| {})
        },
    },
    Row {
        key: ApiKey::ASK_CONTROLLER,
        name: "AskController",
        min: 0,
        served: 0,
        max: 0,
        handle: |context, body| {
            answer::<AskController, _, _>(context, body, members::ask_controller, |_, _| {})
        },
    },
];

/// What only a member of a metadata quorum can do, by key.
const QUORUM_APIS: &[Row] = &[
    Row {
        key: ApiKey::ADD_RAFT_VOTER,
        name: "AddRaftVoter",
        min: 0,
        served: 0,
        max: 1,
        handle: |context, body| {
            answer::<AddRaftVoterRequest, _, _>(context, body, add_raft_voter::handle, |response, pause| {
                response.throttle_time_ms = pause;
            })
        },
    },
    Row {
        key: ApiKey::REMOVE_RAFT_VOTER,
        name: "RemoveRaftVoter",
        min: 0,
        served: 0,
        max: 0,
        handle: |context, body| {
            answer::<RemoveRaftVoterRequest, _, _>(
                context,
                body,
                remove_raft_voter::handle,
                |response, pause| {
                    response.throttle_time_ms = pause;
                },
            )
        },
    },
];

/// Which of those for clients a listener of controllers serves.
const ON_CONTROLLERS: &[i16] = &[
    ApiKey::SASL_HANDSHAKE,
    ApiKey::API_VERSIONS,
    ApiKey::CREATE_TOPICS,
    ApiKey::DELETE_TOPICS,
    ApiKey::DESCRIBE_ACLS,
    ApiKey::CREATE_ACLS,
    ApiKey::DELETE_ACLS,
    ApiKey::DESCRIBE_CONFIGS,
    ApiKey::ALTER_CONFIGS,
    ApiKey::SASL_AUTHENTICATE,
    ApiKey::CREATE_PARTITIONS,
    ApiKey::ELECT_LEADERS,
    ApiKey::INCREMENTAL_ALTER_CONFIGS,
    ApiKey::ALTER_PARTITION_REASSIGNMENTS,
    ApiKey::LIST_PARTITION_REASSIGNMENTS,
    ApiKey::DESCRIBE_CLIENT_QUOTAS,
    ApiKey::ALTER_CLIENT_QUOTAS,
    ApiKey::DESCRIBE_USER_SCRAM_CREDENTIALS,
    ApiKey::ALTER_USER_SCRAM_CREDENTIALS,
    ApiKey::DESCRIBE_QUORUM,
    ApiKey::UPDATE_FEATURES,
    ApiKey::DESCRIBE_CLUSTER,
    ApiKey::UNREGISTER_BROKER,
];

/// The row of an API on a listener for clients.
pub(crate) fn find(key: i16) -> Option<&'static Row> {
    APIS.iter().find(|row| row.key == key)
}

/// What a listener of this node serves and advertises.
pub(crate) fn served_on(node: &Node, listener: &str) -> impl Iterator<Item = &'static Row> {
    APIS.iter().chain(QUORUM_APIS).filter(move |row| find_on(node, listener, row.key).is_some())
}

/// The row of an API on a listener of this node.
pub(crate) fn find_on(node: &Node, listener: &str, key: i16) -> Option<&'static Row> {
    if key >= ApiKey::FIRST_PRIVATE {
        return MEMBER_APIS.iter().find(|row| row.key == key && node.is_of_members(listener));
    }
    if let Some(row) = QUORUM_APIS.iter().find(|row| row.key == key) {
        return node.member.as_ref().map(|_| row);
    }
    if node.is_of_controllers(listener) && !ON_CONTROLLERS.contains(&key) {
        return None;
    }
    find(key)
}

fn answer<R, H, F>(
    context: Context,
    mut body: Bytes,
    handle: H,
    tell: fn(&mut R::Response, i32),
) -> HandlerFuture
where
    R: Request + Send + 'static,
    H: FnOnce(Context, R) -> F + Send + 'static,
    F: Future<Output = R::Response> + Send + 'static,
{
    Box::pin(async move {
        let (version, correlation_id) = (context.version, context.correlation_id);
        let request = R::decode(&mut body, version)?;
        drop(body);
        let throttle = context.throttle.clone();
        let mut work = Work::begin(&context);
        let mut response = Work::time(&mut work, handle(context, request)).await;
        Work::charge(work);
        match throttle.milliseconds() {
            0 => {}
            pause => tell(&mut response, pause),
        }
        let mut out = BytesMut::new();
        frame::encode_response(&mut out, &response, R::API_KEY, version, correlation_id)?;
        Ok(Answer::Frame(out))
    })
}

#[cfg(test)]
mod denial_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_within_the_schemas() {
        assert!(APIS.is_sorted_by_key(|row| row.key));
        for row in APIS {
            let api = aqueduct_protocol::api::Api::find(row.key).expect("the schemas describe it");
            assert!(row.served >= api.min && row.max <= api.max, "{}", row.name);
            assert!(row.min <= row.served && row.served <= row.max, "{}", row.name);
        }
    }
}
