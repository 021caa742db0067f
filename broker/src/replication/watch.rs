//! Has the node follow the metadata, in the order in which it changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::fetchers::{Fetchers, Follow};
use super::{alter, log_ends};
use crate::node::Node;

/// Between two looks for replicas that are not open.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// The limits, in bytes a second, set at run time only.
const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";

/// Begins the tasks; they end with the node. Without other brokers they have nothing to do.
pub(crate) fn start(node: &Arc<Node>) {
    let fetchers = Arc::new(Follow(Fetchers::new(node)));
    node.partitions.around().observe(fetchers.clone());
    node.tasks.spawn(follow(node.clone(), fetchers));
    node.tasks.spawn(alter::run(node.clone()));
    node.tasks.spawn(log_ends::run(node.clone()));
    node.tasks.spawn(check_in_sync(node.clone()));
    node.tasks.spawn(open_missing(node.clone()));
    node.tasks.spawn(limits(node.clone()));
}

async fn follow(node: Arc<Node>, fetchers: Arc<Follow>) {
    let mut watch = node.metadata.watch();
    let mut before = None;
    loop {
        let image = watch.borrow_and_update().clone();
        if node.partitions.around().may_act(&image) {
            tokio::select! {
                () = node.partitions.follow(before.as_deref(), &image) => {}
                () = node.tasks.stopping() => return,
            }
            if before.replace(image).is_none() {
                // Some may have been opened before anybody was told of their roles.
                node.partitions.all_open().iter().for_each(|partition| partition.tell_role(&*fetchers));
            }
        }
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return },
            () = node.tasks.stopping() => return,
        }
    }
}

/// Keeps the limits of throttled replicas as they are set at run time.
async fn limits(node: Arc<Node>) {
    let mut watch = node.live.watch();
    loop {
        let live = watch.borrow_and_update().clone();
        let limit = |key: &str| live.in_force.get(key).and_then(|value| value.trim().parse::<i64>().ok());
        node.partitions.around().sent.set_limit(limit(LEADER_RATE));
        node.partitions.around().fetched.set_limit(limit(FOLLOWER_RATE));
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return },
            () = node.tasks.stopping() => return,
        }
    }
}

/// Opens replicas again that could not be opened, or were given up after a failed write.
async fn open_missing(node: Arc<Node>) {
    let mut ticks = interval_at(Instant::now() + OPEN_AGAIN, OPEN_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.tasks.stopping() => return,
        }
        let image = node.metadata.image();
        if !image.is_controlled() || !node.partitions.around().may_act(&image) {
            continue;
        }
        tokio::select! {
            () = node.partitions.open_missing(&image) => {}
            () = node.tasks.stopping() => return,
        }
    }
}

async fn check_in_sync(node: Arc<Node>) {
    let lag = u64::try_from(node.settings.replication.lag_max_ms).unwrap_or(1);
    let period = Duration::from_millis((lag / 2).max(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.tasks.stopping() => return,
        }
        for partition in node.partitions.all_open() {
            partition.check_in_sync();
        }
    }
}
