//! What has to be done from time to time: checkpoints, retention, removal of files, forgetting of producers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::node::Node;
use crate::partitions::{Checkpoint, watch_directories};

/// The shortest time between two rounds.
const TICK: Duration = Duration::from_secs(1);
/// Time until retention is looked at first; a start is busy enough.
const FIRST_RETENTION: Duration = Duration::from_secs(30);

/// Begins the tasks; they end with the node.
pub(crate) fn start(node: &Arc<Node>) {
    node.tasks.spawn(rounds(node.clone()));
    node.tasks.spawn(configs(node.clone()));
    node.tasks.spawn(limits(node.clone()));
    node.tasks.spawn(watch_directories(node.clone()));
    if node.partitions.needs_recovery() {
        let node = node.clone();
        node.tasks.clone().spawn(async move {
            tokio::select! {
                () = node.partitions.open_all() => tracing::info!("all logs are recovered"),
                () = node.tasks.stopping() => {}
            }
        });
    }
}

/// Applies changed settings to logs that are open.
async fn configs(node: Arc<Node>) {
    let mut watch = node.metadata.watch();
    let mut seen = watch.borrow_and_update().configs_version;
    loop {
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return },
            () = node.tasks.stopping() => return,
        }
        let image = watch.borrow_and_update().clone();
        if image.configs_version != seen {
            seen = image.configs_version;
            node.live.refresh(&image);
            node.partitions.apply_configs(&image);
        }
    }
}

/// Gives changed limits to what grants connections.
async fn limits(node: Arc<Node>) {
    let mut watch = node.live.watch();
    loop {
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return },
            () = node.tasks.stopping() => return,
        }
        let settings = watch.borrow_and_update().clone();
        node.limits.set(settings.max_connections, settings.max_connections_per_ip);
        node.limits.set_more(settings.per_ip_overrides.clone(), settings.connection_creation_rate);
    }
}

/// When each kind of work is due next.
struct Due {
    watermarks: Instant,
    points: Instant,
    retention: Instant,
    producers: Instant,
}

async fn rounds(node: Arc<Node>) {
    let now = Instant::now();
    let mut due = Due {
        watermarks: now + node.settings.checkpoint_interval,
        points: now + node.settings.recovery_checkpoint_interval,
        retention: now + FIRST_RETENTION.min(node.settings.retention_check_interval),
        producers: now + node.settings.producer_id_check_interval,
    };
    let mut ticks = interval_at(now + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.tasks.stopping() => return,
        }
        round(&node, &mut due).await;
    }
}

async fn round(node: &Arc<Node>, due: &mut Due) {
    let now = Instant::now();
    let take = |at: &mut Instant, every: Duration| {
        let is_due = *at <= now;
        if is_due {
            *at = now + every;
        }
        is_due
    };
    let settings = &node.settings;
    let watermarks = take(&mut due.watermarks, settings.checkpoint_interval);
    let points = take(&mut due.points, settings.recovery_checkpoint_interval);
    let producers = take(&mut due.producers, settings.producer_id_check_interval);
    let retention = take(&mut due.retention, settings.retention_check_interval);
    if retention && !node.partitions.needs_recovery() {
        node.partitions.open_for_retention(node.clock.now_ms()).await;
    }
    let node = node.clone();
    let work = aqueduct_quorum::blocking::spawn(move || {
        let now_ms = node.clock.now_ms();
        flush(&node, now_ms);
        if producers {
            let expiration = node.live.current().producer_id_expiration_ms;
            node.partitions.all_open().iter().for_each(|p| p.log().expire_producers(now_ms, expiration));
        }
        if retention {
            retain(&node, now_ms);
        }
        node.partitions.reap(now_ms);
        if watermarks {
            checkpoint(&node, Checkpoint::HighWatermarks);
        }
        if points {
            checkpoint(&node, Checkpoint::RecoveryPoints);
            checkpoint(&node, Checkpoint::LogStarts);
        }
    });
    let _ = work.await;
}

fn flush(node: &Node, now_ms: i64) {
    for partition in node.partitions.all_open() {
        if partition.log().config().flush_ms == i64::MAX || partition.is_deleted() || partition.is_offline() {
            continue;
        }
        if let Err(error) = partition.on_log(|log| log.flush_if_due(now_ms)) {
            tracing::error!(partition = %partition.name(), %error, "log is not flushed");
            partition.judge(&error);
        }
    }
}

fn retain(node: &Node, now_ms: i64) {
    let mut removed = 0;
    for partition in node.partitions.all_open() {
        // The cleaner sees to compacted logs, so that retention does not come between.
        if node.settings.cleaner.enabled && partition.log().config().compact {
            continue;
        }
        match partition.on_log(|log| log.apply_retention(now_ms)) {
            Ok(count) => removed += count,
            Err(_) if partition.is_deleted() || partition.is_offline() => {}
            Err(error) => {
                tracing::warn!(partition = %partition.name(), %error, "retention failed");
                partition.judge(&error);
            }
        }
    }
    if removed > 0 {
        checkpoint(node, Checkpoint::LogStarts);
    }
}

fn checkpoint(node: &Node, what: Checkpoint) {
    node.partitions.checkpoint(what);
}
