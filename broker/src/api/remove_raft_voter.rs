//! RemoveRaftVoter (KIP-853), version 0: takes a vote in the metadata quorum away.

use std::time::Duration;

use super::Context;
use super::add_raft_voter::change;
use crate::membership::message::Wish;
use aqueduct_protocol::raft_voters::{RaftVoterResponse, RemoveRaftVoterRequest};

/// The request has no time limit of its own.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn handle(context: Context, request: RemoveRaftVoterRequest) -> RaftVoterResponse {
    let voter = (request.voter_id, request.voter_directory_id);
    let wish = |node, directory| Wish::RemoveVoter { node, directory };
    change(&context, request.cluster_id, voter, LIMIT, wish).await
}
