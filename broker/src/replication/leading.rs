//! What the leader of a partition knows of its followers, and what follows from that: the high watermark, who is in sync,
//! who is to join or to leave. Pure: time and events in, decisions out.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset};

use crate::metadata::{BrokerEpoch, PartitionImage};

/// Tells the registration of a broker that may be in sync; `None` for one that is fenced, stopping or not there.
pub(crate) type Live<'a> = &'a dyn Fn(BrokerId) -> Option<BrokerEpoch>;

/// Never caught up, as far as this leader knows.
const NEVER: i64 = i64::MIN / 2;

/// One follower as its fetches show it.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Everything below is in its log; unknown until it fetches from this leader.
    end: Option<Offset>,
    start: Option<Offset>,
    epoch: BrokerEpoch,
    /// When its log had all that the leader's had.
    caught_up_ms: i64,
    /// When it fetched last, and where the leader's log ended then.
    fetched: Option<(i64, Offset)>,
}

impl Progress {
    fn new(caught_up_ms: i64) -> Self {
        Self { end: None, start: None, epoch: BrokerEpoch::NONE, caught_up_ms, fetched: None }
    }

    fn is_caught_up(&self, leader_end: Offset, now_ms: i64, lag_max_ms: i64) -> bool {
        self.end == Some(leader_end) || now_ms.saturating_sub(self.caught_up_ms) <= lag_max_ms
    }
}

/// A follower's fetch, as an acknowledgement of all that lies below its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub follower: BrokerId,
    /// Its registration; [`BrokerEpoch::NONE`] where it does not say.
    pub epoch: BrokerEpoch,
    pub end: Offset,
    pub start: Offset,
}

/// What the leader asks the controller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

/// What the controller said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Partition(PartitionImage),
    Refused(ErrorCode),
    /// No answer: it may have been done or not.
    Lost,
}

/// What is to be done after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing, or the metadata will tell.
    Nothing,
    /// Ask for the same again, a little later.
    Repeat,
}

/// How the leader judges its followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// `replica.lag.time.max.ms`.
    pub lag_max_ms: i64,
    /// `min.insync.replicas`.
    pub min_isr: usize,
}

/// One reign over one partition.
#[derive(Debug)]
pub(crate) struct Leading {
    me: BrokerId,
    partition: PartitionImage,
    epoch_start: Offset,
    followers: BTreeMap<BrokerId, Progress>,
    /// The set that was asked for and is not decided on yet.
    pending: Option<Proposal>,
}

impl Leading {
    /// Begins to lead with a log that ends at `epoch_start`. Who is in sync has its time to show up.
    pub fn new(me: BrokerId, partition: PartitionImage, epoch_start: Offset, now_ms: i64) -> Self {
        let mut this = Self { me, partition, epoch_start, followers: BTreeMap::new(), pending: None };
        this.meet(now_ms);
        this
    }

    fn meet(&mut self, now_ms: i64) {
        let Self { me, partition, followers, .. } = self;
        followers.retain(|id, _| partition.replicas.contains(id));
        for id in partition.replicas.iter().filter(|id| *id != me) {
            let since = if partition.isr.contains(id) { now_ms } else { NEVER };
            followers.entry(*id).or_insert_with(|| Progress::new(since));
        }
    }

    /// The partition as the metadata has it, of the same reign. What was asked for has been decided on, or was in vain.
    pub fn update(&mut self, partition: &PartitionImage, now_ms: i64) {
        if partition.leader_epoch != self.partition.leader_epoch
            || partition.partition_epoch <= self.partition.partition_epoch
        {
            return;
        }
        self.partition = partition.clone();
        self.pending = None;
        self.meet(now_ms);
    }

    /// Takes note of a fetch; `false` where it is not from a replica, or from one that has been registered anew since.
    pub fn acknowledged(&mut self, ack: &Acknowledged, leader_end: Offset, now_ms: i64) -> bool {
        let Some(known) = self.followers.get_mut(&ack.follower) else { return false };
        if ack.epoch != BrokerEpoch::NONE && ack.epoch < known.epoch {
            return false;
        }
        if ack.end >= leader_end {
            known.caught_up_ms = known.caught_up_ms.max(now_ms);
        } else if let Some((then_ms, _)) = known.fetched.filter(|(_, end)| ack.end >= *end) {
            // It has what there was at the fetch before: that is when it had caught up.
            known.caught_up_ms = known.caught_up_ms.max(then_ms);
        }
        known.fetched = Some((now_ms, leader_end));
        (known.end, known.start, known.epoch) = (Some(ack.end), Some(ack.start), ack.epoch);
        true
    }

    /// How many must be in sync: never more than there are replicas.
    fn needed(&self, rules: Rules) -> usize {
        rules.min_isr.min(self.partition.replicas.len())
    }

    /// Whether a record may be taken that all in-sync replicas are to have.
    pub fn may_append(&self, rules: Rules) -> bool {
        self.partition.isr.len() >= self.needed(rules)
    }

    /// Whether enough replicas hold what is below the high watermark; more than are agreed on may be counted on.
    pub fn has_enough(&self, rules: Rules) -> bool {
        self.maximal_isr_len() >= self.needed(rules)
    }

    fn maximal_isr_len(&self) -> usize {
        let joining = self.joining().filter(|id| !self.partition.isr.contains(id)).count();
        self.partition.isr.len() + joining
    }

    fn joining(&self) -> impl Iterator<Item = BrokerId> {
        self.pending.iter().flat_map(|proposal| proposal.isr.iter().map(|(id, _)| *id))
    }

    fn is_eligible(&self, id: BrokerId, known: &Progress, live: Live<'_>) -> bool {
        live(id).is_some_and(|epoch| known.epoch == BrokerEpoch::NONE || known.epoch == epoch)
    }

    /// Where the high watermark may be: what all have that are or may be in sync, and those that are about to join. `None`
    /// while too few are in sync, for what is committed then would not survive what the eligible replicas may do.
    pub fn high_watermark(
        &self,
        leader_end: Offset,
        rules: Rules,
        live: Live<'_>,
        now_ms: i64,
    ) -> Option<Offset> {
        if !self.may_append(rules) {
            return None;
        }
        let mut mark = leader_end;
        for (id, known) in &self.followers {
            if known.end.is_some_and(|end| end >= mark) {
                continue;
            }
            let is_in = self.partition.isr.contains(id) || self.joining().any(|joining| joining == *id);
            let is_near = || {
                known.is_caught_up(leader_end, now_ms, rules.lag_max_ms) && self.is_eligible(*id, known, live)
            };
            match known.end {
                Some(end) if is_in || is_near() => mark = end,
                None if is_in => return None,
                _ => {}
            }
        }
        Some(mark)
    }

    /// Asks for the set without those that have not caught up for too long.
    pub fn shrink(
        &mut self,
        leader_end: Offset,
        rules: Rules,
        own: BrokerEpoch,
        now_ms: i64,
    ) -> Option<Proposal> {
        if self.pending.is_some() {
            return None;
        }
        let stays = |id: &BrokerId| {
            let known = self.followers.get(id);
            *id == self.me || known.is_some_and(|k| k.is_caught_up(leader_end, now_ms, rules.lag_max_ms))
        };
        let isr: Vec<_> = self.partition.isr.iter().copied().filter(stays).collect();
        (isr.len() < self.partition.isr.len()).then(|| self.propose(isr, own))
    }

    /// Asks for a follower to join the set, where it has all that is committed and what there was when the reign began.
    pub fn expand(
        &mut self,
        id: BrokerId,
        high_watermark: Offset,
        own: BrokerEpoch,
        live: Live<'_>,
    ) -> Option<Proposal> {
        if self.pending.is_some() || self.partition.isr.contains(&id) {
            return None;
        }
        let known = self.followers.get(&id)?;
        let end = known.end?;
        if end < high_watermark || end < self.epoch_start || !self.is_eligible(id, known, live) {
            return None;
        }
        let mut isr = self.partition.isr.clone();
        isr.push(id);
        Some(self.propose(isr, own))
    }

    fn propose(&mut self, isr: Vec<BrokerId>, own: BrokerEpoch) -> Proposal {
        let epoch = |id: BrokerId| match id == self.me {
            true => own,
            false => self.followers.get(&id).map_or(BrokerEpoch::NONE, |known| known.epoch),
        };
        let proposal = Proposal {
            leader_epoch: self.partition.leader_epoch,
            partition_epoch: self.partition.partition_epoch,
            isr: isr.into_iter().map(|id| (id, epoch(id))).collect(),
        };
        self.pending = Some(proposal.clone());
        proposal
    }

    /// Draws the consequences of an answer to `asked`.
    pub fn answered(&mut self, asked: &Proposal, answer: &Answer, now_ms: i64) -> Then {
        if self.pending.as_ref() != Some(asked) {
            return Then::Nothing;
        }
        match answer {
            Answer::Partition(now) if now.leader_epoch != self.partition.leader_epoch => Then::Nothing,
            Answer::Partition(now) if now.partition_epoch == self.partition.partition_epoch => {
                self.pending = None;
                Then::Nothing
            }
            Answer::Partition(now) => {
                self.update(now, now_ms);
                Then::Nothing
            }
            // Nothing was changed, for certain.
            Answer::Refused(ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted) => {
                self.pending = None;
                Then::Nothing
            }
            // The metadata knows more, and is on its way here. Until then whoever may be in sync counts as such.
            Answer::Refused(
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest
                | ErrorCode::NewLeaderElected,
            ) => Then::Nothing,
            Answer::Refused(_) | Answer::Lost => Then::Repeat,
        }
    }

    /// Below this no live replica has records; for DeleteRecords.
    pub fn low_watermark(&self, own_start: Offset, live: Live<'_>) -> Offset {
        let starts = self.followers.iter().filter(|(id, _)| live(**id).is_some());
        starts.map(|(_, known)| known.start.unwrap_or(Offset(-1))).fold(own_start, Offset::min)
    }

    /// The followers in sync that hold `offset`, for consumers that would rather read from one of them.
    pub fn holders(&self, offset: Offset) -> impl Iterator<Item = BrokerId> {
        let holds = move |known: &Progress| {
            known.end.is_some_and(|end| offset <= end) && known.start.is_some_and(|start| start <= offset)
        };
        let in_sync = self.followers.iter().filter(|(id, _)| self.partition.isr.contains(id));
        in_sync.filter(move |(_, known)| holds(known)).map(|(id, _)| *id)
    }

    /// Whether a broker has another replica.
    pub fn has_follower(&self, id: BrokerId) -> bool {
        self.followers.contains_key(&id)
    }

    /// Whether a follower is in the agreed set.
    pub fn is_in_sync(&self, id: BrokerId) -> bool {
        self.partition.isr.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { lag_max_ms: 10, min_isr: 1 };
    const LIVE: Live<'static> = &|id| Some(BrokerEpoch(i64::from(id.0)));

    fn ids(list: &[i32]) -> Vec<BrokerId> {
        list.iter().copied().map(BrokerId).collect()
    }

    fn image(isr: &[i32], partition_epoch: i32) -> PartitionImage {
        PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(3),
            partition_epoch,
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
        }
    }

    fn leading(isr: &[i32]) -> Leading {
        Leading::new(BrokerId(1), image(isr, 5), Offset(10), 0)
    }

    fn ack(follower: i32, end: i64) -> Acknowledged {
        Acknowledged {
            follower: BrokerId(follower),
            epoch: BrokerEpoch(i64::from(follower)),
            end: Offset(end),
            start: Offset(0),
        }
    }

    fn mark(leading: &Leading, end: i64, rules: Rules, now_ms: i64) -> Option<i64> {
        leading.high_watermark(Offset(end), rules, LIVE, now_ms).map(|mark| mark.0)
    }

    #[test]
    fn the_watermark_waits_for_all_in_sync_and_for_who_is_about_to_join() {
        let mut leading = leading(&[1, 2]);
        assert_eq!(mark(&leading, 12, RULES, 0), None, "it is not known what 2 has");
        leading.acknowledged(&ack(2, 11), Offset(12), 0);
        assert_eq!(mark(&leading, 12, RULES, 0), Some(11));
        leading.acknowledged(&ack(3, 4), Offset(12), 0);
        assert_eq!(mark(&leading, 12, RULES, 0), Some(11), "3 is far behind");
        leading.acknowledged(&ack(3, 12), Offset(12), 1);
        leading.acknowledged(&ack(2, 14), Offset(14), 1);
        assert_eq!(mark(&leading, 14, RULES, 2), Some(12), "3 had caught up a moment ago");
        assert_eq!(mark(&leading, 14, RULES, 12), Some(14));
    }

    #[test]
    fn below_the_minimum_nothing_is_committed() {
        let two = Rules { min_isr: 2, ..RULES };
        let mut alone = leading(&[1]);
        assert_eq!((mark(&alone, 12, two, 0), alone.may_append(two)), (None, false));
        alone.acknowledged(&ack(2, 12), Offset(12), 0);
        assert!(alone.expand(BrokerId(2), Offset(10), BrokerEpoch(1), LIVE).is_some());
        assert!(alone.has_enough(two), "who joins counts");
        assert_eq!(mark(&alone, 12, two, 0), None, "but not before it is agreed on");
        assert!(!leading(&[1, 2]).may_append(Rules { min_isr: 9, ..RULES }));
        assert!(leading(&[1, 2, 3]).may_append(Rules { min_isr: 9, ..RULES }), "no more than there are");
    }

    #[test]
    fn who_lags_leaves_and_joins_again() {
        let mut leading = leading(&[1, 2, 3]);
        leading.acknowledged(&ack(2, 10), Offset(10), 5);
        assert_eq!(leading.shrink(Offset(12), RULES, BrokerEpoch(1), 10), None);
        let asked = leading.shrink(Offset(12), RULES, BrokerEpoch(1), 12).unwrap();
        assert_eq!(asked.isr, [(BrokerId(1), BrokerEpoch(1)), (BrokerId(2), BrokerEpoch(2))]);
        assert_eq!(leading.shrink(Offset(12), RULES, BrokerEpoch(1), 12), None, "one at a time");
        assert_eq!(mark(&leading, 12, RULES, 12), None, "3 counts until it is agreed that it does not");
        let done = Answer::Partition(image(&[1, 2], 6));
        assert_eq!(leading.answered(&asked, &done, 12), Then::Nothing);
        assert_eq!(mark(&leading, 12, RULES, 12), Some(10));
        leading.acknowledged(&ack(3, 9), Offset(12), 13);
        assert_eq!(
            leading.expand(BrokerId(3), Offset(9), BrokerEpoch(1), LIVE),
            None,
            "not all of the reign"
        );
        leading.acknowledged(&ack(3, 11), Offset(12), 14);
        let asked = leading.expand(BrokerId(3), Offset(10), BrokerEpoch(1), LIVE).unwrap();
        assert_eq!(leading.answered(&asked, &Answer::Lost, 14), Then::Repeat);
        let refused = Answer::Refused(ErrorCode::IneligibleReplica);
        assert_eq!(leading.answered(&asked, &refused, 14), Then::Nothing);
        assert!(leading.expand(BrokerId(3), Offset(10), BrokerEpoch(1), LIVE).is_some());
    }

    #[test]
    fn an_answer_of_the_past_changes_nothing() {
        let mut leading = leading(&[1, 2]);
        leading.acknowledged(&ack(3, 10), Offset(10), 0);
        let asked = leading.expand(BrokerId(3), Offset(10), BrokerEpoch(1), LIVE).unwrap();
        leading.update(&image(&[1], 7), 1);
        assert_eq!(leading.answered(&asked, &Answer::Partition(image(&[1, 2, 3], 6)), 1), Then::Nothing);
        assert!(!leading.is_in_sync(BrokerId(2)));
        leading.update(&image(&[1, 2], 6), 1);
        assert!(!leading.is_in_sync(BrokerId(2)), "metadata does not go back");
    }

    #[test]
    fn a_registration_of_the_past_is_not_counted() {
        let mut leading = leading(&[1]);
        let anew = Acknowledged { epoch: BrokerEpoch(9), ..ack(2, 10) };
        assert!(leading.acknowledged(&anew, Offset(10), 0));
        assert!(!leading.acknowledged(&ack(2, 10), Offset(10), 0));
        assert!(
            leading.expand(BrokerId(2), Offset(10), BrokerEpoch(1), LIVE).is_none(),
            "not the present one"
        );
        assert!(!leading.acknowledged(&ack(4, 10), Offset(10), 0), "no replica");
    }
}
