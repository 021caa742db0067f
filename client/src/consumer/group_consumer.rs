//! Consuming as a member of a group.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::time::Duration;

use aqueduct_protocol::ids::Offset;
use bytestring::ByteString;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::reader::Reader;
use super::round::{Assigned, Round, RoundOutcome};
use crate::client::Client;
use crate::config::{AssignmentStrategy, ClientConfig};
use crate::error::{Error, Result};
use crate::group::{GroupMember, GroupMemberOptions, MemberSignal};
use crate::types::{ConsumerRecord, OffsetAndMetadata, TopicPartition};

/// What a group consumer reads.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// These topics.
    Topics(Vec<ByteString>),
    /// All topics whose whole name matches, internal ones excluded; new ones are found when metadata is refreshed
    /// (`metadata.max.age.ms`).
    Pattern(regex::Regex),
}

impl Subscription {
    /// All topics whose whole name matches `pattern`, as `topics.regex` means it.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the place where the pattern is wrong.
    pub fn pattern(pattern: &str) -> Result<Self> {
        match regex::Regex::new(&format!("^(?:{pattern})$")) {
            Ok(regex) => Ok(Self::Pattern(regex)),
            Err(why) => Err(Error::Invalid(format!("topic pattern '{pattern}': {why}"))),
        }
    }
}

/// What a poll of a group consumer brings.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// Records, in offset order within each partition; never empty.
    Records(Vec<ConsumerRecord>),
    /// A rebalance is over, and these partitions are new (perhaps none): they start at their committed offsets, or as
    /// `auto.offset.reset` says.
    Assigned(Vec<TopicPartition>),
    /// These partitions are about to be given up: they are still owned until the next poll, so commit now.
    Revoked(Vec<TopicPartition>),
    /// These partitions are gone, perhaps owned by others already; committing them fails.
    Lost(Vec<TopicPartition>),
    /// The time passed with nothing to tell.
    Idle,
}

/// What a poll is to do about the membership.
enum Phase {
    /// Join; what had to be told before is told.
    Join,
    /// Join once the application has seen what it loses, which is dropped then.
    GiveUp(Vec<TopicPartition>),
    /// A round is under way.
    Joining(BoxFuture<'static, Result<RoundOutcome>>),
    /// Nothing.
    Stable,
}

/// A member of a classic consumer group.
///
/// With assignors that are all cooperative (`CooperativeStickyAssignor`), only partitions that move are revoked in a
/// rebalance and the others are read on; with any other, all are revoked before the member joins again.
pub struct GroupConsumer {
    client: Client,
    member: GroupMember,
    reader: Reader,
    subscription: Subscription,
    cooperative: bool,
    phase: Phase,
    events: VecDeque<ConsumerEvent>,
    topics: BTreeSet<ByteString>,
    generation: i32,
    /// What this member went by when it led the last round.
    led: Option<BTreeMap<ByteString, usize>>,
    seen: u64,
    look: Option<BoxFuture<'static, Result<Found>>>,
    look_due: Instant,
}

/// Topics that match a pattern, or partition counts that a leader watches.
type Found = BTreeMap<ByteString, (usize, bool)>;

impl GroupConsumer {
    /// A member of `group.id`; it joins with the first poll.
    ///
    /// # Errors
    /// [`Error::Config`] without a `group.id`.
    pub fn new(client: Client, subscription: Subscription) -> Result<Self> {
        let options = options(client.config())?;
        let strategies = &client.config().partition_assignment_strategy;
        let cooperative = strategies.iter().all(|s| *s == AssignmentStrategy::CooperativeSticky);
        let topics = match &subscription {
            Subscription::Topics(topics) => topics.iter().cloned().collect(),
            Subscription::Pattern(_) => BTreeSet::new(),
        };
        Ok(Self {
            member: GroupMember::new(client.clone(), options),
            reader: Reader::new(client.clone()),
            subscription,
            cooperative,
            phase: Phase::Join,
            events: VecDeque::new(),
            topics,
            generation: -1,
            led: None,
            seen: 0,
            look: None,
            look_due: Instant::now(),
            client,
        })
    }

    /// Records or a rebalance event, whichever comes first within `timeout`. Has to be called every
    /// `max.poll.interval.ms`; heartbeats go on in between. Cancel-safe.
    ///
    /// # Errors
    /// Fatal ones of the membership (fenced, not authorised...), and those of reading, after which polling may go on.
    pub async fn poll(&mut self, timeout: Duration) -> Result<ConsumerEvent> {
        let deadline = Instant::now() + timeout;
        self.member.touch();
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.look_around();
            match &mut self.phase {
                Phase::Join => self.begin_round().await?,
                Phase::GiveUp(_) => self.give_up()?,
                Phase::Joining(_) => {
                    if let Some(event) = self.wait_for_round(deadline).await? {
                        return Ok(event);
                    }
                }
                Phase::Stable => {
                    if let Some(event) = self.read(deadline).await? {
                        return Ok(event);
                    }
                }
            }
            if self.events.is_empty() && Instant::now() >= deadline {
                return Ok(ConsumerEvent::Idle);
            }
        }
    }

    /// Commits offsets for partitions that this member owns. The future may be spawned; commits are retried within
    /// `default.api.timeout.ms`.
    ///
    /// # Errors
    /// [`Error::NotAMember`] where the group has moved on: the partitions are lost.
    pub fn commit(
        &self,
        offsets: HashMap<TopicPartition, OffsetAndMetadata>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let member = self.member.clone();
        async move { member.commit(&offsets).await }
    }

    /// Committed offsets; partitions without one are missing.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, OffsetAndMetadata>> {
        self.member.committed(partitions).await
    }

    /// The partitions owned now, sorted.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.reader.assignment()
    }

    /// As [`super::PartitionConsumer::position`].
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.reader.position(partition)
    }

    /// Offset after the partition's last record, as the last fetch saw it; `None` before the first, and not renewed while
    /// the partition is paused.
    pub fn end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.reader.end(partition)
    }

    /// As [`super::PartitionConsumer::seek`].
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<()> {
        self.reader.seek(partition, offset)
    }

    /// As [`super::PartitionConsumer::pause`].
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        self.reader.set_paused(partitions, true);
    }

    /// As [`super::PartitionConsumer::resume`].
    pub fn resume(&mut self, partitions: &[TopicPartition]) {
        self.reader.set_paused(partitions, false);
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.reader.paused()
    }

    /// Generation and member id, once joined.
    pub fn generation(&self) -> Option<(i32, ByteString)> {
        self.member.generation()
    }

    /// Joins again with the next poll, as for a rebalance.
    pub fn enforce_rebalance(&mut self) {
        if matches!(self.phase, Phase::Stable) {
            self.rejoin();
        }
    }

    /// Leaves the group and closes its connections; does not commit.
    pub async fn close(self) -> Result<()> {
        self.member.leave("the consumer is closed").await
    }

    /// Reads until there are records, or the membership asks for attention.
    async fn read(&mut self, deadline: Instant) -> Result<Option<ConsumerEvent>> {
        let most = self.client.config().max_poll_records;
        tokio::select! {
            biased;
            signal = self.member.changed() => {
                self.obey(signal)?;
                Ok(None)
            }
            result = maybe(&mut self.look) => {
                self.look = None;
                self.looked(result);
                Ok(None)
            }
            records = self.reader.records(most, deadline.min(self.look_due)) => {
                let records = records?;
                Ok((!records.is_empty()).then_some(ConsumerEvent::Records(records)))
            }
        }
    }

    fn obey(&mut self, signal: MemberSignal) -> Result<()> {
        match signal {
            MemberSignal::RebalanceNeeded => self.rejoin(),
            MemberSignal::Lost(error) => {
                tracing::warn!(%error, "partitions lost");
                self.lose()?;
                self.phase = Phase::Join;
            }
            MemberSignal::Fatal(error) => {
                self.lose()?;
                self.phase = Phase::Join;
                return Err(error);
            }
            MemberSignal::Unjoined => self.phase = Phase::Join,
            MemberSignal::Joined | MemberSignal::Stable => {}
        }
        Ok(())
    }

    /// Sees to it that the member joins again, after the application was told what it gives up.
    fn rejoin(&mut self) {
        let owned = self.reader.assignment();
        if self.cooperative || owned.is_empty() {
            self.phase = Phase::Join;
        } else {
            self.phase = Phase::GiveUp(owned.clone());
            self.events.push_back(ConsumerEvent::Revoked(owned));
        }
    }

    fn lose(&mut self) -> Result<()> {
        let owned = self.reader.assignment();
        self.generation = -1;
        self.reader.assign(HashMap::new())?;
        if !owned.is_empty() {
            self.events.push_back(ConsumerEvent::Lost(owned));
        }
        Ok(())
    }

    fn give_up(&mut self) -> Result<()> {
        if let Phase::GiveUp(gone) = std::mem::replace(&mut self.phase, Phase::Join) {
            let kept = self.reader.assignment().into_iter().filter(|partition| !gone.contains(partition));
            self.reader.assign(kept.map(|partition| (partition, None)).collect())?;
        }
        Ok(())
    }

    async fn begin_round(&mut self) -> Result<()> {
        if let Subscription::Pattern(pattern) = &self.subscription {
            let image = self.client.all_metadata().await?;
            let matching =
                image.topics.values().filter(|topic| !topic.internal && pattern.is_match(&topic.name));
            self.topics = matching.map(|topic| topic.name.clone()).collect();
            self.look_due = Instant::now() + self.client.config().metadata_max_age;
        }
        let round = Round {
            client: self.client.clone(),
            member: self.member.clone(),
            strategies: self.client.config().partition_assignment_strategy.clone(),
            topics: self.topics.clone(),
            owned: self.reader.assignment(),
            generation: self.generation,
        };
        self.phase = Phase::Joining(round.run().boxed());
        Ok(())
    }

    /// Waits for the round; a cooperative member reads on meanwhile.
    async fn wait_for_round(&mut self, deadline: Instant) -> Result<Option<ConsumerEvent>> {
        let Phase::Joining(round) = &mut self.phase else { return Ok(None) };
        let most = self.client.config().max_poll_records;
        let reads = self.cooperative && !self.reader.assignment().is_empty();
        let ended = tokio::select! {
            biased;
            ended = round => ended,
            records = self.reader.records(most, deadline), if reads => {
                let records = records?;
                return Ok((!records.is_empty()).then_some(ConsumerEvent::Records(records)));
            }
            () = tokio::time::sleep_until(deadline) => return Ok(None),
        };
        self.phase = Phase::Join;
        match ended {
            Ok(RoundOutcome::Again) => {}
            Ok(RoundOutcome::Assigned(assigned)) => self.take_over(assigned)?,
            // The round could not be finished, say for want of metadata: the next poll begins another.
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    fn take_over(&mut self, assigned: Assigned) -> Result<()> {
        self.phase = Phase::Stable;
        self.generation = assigned.generation;
        self.led = assigned.led;
        self.look_due = Instant::now() + self.look_interval();
        self.seen = self.client.cached().generation;
        if assigned.was_lost {
            self.lose()?;
            self.generation = assigned.generation;
        }
        let before = self.reader.assignment();
        let gone: Vec<_> = before.iter().filter(|p| !assigned.partitions.contains(p)).cloned().collect();
        let new: Vec<_> = assigned.partitions.iter().filter(|p| !before.contains(p)).cloned().collect();
        // What goes is still there until the application has been told.
        let all = before.iter().chain(&new).cloned();
        let committed = |partition: &TopicPartition| assigned.committed.get(partition).copied();
        let all = all.map(|partition| (partition.clone(), committed(&partition)));
        self.reader.assign(all.collect())?;
        self.events.push_back(ConsumerEvent::Assigned(new));
        if !gone.is_empty() {
            self.phase = Phase::GiveUp(gone.clone());
            self.events.push_back(ConsumerEvent::Revoked(gone));
        }
        Ok(())
    }

    /// Time between looks at the topics: short while a subscribed one is missing, it may be about to be created.
    fn look_interval(&self) -> Duration {
        const MISSING: Duration = Duration::from_millis(500);
        let max_age = self.client.config().metadata_max_age;
        let missing = self.led.as_ref().is_some_and(|led| led.values().any(|partitions| *partitions == 0));
        if missing { MISSING.min(max_age) } else { max_age }
    }

    /// Starts to look for topics that match now, or were changed, when it is time.
    fn look_around(&mut self) {
        let image = self.client.cached();
        if image.generation != self.seen && matches!(self.phase, Phase::Stable) {
            self.seen = image.generation;
            let count = |topic: &ByteString| image.topic(topic).map(|known| known.partitions.len());
            let changed = |(topic, old): (&ByteString, &usize)| count(topic).is_some_and(|new| new != *old);
            if self.led.as_ref().is_some_and(|led| led.iter().any(changed)) {
                tracing::info!("partitions of subscribed topics changed, rebalancing");
                self.rejoin();
            }
        }
        if self.look.is_some() || Instant::now() < self.look_due {
            return;
        }
        self.look_due = Instant::now() + self.look_interval();
        let client = self.client.clone();
        let all = matches!(self.subscription, Subscription::Pattern(_));
        let watched = self.led.as_ref().map(|led| led.keys().cloned().collect::<Vec<_>>());
        if !all && watched.is_none() {
            return;
        }
        let look = async move {
            let image = if all { client.refresh(None).await? } else { client.refresh(watched).await? };
            let known = image.topics.values();
            Ok(known.map(|topic| (topic.name.clone(), (topic.partitions.len(), topic.internal))).collect())
        };
        self.look = Some(look.boxed());
    }

    fn looked(&mut self, result: Result<Found>) {
        let found = match result {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "topics not looked up");
                return;
            }
        };
        if let Subscription::Pattern(pattern) = &self.subscription {
            let matching = found.iter().filter(|(name, (_, internal))| !internal && pattern.is_match(name));
            let matching: BTreeSet<ByteString> = matching.map(|(name, _)| name.clone()).collect();
            if matching != self.topics {
                tracing::info!(
                    topics = matching.len(),
                    "topics that match the subscription changed, rebalancing"
                );
                self.rejoin();
            }
        }
    }
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer").field("member", &self.member).finish_non_exhaustive()
    }
}

fn options(config: &ClientConfig) -> Result<GroupMemberOptions> {
    let group_id = config.group_id.as_deref().ok_or_else(|| Error::Config {
        key: "group.id".to_owned(),
        value: String::new(),
        why: "is required to consume as a member of a group".to_owned(),
    })?;
    Ok(GroupMemberOptions {
        group_id: group_id.into(),
        protocol_type: ByteString::from_static("consumer"),
        instance_id: config.group_instance_id.as_deref().map(ByteString::from),
        session_timeout: config.session_timeout,
        rebalance_timeout: config.rebalance_timeout.unwrap_or(config.max_poll_interval),
        heartbeat_interval: config.heartbeat_interval,
        max_poll_interval: Some(config.max_poll_interval),
    })
}

/// Waits for a future that may not be there; for ever where it is not.
async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
