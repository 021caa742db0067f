//! Wishes of leaders for other in-sync sets, on their way to the controller: at most one for each partition, all that wait
//! go in one call.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::ids::Uuid;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::leading::{Answer, Proposal, Then};
use crate::controller::{AlterPartition, Reply, Request};
use crate::metadata::MetadataError;
use crate::node::Node;
use crate::partition::Partition;

/// Time until the controller is asked again that did not answer, or not now.
const PAUSE: Duration = Duration::from_millis(100);
/// For an answer of the controller.
const PATIENCE: Duration = Duration::from_secs(30);

/// A leader's wish for a partition of a topic.
type Wish = (Arc<Partition>, Proposal);

/// Wishes that have not been sent yet.
#[derive(Debug, Default)]
pub(crate) struct Alters {
    waiting: Mutex<HashMap<(Uuid, i32), Wish>>,
    news: Notify,
}

impl Alters {
    /// Has the controller asked. The leader asks for one set at a time, so nothing that matters is replaced.
    pub fn push(&self, partition: &Arc<Partition>, proposal: Proposal) {
        let key = (partition.topic_id, partition.name().partition.0);
        self.waiting.lock().insert(key, (partition.clone(), proposal));
        self.news.notify_one();
    }
}

/// Asks the controller, until the node stops.
pub(super) async fn run(node: Arc<Node>) {
    let around = node.partitions.around().clone();
    loop {
        tokio::select! {
            () = around.alters.news.notified() => {}
            () = node.tasks.stopping() => return,
        }
        let taken: Vec<_> = std::mem::take(&mut *around.alters.waiting.lock()).into_values().collect();
        if taken.is_empty() {
            continue;
        }
        let epoch = around.metadata.broker_epoch();
        let request = |(partition, proposal): &Wish| {
            Request::AlterPartition(AlterPartition {
                broker: around.me,
                epoch,
                topic: partition.topic_id,
                index: partition.name().partition,
                leader_epoch: proposal.leader_epoch,
                partition_epoch: proposal.partition_epoch,
                isr: proposal.isr.clone(),
                recovering: false,
            })
        };
        let asked = around.metadata.ask(taken.iter().map(request).collect());
        let replies = tokio::select! {
            replies = tokio::time::timeout(PATIENCE, asked) => replies.unwrap_or_default(),
            () = node.tasks.stopping() => return,
        };
        let mut replies = replies.into_iter();
        let mut again = Vec::new();
        for (partition, proposal) in taken {
            let answer = answer(replies.next());
            if partition.answered(&proposal, &answer) == Then::Repeat {
                again.push((partition, proposal));
            }
        }
        if again.is_empty() {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = node.tasks.stopping() => return,
        }
        again.iter().for_each(|(partition, proposal)| around.alters.push_again(partition, proposal));
    }
}

impl Alters {
    /// As [`Alters::push`], unless the leader has asked for something else meanwhile.
    fn push_again(&self, partition: &Arc<Partition>, proposal: &Proposal) {
        let key = (partition.topic_id, partition.name().partition.0);
        let mut waiting = self.waiting.lock();
        waiting.entry(key).or_insert_with(|| (partition.clone(), proposal.clone()));
        drop(waiting);
        self.news.notify_one();
    }
}

fn answer(reply: Option<Result<Reply, MetadataError>>) -> Answer {
    match reply {
        Some(Ok(Reply::Partition(partition, _))) => Answer::Partition(partition),
        Some(Err(MetadataError::Rejected(rejection))) => {
            tracing::info!(code = rejection.code.name(), why = %rejection.message, "in-sync set is not changed");
            Answer::Refused(rejection.code)
        }
        _ => Answer::Lost,
    }
}
