//! What a node of a cluster knows of the others: the controller's view, the metadata quorum, what replication moves.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_quorum::{Role as QuorumRole, Status};

use super::text::Text;
use crate::membership::Member;
use crate::metadata::MetadataImage;
use crate::node::Node;
use crate::partition::Partition;
use crate::replication::Role;

pub(super) fn write(node: &Node, open: &[Arc<Partition>], text: &mut Text) {
    replication(node, open, text);
    let member = node.member.as_deref();
    if member.is_none_or(|member| member.settings().is_controller) {
        controller(node, member, text);
    }
    if let Some(member) = member {
        quorum(&member.status(), text);
    }
    let image = node.metadata.image();
    text.gauge(
        "kafka_server_broker_metadata_metrics_last_applied_record_offset",
        "kafka.server:type=broker-metadata-metrics, last-applied-record-offset. Records of the metadata that this node has taken over",
        image.version as f64,
    );
    let is_fenced =
        member.is_some_and(|member| member.settings().is_broker && !image.is_unfenced(node.settings.node_id));
    text.gauge(
        "kafka_server_kafkaserver_brokerstate",
        "kafka.server:type=KafkaServer,name=BrokerState. 2 not let in by the controller, 3 running, 7 shutting down",
        match (node.tasks.is_stopping(), is_fenced) {
            (true, _) => 7.0,
            (false, true) => 2.0,
            (false, false) => 3.0,
        },
    );
}

fn counter(text: &mut Text, kind: (&str, &str), name: &str, doc: &str, value: u64) {
    let (domain, kind) = kind;
    let family = format!("kafka_{domain}_{}_{}", kind.to_ascii_lowercase(), name.to_ascii_lowercase());
    text.family(&family, "counter", &format!("kafka.{domain}:type={kind},name={name}PerSec. {doc}"));
    text.sample("", &[], value as f64);
}

fn replication(node: &Node, open: &[Arc<Partition>], text: &mut Text) {
    let around = node.partitions.around();
    let kind = ("server", "BrokerTopicMetrics");
    let (sent, appended) = (around.bytes_out.load(Relaxed), around.bytes_in.load(Relaxed));
    counter(text, kind, "ReplicationBytesOut", "Bytes of records sent to followers", sent);
    counter(text, kind, "ReplicationBytesIn", "Bytes of records appended as a follower", appended);
    let lag = |partition: &Arc<Partition>| match &**partition.role.load() {
        Role::Follower(follower) => Some(follower.lag.load(Relaxed)),
        _ => None,
    };
    text.family(
        "kafka_server_replicafetchermanager_maxlag",
        "gauge",
        "kafka.server:type=ReplicaFetcherManager,name=MaxLag,clientId=Replica. Most committed records that a follower here does not have yet",
    );
    let most = open.iter().filter_map(lag).max().unwrap_or(0);
    text.sample("", &[("clientId", "Replica")], most as f64);
}

fn controller(node: &Node, member: Option<&Member>, text: &mut Text) {
    // All that is agreed on: a node that starts sees no topics yet.
    let image = member.map_or_else(|| node.metadata.image(), Member::agreed);
    let is_active = member.is_none_or(|member| member.status().active_epoch.is_some());
    let Partitions { topics, partitions, offline, imbalanced } = count(&image);
    let live = image.brokers.keys().filter(|id| image.is_unfenced(**id)).count();
    let mut gauge = |name: &str, doc: &str, value: u64| {
        let help = format!("kafka.controller:type=KafkaController,name={name}. {doc}");
        let family = format!("kafka_controller_kafkacontroller_{}", name.to_ascii_lowercase());
        text.gauge(&family, &help, value as f64);
    };
    gauge("ActiveControllerCount", "1 on the node that leads the metadata quorum", u64::from(is_active));
    gauge("ActiveBrokerCount", "Brokers that are registered and not fenced", live as u64);
    gauge("FencedBrokerCount", "Brokers that are registered and fenced", (image.brokers.len() - live) as u64);
    gauge("GlobalTopicCount", "Topics of the cluster", topics);
    gauge("GlobalPartitionCount", "Partitions of the cluster", partitions);
    gauge("OfflinePartitionsCount", "Partitions without a leader that works", offline);
    gauge(
        "PreferredReplicaImbalanceCount",
        "Partitions that another than their first replica leads",
        imbalanced,
    );
    let Some(decided) = member.map(Member::decided) else { return };
    gauge("NewActiveControllersCount", "Times that this node became the active controller", decided.terms());
    let tally = decided.tally();
    gauge(
        "TimedOutBrokerHeartbeatCount",
        "Brokers that this node fenced because they were not heard of",
        tally.timed_out,
    );
    let kind = ("controller", "ControllerStats");
    counter(text, kind, "LeaderElections", "Leaders of partitions that this node chose", tally.elections);
    counter(text, kind, "UncleanLeaderElections", "Of those, leaders that may lack records", tally.unclean);
    let doc = "Of those, leaders that were not in sync but hold what was acknowledged";
    counter(text, kind, "ElectionFromEligibleLeaderReplicas", doc, tally.eligible);
}

/// Partitions of the whole cluster.
#[derive(Debug, Default, PartialEq)]
struct Partitions {
    topics: u64,
    partitions: u64,
    offline: u64,
    imbalanced: u64,
}

fn count(image: &MetadataImage) -> Partitions {
    let mut counted = Partitions::default();
    for topic in image.topics() {
        counted.topics += 1;
        for (index, partition) in topic.partitions.iter().enumerate() {
            counted.partitions += 1;
            let (index, leader) = (PartitionIndex(index as i32), partition.leader);
            let is_lost = leader.0 < 0 || image.directories.is_offline(topic.id, index, leader);
            counted.offline += u64::from(is_lost);
            counted.imbalanced += u64::from(partition.replicas.first() != Some(&leader));
        }
    }
    counted
}

fn quorum(status: &Status, text: &mut Text) {
    let mut gauge = |attribute: &str, doc: &str, value: f64| {
        let help = format!("kafka.server:type=raft-metrics, {attribute}. {doc}");
        text.gauge(&format!("kafka_server_raft_metrics_{}", attribute.replace('-', "_")), &help, value);
    };
    let voters = status.members.iter().filter(|member| member.votes).count();
    let observers = status.members.len() - voters;
    let leader = status.leader.map_or(-1.0, |id| id as f64);
    gauge("current-leader", "Node that leads the metadata quorum, -1 where none is known", leader);
    gauge("current-epoch", "Epoch of the metadata quorum", status.epoch as f64);
    gauge("high-watermark", "Last entry of the metadata log that is agreed on", status.applied as f64);
    gauge("log-end-offset", "Last entry of the metadata log on this node", status.last as f64);
    gauge("number-of-voters", "Nodes that vote in the metadata quorum", voters as f64);
    gauge("number-of-observers", "Nodes that follow the metadata quorum", observers as f64);
    let votes = status.members.iter().any(|member| member.id == status.id && member.votes);
    gauge("is-observer", "1 where this node has no vote", f64::from(u8::from(!votes)));
    text.family(
        "kafka_server_raft_metrics_current_state",
        "gauge",
        "kafka.server:type=raft-metrics, current-state. 1 for the state that this node is in",
    );
    let state = match status.role {
        QuorumRole::Leader => "leader",
        QuorumRole::Candidate => "candidate",
        QuorumRole::Follower => "follower",
        QuorumRole::Observer => "observer",
        QuorumRole::Stopped => "unattached",
    };
    text.sample("", &[("state", state)], 1.0);
    if status.leader != Some(status.id) {
        return;
    }
    text.family(
        "aqueduct_quorum_lag",
        "gauge",
        "kafka-metadata-quorum describe --replication, Lag. Entries that a member does not have yet, as the leader knows",
    );
    for member in status.members.iter().filter(|member| member.id != status.id) {
        let lag = status.last.saturating_sub(member.replicated.unwrap_or(0));
        let (node, role) = (member.id.to_string(), if member.votes { "voter" } else { "observer" });
        text.sample("", &[("node", &node), ("role", role)], lag as f64);
    }
}
