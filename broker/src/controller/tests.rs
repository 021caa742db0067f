//! Single cases of the controller; `model` has the rules under random histories.

mod model;
mod recovery;

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Uuid};

use super::*;
use crate::metadata::features::FEATURES;
use crate::metadata::{
    BrokerEpoch, BrokerImage, ElectionType, PartitionImage, Placement, Resource, UpgradeType,
};

pub(super) const TOPIC: Uuid = Uuid([7; 16]);
const P0: PartitionIndex = PartitionIndex(0);

/// A controller with brokers, and the time.
struct Cluster {
    controller: Controller,
    now_ms: i64,
    epochs: BTreeMap<i32, BrokerEpoch>,
}

pub(super) fn registration(id: i32, incarnation: u8, previous_epoch: BrokerEpoch) -> Registration {
    let features = FEATURES.iter().map(|feature| (feature.name.into(), (feature.min, feature.max)));
    Registration {
        cluster_id: "c".into(),
        broker: BrokerImage {
            id: BrokerId(id),
            incarnation: Uuid([incarnation; 16]),
            endpoints: Vec::new(),
            rack: None,
        },
        previous_epoch,
        features: features.collect(),
        directories: BTreeSet::from([Uuid([id as u8; 16])]),
    }
}

pub(super) fn assigned(replicas: &[&[i32]]) -> Command {
    let of = |list: &&[i32]| list.iter().copied().map(BrokerId).collect();
    Command::CreateTopic {
        name: "t".into(),
        id: TOPIC,
        partitions: Placement::Assigned((0..).zip(replicas.iter().map(of)).collect()),
        configs: BTreeMap::new(),
    }
}

fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

impl Cluster {
    /// Brokers 1 to `count`, live.
    fn new(count: i32) -> Self {
        let controller = Controller::new(MetadataImage::new("c".into()), ControllerSettings::default(), 0);
        let mut cluster = Self { controller, now_ms: 0, epochs: BTreeMap::new() };
        for id in 1..=count {
            cluster.start(id, id as u8, BrokerEpoch::NONE).unwrap();
            cluster.beat(id);
        }
        cluster
    }

    fn ask(&mut self, request: Request) -> Result<Reply, ErrorCode> {
        let (records, reply) = self.controller.handle(self.now_ms, request);
        assert!(reply.is_ok() || records.is_empty());
        reply.map_err(|rejection| rejection.code)
    }

    fn command(&mut self, command: Command) -> Result<Reply, ErrorCode> {
        self.ask(Request::Command(command))
    }

    fn start(&mut self, id: i32, incarnation: u8, previous: BrokerEpoch) -> Result<BrokerEpoch, ErrorCode> {
        match self.ask(Request::Register(registration(id, incarnation, previous)))? {
            Reply::Registered(epoch) => {
                self.epochs.insert(id, epoch);
                Ok(epoch)
            }
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, id: i32, want_shut_down: bool, applied: u64) -> (bool, bool, bool) {
        let epoch = self.epochs[&id];
        let beat = Heartbeat { broker: BrokerId(id), epoch, applied, want_fence: false, want_shut_down };
        match self.ask(Request::Heartbeat(beat)).unwrap() {
            Reply::Heartbeat { caught_up, fenced, should_shut_down } => (caught_up, fenced, should_shut_down),
            other => panic!("{other:?}"),
        }
    }

    fn beat(&mut self, id: i32) -> (bool, bool, bool) {
        self.heartbeat(id, false, self.controller.image().version)
    }

    /// Time passes in which only these brokers are heard of.
    fn wait(&mut self, alive: &[i32], ms: i64) {
        for _ in 0..ms / 1_000 {
            self.now_ms += 1_000;
            for id in alive {
                self.beat(*id);
            }
            self.controller.tick(self.now_ms);
        }
    }

    fn partition(&self) -> PartitionImage {
        self.controller.image().topic("t").unwrap().partitions[0].clone()
    }

    fn alter(&mut self, isr: &[i32]) -> Result<Reply, ErrorCode> {
        let now = self.partition();
        let isr = isr.iter().map(|id| (BrokerId(*id), self.epochs[id])).collect();
        let alter = AlterPartition {
            broker: now.leader,
            epoch: self.epochs[&now.leader.0],
            topic: TOPIC,
            index: P0,
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr,
            recovering: false,
        };
        self.ask(Request::AlterPartition(alter))
    }

    fn reassign(&mut self, replicas: Option<&[i32]>) -> Result<Reply, ErrorCode> {
        self.command(Command::ReassignPartition { topic: "t".into(), index: P0, replicas: replicas.map(ids) })
    }
}

#[test]
fn a_broker_is_fenced_until_it_has_its_own_registration() {
    let mut cluster = Cluster::new(0);
    let epoch = cluster.start(1, 1, BrokerEpoch::NONE).unwrap();
    assert_eq!(cluster.heartbeat(1, false, epoch.0 as u64 - 1), (false, true, false));
    assert_eq!(cluster.heartbeat(1, false, epoch.0 as u64), (true, false, false));
    // The answer was lost and it asks again.
    assert_eq!(cluster.start(1, 1, BrokerEpoch::NONE), Ok(epoch));
    // Another process with its id has to wait for the end of the session.
    assert_eq!(cluster.start(1, 2, BrokerEpoch::NONE), Err(ErrorCode::DuplicateBrokerRegistration));
    cluster.wait(&[], 10_000);
    assert!(!cluster.controller.image().is_live(BrokerId(1)));
    let next = cluster.start(1, 2, BrokerEpoch::NONE).unwrap();
    assert!(next > epoch);
    let old = Heartbeat { broker: BrokerId(1), epoch, applied: 99, want_fence: false, want_shut_down: false };
    assert_eq!(cluster.ask(Request::Heartbeat(old)), Err(ErrorCode::StaleBrokerEpoch));
}

#[test]
fn after_all_nodes_ended_nobody_waits_for_sessions() {
    let mut cluster = Cluster::new(2);
    let [first, second] = [1, 2].map(|id| cluster.epochs[&id]);
    let image = cluster.controller.image().clone();
    cluster.controller = Controller::new(image, ControllerSettings::default(), cluster.now_ms);
    // Another disk may be that of another process, which lives.
    let mut other = registration(1, 9, BrokerEpoch::NONE);
    other.directories = BTreeSet::from([Uuid([77; 16])]);
    assert_eq!(cluster.ask(Request::Register(other)), Err(ErrorCode::DuplicateBrokerRegistration));
    assert!(cluster.start(1, 9, BrokerEpoch::NONE).unwrap() > first);
    cluster.beat(1);
    // The one that was heard has to be waited for.
    cluster.beat(2);
    assert_eq!(cluster.start(2, 9, BrokerEpoch::NONE), Err(ErrorCode::DuplicateBrokerRegistration));
    assert_eq!(cluster.start(1, 10, BrokerEpoch::NONE), Err(ErrorCode::DuplicateBrokerRegistration));
    assert_eq!(cluster.epochs[&2], second);
}

#[test]
fn brokers_of_another_cluster_or_without_a_feature_are_refused() {
    let mut cluster = Cluster::new(0);
    let mut foreign = registration(1, 1, BrokerEpoch::NONE);
    foreign.cluster_id = "d".into();
    assert_eq!(cluster.ask(Request::Register(foreign)), Err(ErrorCode::InconsistentClusterId));
    let mut old = registration(1, 1, BrokerEpoch::NONE);
    old.features.insert("metadata.version".into(), (7, 20));
    assert_eq!(cluster.ask(Request::Register(old)), Err(ErrorCode::UnsupportedVersion));
}

#[test]
fn the_leader_moves_when_its_session_ends_and_stays_when_it_comes_back() {
    let mut cluster = Cluster::new(3);
    cluster.command(assigned(&[&[1, 2, 3]])).unwrap();
    assert_eq!((cluster.partition().leader.0, cluster.partition().leader_epoch.0), (1, 0));
    cluster.wait(&[2, 3], 10_000);
    let now = cluster.partition();
    assert_eq!((now.leader.0, now.leader_epoch.0, now.isr), (2, 1, ids(&[2, 3])));
    cluster.start(1, 9, BrokerEpoch::NONE).unwrap();
    cluster.beat(1);
    assert_eq!(cluster.partition().leader.0, 2);
    let elect = |kind| Command::ElectLeader { topic: "t".into(), index: P0, kind };
    let refused = cluster.command(elect(ElectionType::Preferred));
    assert_eq!(refused, Err(ErrorCode::PreferredLeaderNotAvailable));
    cluster.alter(&[2, 3, 1]).unwrap();
    assert_eq!(cluster.controller.balance_leaders(10).len(), 1);
    assert_eq!((cluster.partition().leader.0, cluster.partition().leader_epoch.0), (1, 2));
    assert_eq!(cluster.command(elect(ElectionType::Preferred)), Err(ErrorCode::ElectionNotNeeded));
}

#[test]
fn a_clean_stop_hands_leaderships_over_and_waits_for_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.command(assigned(&[&[1, 2, 3]])).unwrap();
    assert_eq!(cluster.heartbeat(1, true, 0), (false, false, false));
    let now = cluster.partition();
    assert_eq!((now.leader.0, now.isr), (2, ids(&[2, 3])));
    cluster.beat(2);
    assert!(!cluster.heartbeat(1, true, 0).2, "broker 3 has not seen it yet");
    cluster.beat(3);
    assert!(cluster.heartbeat(1, true, 0).2);
    let epoch = cluster.epochs[&1];
    cluster.start(1, 9, epoch).expect("a broker that stopped cleanly may come back at once");
}

#[test]
fn a_clean_stop_hands_over_some_partitions_at_a_time() {
    let mut cluster = Cluster::new(3);
    cluster.controller.settings.relieved_at_once = 2;
    cluster.command(assigned(&[&[1, 2], &[2, 1], &[1, 3], &[3, 2], &[3, 1]])).unwrap();
    let relieved = |cluster: &Cluster| {
        let partitions = &cluster.controller.image().topic("t").unwrap().partitions;
        partitions.iter().map(|partition| !partition.isr.contains(&BrokerId(1))).collect::<Vec<_>>()
    };
    assert_eq!(relieved(&cluster), [false, false, false, true, false]);
    assert!(!cluster.heartbeat(1, true, 0).2);
    assert_eq!(relieved(&cluster), [true, true, false, true, false]);
    // What others know does not matter while there is more to do.
    (2..=3).for_each(|id| _ = cluster.beat(id));
    assert!(!cluster.heartbeat(1, true, 0).2);
    assert_eq!(relieved(&cluster), [true; 5]);
    assert!(!cluster.heartbeat(1, true, 0).2, "the others have not seen the rest");
    (2..=3).for_each(|id| _ = cluster.beat(id));
    assert!(cluster.heartbeat(1, true, 0).2);
}

#[test]
fn the_last_in_sync_replica_leads_again_if_it_lost_nothing() {
    let mut cluster = Cluster::new(2);
    cluster.command(assigned(&[&[1, 2]])).unwrap();
    let set = |key: &'static str, value: &'static str| Command::AlterConfig {
        resource: Resource::Topic("t".into()),
        ops: vec![(key.into(), crate::metadata::ConfigOp::Set(value.into()))],
    };
    cluster.command(set("min.insync.replicas", "2")).unwrap();
    cluster.wait(&[1], 10_000);
    let elr = |cluster: &Cluster| cluster.controller.image().partition_state(TOPIC, P0).elr.clone();
    assert_eq!((cluster.partition().isr, elr(&cluster)), (ids(&[1]), ids(&[2])));
    cluster.wait(&[], 10_000);
    assert_eq!((cluster.partition().leader.0, cluster.partition().isr), (-1, ids(&[])));
    assert_eq!(elr(&cluster), ids(&[2, 1]));
    // Broker 1 has lost what it had; broker 2 has not.
    cluster.start(1, 9, BrokerEpoch::NONE).unwrap();
    cluster.beat(1);
    assert_eq!((cluster.partition().leader.0, elr(&cluster)), (-1, ids(&[2])));
    let before = cluster.epochs[&2];
    cluster.start(2, 9, before).unwrap();
    cluster.beat(2);
    let now = cluster.partition();
    assert_eq!((now.leader.0, now.isr), (2, ids(&[2])));
    assert!(!cluster.controller.image().partition_state(TOPIC, P0).recovering);
}

#[test]
fn unclean_elections_happen_where_they_are_allowed() {
    let mut cluster = Cluster::new(2);
    cluster.command(assigned(&[&[1, 2]])).unwrap();
    cluster.alter(&[1]).unwrap();
    cluster.wait(&[2], 10_000);
    assert_eq!(cluster.partition().leader.0, -1);
    let allow = Command::AlterConfig {
        resource: Resource::Broker(None),
        ops: vec![("unclean.leader.election.enable".into(), crate::metadata::ConfigOp::Set("true".into()))],
    };
    cluster.command(allow).unwrap();
    assert_eq!((cluster.partition().leader.0, cluster.partition().isr), (2, ids(&[2])));
    assert!(cluster.controller.image().partition_state(TOPIC, P0).recovering);
}

#[test]
fn altering_an_in_sync_set_is_checked() {
    let mut cluster = Cluster::new(3);
    cluster.command(assigned(&[&[1, 2]])).unwrap();
    let now = cluster.partition();
    let good = AlterPartition {
        broker: BrokerId(1),
        epoch: cluster.epochs[&1],
        topic: TOPIC,
        index: P0,
        leader_epoch: now.leader_epoch,
        partition_epoch: now.partition_epoch,
        isr: vec![(BrokerId(1), BrokerEpoch::NONE)],
        recovering: false,
    };
    type Spoil = fn(&mut AlterPartition);
    let cases: [(Spoil, ErrorCode); 10] = [
        (|a| a.epoch.0 -= 1, ErrorCode::StaleBrokerEpoch),
        (|a| a.topic = Uuid([9; 16]), ErrorCode::UnknownTopicId),
        (|a| a.index.0 = 5, ErrorCode::UnknownTopicOrPartition),
        (|a| a.leader_epoch.0 += 1, ErrorCode::NotController),
        (|a| a.leader_epoch.0 -= 1, ErrorCode::FencedLeaderEpoch),
        (|a| a.partition_epoch += 1, ErrorCode::NotController),
        (|a| a.partition_epoch -= 1, ErrorCode::InvalidUpdateVersion),
        (|a| a.isr = vec![(BrokerId(2), BrokerEpoch::NONE)], ErrorCode::InvalidRequest),
        (|a| a.isr.push((BrokerId(3), BrokerEpoch::NONE)), ErrorCode::InvalidRequest),
        (|a| a.isr.push((BrokerId(2), BrokerEpoch(1))), ErrorCode::IneligibleReplica),
    ];
    for (spoil, code) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert_eq!(cluster.ask(Request::AlterPartition(bad.clone())), Err(code), "{bad:?}");
    }
    cluster.ask(Request::AlterPartition(good)).unwrap();
    assert_eq!(cluster.partition().isr, ids(&[1]));
}

#[test]
fn a_reassignment_ends_when_what_it_adds_is_in_sync() {
    let mut cluster = Cluster::new(4);
    cluster.command(assigned(&[&[1, 2]])).unwrap();
    assert_eq!(cluster.reassign(None), Err(ErrorCode::NoReassignmentInProgress));
    assert_eq!(cluster.reassign(Some(&[3, 3])), Err(ErrorCode::InvalidReplicaAssignment));
    cluster.reassign(Some(&[3, 4])).unwrap();
    let state = |cluster: &Cluster| cluster.controller.image().partition_state(TOPIC, P0).clone();
    assert_eq!(cluster.partition().replicas, ids(&[3, 4, 1, 2]));
    assert_eq!((state(&cluster).adding, state(&cluster).removing), (ids(&[3, 4]), ids(&[1, 2])));
    cluster.alter(&[1, 2, 3]).unwrap();
    assert!(state(&cluster).is_reassigning());
    cluster.alter(&[1, 2, 3, 4]).unwrap();
    let now = cluster.partition();
    assert_eq!((now.replicas, now.isr, now.leader), (ids(&[3, 4]), ids(&[3, 4]), BrokerId(3)));
    assert!(!state(&cluster).is_reassigning());
    // And back, but given up half way.
    cluster.reassign(Some(&[1, 2])).unwrap();
    cluster.reassign(None).unwrap();
    assert_eq!((cluster.partition().replicas, cluster.partition().isr), (ids(&[3, 4]), ids(&[3, 4])));
}

#[test]
fn a_replica_without_its_directory_neither_leads_nor_is_in_sync() {
    let mut cluster = Cluster::new(2);
    cluster.command(assigned(&[&[1, 2]])).unwrap();
    let online = |list: &[u8]| Command::OnlineDirectories {
        broker: BrokerId(1),
        directories: list.iter().map(|id| Uuid([*id; 16])).collect(),
    };
    cluster.command(online(&[])).unwrap();
    let now = cluster.partition();
    assert_eq!((now.leader.0, now.leader_epoch.0, now.isr), (2, 1, ids(&[2])));
    assert_eq!(cluster.alter(&[2, 1]), Err(ErrorCode::IneligibleReplica));
    cluster.wait(&[1], 10_000);
    assert_eq!(cluster.partition().leader.0, -1);
    cluster.command(online(&[1])).unwrap();
    assert_eq!(cluster.partition().leader.0, -1, "it may lack what was acknowledged meanwhile");
    let epoch = cluster.epochs[&2];
    cluster.start(2, 9, epoch).unwrap();
    cluster.beat(2);
    assert_eq!(cluster.partition().leader.0, 2);
    cluster.alter(&[2, 1]).unwrap();
}

#[test]
fn topics_are_placed_on_live_brokers() {
    let mut cluster = Cluster::new(3);
    cluster.wait(&[1, 2], 10_000);
    let create = |name: &'static str, partitions| Command::CreateTopic {
        name: name.into(),
        id: Uuid([name.len() as u8; 16]),
        partitions,
        configs: BTreeMap::new(),
    };
    let count = |factor| Placement::Count { partitions: 6, replication_factor: factor };
    cluster.command(create("a", count(3))).unwrap();
    for partition in &cluster.controller.image().topic("a").unwrap().partitions {
        assert_eq!(partition.replicas.len(), 3);
        assert!(!partition.isr.contains(&BrokerId(3)) && partition.isr.len() == 2);
        assert_eq!(partition.leader, partition.replicas[0]);
    }
    assert_eq!(cluster.command(create("bb", count(4))), Err(ErrorCode::InvalidReplicationFactor));
    let on_fenced = Placement::Assigned(BTreeMap::from([(0, ids(&[3]))]));
    assert_eq!(cluster.command(create("bb", on_fenced)), Err(ErrorCode::InvalidReplicaAssignment));
    cluster.wait(&[], 10_000);
    assert_eq!(cluster.command(create("bb", count(1))), Err(ErrorCode::InvalidReplicationFactor));
}

#[test]
fn a_feature_needs_all_brokers() {
    let mut cluster = Cluster::new(1);
    let to = |level, kind| Command::UpdateFeature { name: "transaction.version".into(), level, kind };
    cluster.command(to(1, UpgradeType::SafeDowngrade)).unwrap();
    let mut old = registration(2, 2, BrokerEpoch::NONE);
    old.features.insert("transaction.version".into(), (0, 1));
    cluster.ask(Request::Register(old)).unwrap();
    assert_eq!(cluster.command(to(2, UpgradeType::Upgrade)), Err(ErrorCode::InvalidUpdateVersion));
    assert_eq!(
        cluster.command(Command::UnregisterBroker { id: BrokerId(9) }),
        Err(ErrorCode::BrokerIdNotRegistered)
    );
    let running = cluster.command(Command::UnregisterBroker { id: BrokerId(1) });
    assert_eq!(running, Err(ErrorCode::InvalidRequest));
    cluster.command(Command::UnregisterBroker { id: BrokerId(2) }).unwrap();
    cluster.command(to(2, UpgradeType::Upgrade)).unwrap();
}

#[test]
fn leaders_are_given_back_after_an_interval() {
    let mut cluster = Cluster::new(3);
    cluster.controller.settings.balance_interval_ms = Some(5_000);
    cluster.command(assigned(&[&[1, 2, 3]])).unwrap();
    cluster.wait(&[2, 3], 10_000);
    cluster.start(1, 9, BrokerEpoch::NONE).unwrap();
    cluster.beat(1);
    cluster.wait(&[1, 2, 3], 20_000);
    assert_eq!(cluster.partition().leader.0, 2, "the first replica is not in sync");
    cluster.alter(&[2, 3, 1]).unwrap();
    cluster.wait(&[1, 2, 3], 10_000);
    assert_eq!(cluster.partition().leader.0, 1);
    let tally = cluster.controller.take_tally();
    assert_eq!(tally, Tally { elections: 2, timed_out: 1, ..Tally::default() });
    assert_eq!(cluster.controller.take_tally(), Tally::default());
    cluster.controller.settings.balance_interval_ms = None;
    cluster.wait(&[2, 3], 10_000);
    assert_eq!(cluster.partition().leader.0, 2);
}

#[test]
fn a_creation_that_comes_again_is_not_refused() {
    let mut cluster = Cluster::new(3);
    cluster.command(assigned(&[&[1, 2, 3]])).unwrap();
    let version = cluster.controller.image().version;
    assert!(matches!(cluster.command(assigned(&[&[1, 2, 3]])), Ok(Reply::Command(Outcome::Topic(_)))));
    assert_eq!(cluster.controller.image().version, version, "nothing is decided twice");
    let Command::CreateTopic { name, partitions, configs, .. } = assigned(&[&[1, 2, 3]]) else {
        unreachable!()
    };
    let other = Command::CreateTopic { name, id: Uuid([9; 16]), partitions, configs };
    assert_eq!(cluster.command(other), Err(ErrorCode::TopicAlreadyExists));
}
