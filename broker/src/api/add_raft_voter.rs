//! AddRaftVoter (KIP-853), versions 0 to 1: gives a controller that follows the metadata quorum a vote.

use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::raft_voters::{AddRaftVoterRequest, RaftVoterResponse};
use aqueduct_quorum::DirectoryId;
use bytestring::ByteString;

use super::Context;

use crate::membership::message::Wish;
use crate::metadata::Rejection;
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: AddRaftVoterRequest) -> RaftVoterResponse {
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
    let directory = request.voter_directory_id;
    let wish = |node, directory| Wish::AddVoter { node, directory };
    change(&context, request.cluster_id, (request.voter_id, directory), limit, wish).await
}

/// Has the leader change the voters.
pub(super) async fn change(
    context: &Context,
    cluster_id: Option<ByteString>,
    (voter, directory): (i32, Uuid),
    limit: Duration,
    wish: impl FnOnce(u64, DirectoryId) -> Wish,
) -> RaftVoterResponse {
    let changed = async {
        if !context.allows_cluster(Operation::Alter) {
            return Err(Rejection::new(
                ErrorCode::ClusterAuthorizationFailed,
                "Cluster authorization failed.",
            ));
        }
        if cluster_id.is_some_and(|id| id != context.node.metadata.image().cluster_id) {
            return Err(Rejection::new(
                ErrorCode::InconsistentClusterId,
                "the request is for another cluster",
            ));
        }
        let Some(member) = &context.node.member else {
            let why = "this node is a cluster by itself: it has no quorum whose voters could change";
            return Err(Rejection::new(ErrorCode::UnsupportedVersion, why));
        };
        let invalid = || Rejection::new(ErrorCode::InvalidRequest, format!("{voter} is no number of a node"));
        let node = u64::try_from(voter).map_err(|_| invalid())?;
        member.change_voters(wish(node, DirectoryId(directory.0)), limit).await
    };
    match changed.await {
        Ok(()) => RaftVoterResponse::default(),
        Err(Rejection { code, message }) => RaftVoterResponse {
            error_code: code.code(),
            error_message: Some(message.into()),
            ..Default::default()
        },
    }
}
