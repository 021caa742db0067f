//! Has replicas moved between log directories, a few at a time and no faster than allowed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::cleaner::Throttle;
use crate::node::Node;
use crate::partitions::{HELD_UP, Move, Progress, stretch_at};

/// The rate, set at run time only.
const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// Begins; ends with the node.
pub(crate) fn start(node: &Arc<Node>) {
    let node = node.clone();
    node.tasks.clone().spawn(async move {
        tokio::select! {
            () = node.partitions.resume_moves() => {}
            () = node.tasks.stopping() => return,
        }
        run(node).await;
    });
}

async fn run(node: Arc<Node>) {
    let (threads, moves) = (node.settings.alter_log_dirs_threads, node.partitions.moves());
    let throttle: Arc<Mutex<Throttle>> = Arc::default();
    let mut turns: JoinSet<()> = JoinSet::new();
    loop {
        while turns.len() < threads {
            let Some(next) = moves.next() else { break };
            turns.spawn(turn(node.clone(), next, throttle.clone()));
        }
        tokio::select! {
            Some(_) = turns.join_next() => {}
            () = moves.news.notified() => {}
            () = node.tasks.stopping() => break,
        }
    }
    while turns.join_next().await.is_some() {}
}

async fn turn(node: Arc<Node>, known: Arc<Move>, throttle: Arc<Mutex<Throttle>>) {
    let rate = rate(&node);
    let progress = node.partitions.go_on(known.clone(), stretch_at(rate)).await;
    let wait = match progress {
        Progress::Over => return,
        Progress::Copied(bytes) => throttle.lock().grant(Instant::now(), bytes, rate),
        Progress::Failed => HELD_UP,
    };
    if wait > Duration::ZERO {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = known.ended.notified() => {}
            () = node.tasks.stopping() => {}
        }
    }
    node.partitions.moves().put_back(known);
}

fn rate(node: &Node) -> f64 {
    let live = node.live.current();
    let set = live.in_force.get(RATE).and_then(|value| value.trim().parse::<i64>().ok());
    set.map_or(f64::MAX, |rate| rate.max(1) as f64)
}
