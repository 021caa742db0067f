//! Random histories of one partition on three brokers: messages that are lost, late and out of order, images that come late,
//! processes that are killed and lose the end of their logs. The controller is the real one, and so are the rules of leaders
//! and followers; only the logs are small.

mod late;
mod steps;

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Uuid};
use proptest::prelude::*;
use steps::{Step, steps};

use super::history::{History, Reign, Repair, cut, repair};
use super::leading::{Acknowledged, Answer, Leading, Proposal, Rules, Then};
use super::role::live;
use crate::controller::{
    AlterPartition, Controller, ControllerSettings, Heartbeat, LogEnd, LogEnds, Registration, Reply, Request,
};
use crate::metadata::features::FEATURES;
use crate::metadata::{
    BrokerEpoch, BrokerImage, Command, ConfigOp, MetadataImage, PartitionImage, Placement, Resource,
};

const TOPIC: Uuid = Uuid([7; 16]);
const P0: PartitionIndex = PartitionIndex(0);
const BROKERS: [i32; 3] = [1, 2, 3];
const LAG_MS: i64 = 2_000;

/// Values, and where each epoch began.
#[derive(Debug, Clone, Default)]
struct Log {
    values: Vec<(i32, u32)>,
    epochs: Vec<(i32, usize)>,
}

impl Log {
    fn begin(&mut self, epoch: i32) {
        let at = self.values.len();
        if self.epochs.last().is_some_and(|(last, _)| *last == epoch) {
            return;
        }
        self.epochs.retain(|(e, start)| *e < epoch && *start < at);
        self.epochs.push((epoch, at));
    }

    fn append(&mut self, (epoch, value): (i32, u32)) {
        self.begin(epoch);
        self.values.push((epoch, value));
    }

    fn truncate(&mut self, to: usize) {
        self.values.truncate(to);
        self.epochs.retain(|(_, start)| *start < to);
    }

    fn last_epoch(&self) -> i32 {
        self.epochs.last().map_or(-1, |(epoch, _)| *epoch)
    }
}

impl History for Log {
    fn end(&self) -> Offset {
        Offset(self.values.len() as i64)
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let after = self.epochs.partition_point(|(e, _)| *e <= epoch.0);
        let found = after.checked_sub(1).map_or(epoch.0, |last| self.epochs[last].0);
        let end = self.epochs.get(after).map_or(self.values.len(), |(_, start)| *start);
        (epoch.0 >= 0).then_some((LeaderEpoch(found), Offset(end as i64)))
    }
}

#[derive(Debug, Default)]
enum Role {
    #[default]
    Nothing,
    Leads(LeaderEpoch, Leading),
    Follows(BrokerId, LeaderEpoch),
}

#[derive(Debug, Default)]
struct Broker {
    running: bool,
    epoch: BrokerEpoch,
    starts: u8,
    log: Log,
    mark: usize,
    /// How many of its last records the next process will not find.
    lost: usize,
    role: Role,
    image: MetadataImage,
    assumed: (i32, i32),
}

#[derive(Debug, Clone)]
enum Message {
    Fetch { from: i32, to: i32, broker_epoch: BrokerEpoch, epoch: LeaderEpoch, offset: usize, last: i32 },
    Fetched { to: i32, epoch: LeaderEpoch, offset: usize, last: i32, what: What },
    Alter { from: i32, broker_epoch: BrokerEpoch, proposal: Proposal },
    Altered { to: i32, broker_epoch: BrokerEpoch, proposal: Proposal, answer: Answer },
}

#[derive(Debug, Clone)]
enum What {
    Records(Vec<(i32, u32)>, usize),
    Diverging(LeaderEpoch, Offset),
    OutOfRange(Offset),
}

struct Sim {
    controller: Controller,
    now_ms: i64,
    min_isr: usize,
    brokers: BTreeMap<i32, Broker>,
    messages: Vec<Message>,
    leaders: BTreeMap<i32, i32>,
    /// Values that all in-sync replicas had, by offset.
    acknowledged: BTreeMap<usize, u32>,
    next: u32,
    /// A leader was elected that may lack something: nothing is promised any more.
    unclean: bool,
    /// Whether only one broker ever loses records, so that another has them: nothing of them may be lost then, however many
    /// crash.
    one_loses: bool,
    /// Who has lost records first.
    loser: Option<i32>,
}

impl Sim {
    fn new(min_isr: usize, one_loses: bool) -> Self {
        let image = MetadataImage::new("c".into());
        // All are back at last.
        let settings = ControllerSettings { recovery_wait_ms: i64::MAX, ..ControllerSettings::default() };
        let mut sim = Self {
            controller: Controller::new(image, settings, 0),
            now_ms: 0,
            min_isr,
            brokers: BROKERS
                .iter()
                .map(|id| {
                    let fresh = Broker { epoch: BrokerEpoch::NONE, assumed: (-1, -1), ..Broker::default() };
                    (*id, fresh)
                })
                .collect(),
            messages: Vec::new(),
            leaders: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            next: 0,
            unclean: false,
            one_loses,
            loser: None,
        };
        for id in BROKERS {
            sim.start(id);
            sim.beat(id);
        }
        let replicas = BROKERS.map(BrokerId).to_vec();
        sim.ask(Request::Command(Command::CreateTopic {
            name: "t".into(),
            id: TOPIC,
            partitions: Placement::Assigned(BTreeMap::from([(0, replicas)])),
            configs: BTreeMap::new(),
        }))
        .unwrap();
        sim.ask(Request::Command(Command::AlterConfig {
            resource: Resource::Topic("t".into()),
            ops: vec![("min.insync.replicas".into(), ConfigOp::Set(min_isr.to_string().into()))],
        }))
        .unwrap();
        BROKERS.iter().for_each(|id| sim.learn(*id));
        sim
    }

    fn ask(&mut self, request: Request) -> Result<Reply, ErrorCode> {
        let (_, reply) = self.controller.handle(self.now_ms, request);
        self.look();
        reply.map_err(|rejection| rejection.code)
    }

    /// Looks at who leads after a decision.
    fn look(&mut self) {
        let image = self.controller.image();
        let Some(partition) = image.topic_by_id(TOPIC).and_then(|topic| topic.partition(P0)).cloned() else {
            return;
        };
        let is_kept = self.one_loses && self.min_isr > 1;
        self.unclean |= image.partition_state(TOPIC, P0).recovering && !is_kept;
        if partition.leader.0 < 0 || self.unclean {
            return;
        }
        let first = *self.leaders.entry(partition.leader_epoch.0).or_insert(partition.leader.0);
        assert_eq!(first, partition.leader.0, "one leader in an epoch");
        let log = &self.brokers[&partition.leader.0].log;
        for (offset, value) in &self.acknowledged {
            let found = log.values.get(*offset).map(|(_, value)| *value);
            assert_eq!(found, Some(*value), "an acknowledged record is lost at {offset}: {partition:?}");
        }
    }

    fn rules(&self) -> Rules {
        Rules { lag_max_ms: LAG_MS, min_isr: self.min_isr }
    }

    fn broker(&mut self, id: i32) -> &mut Broker {
        self.brokers.get_mut(&id).expect("a broker of the model")
    }

    fn start(&mut self, id: i32) {
        let broker = self.broker(id);
        if broker.running {
            return;
        }
        broker.starts += 1;
        let features = FEATURES.iter().map(|feature| (feature.name.into(), (feature.min, feature.max)));
        let wanted = Registration {
            cluster_id: "c".into(),
            broker: BrokerImage {
                id: BrokerId(id),
                incarnation: Uuid([broker.starts; 16]),
                endpoints: Vec::new(),
                rack: None,
            },
            previous_epoch: BrokerEpoch::NONE,
            features: features.collect(),
            directories: [Uuid([id as u8; 16])].into(),
        };
        if let Ok(Reply::Registered(epoch)) = self.ask(Request::Register(wanted)) {
            let broker = self.broker(id);
            (broker.running, broker.epoch) = (true, epoch);
            let keep = broker.log.values.len().saturating_sub(std::mem::take(&mut broker.lost));
            broker.log.truncate(keep);
            broker.mark = broker.mark.min(keep);
        }
    }

    /// The process ends; `lost` records of the end of its log were not on disk.
    fn kill(&mut self, id: i32, lost: usize) {
        let may_lose = !self.one_loses || self.loser.is_none_or(|loser| loser == id);
        let lost = if may_lose { lost } else { 0 };
        if lost > 0 {
            self.loser.get_or_insert(id);
        }
        let broker = self.broker(id);
        if broker.running {
            broker.lost = lost;
            (broker.running, broker.role, broker.assumed) = (false, Role::Nothing, (-1, -1));
        }
    }

    fn beat(&mut self, id: i32) {
        let applied = self.controller.image().version;
        let broker = &self.brokers[&id];
        if !broker.running {
            return;
        }
        let (broker, epoch) = (BrokerId(id), broker.epoch);
        let beat = Heartbeat { broker, epoch, applied, want_fence: false, want_shut_down: false };
        if self.ask(Request::Heartbeat(beat)) == Err(ErrorCode::StaleBrokerEpoch) {
            self.kill(id, 0);
        }
        self.tell(id);
    }

    /// Tells the controller where the log ends, as far as the broker knows that nobody leads.
    fn tell(&mut self, id: i32) {
        let broker = &self.brokers[&id];
        let is_asked = broker.image.awaiting_log_ends().next().is_some();
        if !broker.running || !is_asked || !matches!(broker.role, Role::Nothing) {
            return;
        }
        let end = LogEnd {
            topic: TOPIC,
            index: P0,
            leader_epoch: LeaderEpoch(broker.assumed.0),
            last_epoch: LeaderEpoch(broker.log.last_epoch()),
            end: broker.log.end(),
        };
        let told = LogEnds { broker: BrokerId(id), epoch: broker.epoch, ends: vec![end] };
        let _ = self.ask(Request::LogEnds(told));
    }

    fn learn(&mut self, id: i32) {
        let (image, now_ms) = (self.controller.image().clone(), self.now_ms);
        let broker = self.broker(id);
        let own = image.broker_state(BrokerId(id)).map(|state| state.epoch);
        if !broker.running || own != Some(broker.epoch) {
            return;
        }
        broker.image = image;
        let Some(wanted) = broker.image.topic_by_id(TOPIC).and_then(|topic| topic.partition(P0)).cloned()
        else {
            return;
        };
        let version = (wanted.leader_epoch.0, wanted.partition_epoch);
        if version <= broker.assumed {
            return;
        }
        broker.assumed = version;
        let epoch = wanted.leader_epoch;
        match &mut broker.role {
            Role::Leads(now, leading) if *now == epoch => leading.update(&wanted, now_ms),
            _ if wanted.leader.0 == id => {
                broker.log.begin(epoch.0);
                let start = broker.log.end();
                broker.role = Role::Leads(epoch, Leading::new(BrokerId(id), wanted, start, now_ms));
            }
            _ if wanted.leader.0 >= 0 => broker.role = Role::Follows(wanted.leader, epoch),
            _ => broker.role = Role::Nothing,
        }
        self.advance(id);
    }

    /// The leader raises its watermark, and so acknowledges records.
    fn advance(&mut self, id: i32) {
        let (rules, now_ms) = (self.rules(), self.now_ms);
        let broker = self.broker(id);
        let Role::Leads(_, leading) = &broker.role else { return };
        let image = &broker.image;
        let mark = leading.high_watermark(broker.log.end(), rules, &|id| live(image, id), now_ms);
        let Some(mark) = mark.map(|mark| mark.0 as usize).filter(|mark| *mark > broker.mark) else { return };
        let before = std::mem::replace(&mut broker.mark, mark);
        if !leading.has_enough(rules) {
            return;
        }
        let news: Vec<_> = (before..mark).map(|at| (at, broker.log.values[at].1)).collect();
        for (offset, value) in news {
            let known = *self.acknowledged.entry(offset).or_insert(value);
            assert!(self.unclean || known == value, "two records are acknowledged at {offset}");
        }
    }

    fn produce(&mut self, id: i32) {
        let (value, rules) = (self.next, self.rules());
        let broker = self.broker(id);
        if let Role::Leads(epoch, leading) = &broker.role
            && leading.may_append(rules)
        {
            broker.log.append((epoch.0, value));
            self.next += 1;
            self.advance(id);
        }
    }

    fn fetch(&mut self, id: i32) {
        let broker = &self.brokers[&id];
        let Role::Follows(leader, epoch) = broker.role else { return };
        let (offset, last) = (broker.log.values.len(), broker.log.last_epoch());
        let broker_epoch = broker.epoch;
        self.send(Message::Fetch { from: id, to: leader.0, broker_epoch, epoch, offset, last });
    }

    fn check(&mut self, id: i32) {
        let (rules, now_ms) = (self.rules(), self.now_ms);
        let broker = self.broker(id);
        let (end, own) = (broker.log.end(), broker.epoch);
        if let Role::Leads(_, leading) = &mut broker.role
            && let Some(proposal) = leading.shrink(end, rules, own, now_ms)
        {
            self.send(Message::Alter { from: id, broker_epoch: own, proposal });
        }
        self.advance(id);
    }

    fn send(&mut self, message: Message) {
        if self.messages.len() < 40 {
            self.messages.push(message);
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Fetch { from, to, broker_epoch, epoch, offset, last } => {
                self.serve(from, to, broker_epoch, epoch, offset, last);
            }
            Message::Fetched { to, epoch, offset, last, what } => self.take(to, epoch, (offset, last), what),
            Message::Alter { from, broker_epoch, proposal } => {
                let asked = self.ask(Request::AlterPartition(AlterPartition {
                    broker: BrokerId(from),
                    epoch: broker_epoch,
                    topic: TOPIC,
                    index: P0,
                    leader_epoch: proposal.leader_epoch,
                    partition_epoch: proposal.partition_epoch,
                    isr: proposal.isr.clone(),
                    recovering: false,
                }));
                let answer = match asked {
                    Ok(Reply::Partition(partition, _)) => Answer::Partition(partition),
                    Ok(other) => panic!("{other:?}"),
                    Err(code) => Answer::Refused(code),
                };
                self.send(Message::Altered { to: from, broker_epoch, proposal, answer });
            }
            Message::Altered { to, broker_epoch, proposal, answer } => {
                let now_ms = self.now_ms;
                let broker = self.broker(to);
                if !broker.running || broker.epoch != broker_epoch {
                    return;
                }
                if let Role::Leads(_, leading) = &mut broker.role
                    && leading.answered(&proposal, &answer, now_ms) == Then::Repeat
                {
                    self.send(Message::Alter { from: to, broker_epoch, proposal });
                }
                self.advance(to);
            }
        }
    }

    fn serve(
        &mut self,
        from: i32,
        to: i32,
        broker_epoch: BrokerEpoch,
        epoch: LeaderEpoch,
        offset: usize,
        last: i32,
    ) {
        let now_ms = self.now_ms;
        let broker = self.broker(to);
        let Role::Leads(own, leading) = &mut broker.role else { return };
        if *own != epoch {
            return;
        }
        let log = &broker.log;
        let reign = Reign { log, epoch };
        let diverging = match last {
            ..0 => Ok(None),
            _ => reign.divergence(LeaderEpoch(last), Offset(offset as i64)),
        };
        let mut wish = None;
        let what = match diverging {
            Ok(Some((epoch, end))) => What::Diverging(epoch, end),
            Err(_) => What::OutOfRange(log.end()),
            Ok(None) if offset > log.values.len() => What::OutOfRange(log.end()),
            Ok(None) => {
                let follower = BrokerId(from);
                let (end, start) = (Offset(offset as i64), Offset(0));
                let ack = Acknowledged { follower, epoch: broker_epoch, end, start };
                if !leading.acknowledged(&ack, log.end(), now_ms) {
                    return;
                }
                let image = &broker.image;
                let mark = Offset(broker.mark as i64);
                wish = leading.expand(follower, mark, broker.epoch, &|id| live(image, id));
                let records = log.values[offset..].iter().take(2).copied().collect();
                What::Records(records, broker.mark)
            }
        };
        let own = broker.epoch;
        if let Some(proposal) = wish {
            self.send(Message::Alter { from: to, broker_epoch: own, proposal });
        }
        self.advance(to);
        self.send(Message::Fetched { to: from, epoch, offset, last, what });
    }

    fn take(&mut self, to: i32, epoch: LeaderEpoch, asked: (usize, i32), what: What) {
        let unclean = self.unclean;
        let broker = self.broker(to);
        let Role::Follows(_, own) = broker.role else { return };
        if !broker.running || own != epoch || (broker.log.values.len(), broker.log.last_epoch()) != asked {
            return;
        }
        let end = match what {
            What::Records(records, mark) => {
                records.into_iter().for_each(|record| broker.log.append(record));
                broker.mark = broker.mark.max(mark.min(broker.log.values.len()));
                return;
            }
            What::Diverging(epoch, end) => cut(&broker.log, (epoch, end)),
            What::OutOfRange(leader_end) => match repair(broker.log.end(), Offset(0), leader_end) {
                Repair::TruncateTo(end) => end,
                Repair::StartAt(_) | Repair::FetchAgain => return,
            },
        };
        let end = end.0 as usize;
        assert!(unclean || end >= broker.mark, "{to} cuts to {end} below its watermark {}", broker.mark);
        broker.mark = broker.mark.min(end);
        broker.log.truncate(end);
    }

    /// Below both watermarks two logs hold the same.
    fn compare(&self) {
        if self.unclean {
            return;
        }
        for (one, first) in &self.brokers {
            for (other, second) in self.brokers.range(one + 1..) {
                let both = first.mark.min(second.mark);
                let (a, b) = (&first.log.values[..both], &second.log.values[..both]);
                assert_eq!(a, b, "logs of {one} and {other} differ below {both}");
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Start(at) => self.start(BROKERS[*at]),
            Step::Kill(at, lost) => self.kill(BROKERS[*at], *lost),
            Step::Beat(at) => self.beat(BROKERS[*at]),
            Step::Learn(at) => self.learn(BROKERS[*at]),
            Step::Produce(at) => self.produce(BROKERS[*at]),
            Step::Fetch(at) => self.fetch(BROKERS[*at]),
            Step::Check(at) => self.check(BROKERS[*at]),
            Step::Deliver(index) if !self.messages.is_empty() => {
                let message = self.messages.remove(index.index(self.messages.len()));
                self.deliver(message);
            }
            Step::Lose(index) if !self.messages.is_empty() => {
                let lost = self.messages.remove(index.index(self.messages.len()));
                // The connection tells that the controller's answer is lost.
                if let Message::Alter { from, broker_epoch, proposal }
                | Message::Altered { to: from, broker_epoch, proposal, .. } = lost
                {
                    let answer = Answer::Lost;
                    self.deliver(Message::Altered { to: from, broker_epoch, proposal, answer });
                }
            }
            Step::Deliver(_) | Step::Lose(_) => {}
            Step::Wait(ms) => {
                self.now_ms += ms;
                self.controller.tick(self.now_ms);
                self.look();
            }
        }
        self.compare();
    }

    fn partition(&self) -> PartitionImage {
        let image = self.controller.image();
        image.topic_by_id(TOPIC).and_then(|topic| topic.partition(P0)).expect("the partition").clone()
    }

    /// With all brokers and all messages there, all replicas come to be in sync, where anybody can lead.
    fn heal(&mut self) {
        for _ in 0..200 {
            self.now_ms += 200;
            self.controller.tick(self.now_ms);
            for id in BROKERS {
                self.start(id);
                self.beat(id);
                self.learn(id);
                self.fetch(id);
            }
            for message in std::mem::take(&mut self.messages) {
                self.deliver(message);
            }
            self.compare();
        }
        let partition = self.partition();
        assert_eq!(partition.isr.len(), BROKERS.len(), "{partition:?}");
        let leader = &self.brokers[&partition.leader.0];
        assert!(
            self.brokers.values().all(|broker| broker.log.values == leader.log.values),
            "all are equal in the end"
        );
        assert_eq!(leader.mark, leader.log.values.len());
    }
}

/// How many histories: more by `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150);
    ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_acknowledged_stays(
        (min_isr, one_loses) in prop_oneof![Just((1, false)), Just((2, false)), Just((2, true))],
        steps in steps(),
    ) {
        let mut sim = Sim::new(min_isr, one_loses);
        for step in &steps {
            sim.step(step);
        }
        sim.heal();
    }
}
