//! Requests, replies and commands.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Wire, wire_code, wire_enum, wire_newtype, wire_struct};
use crate::config::SecurityProtocol;
use crate::controller::{AlterPartition, Heartbeat, LogEnd, LogEnds, Registration, Reply, Request};
use crate::metadata::{
    BrokerEpoch, BrokerImage, Command, ConfigOp, ElectionType, Endpoint, NewPartitions, Outcome,
    PartitionImage, Placement, Rejection, Resource, SaltedPassword, ScramChange, TopicImage, UpgradeType,
};
use crate::quotas::QuotaValue;
use crate::security::{
    Acl, AclFilter, Operation, PatternFilter, PatternType, Permission, Principal, ResourceType,
};

wire_newtype!(BrokerEpoch, QuotaValue, SaltedPassword);

wire_code! {
    Operation => put_i8 try_get_i8 Operation::from_code;
    PatternType => put_i8 try_get_i8 PatternType::from_code;
    Permission => put_i8 try_get_i8 Permission::from_code;
    ResourceType => put_i8 try_get_i8 ResourceType::from_code;
}

impl<T: Wire> Wire for Arc<T> {
    fn put(&self, out: &mut BytesMut) {
        T::put(self, out);
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        T::get(bytes).map(Self::new)
    }
}

wire_enum!(SecurityProtocol { 0 = Plaintext, 1 = Ssl, 2 = SaslPlaintext, 3 = SaslSsl });
wire_struct!(Endpoint { listener, host, port, protocol });
wire_struct!(BrokerImage { id, incarnation, endpoints, rack });
wire_struct!(PartitionImage { leader, leader_epoch, partition_epoch, replicas, isr });
wire_struct!(TopicImage { name, id, partitions });
wire_struct!(Principal { kind, name });
wire_struct!(Acl { resource, pattern, name, principal, host, operation, permission });
wire_struct!(AclFilter { resource, name, pattern, principal, host, operation, permission });
wire_struct!(Rejection { code, message });
wire_struct!(NewPartitions { total, assigned });

wire_enum!(PatternFilter { 0 = Any, 1 = Match, 2 = Exactly(pattern) });
wire_enum!(Resource { 0 = Topic(name), 1 = Broker(id), 2 = Group(name), 3 = ClientMetrics(name) });
wire_enum!(ElectionType { 0 = Preferred, 1 = Unclean });
wire_enum!(UpgradeType { 0 = Upgrade, 1 = SafeDowngrade, 2 = UnsafeDowngrade });
wire_enum!(Placement { 0 = Count { partitions, replication_factor }, 1 = Assigned(replicas) });
wire_enum!(ConfigOp { 0 = Set(value), 1 = Delete, 2 = Append(value), 3 = Subtract(value) });
wire_enum!(ScramChange {
    0 = Delete { user, mechanism },
    1 = Upsert { user, mechanism, iterations, salt, salted_password },
});
wire_enum!(Outcome { 0 = Done, 1 = Topic(topic), 2 = ProducerIds(first), 3 = Acls(deleted) });

wire_enum!(Command {
    0 = RegisterBroker(broker),
    1 = CreateTopic { name, id, partitions, configs },
    2 = DeleteTopic { id },
    3 = CreatePartitions { topic, partitions },
    4 = AlterConfig { resource, ops },
    5 = ReplaceConfig { resource, values },
    6 = ElectLeader { topic, index, kind },
    7 = ReassignPartition { topic, index, replicas },
    8 = UpdateFeature { name, level, kind },
    9 = UnregisterBroker { id },
    10 = AllocateProducerIds { count },
    11 = AlterScram { changes },
    12 = CreateAcl { id, acl },
    13 = DeleteAcls { filter },
    14 = AlterQuota { entity, ops },
    15 = AssignDirectories { broker, found },
    16 = OnlineDirectories { broker, directories },
});

wire_struct!(Registration { cluster_id, broker, previous_epoch, features, directories });
wire_struct!(Heartbeat { broker, epoch, applied, want_fence, want_shut_down });
wire_struct!(AlterPartition { broker, epoch, topic, index, leader_epoch, partition_epoch, isr, recovering });
wire_struct!(LogEnds { broker, epoch, ends });
wire_struct!(LogEnd { topic, index, leader_epoch, last_epoch, end });
wire_enum!(Request {
    0 = Register(wanted),
    1 = Heartbeat(beat),
    2 = AlterPartition(alter),
    3 = Command(command),
    4 = LogEnds(ends),
});
wire_enum!(Reply {
    0 = Registered(epoch),
    1 = Heartbeat { caught_up, fenced, should_shut_down },
    2 = Partition(partition, recovering),
    3 = Command(outcome),
    4 = Noted,
});

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use aqueduct_protocol::error_code::ErrorCode;
    use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Uuid};

    use super::*;

    fn round_trip<T: Wire + PartialEq + std::fmt::Debug>(value: T) {
        let mut out = BytesMut::new();
        value.put(&mut out);
        let all = out.freeze();
        let mut bytes = all.clone();
        assert_eq!(T::get(&mut bytes).as_ref(), Some(&value));
        assert!(bytes.is_empty());
        for cut in 0..all.len() {
            assert!(T::get(&mut all.slice(..cut)).is_none(), "{value:?} cut at {cut}");
        }
    }

    fn requests() -> Vec<Request> {
        let broker = BrokerImage {
            id: BrokerId(1),
            incarnation: Uuid([1; 16]),
            endpoints: vec![Endpoint {
                listener: "L".into(),
                host: "h".into(),
                port: 9092,
                protocol: SecurityProtocol::SaslSsl,
            }],
            rack: Some("r".into()),
        };
        let acl = Acl {
            resource: ResourceType::Topic,
            pattern: PatternType::Prefixed,
            name: "t".into(),
            principal: Principal::user("u"),
            host: "*".into(),
            operation: Operation::Read,
            permission: Permission::Deny,
        };
        let filter = AclFilter {
            resource: Some(ResourceType::Group),
            name: None,
            pattern: PatternFilter::Exactly(PatternType::Literal),
            principal: Some("User:u".into()),
            host: None,
            operation: Some(Operation::All),
            permission: None,
        };
        let commands = [
            Command::RegisterBroker(broker.clone()),
            Command::CreateTopic {
                name: "t".into(),
                id: Uuid([2; 16]),
                partitions: Placement::Assigned(BTreeMap::from([(0, vec![BrokerId(1)])])),
                configs: BTreeMap::from([("k".into(), "v".into())]),
            },
            Command::DeleteTopic { id: Uuid([2; 16]) },
            Command::CreatePartitions {
                topic: "t".into(),
                partitions: NewPartitions { total: 3, assigned: Some(vec![vec![BrokerId(2)]]) },
            },
            Command::AlterConfig {
                resource: Resource::Broker(Some(BrokerId(1))),
                ops: vec![("k".into(), ConfigOp::Append("v".into())), ("d".into(), ConfigOp::Delete)],
            },
            Command::ReplaceConfig { resource: Resource::Topic("t".into()), values: BTreeMap::new() },
            Command::ElectLeader { topic: "t".into(), index: PartitionIndex(0), kind: ElectionType::Unclean },
            Command::ReassignPartition { topic: "t".into(), index: PartitionIndex(1), replicas: None },
            Command::UpdateFeature { name: "f".into(), level: 1, kind: UpgradeType::SafeDowngrade },
            Command::UnregisterBroker { id: BrokerId(3) },
            Command::AllocateProducerIds { count: 1000 },
            Command::AlterScram {
                changes: vec![ScramChange::Upsert {
                    user: "u".into(),
                    mechanism: 1,
                    iterations: 4096,
                    salt: Bytes::from_static(b"s"),
                    salted_password: SaltedPassword(Bytes::from_static(b"p")),
                }],
            },
            Command::CreateAcl { id: Uuid([3; 16]), acl },
            Command::DeleteAcls { filter },
            Command::AlterQuota {
                entity: vec![("user".into(), None)],
                ops: vec![("producer_byte_rate".into(), Some(QuotaValue(1.5)))],
            },
            Command::AssignDirectories {
                broker: BrokerId(1),
                found: vec![(Uuid([1; 16]), PartitionIndex(0), Uuid([2; 16]))],
            },
            Command::OnlineDirectories { broker: BrokerId(1), directories: BTreeSet::from([Uuid([4; 16])]) },
        ];
        let others = [
            Request::Register(Registration {
                cluster_id: "c".into(),
                broker,
                previous_epoch: BrokerEpoch(7),
                features: BTreeMap::from([("f".into(), (0, 2))]),
                directories: BTreeSet::from([Uuid([5; 16])]),
            }),
            Request::Heartbeat(Heartbeat {
                broker: BrokerId(1),
                epoch: BrokerEpoch(7),
                applied: 9,
                want_fence: false,
                want_shut_down: true,
            }),
            Request::AlterPartition(AlterPartition {
                broker: BrokerId(1),
                epoch: BrokerEpoch(7),
                topic: Uuid([2; 16]),
                index: PartitionIndex(3),
                leader_epoch: LeaderEpoch(4),
                partition_epoch: 5,
                isr: vec![(BrokerId(2), BrokerEpoch::NONE)],
                recovering: false,
            }),
            Request::LogEnds(LogEnds {
                broker: BrokerId(1),
                epoch: BrokerEpoch(7),
                ends: vec![LogEnd {
                    topic: Uuid([2; 16]),
                    index: PartitionIndex(3),
                    leader_epoch: LeaderEpoch(4),
                    last_epoch: LeaderEpoch(-1),
                    end: Offset(6),
                }],
            }),
        ];
        commands.into_iter().map(Request::Command).chain(others).collect()
    }

    #[test]
    fn requests_and_replies_round_trip_and_cut_bytes_are_none() {
        requests().into_iter().for_each(round_trip);
        let partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(2),
            partition_epoch: 3,
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: vec![BrokerId(1)],
        };
        let topic = TopicImage { name: "t".into(), id: Uuid([1; 16]), partitions: vec![partition.clone()] };
        round_trip(vec![
            Reply::Registered(BrokerEpoch(3)),
            Reply::Heartbeat { caught_up: true, fenced: false, should_shut_down: true },
            Reply::Partition(partition, true),
            Reply::Command(Outcome::Topic(Arc::new(topic))),
            Reply::Command(Outcome::Acls(Vec::new())),
        ]);
        round_trip(Rejection::new(ErrorCode::InvalidConfig, "why"));
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused() {
        let mut bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0, 0]);
        assert!(Vec::<u64>::get(&mut bytes).is_none());
    }
}
