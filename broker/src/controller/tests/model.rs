//! Random histories of brokers, clients and administrators, with logs that are lost where a disk may lose them. After each
//! step the rules hold, and what was acknowledged is in the log of whoever was elected cleanly.

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex};
use bytes::BytesMut;
use proptest::prelude::*;
use steps::{Step, steps};

use super::{TOPIC, assigned, registration};
use crate::controller::*;
use crate::metadata::{
    BrokerEpoch, ConfigOp, ElectionType, PartitionImage, PartitionState, Resource, UpgradeType,
    decode_snapshot, encode_snapshot,
};

const BROKERS: i32 = 4;
const PARTITIONS: i32 = 2;
const RECOVERY_WAIT_MS: i64 = 8_000;

/// A broker's process and disk.
#[derive(Debug, Default)]
struct Broker {
    running: bool,
    epoch: BrokerEpoch,
    /// Whether its last process stopped cleanly.
    clean: bool,
    starts: u8,
    /// How many of its last records the next process will not find.
    lost: usize,
    logs: BTreeMap<i32, Vec<u32>>,
    /// The partitions and leader epochs for which its present process has told this controller where the log ends.
    told: BTreeSet<(i32, i32)>,
    /// The leader epoch in which it fetched last.
    fetched_in: BTreeMap<i32, i32>,
}

#[derive(Debug)]
struct Sim {
    controller: Controller,
    /// What the records alone say.
    replayed: MetadataImage,
    now_ms: i64,
    brokers: BTreeMap<i32, Broker>,
    committed: BTreeMap<i32, Vec<u32>>,
    /// Where the present leader's log ended when it was elected.
    epoch_start: BTreeMap<i32, usize>,
    leaders: BTreeMap<(i32, i32), BrokerId>,
    next_record: u32,
    /// The leader epoch in which each record was appended.
    epochs: BTreeMap<u32, i32>,
    /// When this controller was told first by who led a partition before a leader epoch.
    awaited_ms: BTreeMap<(i32, i32), i64>,
    with_elr: bool,
    /// The in-sync set that a leader is asking for: it vouches for those who join.
    joining: Vec<BrokerId>,
}

impl Sim {
    fn new(with_elr: bool) -> Self {
        let image = MetadataImage::new("c".into());
        let controller = Controller::new(image.clone(), settings(), 0);
        let mut sim = Self {
            controller,
            replayed: image,
            now_ms: 0,
            brokers: (1..=BROKERS)
                .map(|id| (id, Broker { epoch: BrokerEpoch::NONE, ..Broker::default() }))
                .collect(),
            committed: BTreeMap::new(),
            epoch_start: BTreeMap::new(),
            leaders: BTreeMap::new(),
            next_record: 0,
            epochs: BTreeMap::new(),
            awaited_ms: BTreeMap::new(),
            with_elr,
            joining: Vec::new(),
        };
        if !with_elr {
            let name = "eligible.leader.replicas.version".into();
            sim.command(Command::UpdateFeature { name, level: 0, kind: UpgradeType::SafeDowngrade });
        }
        for id in 1..=BROKERS {
            sim.start(id);
            sim.beat(id, false, true);
        }
        sim.command(assigned(&[&[1, 2, 3], &[2, 3, 4]]));
        sim
    }

    fn ask(&mut self, request: Request) -> Option<Reply> {
        let before = self.controller.image().clone();
        let admin_unclean =
            matches!(&request, Request::Command(Command::ElectLeader { kind: ElectionType::Unclean, .. }));
        let (records, reply) = self.controller.handle(self.now_ms, request);
        assert!(reply.is_ok() || records.is_empty());
        self.settle(&before, records, admin_unclean);
        reply.ok()
    }

    fn command(&mut self, command: Command) -> Option<Reply> {
        self.ask(Request::Command(command))
    }

    /// Takes over what was decided, and checks all rules.
    fn settle(&mut self, before: &MetadataImage, records: Vec<Record>, admin_unclean: bool) {
        for record in records {
            let mut bytes = BytesMut::new();
            record.encode(&mut bytes);
            let read = Record::decode(&mut bytes.freeze());
            assert_eq!(read.as_ref(), Some(&record));
            self.replayed.apply(&record);
        }
        assert_eq!(&self.replayed, self.controller.image(), "the records say all");
        for index in 0..PARTITIONS {
            let Some((now, state)) = self.partition(index) else { continue };
            let was =
                before.topic_by_id(TOPIC).and_then(|topic| topic.partition(PartitionIndex(index)).cloned());
            let old = before.partition_state(TOPIC, PartitionIndex(index)).clone();
            self.check_partition(&now, &state);
            // A broker that is about to stop keeps partitions as they are until it is relieved of them.
            if was.as_ref() != Some(&now) {
                self.check_brokers(&now, MetadataImage::is_live);
            } else {
                self.check_brokers(&now, MetadataImage::is_unfenced);
            }
            match was {
                Some(was) => self.check_change(index, (&was, &old), (&now, &state), before, admin_unclean),
                None => self.elected(index, &now, false),
            }
            self.advance(index);
        }
    }

    fn check_partition(&self, now: &PartitionImage, state: &PartitionState) {
        let lists = [&now.replicas, &now.isr, &state.elr, &state.adding, &state.removing];
        assert!(lists.iter().all(|list| !crate::metadata::has_duplicates(list)), "{now:?} {state:?}");
        let replicas = &now.replicas;
        assert!(lists.iter().all(|list| list.iter().all(|id| replicas.contains(id))), "{now:?} {state:?}");
        assert!(state.elr.iter().all(|id| !now.isr.contains(id)), "{now:?} {state:?}");
        if now.leader.0 >= 0 {
            assert!(now.isr.contains(&now.leader), "{now:?}");
        }
    }

    /// Leaders and in-sync replicas are brokers that can be.
    fn check_brokers(&self, now: &PartitionImage, can_be: impl Fn(&MetadataImage, BrokerId) -> bool) {
        if self.with_elr || now.leader.0 >= 0 {
            assert!(now.isr.iter().all(|id| can_be(self.controller.image(), *id)), "{now:?}");
        }
    }

    fn check_change(
        &mut self,
        index: i32,
        (was, old): (&PartitionImage, &PartitionState),
        (now, state): (&PartitionImage, &PartitionState),
        before: &MetadataImage,
        admin_unclean: bool,
    ) {
        if (was, old) == (now, state) {
            return;
        }
        assert!(now.partition_epoch > was.partition_epoch);
        assert!(now.leader_epoch >= was.leader_epoch);
        if now.leader != was.leader {
            assert!(now.leader_epoch > was.leader_epoch);
        }
        if now.leader_epoch == was.leader_epoch || now.leader.0 < 0 {
            return;
        }
        let known = [&was.isr, &old.elr, &self.joining];
        let clean = known.iter().any(|list| list.contains(&now.leader));
        let unclean = !clean || state.recovering && !old.recovering;
        if unclean {
            let set = |topic| {
                let value =
                    before.config(&Resource::Topic(topic))?.get("unclean.leader.election.enable")?.clone();
                Some(&*value == "true")
            };
            let set = set("t".into()).unwrap_or(false) || self.unclean_is_set();
            let longest = self.is_longest(index, (was, old), now);
            assert!(
                set || admin_unclean || longest,
                "unclean election: {was:?} {old:?} -> {now:?} {state:?}"
            );
            assert!(state.recovering);
        }
        self.elected(index, now, unclean);
    }

    /// Whether the last leader and all others, unless they were waited for, have told where their logs end, and no log has more
    /// of what was acknowledged than that of the new leader.
    fn is_longest(
        &mut self,
        index: i32,
        (was, old): (&PartitionImage, &PartitionState),
        now: &PartitionImage,
    ) -> bool {
        let (Some(last), []) = (old.last_known_leader, &*old.elr) else { return false };
        if now.replicas.len() == 1 {
            return last == now.leader;
        }
        let key = (index, was.leader_epoch.0);
        let image = self.controller.image();
        let told = |id: &&BrokerId| self.brokers[&id.0].told.contains(&key) && image.is_live(**id);
        let all: Vec<_> = was.replicas.iter().filter(told).copied().collect();
        let since_ms = self.awaited_ms.get(&key);
        let waited = since_ms.is_some_and(|since_ms| self.now_ms - since_ms >= RECOVERY_WAIT_MS);
        if !all.contains(&last) || all.len() < was.replicas.len() && !waited {
            return false;
        }
        let committed = self.committed.entry(index).or_default().clone();
        let kept = common(&committed, self.log(now.leader, index));
        all.iter().all(|id| common(&committed, self.log(*id, index)) <= kept)
    }

    /// Says where the logs of a broker end that nobody leads.
    fn tell(&mut self, id: i32) {
        if !self.brokers[&id].running {
            return;
        }
        let asked = self.controller.image().awaiting_log_ends();
        let asked = asked.filter(|(_, _, partition)| partition.replicas.contains(&BrokerId(id)));
        let asked: Vec<_> = asked.map(|(_, index, partition)| (index, partition.leader_epoch)).collect();
        let mut ends = Vec::new();
        for (index, leader_epoch) in asked {
            let log = self.log(BrokerId(id), index.0).clone();
            let last_epoch = LeaderEpoch(log.last().map_or(-1, |record| self.epochs[record]));
            ends.push(LogEnd {
                topic: TOPIC,
                index,
                leader_epoch,
                last_epoch,
                end: Offset(log.len() as i64),
            });
            let key = (index.0, leader_epoch.0);
            self.brokers.get_mut(&id).expect("a broker of the model").told.insert(key);
            if self.partition(index.0).is_some_and(|(_, state)| state.last_known_leader == Some(BrokerId(id)))
            {
                self.awaited_ms.entry(key).or_insert(self.now_ms);
            }
        }
        let request = LogEnds { broker: BrokerId(id), epoch: self.brokers[&id].epoch, ends };
        self.ask(Request::LogEnds(request));
    }

    fn unclean_is_set(&self) -> bool {
        let config = self.controller.image().config(&Resource::Topic("t".into()));
        config
            .and_then(|map| map.get("unclean.leader.election.enable"))
            .is_some_and(|value| &**value == "true")
    }

    fn elected(&mut self, index: i32, now: &PartitionImage, unclean: bool) {
        let first = *self.leaders.entry((index, now.leader_epoch.0)).or_insert(now.leader);
        assert_eq!(first, now.leader, "one leader in an epoch");
        let log = self.log(now.leader, index).clone();
        let committed = self.committed.entry(index).or_default();
        if unclean {
            let kept = common(committed, &log);
            committed.truncate(kept);
        }
        assert!(log.starts_with(committed), "acknowledged records are lost: {committed:?} {log:?} {now:?}");
        self.epoch_start.insert(index, log.len());
    }

    fn partition(&self, index: i32) -> Option<(PartitionImage, PartitionState)> {
        let image = self.controller.image();
        let partition = image.topic_by_id(TOPIC)?.partition(PartitionIndex(index))?.clone();
        Some((partition, image.partition_state(TOPIC, PartitionIndex(index)).clone()))
    }

    fn log(&mut self, id: BrokerId, index: i32) -> &mut Vec<u32> {
        self.brokers.get_mut(&id.0).expect("a broker of the model").logs.entry(index).or_default()
    }

    /// The leader of a partition, where its process runs.
    fn leader(&self, index: i32) -> Option<(PartitionImage, PartitionState)> {
        let found = self.partition(index)?;
        let leads = self.brokers.get(&found.0.leader.0)?;
        let known = self.controller.image().broker_state(found.0.leader)?.epoch;
        (leads.running && leads.epoch == known).then_some(found)
    }

    fn min_isr(&self) -> usize {
        let config = self.controller.image().config(&Resource::Topic("t".into()));
        config.and_then(|map| map.get("min.insync.replicas")).map_or(1, |value| value.parse().unwrap())
    }

    /// The leader raises the high watermark to what all of the in-sync set have.
    fn advance(&mut self, index: i32) {
        let Some((now, _)) = self.leader(index) else { return };
        if self.with_elr && now.isr.len() < self.min_isr().min(now.replicas.len()) {
            return;
        }
        let mut end = self.log(now.leader, index).len();
        for id in now.isr.iter().filter(|id| **id != now.leader) {
            if self.brokers[&id.0].fetched_in.get(&index) != Some(&now.leader_epoch.0) {
                return;
            }
            end = end.min(self.log(*id, index).len());
        }
        let log = self.log(now.leader, index)[..end].to_vec();
        let committed = self.committed.entry(index).or_default();
        if log.len() > committed.len() {
            assert!(log.starts_with(committed));
            *committed = log;
        }
    }

    fn start(&mut self, id: i32) {
        let broker = self.brokers.get_mut(&id).expect("a broker of the model");
        if broker.running {
            return;
        }
        broker.starts += 1;
        let previous = if broker.clean { broker.epoch } else { BrokerEpoch::NONE };
        let wanted = registration(id, broker.starts, previous);
        if let Some(Reply::Registered(epoch)) = self.ask(Request::Register(wanted)) {
            let broker = self.brokers.get_mut(&id).expect("a broker of the model");
            assert!(epoch > broker.epoch, "epochs of brokers rise");
            broker.told.clear();
            (broker.running, broker.epoch, broker.clean) = (true, epoch, false);
            let lost = std::mem::take(&mut broker.lost);
            broker.logs.values_mut().for_each(|log| log.truncate(log.len().saturating_sub(lost)));
        }
    }

    fn beat(&mut self, id: i32, stop: bool, seen: bool) {
        let broker = &self.brokers[&id];
        if !broker.running {
            return;
        }
        let applied = if seen { self.controller.image().version } else { 0 };
        let beat = Heartbeat {
            broker: BrokerId(id),
            epoch: broker.epoch,
            applied,
            want_fence: false,
            want_shut_down: stop,
        };
        if let Some(Reply::Heartbeat { should_shut_down: true, .. }) = self.ask(Request::Heartbeat(beat)) {
            for index in 0..PARTITIONS {
                assert!(self.partition(index).is_none_or(|(now, _)| now.leader.0 != id));
            }
            let broker = self.brokers.get_mut(&id).expect("a broker of the model");
            (broker.running, broker.clean) = (false, true);
            broker.fetched_in.clear();
        }
    }

    fn kill(&mut self, id: i32, lost: usize) {
        let lost = if self.with_elr { lost } else { 0 };
        let broker = self.brokers.get_mut(&id).expect("a broker of the model");
        if broker.running {
            broker.running = false;
            broker.lost = lost;
            broker.fetched_in.clear();
        }
    }

    fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
        let before = self.controller.image().clone();
        let records = self.controller.tick(self.now_ms);
        self.settle(&before, records, false);
    }

    fn fetch(&mut self, index: i32, id: i32, most: usize) {
        let Some((now, _)) = self.leader(index) else { return };
        if now.leader.0 == id || !now.replicas.contains(&BrokerId(id)) || !self.brokers[&id].running {
            return;
        }
        let leaders = self.log(now.leader, index).clone();
        let log = self.log(BrokerId(id), index);
        log.truncate(common(log, &leaders));
        let from = log.len();
        log.extend(leaders[from..].iter().take(most));
        let broker = self.brokers.get_mut(&id).expect("a broker of the model");
        broker.fetched_in.insert(index, now.leader_epoch.0);
        self.advance(index);
    }

    fn alter(&mut self, index: i32, now: &PartitionImage, isr: Vec<BrokerId>) -> Option<Reply> {
        let epoch_of = |id: BrokerId| self.brokers[&id.0].epoch;
        let request = Request::AlterPartition(AlterPartition {
            broker: now.leader,
            epoch: epoch_of(now.leader),
            topic: TOPIC,
            index: PartitionIndex(index),
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr: isr.iter().map(|id| (*id, epoch_of(*id))).collect(),
            recovering: false,
        });
        self.joining = isr;
        let reply = self.ask(request);
        self.joining.clear();
        reply
    }

    fn expand(&mut self, index: i32, id: i32) {
        let Some((now, _)) = self.leader(index) else { return };
        let id = BrokerId(id);
        let needed = self.epoch_start[&index].max(self.committed[&index].len());
        let in_epoch = self.brokers[&id.0].fetched_in.get(&index) == Some(&now.leader_epoch.0);
        if now.isr.contains(&id) || !in_epoch || self.log(id, index).len() < needed {
            return;
        }
        let mut isr = now.isr.clone();
        isr.push(id);
        self.alter(index, &now, isr);
    }

    /// What is out of date changes nothing.
    fn stale(&mut self, id: i32) {
        let before = self.controller.image().clone();
        let broker = &self.brokers[&id];
        let old = BrokerEpoch(broker.epoch.0 - 1);
        let version = before.version;
        let beat = Heartbeat {
            broker: BrokerId(id),
            epoch: old,
            applied: version,
            want_fence: true,
            want_shut_down: true,
        };
        assert_eq!(self.ask(Request::Heartbeat(beat)), None);
        if let Some((now, _)) = self.leader(0) {
            let mut former = now.clone();
            former.leader_epoch.0 -= 1;
            assert_eq!(self.alter(0, &former, vec![now.leader]), None);
            former = now.clone();
            former.partition_epoch -= 1;
            assert_eq!(self.alter(0, &former, vec![now.leader]), None);
            former = now.clone();
            former.leader = BrokerId(id);
            if id != now.leader.0 {
                assert_eq!(self.alter(0, &former, vec![BrokerId(id)]), None);
            }
        }
        assert_eq!(self.controller.image(), &before);
    }

    fn set(&mut self, key: &'static str, value: String) {
        let ops = vec![(key.into(), ConfigOp::Set(value.into()))];
        self.command(Command::AlterConfig { resource: Resource::Topic("t".into()), ops });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start(id) => self.start(id),
            Step::Kill(id, lost) => self.kill(id, lost),
            Step::Beat { broker, stop, seen } => self.beat(broker, stop, seen),
            Step::Wait(ms) => self.wait(ms),
            Step::Produce(index) => {
                if let Some((now, _)) = self.leader(index) {
                    self.next_record += 1;
                    let record = self.next_record;
                    self.epochs.insert(record, now.leader_epoch.0);
                    self.log(now.leader, index).push(record);
                    self.advance(index);
                }
            }
            Step::Fetch(index, id, most) => self.fetch(index, id, most),
            Step::Shrink(index, id) => {
                if let Some((now, _)) = self.leader(index)
                    && now.leader.0 != id
                {
                    let isr = now.isr.iter().filter(|other| other.0 != id).copied().collect();
                    self.alter(index, &now, isr);
                }
            }
            Step::Expand(index, id) => self.expand(index, id),
            Step::Elect(index, unclean) => {
                let kind = if unclean { ElectionType::Unclean } else { ElectionType::Preferred };
                self.command(Command::ElectLeader { topic: "t".into(), index: PartitionIndex(index), kind });
            }
            Step::Reassign(index, to) => {
                let replicas = Some(to.into_iter().map(BrokerId).collect());
                let index = PartitionIndex(index);
                self.command(Command::ReassignPartition { topic: "t".into(), index, replicas });
            }
            Step::Cancel(index) => {
                let index = PartitionIndex(index);
                self.command(Command::ReassignPartition { topic: "t".into(), index, replicas: None });
            }
            Step::MinIsr(min) => self.set("min.insync.replicas", min.to_string()),
            Step::Unclean(allowed) => self.set("unclean.leader.election.enable", allowed.to_string()),
            Step::Balance => {
                let before = self.controller.image().clone();
                let records = self.controller.balance_leaders(1);
                self.settle(&before, records, false);
            }
            Step::Failover => {
                let image = decode_snapshot(encode_snapshot(self.controller.image())).expect("a snapshot");
                assert_eq!(&image, self.controller.image());
                self.controller = Controller::new(image, settings(), self.now_ms);
                self.brokers.values_mut().for_each(|broker| broker.told.clear());
                self.awaited_ms.clear();
            }
            Step::Stale(id) => self.stale(id),
            Step::Tell(id) => self.tell(id),
        }
    }
}

fn settings() -> ControllerSettings {
    ControllerSettings {
        relieved_at_once: 1,
        recovery_wait_ms: RECOVERY_WAIT_MS,
        ..ControllerSettings::default()
    }
}

/// How many records two logs have in common from their beginning.
fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// How many histories: more by `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_rules_hold_with_eligible_leader_replicas(steps in steps()) {
        let mut sim = Sim::new(true);
        steps.into_iter().for_each(|step| sim.step(step));
    }

    #[test]
    fn the_rules_hold_without_eligible_leader_replicas(steps in steps()) {
        let mut sim = Sim::new(false);
        steps.into_iter().for_each(|step| sim.step(step));
    }
}
