//! Tells the controller where logs of this node end, of partitions of which nobody is known to have everything.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::ids::LeaderEpoch;
use tokio::time::{sleep, timeout};

use super::role::Role;
use crate::controller::{LogEnd, LogEnds, Request};
use crate::metadata::MetadataImage;
use crate::node::Node;

/// Until they are told again: the controller may be another one by then, or a log may have been opened.
const AGAIN: Duration = Duration::from_secs(1);
/// For an answer of the controller.
const PATIENCE: Duration = Duration::from_secs(5);
/// At most so many logs in one request.
const AT_ONCE: usize = 1_000;

/// Tells, until the node stops.
pub(super) async fn run(node: Arc<Node>) {
    let metadata = node.partitions.around().metadata.clone();
    let mut watch = metadata.watch();
    let mut is_known = false;
    loop {
        let image = watch.borrow_and_update().clone();
        let me = node.partitions.around().me;
        let is_asked = image.awaiting_log_ends().any(|(_, _, partition)| partition.replicas.contains(&me));
        if !is_asked {
            is_known = false;
            tokio::select! {
                changed = watch.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = node.tasks.stopping() => return,
            }
        }
        let ends = ends(&node, &image);
        if !std::mem::replace(&mut is_known, true) {
            tracing::warn!(
                partitions = ends.len(),
                "partitions have no leader, and each candidate may have lost records: the replica with the longest log is to lead, once all have told"
            );
        }
        let told = async {
            for ends in ends.chunks(AT_ONCE) {
                let (broker, epoch, ends) = (me, metadata.broker_epoch(), ends.to_vec());
                let asked = metadata.ask(vec![Request::LogEnds(LogEnds { broker, epoch, ends })]);
                match timeout(PATIENCE, asked).await.map(|mut replies| replies.pop()) {
                    Ok(Some(Err(error))) => {
                        tracing::info!(%error, "the controller did not take ends of logs")
                    }
                    Ok(_) => {}
                    Err(_) => {
                        tracing::info!("the controller has not answered where it was told ends of logs")
                    }
                }
            }
            sleep(AGAIN).await;
        };
        tokio::select! {
            () = told => {}
            () = node.tasks.stopping() => return,
        }
    }
}

/// Where the logs end that are open, and that nothing is appended to any more.
fn ends(node: &Node, image: &MetadataImage) -> Vec<LogEnd> {
    if !node.partitions.around().may_act(image) {
        return Vec::new();
    }
    let me = node.partitions.around().me;
    let wanted = image.awaiting_log_ends().filter(|(_, _, partition)| partition.replicas.contains(&me));
    let told = wanted.filter_map(|(topic, index, partition)| {
        let open = node.partitions.opened(topic, index)?;
        let is_idle = matches!(&**open.role.load(), Role::Idle(epoch) if *epoch == partition.leader_epoch);
        if !is_idle || open.is_deleted() {
            return None;
        }
        let (last_epoch, end) = open.on_log(|log| (log.latest_epoch(), log.log_end_offset()));
        let last_epoch = last_epoch.unwrap_or(LeaderEpoch(-1));
        Some(LogEnd { topic, index, leader_epoch: partition.leader_epoch, last_epoch, end })
    });
    told.collect()
}
