//! `controller.quorum.auto.join.enable` (KIP-1186): a controller that follows gets itself a vote, and takes the place of
//! what it was with a directory that it has no more.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::messages::DescribeQuorumResponse;
use aqueduct_quorum::{DirectoryId, NodeId, Status};
use tokio::time::Instant;

use super::Member;
use super::lifecycle::REPEAT;
use super::message::{Asked, Wish};
use crate::metadata::Rejection;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// For one attempt.
const LIMIT: Duration = Duration::from_secs(20);

/// What a controller still has to ask for; `None` for one that votes.
fn next(quorum: &DescribeQuorumResponse, node: NodeId, own: DirectoryId) -> Option<Wish> {
    let partitions = quorum.topics.iter().flat_map(|topic| &topic.partitions);
    let mut voters = partitions.flat_map(|partition| &partition.current_voters);
    let known = voters.find(|voter| u64::try_from(voter.replica_id) == Ok(node));
    match known.map(|voter| DirectoryId(voter.replica_directory_id.0)) {
        Some(directory) if directory == own => None,
        Some(directory) => Some(Wish::RemoveVoter { node, directory }),
        None => Some(Wish::AddVoter { node, directory: own }),
    }
}

/// Whether a node may wish for this though its directory is not the one that the quorum knows it with: to see that, and to
/// give its own vote of before up.
pub(super) fn is_open_to_replaced(asked: &Asked) -> bool {
    match asked.wish {
        Wish::Describe => true,
        Wish::RemoveVoter { node, .. } => node == asked.sender.node,
        _ => false,
    }
}

impl Member {
    /// Whether this node gets itself a vote. Voters of the configuration are those that it names.
    pub(super) fn joins_by_itself(&self) -> bool {
        self.settings.auto_join && self.settings.is_controller && self.settings.voters.is_empty()
    }

    /// Asks for a vote whenever this node has none, until it stops. Does nothing where that is not configured.
    pub async fn keep_voting(self: Arc<Self>) {
        if !self.joins_by_itself() {
            return;
        }
        let mut status = self.status.clone();
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                found = status.wait_for(|now| !self.votes(now)) => if found.is_err() { return },
                () = self.tasks.stopping() => return,
            }
            let asked = tokio::select! {
                asked = self.ask_for_vote() => asked,
                () = self.tasks.stopping() => return,
            };
            match asked {
                Ok(()) => told = None,
                Err(why) if told.is_none_or(|at| at.elapsed() > REPEAT) => {
                    told = Some(Instant::now());
                    tracing::warn!(%why, "this controller has no vote in the metadata quorum yet");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.tasks.stopping() => return,
            }
        }
    }

    fn votes(&self, status: &Status) -> bool {
        let own = status.members.iter().find(|member| member.id == status.id);
        own.is_some_and(|own| own.votes && own.peer.directory == self.own.directory)
    }

    /// One step towards a vote.
    pub(super) async fn ask_for_vote(&self) -> Result<(), Rejection> {
        let quorum = self.describe().await?;
        let node = self.status.borrow().id;
        let Some(wish) = next(&quorum, node, self.own.directory) else { return Ok(()) };
        match &wish {
            Wish::RemoveVoter { directory, .. } => {
                tracing::warn!(%directory, "this node's vote of another directory is given up: its disk was wiped or replaced");
            }
            _ => tracing::info!("this controller asks for a vote in the metadata quorum"),
        }
        self.change_voters(wish, LIMIT).await
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::Uuid;
    use aqueduct_protocol::messages::describe_quorum_response::{PartitionData, ReplicaState, TopicData};

    use super::*;
    use crate::membership::message::Sender;

    const OWN: DirectoryId = DirectoryId([1; 16]);

    #[test]
    fn a_vote_is_asked_for_once_the_old_one_is_gone() {
        let quorum = |voters: &[(i32, u8)]| {
            let state = |(id, directory): &(i32, u8)| ReplicaState {
                replica_id: *id,
                replica_directory_id: Uuid([*directory; 16]),
                ..Default::default()
            };
            let partition =
                PartitionData { current_voters: voters.iter().map(state).collect(), ..Default::default() };
            let topic = TopicData { partitions: vec![partition], ..Default::default() };
            DescribeQuorumResponse { topics: vec![topic], ..Default::default() }
        };
        assert_eq!(next(&quorum(&[(2, 2), (3, 1)]), 3, OWN), None);
        let old = Wish::RemoveVoter { node: 3, directory: DirectoryId([9; 16]) };
        assert_eq!(next(&quorum(&[(2, 2), (3, 9)]), 3, OWN), Some(old));
        assert_eq!(next(&quorum(&[(2, 2)]), 3, OWN), Some(Wish::AddVoter { node: 3, directory: OWN }));
    }

    #[test]
    fn a_replaced_node_gives_up_no_vote_but_its_own() {
        let asked = |wish| Asked { sender: Sender { cluster_id: "c".into(), node: 3, directory: OWN }, wish };
        let directory = DirectoryId([9; 16]);
        assert!(is_open_to_replaced(&asked(Wish::Describe)));
        assert!(is_open_to_replaced(&asked(Wish::RemoveVoter { node: 3, directory })));
        assert!(!is_open_to_replaced(&asked(Wish::RemoveVoter { node: 2, directory })));
        assert!(!is_open_to_replaced(&asked(Wish::AddVoter { node: 3, directory: OWN })));
        assert!(!is_open_to_replaced(&asked(Wish::Decide(Vec::new()))));
    }
}
