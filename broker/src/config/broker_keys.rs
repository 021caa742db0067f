//! The broker's keys that have an effect, as Kafka names them. Keys of Kafka's that are known but without effect here
//! are in `known_keys`.

use super::definition::{Check, Key, Kind, Scope};
use Check::{Any, AtLeast, Between, Fraction, NotEmpty, OneOf};
use Kind::{Boolean, Double, Int, List, Long, Short, String as Text};

const MAX_INT: &str = "2147483647";
const MAX_LONG: &str = "9223372036854775807";
const CODECS: &[&str] = &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
const TIMESTAMPS: &[&str] = &["CreateTime", "LogAppendTime"];
const POLICIES: &[&str] = &["compact", "delete"];

const fn fixed(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> Key {
    Key { name, kind, default: Some(default), check, scope: Scope::ReadOnly, doc }
}

const fn unset(name: &'static str, kind: Kind, check: Check, doc: &'static str) -> Key {
    Key { name, kind, default: None, check, scope: Scope::ReadOnly, doc }
}

const fn live(name: &'static str, kind: Kind, default: &'static str, check: Check, doc: &'static str) -> Key {
    Key { name, kind, default: Some(default), check, scope: Scope::Dynamic, doc }
}

const fn live_unset(name: &'static str, kind: Kind, check: Check, doc: &'static str) -> Key {
    Key { name, kind, default: None, check, scope: Scope::Dynamic, doc }
}

/// Every key that has an effect.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    // Identity and listeners.
    unset("process.roles", List, Check::EachOf(&["broker", "controller"]), "Roles of this process. A node without controller.quorum.* is a cluster by itself."),
    fixed("node.id", Int, "-1", AtLeast(-1), "Number of this node, unique in the cluster."),
    fixed("broker.id", Int, "-1", AtLeast(-1), "Older name of node.id."),
    unset("broker.rack", Text, Any, "Rack of this broker, reported to clients."),
    fixed("listeners", List, "PLAINTEXT://127.0.0.1:9092", NotEmpty, "Addresses to listen on, NAME://HOST:PORT. Those of controllers are opened in a cluster of several nodes only."),
    unset("advertised.listeners", List, Any, "Addresses that clients are told to use. By default those of listeners."),
    fixed("listener.security.protocol.map", Text, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Any, "Security protocol of each listener name, NAME:PROTOCOL."),
    unset("controller.listener.names", List, Any, "Names in listeners that belong to the controller."),
    unset("inter.broker.listener.name", Text, Any, "Listener that brokers use among themselves."),
    fixed("controller.quorum.voters", List, "", Any, "The first members of the metadata quorum, ID@HOST:PORT with commas between them. With this node alone the node is a cluster by itself."),
    fixed("controller.quorum.bootstrap.servers", List, "", Any, "Controllers to ask who leads the quorum, HOST:PORT with commas between them. Its first voters are formatted for it (aqueduct storage format), other nodes join."),
    fixed("controller.quorum.auto.join.enable", Boolean, "false", Any, "Whether a controller that follows a quorum of controller.quorum.bootstrap.servers gets itself a vote, in the place of the one that it had with a directory before."),
    fixed("controller.quorum.fetch.timeout.ms", Int, "2000", AtLeast(10), "A controller that has not heard of the leader for so long stands for election. Where it is not set 600 to 800 ms."),
    fixed("broker.heartbeat.interval.ms", Int, "2000", AtLeast(1), "Time between two heartbeats of a broker to the controller."),
    fixed("broker.session.timeout.ms", Int, "9000", AtLeast(1), "A broker that was not heard of for so long is fenced."),
    fixed("auto.leader.rebalance.enable", Boolean, "true", Any, "Whether partitions go back to the first of their replicas by themselves."),
    fixed("leader.imbalance.check.interval.seconds", Long, "300", AtLeast(1), "How long another than the first replica leads before it is asked to give the partition back."),
    fixed("initial.broker.registration.timeout.ms", Int, "60000", AtLeast(1), "How long the controller may turn down a starting broker before it gives up."),
    fixed("aqueduct.cluster.id", Text, "", Any, "Cluster that empty directories of a node of a cluster are formatted for, the same on all nodes; others must be of it. Without it they must have been formatted, by aqueduct storage format or Kafka's kafka-storage."),
    fixed("aqueduct.http.listener", Text, "", Any, "HOST:PORT for metrics and health over HTTP. Empty means off."),
    // Connections.
    fixed("socket.request.max.bytes", Int, "104857600", AtLeast(1), "Largest request in bytes; a larger one closes the connection."),
    fixed("socket.send.buffer.bytes", Int, "102400", AtLeast(-1), "Send buffer of a socket in bytes; -1 leaves it to the operating system."),
    fixed("socket.receive.buffer.bytes", Int, "102400", AtLeast(-1), "Receive buffer of a socket in bytes; -1 leaves it to the operating system."),
    fixed("socket.listen.backlog.size", Int, "50", AtLeast(1), "Connections that may wait to be accepted."),
    fixed("connections.max.idle.ms", Long, "600000", Any, "A connection without a request for so long is closed; negative means never."),
    fixed("max.connections", Int, MAX_INT, AtLeast(0), "Connections that the broker holds at once."),
    fixed("max.connections.per.ip", Int, MAX_INT, AtLeast(0), "Connections that the broker holds at once from one address."),
    fixed("queued.max.request.bytes", Long, "-1", Any, "Bytes of large requests that may be in memory at once. -1 stands for 128 MiB or one request of the largest size, whichever is more."),
    fixed("fetch.max.bytes", Int, "57671680", AtLeast(1024), "Most bytes that one Fetch response holds."),
    fixed("max.request.partition.size.limit", Int, "2000", AtLeast(1), "Most partitions in one DescribeTopicPartitions response."),
    fixed("max.incremental.fetch.session.cache.slots", Int, "1000", AtLeast(0), "Fetch sessions that are remembered."),
    // Topics.
    fixed("num.partitions", Int, "1", AtLeast(1), "Partitions of a topic that is created without a number."),
    fixed("default.replication.factor", Int, "1", AtLeast(1), "Replicas of a partition that is created without a number."),
    fixed("auto.create.topics.enable", Boolean, "true", Any, "Whether a topic is created when a client asks for it and it is missing."),
    fixed("delete.topic.enable", Boolean, "true", Any, "Whether topics may be deleted."),
    live("min.insync.replicas", Int, "1", AtLeast(1), "Replicas that must have a record before acks=all is answered."),
    live("unclean.leader.election.enable", Boolean, "false", Any, "Whether a replica that may lack records can become leader."),
    live("message.max.bytes", Int, "1048588", AtLeast(0), "Largest record batch in bytes, as compressed."),
    // The log.
    fixed("log.dir", List, "/tmp/kafka-logs", NotEmpty, "Directory of the log, where log.dirs is not set."),
    unset("log.dirs", List, NotEmpty, "Directories of the log, with commas between them."),
    live("num.recovery.threads.per.data.dir", Int, "2", AtLeast(1), "Logs of one directory that are recovered at the same time after a crash."),
    unset("num.replica.alter.log.dirs.threads", Int, AtLeast(1), "Replicas that are moved between log directories at the same time. By default as many as there are directories."),
    unset("metadata.log.dir", Text, Any, "Directory of the metadata journal. By default the first log directory."),
    live("log.segment.bytes", Int, "1073741824", AtLeast(1024 * 1024), "Size at which a segment is closed and a new one begun."),
    live_unset("log.roll.ms", Long, AtLeast(1), "Age at which a segment is closed. Before log.roll.hours."),
    fixed("log.roll.hours", Int, "168", AtLeast(1), "Age at which a segment is closed, in hours."),
    live_unset("log.roll.jitter.ms", Long, AtLeast(0), "Most that is taken off the age at which a segment is closed, at random. Before log.roll.jitter.hours."),
    fixed("log.roll.jitter.hours", Int, "0", AtLeast(0), "As log.roll.jitter.ms, in hours."),
    live_unset("log.retention.ms", Long, AtLeast(-1), "Age at which records are deleted; -1 means never. Before log.retention.minutes."),
    unset("log.retention.minutes", Int, AtLeast(-1), "As log.retention.ms, in minutes. Before log.retention.hours."),
    fixed("log.retention.hours", Int, "168", AtLeast(-1), "As log.retention.ms, in hours."),
    live("log.retention.bytes", Long, "-1", AtLeast(-1), "Size that a partition's log may reach before its oldest segments are deleted; -1 means no limit."),
    fixed("log.retention.check.interval.ms", Long, "300000", AtLeast(1), "Time between two looks for segments to delete."),
    live("log.cleanup.policy", List, "delete", Check::EachOf(POLICIES), "What happens to old records: delete, compact or both."),
    live("log.segment.delete.delay.ms", Long, "60000", AtLeast(0), "Time between marking a file as deleted and removing it."),
    live("log.index.interval.bytes", Int, "4096", AtLeast(0), "Bytes of log between two index entries."),
    live("log.index.size.max.bytes", Int, "10485760", AtLeast(4), "Largest size of an index file."),
    live("log.preallocate", Boolean, "false", Any, "Whether a new segment takes its whole size on disk at once."),
    live("log.flush.interval.messages", Long, MAX_LONG, AtLeast(1), "Records between two forced writes to disk."),
    live_unset("log.flush.interval.ms", Long, Any, "Time between two forced writes to disk. Without it log.flush.scheduler.interval.ms counts."),
    fixed("log.flush.scheduler.interval.ms", Long, MAX_LONG, Any, "Time between two looks for logs to force to disk."),
    fixed("log.flush.offset.checkpoint.interval.ms", Int, "60000", AtLeast(0), "Time between two writes of the recovery points."),
    fixed("log.flush.start.offset.checkpoint.interval.ms", Int, "60000", AtLeast(0), "Time between two writes of the log start offsets."),
    fixed("replica.high.watermark.checkpoint.interval.ms", Long, "5000", AtLeast(1), "Time between two writes of the high watermarks."),
    // Replication.
    fixed("replica.lag.time.max.ms", Long, "30000", AtLeast(1), "A follower that has not caught up with its leader for so long is not in sync."),
    fixed("num.replica.fetchers", Int, "1", AtLeast(1), "Connections over which this broker fetches from each leader."),
    fixed("replica.fetch.wait.max.ms", Int, "500", AtLeast(0), "Longest time that a leader keeps a follower's fetch waiting for records; less than replica.lag.time.max.ms."),
    fixed("replica.fetch.min.bytes", Int, "1", AtLeast(0), "Bytes that a leader waits for before it answers a follower."),
    fixed("replica.fetch.max.bytes", Int, "1048576", AtLeast(0), "Bytes of one partition that a follower fetches at once; a larger first batch comes whole."),
    fixed("replica.fetch.response.max.bytes", Int, "10485760", AtLeast(0), "Bytes that a follower fetches at once."),
    fixed("replica.fetch.backoff.ms", Int, "1000", AtLeast(0), "Longest time until a follower tries again after an error."),
    unset("replica.selector.class", Text, Any, "RackAwareReplicaSelector sends consumers to an in-sync replica in their client.rack. By default they read from the leader."),
    fixed("replica.socket.timeout.ms", Int, "30000", AtLeast(1), "Time for a leader's answer to a follower, beyond replica.fetch.wait.max.ms."),
    live("log.message.timestamp.type", Text, "CreateTime", OneOf(TIMESTAMPS), "Whether a record keeps the producer's timestamp or gets the broker's."),
    live("log.message.timestamp.before.max.ms", Long, MAX_LONG, AtLeast(0), "How far a record's timestamp may lie before the broker's clock."),
    live("log.message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), "How far a record's timestamp may lie after the broker's clock."),
    live("compression.type", Text, "producer", OneOf(CODECS), "Compression of the log; producer keeps what was sent."),
    live("compression.gzip.level", Int, "-1", Between(-1, 9), "Level of gzip."),
    live("compression.lz4.level", Int, "9", Between(1, 17), "Level of lz4."),
    live("compression.zstd.level", Int, "3", Between(-131_072, 22), "Level of zstd."),
    fixed("log.cleaner.enable", Boolean, "true", Any, "Whether compacted topics are compacted."),
    live("log.cleaner.threads", Int, "1", AtLeast(1), "Logs that are compacted at the same time."),
    live("log.cleaner.backoff.ms", Long, "15000", AtLeast(0), "Time between two looks for logs to compact, when there was none."),
    live("log.cleaner.dedupe.buffer.size", Long, "134217728", Any, "Most memory in bytes for the keys of the logs that are being compacted, all threads together."),
    live("log.cleaner.io.buffer.load.factor", Double, "0.9", Any, "How full the memory for keys may get before the rest waits for the next compaction."),
    live("log.cleaner.io.buffer.size", Int, "524288", AtLeast(0), "Memory in bytes for reading and writing compacted logs, all threads together."),
    live("log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308", Any, "Most bytes a second that compaction reads and writes, all threads together."),
    live("log.cleaner.delete.retention.ms", Long, "86400000", AtLeast(0), "Time that a tombstone stays in a compacted topic."),
    live("log.cleaner.min.compaction.lag.ms", Long, "0", AtLeast(0), "Time that a record stays uncompacted at least."),
    live("log.cleaner.max.compaction.lag.ms", Long, MAX_LONG, AtLeast(1), "Time that a record stays uncompacted at most."),
    live("log.cleaner.min.cleanable.ratio", Double, "0.5", Fraction(0.0, 1.0), "Share of uncompacted bytes at which compaction starts."),
    fixed("producer.id.expiration.ms", Int, "86400000", AtLeast(1), "Time after which an idle producer id is forgotten."),
    fixed("producer.id.expiration.check.interval.ms", Int, "600000", AtLeast(1), "Time between two looks for idle producer ids."),
    // Authorization.
    fixed("authorizer.class.name", Text, "", Any, "Class of the authorizer; org.apache.kafka.metadata.authorizer.StandardAuthorizer is built in. Empty means that everybody may do everything."),
    // Quotas.
    fixed("quota.window.num", Int, "11", AtLeast(1), "Windows that the use of clients is measured over, the one in progress included."),
    fixed("quota.window.size.seconds", Int, "1", AtLeast(1), "Length of such a window."),
    fixed("controller.quota.window.num", Int, "11", AtLeast(1), "Windows whose worth of changes to the metadata a client may save up."),
    fixed("controller.quota.window.size.seconds", Int, "1", AtLeast(1), "Length of such a window."),
    // Groups.
    fixed("group.min.session.timeout.ms", Int, "6000", AtLeast(1), "Shortest session timeout that a member may ask for."),
    fixed("group.max.session.timeout.ms", Int, "1800000", AtLeast(1), "Longest session timeout that a member may ask for."),
    fixed("group.initial.rebalance.delay.ms", Int, "3000", AtLeast(0), "Time that the first rebalance of a group waits for more members."),
    fixed("group.max.size", Int, MAX_INT, AtLeast(1), "Most members of a group."),
    live("group.consumer.assignment.interval.ms", Int, "1000", AtLeast(0), "Least time between two assignments of a group of the consumer protocol."),
    fixed("group.consumer.min.assignment.interval.ms", Int, "0", AtLeast(0), "Least value of consumer.assignment.interval.ms that a group may set."),
    fixed("group.consumer.max.assignment.interval.ms", Int, "15000", AtLeast(0), "Largest value of consumer.assignment.interval.ms that a group may set."),
    fixed("group.consumer.assignors", List, "uniform,range", NotEmpty, "Assignors that members of the consumer protocol may ask for; the first is the default."),
    fixed("group.consumer.heartbeat.interval.ms", Int, "5000", AtLeast(1), "Time between two heartbeats of a member of the consumer protocol."),
    fixed("group.consumer.min.heartbeat.interval.ms", Int, "5000", AtLeast(1), "Least value of consumer.heartbeat.interval.ms that a group may set."),
    fixed("group.consumer.max.heartbeat.interval.ms", Int, "15000", AtLeast(1), "Largest value of consumer.heartbeat.interval.ms that a group may set."),
    fixed("group.consumer.max.size", Int, MAX_INT, AtLeast(1), "Most members of a group of the consumer protocol."),
    fixed("group.consumer.migration.policy", Text, "bidirectional", Any, "Which groups with members may change their protocol: disabled, upgrade, downgrade or bidirectional."),
    fixed("group.consumer.regex.refresh.interval.ms", Int, "600000", AtLeast(10_000), "Time after which the topics that match regular expressions are looked for again."),
    fixed("group.consumer.session.timeout.ms", Int, "45000", AtLeast(1), "Silence after which a member of the consumer protocol is dropped."),
    fixed("group.consumer.min.session.timeout.ms", Int, "45000", AtLeast(1), "Least value of consumer.session.timeout.ms that a group may set."),
    fixed("group.consumer.max.session.timeout.ms", Int, "60000", AtLeast(1), "Largest value of consumer.session.timeout.ms that a group may set."),
    fixed("offset.metadata.max.bytes", Int, "4096", AtLeast(0), "Largest metadata text of a committed offset."),
    fixed("offsets.topic.num.partitions", Int, "50", AtLeast(1), "Partitions of __consumer_offsets. Not to be changed once it exists."),
    fixed("offsets.topic.replication.factor", Short, "3", AtLeast(1), "Replicas of __consumer_offsets; no more than there are brokers when it is created."),
    fixed("offsets.topic.segment.bytes", Int, "104857600", AtLeast(1), "Segment size of __consumer_offsets."),
    fixed("offsets.topic.compression.codec", Int, "0", Between(0, 4), "Compression of __consumer_offsets: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."),
    fixed("offsets.retention.minutes", Int, "10080", AtLeast(1), "Time that the offsets of an empty group are kept."),
    fixed("offsets.retention.check.interval.ms", Long, "600000", AtLeast(1), "Time between two looks for offsets to forget."),
    fixed("offsets.load.buffer.size", Int, "5242880", AtLeast(1), "Bytes that are read at once when a group coordinator loads."),
    fixed("offsets.commit.timeout.ms", Int, "5000", AtLeast(1), "Time that a commit may take to be written."),
    // Transactions.
    fixed("transaction.max.timeout.ms", Int, "900000", AtLeast(1), "Longest transaction timeout that a producer may ask for."),
    fixed("transactional.id.expiration.ms", Int, "604800000", AtLeast(1), "Time after which an idle transactional id is forgotten."),
    fixed("transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, "10000", AtLeast(1), "Time between two looks for transactions that have timed out."),
    fixed("transaction.remove.expired.transaction.cleanup.interval.ms", Int, "3600000", AtLeast(1), "Time between two looks for transactional ids to forget."),
    fixed("transaction.partition.verification.enable", Boolean, "true", Any, "Whether records of a transaction are taken only where the coordinator knows of the partition."),
    fixed("add.partitions.to.txn.retry.backoff.ms", Int, "20", AtLeast(1), "Time after which a partition is added to a transaction again, where the one before is not over yet."),
    fixed("add.partitions.to.txn.retry.backoff.max.ms", Int, "100", AtLeast(0), "Time within which that is tried, before the producer has to."),
    fixed("transaction.state.log.num.partitions", Int, "50", AtLeast(1), "Partitions of __transaction_state. Not to be changed once it exists."),
    fixed("transaction.state.log.replication.factor", Short, "3", AtLeast(1), "Replicas of __transaction_state; no more than there are brokers when it is created."),
    fixed("transaction.state.log.min.isr", Int, "2", AtLeast(1), "min.insync.replicas of __transaction_state; no more than it has replicas when it is created."),
    fixed("transaction.state.log.segment.bytes", Int, "104857600", AtLeast(1), "Segment size of __transaction_state."),
    fixed("transaction.state.log.load.buffer.size", Int, "5242880", AtLeast(1), "Bytes that are read at once when a transaction coordinator loads."),
];

/// Keys of the authorizer, which Kafka's own table does not list either.
#[rustfmt::skip]
const OF_AUTHORIZER: &[Key] = &[
    fixed("super.users", Text, "", Any, "Principals that may do everything, such as User:admin, with semicolons between them."),
    fixed("allow.everyone.if.no.acl.found", Boolean, "false", Any, "Whether everybody may do everything to a resource that has no ACLs."),
];

/// The row of a key that has an effect.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().chain(super::security_keys::KEYS).find(|key| key.name == name)
}

/// Every key that Kafka knows: those with an effect, then the others.
pub fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(super::security_keys::KEYS).chain(super::known_keys::KEYS)
}

/// The row of a key that Kafka knows.
pub fn find_known(name: &str) -> Option<&'static Key> {
    all().chain(OF_AUTHORIZER).find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_valid() {
        let mut names: Vec<_> = all().map(|key| key.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for key in all() {
            if let Some(default) = key.default {
                key.validate(default).unwrap();
            }
        }
    }
}
