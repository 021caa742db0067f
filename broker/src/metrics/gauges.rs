//! What is read off the node when somebody asks for its metrics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::histogram::Histogram;
use super::text::Text;
use super::{cluster, lag, stages, traffic};
use crate::node::Node;
use crate::partition::Partition;

/// Partitions whose logs are told one by one, the largest first.
const MOST_PARTITIONS: usize = 2000;

/// Times of forcing segments to disk, of this process.
static FLUSHES: Histogram = Histogram::new();

/// Runs what forces segments to disk, and counts how long it took.
pub(crate) fn flushed<T>(flush: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = flush();
    FLUSHES.record(started.elapsed());
    done
}

/// What the threads had done when somebody asked last.
#[derive(Debug, Default)]
pub(crate) struct Busy(Mutex<Option<(Instant, Duration)>>);

impl Busy {
    /// The share of time, since it was asked last, that the threads were idle.
    fn idle(&self) -> Option<f64> {
        let runtime = tokio::runtime::Handle::try_current().ok()?.metrics();
        let workers = runtime.num_workers();
        let busy: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        let now = Instant::now();
        let (since, before) = self.0.lock().replace((now, busy))?;
        let could = (now - since).as_secs_f64() * workers as f64;
        Some((1.0 - busy.saturating_sub(before).as_secs_f64() / could.max(1e-9)).clamp(0.0, 1.0))
    }
}

/// Everything, after the counters that are kept in `before`.
pub(crate) fn write(node: &Node, before: String) -> String {
    let mut text = Text::default();
    let open = node.partitions.all_open();
    replicas(node, &mut text);
    cluster::write(node, &open, &mut text);
    threads(node, &mut text);
    let of_topic = |partition: &'_ std::sync::Arc<Partition>| partition.name().topic.clone();
    let named: Vec<_> = open.iter().map(|partition| (of_topic(partition), partition)).collect();
    traffic::write(named.iter().map(|(topic, partition)| (&**topic, &partition.traffic)), &mut text);
    logs(&open, &mut text);
    flushes(&mut text);
    stages::write(node.metrics.requests.stages(), &mut text);
    node.metrics.lags.write(&mut text);
    text.finish(before)
}

/// Begins what has to be done beside: the lag of groups.
pub(crate) fn start(node: &std::sync::Arc<Node>) {
    node.tasks.spawn(lag::follow(node.clone()));
}

fn replicas(node: &Node, text: &mut Text) {
    let image = node.metadata.image();
    let effective = node.effective(&image);
    let id = node.settings.node_id;
    let (mut leaders, mut replicas, mut under_replicated) = (0, 0, 0);
    let (mut under_min, mut at_min, mut offline, mut reassigning) = (0, 0, 0, 0);
    let row = crate::config::topic_keys::find("min.insync.replicas").expect("a key of the table");
    for topic in image.topics() {
        let min = effective.topic_value(&topic.name, row).0.trim().parse::<usize>().unwrap_or(1);
        for (index, partition) in topic.partitions.iter().enumerate() {
            if !partition.replicas.contains(&id) {
                continue;
            }
            replicas += 1;
            let index = aqueduct_protocol::ids::PartitionIndex(index as i32);
            if image.directories.is_offline(topic.id, index, id) {
                offline += 1;
                continue;
            }
            if partition.leader != id {
                continue;
            }
            leaders += 1;
            let state = image.partition_state(topic.id, index);
            let min = min.min(partition.replicas.len());
            // Replicas that are being added are not missed.
            let wanted = partition.replicas.len() - state.adding.len();
            under_replicated += u64::from(partition.isr.len() < wanted);
            under_min += u64::from(partition.isr.len() < min);
            at_min += u64::from(partition.isr.len() == min);
            reassigning += u64::from(state.is_reassigning());
        }
    }
    let mut gauge = |name: &str, doc: &str, value: u64| {
        let help = format!("kafka.server:type=ReplicaManager,name={name}. {doc}");
        text.gauge(
            &format!("kafka_server_replicamanager_{}", name.to_ascii_lowercase()),
            &help,
            value as f64,
        );
    };
    gauge("LeaderCount", "Partitions that this broker leads", leaders);
    gauge("PartitionCount", "Partitions of which this broker has a replica", replicas);
    gauge("OfflineReplicaCount", "Replicas in log directories that failed", offline);
    gauge("UnderReplicatedPartitions", "Partitions with replicas that are behind", under_replicated);
    gauge(
        "UnderMinIsrPartitionCount",
        "Partitions with fewer in-sync replicas than min.insync.replicas",
        under_min,
    );
    gauge("AtMinIsrPartitionCount", "Partitions with just min.insync.replicas in-sync replicas", at_min);
    gauge("ReassigningPartitions", "Partitions that are being moved between brokers", reassigning);
    let around = node.partitions.around();
    for (name, doc, count) in [
        ("IsrShrinks", "Times that a leader asked for a smaller in-sync set", &around.shrinks),
        ("IsrExpands", "Times that a leader asked for a larger in-sync set", &around.expands),
    ] {
        let help = format!("kafka.server:type=ReplicaManager,name={name}PerSec. {doc}");
        let family = format!("kafka_server_replicamanager_{}", name.to_ascii_lowercase());
        text.family(&family, "counter", &help);
        text.sample("", &[], count.load(std::sync::atomic::Ordering::Relaxed) as f64);
    }
    let all = node.partitions.directories().len();
    // What is not told yet is not known to have failed.
    let online = image.directories.online(id).map_or(all, |online| online.len());
    text.gauge(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "kafka.log:type=LogManager,name=OfflineLogDirectoryCount. Log directories that failed",
        all.saturating_sub(online) as f64,
    );
}

fn threads(node: &Node, text: &mut Text) {
    // One set of threads reads requests and handles them.
    if let Some(idle) = node.metrics.busy.idle() {
        let both = [
            (
                "kafka_server_kafkarequesthandlerpool_requesthandleravgidlepercent",
                "kafka.server:type=KafkaRequestHandlerPool,name=RequestHandlerAvgIdlePercent. Share of time that threads were idle since it was asked last",
            ),
            (
                "kafka_network_socketserver_networkprocessoravgidlepercent",
                "kafka.network:type=SocketServer,name=NetworkProcessorAvgIdlePercent. The same, as requests are read and handled by the same threads",
            ),
        ];
        both.iter().for_each(|(name, help)| text.gauge(name, help, idle));
    }
    text.family(
        "kafka_server_delayedoperationpurgatory_purgatorysize",
        "gauge",
        "kafka.server:type=DelayedOperationPurgatory,name=PurgatorySize,delayedOperation=... Requests that wait for something",
    );
    text.sample("", &[("delayedOperation", "Fetch")], node.metrics.fetches_parked.size() as f64);
    text.sample("", &[("delayedOperation", "Rebalance")], node.metrics.rebalances_parked.size() as f64);
}

fn flushes(text: &mut Text) {
    let snapshot = FLUSHES.snapshot();
    text.family(
        "kafka_log_logflushstats_logflushrateandtimems",
        "summary",
        "kafka.log:type=LogFlushStats,name=LogFlushRateAndTimeMs. Milliseconds of forcing segments to disk",
    );
    for quantile in ["0.5", "0.99"] {
        let share = quantile.parse().unwrap_or(0.5);
        text.sample("", &[("quantile", quantile)], snapshot.quantile(share) as f64 / 1000.0);
    }
    text.sample("_sum", &[], snapshot.micros as f64 / 1000.0);
    text.sample("_count", &[], snapshot.count as f64);
}

fn logs(open: &[std::sync::Arc<Partition>], text: &mut Text) {
    let mut told: Vec<_> = open.iter().filter(|partition| !partition.is_deleted()).collect();
    told.sort_by_key(|partition| std::cmp::Reverse(partition.log().size()));
    told.truncate(MOST_PARTITIONS);
    let by_name: BTreeMap<_, _> =
        told.iter().map(|partition| (partition.name().clone(), partition)).collect();
    let mut family = |name: &str, help: &str, value: fn(&Partition) -> u64| {
        text.family(name, "gauge", help);
        for (name, partition) in &by_name {
            let index = name.partition.0.to_string();
            text.sample("", &[("topic", &name.topic), ("partition", &index)], value(partition) as f64);
        }
    };
    family(
        "kafka_log_log_size",
        "kafka.log:type=Log,name=Size,topic=...,partition=... Bytes of a log; the largest are told",
        |partition| partition.log().size(),
    );
    family(
        "kafka_log_log_numlogsegments",
        "kafka.log:type=Log,name=NumLogSegments,topic=...,partition=... Segments of a log",
        |partition| partition.log().segments() as u64,
    );
    family(
        "kafka_log_log_logstartoffset",
        "kafka.log:type=Log,name=LogStartOffset,topic=...,partition=... First offset of a log",
        |partition| partition.log().log_start_offset().0.max(0) as u64,
    );
    family(
        "kafka_log_log_logendoffset",
        "kafka.log:type=Log,name=LogEndOffset,topic=...,partition=... Offset after the last record of a log",
        |partition| partition.log().log_end_offset().0.max(0) as u64,
    );
    family(
        "kafka_cluster_partition_laststableoffsetlag",
        "kafka.cluster:type=Partition,name=LastStableOffsetLag,topic=...,partition=... Records that transactions under way hold back",
        |partition| {
            (partition.log().high_watermark().0 - partition.log().last_stable_offset().0).max(0) as u64
        },
    );
}
