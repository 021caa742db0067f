//! RemoveRaftVoter (KIP-853), version 0: takes a vote in the metadata quorum away.

use std::time::Duration;

use super::Context;
use super::add_raft_voter::change;
use super::raft_voters::{RaftVoterResponse, RemoveRaftVoterRequest};
use crate::membership::message::Wish;

/// The request has no time limit of its own.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn handle(context: Context, request: RemoveRaftVoterRequest) -> RaftVoterResponse {
    let voter = (request.voter_id, request.voter_directory_id);
    let wish = |node, directory| Wish::RemoveVoter { node, directory };
    change(&context, request.cluster_id, voter, LIMIT, wish).await
}
