use std::collections::{BTreeMap, HashMap};

use aqueduct_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::BatchHeader;

use crate::{ActiveProducer, Newcomer, Verification, VerificationGuard};

/// How many batches of a producer can be recognised when they are sent again.
const REMEMBERED: usize = 5;

/// One batch of a producer, as it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppendedBatch {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
}

impl AppendedBatch {
    fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        }
    }

    fn first_sequence(&self) -> i32 {
        ((self.last_sequence as i64 - self.offset_delta as i64) & i32::MAX as i64) as i32
    }

    pub(crate) fn first_offset(&self) -> Offset {
        Offset(self.last_offset.0 - self.offset_delta as i64)
    }
}

/// What a partition knows of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) epoch: ProducerEpoch,
    /// Newest last, at most [`REMEMBERED`].
    pub(crate) batches: Vec<AppendedBatch>,
    pub(crate) coordinator_epoch: i32,
    /// Time of the last append, from which the state expires.
    pub(crate) timestamp: i64,
    pub(crate) transaction_start: Option<Offset>,
}

/// Why a batch of an idempotent producer may not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    StaleEpoch { newest: ProducerEpoch },
    OutOfOrder { last: i32 },
    InTransaction,
    NotVerified,
    StaleCoordinator { newest: i32 },
}

/// A producer whose transaction is being verified with its coordinator, or has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verifying {
    guard: VerificationGuard,
    epoch: ProducerEpoch,
    /// What was sent first, so that nothing that was sent later is written before it.
    lowest_sequence: i32,
    raises_epoch: bool,
    since_ms: i64,
}

/// A transaction that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedTransaction {
    pub(crate) producer: ProducerId,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) aborted: bool,
}

/// What a partition knows of its producers: sequence numbers, to recognise repeats and gaps, and open transactions.
///
/// Plain state: batches in, decisions out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    states: HashMap<ProducerId, ProducerState>,
    /// First offsets of open transactions.
    open: BTreeMap<Offset, ProducerId>,
    /// Transactions whose marker may not be replicated yet: first offset to the marker's.
    ended: BTreeMap<Offset, Offset>,
    /// Not in snapshots: who was being verified in a former life asks again.
    verifying: HashMap<ProducerId, Verifying>,
    guards: u64,
}

impl Producers {
    /// The batch that this one from a client repeats.
    pub(crate) fn repeated(&self, header: &BatchHeader) -> Option<AppendedBatch> {
        let state = self.states.get(&header.producer_id)?;
        let (first, last) = (header.base_sequence, header.last_sequence());
        let repeats = |b: &&AppendedBatch| b.first_sequence() == first && b.last_sequence == last;
        state.batches.iter().find(repeats).copied().filter(|_| header.producer_epoch == state.epoch)
    }

    /// Begins to verify a producer, unless its transaction is open here.
    pub(crate) fn begin_verification(&mut self, of: Newcomer, now_ms: i64) -> Option<VerificationGuard> {
        if self.has_open_transaction(of.id, of.epoch) {
            return None;
        }
        let Some(known) = self.verifying.get_mut(&of.id) else {
            self.guards += 1;
            let (guard, epoch) = (VerificationGuard(self.guards), of.epoch);
            let (lowest_sequence, raises_epoch, since_ms) = (of.sequence, of.raises_epoch, now_ms);
            let new = Verifying { guard, epoch, lowest_sequence, raises_epoch, since_ms };
            self.verifying.insert(of.id, new);
            return Some(guard);
        };
        if of.epoch > known.epoch {
            (known.epoch, known.lowest_sequence) = (of.epoch, of.sequence);
        } else if of.epoch == known.epoch {
            known.lowest_sequence = known.lowest_sequence.min(of.sequence);
        }
        Some(known.guard)
    }

    /// Whether the guard is still good: no transaction of the producer has begun or ended here since it was given.
    pub(crate) fn is_verifying(&self, id: ProducerId, guard: VerificationGuard) -> bool {
        self.verifying.get(&id).is_some_and(|verifying| verifying.guard == guard)
    }

    fn has_open_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.states.get(&id).is_some_and(|state| state.transaction_start.is_some() && state.epoch == epoch)
    }

    /// Decides whether the coordinator is known to know of the batch's transaction.
    pub(crate) fn check_verified(&self, header: &BatchHeader, how: Verification) -> Result<(), Refusal> {
        let Verification::Guarded(guard) = how else { return Ok(()) };
        if !header.attributes.is_transactional()
            || self.has_open_transaction(header.producer_id, header.producer_epoch)
        {
            return Ok(());
        }
        let is_good = guard.is_some_and(|guard| self.is_verifying(header.producer_id, guard));
        if is_good { Ok(()) } else { Err(Refusal::NotVerified) }
    }

    /// Decides on the epoch of a batch.
    pub(crate) fn check_epoch(&self, header: &BatchHeader) -> Result<(), Refusal> {
        match self.states.get(&header.producer_id) {
            Some(state) if header.producer_epoch < state.epoch => {
                Err(Refusal::StaleEpoch { newest: state.epoch })
            }
            _ => Ok(()),
        }
    }

    /// Decides on a batch from a client that repeats none, and whose epoch is good: whether it is the next one.
    pub(crate) fn check_sequence(&self, header: &BatchHeader) -> Result<(), Refusal> {
        let (state, first) = (self.states.get(&header.producer_id), header.base_sequence);
        let newest = state.and_then(|state| state.batches.last()).map_or(-1, |batch| batch.last_sequence);
        if let Some(verifying) = self.verifying.get(&header.producer_id) {
            let gap = verifying.raises_epoch && state.is_none() && first != 0;
            if gap || first > verifying.lowest_sequence {
                return Err(Refusal::OutOfOrder { last: newest });
            }
        }
        let Some(state) = state else { return Ok(()) };
        let expected = if header.producer_epoch > state.epoch || newest == i32::MAX { 0 } else { newest + 1 };
        if first != expected {
            return Err(Refusal::OutOfOrder { last: newest });
        }
        if state.transaction_start.is_some() && !header.attributes.is_transactional() {
            return Err(Refusal::InTransaction);
        }
        Ok(())
    }

    /// Takes note of a batch of records that was appended, or is found in the log; offsets in `header` are final.
    pub(crate) fn append(&mut self, header: &BatchHeader) {
        let state = self.state(header);
        state.timestamp = header.max_timestamp;
        state.batches.push(AppendedBatch::of(header));
        if state.batches.len() > REMEMBERED {
            state.batches.remove(0);
        }
        if header.attributes.is_transactional() {
            if state.transaction_start.is_none() {
                state.transaction_start = Some(header.base_offset);
                self.open.insert(header.base_offset, header.producer_id);
            }
            self.verifying.remove(&header.producer_id);
        }
    }

    /// Whether nothing is known of any producer.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Adds older batches, which are in the log and not in a snapshot, to what is remembered; in the order of the log.
    pub(crate) fn recall(&mut self, headers: impl IntoIterator<Item = BatchHeader>) {
        let mut found: HashMap<ProducerId, Vec<AppendedBatch>> = HashMap::new();
        for header in headers {
            let Some(state) = self.states.get(&header.producer_id) else { continue };
            let is_older =
                state.batches.first().is_some_and(|first| header.last_offset() < first.first_offset());
            if is_older && header.producer_epoch == state.epoch && !header.attributes.is_control() {
                let batches = found.entry(header.producer_id).or_default();
                batches.push(AppendedBatch::of(&header));
                if batches.len() + state.batches.len() > REMEMBERED {
                    batches.remove(0);
                }
            }
        }
        for (id, batches) in found {
            if let Some(state) = self.states.get_mut(&id) {
                state.batches.splice(0..0, batches);
            }
        }
    }

    /// Decides on a transaction marker. From transaction version 2 on the coordinator has raised the epoch, so that one
    /// with the producer's own is a repeat, which does no harm where no transaction is open (KIP-890).
    pub(crate) fn check_marker(
        &self,
        header: &BatchHeader,
        coordinator_epoch: i32,
        transaction_version: i16,
    ) -> Result<(), Refusal> {
        let Some(state) = self.states.get(&header.producer_id) else { return Ok(()) };
        let is_last = header.producer_epoch.0 == i16::MAX;
        let must_rise = transaction_version >= 2 && state.transaction_start.is_some() && !is_last;
        if header.producer_epoch < state.epoch || must_rise && header.producer_epoch == state.epoch {
            return Err(Refusal::StaleEpoch { newest: state.epoch });
        }
        if coordinator_epoch < state.coordinator_epoch {
            return Err(Refusal::StaleCoordinator { newest: state.coordinator_epoch });
        }
        Ok(())
    }

    /// Takes note of a marker; returns the transaction that it ends, if one was open here.
    pub(crate) fn end_transaction(
        &mut self,
        header: &BatchHeader,
        committed: bool,
        coordinator_epoch: i32,
    ) -> Option<EndedTransaction> {
        let state = self.state(header);
        state.coordinator_epoch = coordinator_epoch;
        state.timestamp = header.max_timestamp;
        let first_offset = state.transaction_start.take();
        self.verifying.remove(&header.producer_id);
        let first_offset = first_offset?;
        self.open.remove(&first_offset);
        let last_offset = header.base_offset;
        self.ended.insert(first_offset, last_offset);
        Some(EndedTransaction {
            producer: header.producer_id,
            first_offset,
            last_offset,
            aborted: !committed,
        })
    }

    fn state(&mut self, header: &BatchHeader) -> &mut ProducerState {
        let state = self.states.entry(header.producer_id).or_insert_with(|| ProducerState {
            epoch: header.producer_epoch,
            batches: Vec::new(),
            coordinator_epoch: -1,
            timestamp: header.max_timestamp,
            transaction_start: None,
        });
        if state.epoch != header.producer_epoch {
            state.epoch = header.producer_epoch;
            state.batches.clear();
        }
        state
    }

    /// Forgets ended transactions whose marker lies below the high watermark.
    pub(crate) fn on_high_watermark(&mut self, high_watermark: Offset) {
        self.ended.retain(|_, marker| *marker >= high_watermark);
    }

    /// Where the oldest transaction begins that readers of committed records may not pass.
    pub(crate) fn first_unstable(&self) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let ended = self.ended.first_key_value().map(|(first, _)| *first);
        open.into_iter().chain(ended).min()
    }

    /// Where the oldest open transaction begins.
    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.open.first_key_value().map(|(first, _)| *first)
    }

    /// Forgets producers that have been silent for `expiration_ms` and have no transaction open.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.states.retain(|_, state| {
            state.transaction_start.is_some() || now_ms.saturating_sub(state.timestamp) < expiration_ms
        });
        self.verifying.retain(|_, verifying| now_ms.saturating_sub(verifying.since_ms) < expiration_ms);
    }

    /// Whether an open transaction has had no record for longer than `limit_ms`.
    pub(crate) fn has_late_transaction(&self, now_ms: i64, limit_ms: i64) -> bool {
        let states = self.open.values().filter_map(|id| self.states.get(id));
        states
            .into_iter()
            .any(|state| state.timestamp > 0 && now_ms.saturating_sub(state.timestamp) > limit_ms)
    }

    /// Every producer, by id.
    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let active = |(id, state): (ProducerId, &ProducerState)| ActiveProducer {
            id,
            epoch: state.epoch,
            last_sequence: state.batches.last().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: state.timestamp,
            coordinator_epoch: state.coordinator_epoch,
            transaction_start: state.transaction_start,
        };
        let mut active: Vec<_> = self.iter().map(active).collect();
        active.sort_unstable_by_key(|producer| producer.id);
        active
    }

    /// Every producer known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.states.iter().map(|(id, state)| (*id, state))
    }

    /// Puts back a producer from a snapshot.
    pub(crate) fn restore(&mut self, id: ProducerId, state: ProducerState) {
        if let Some(first) = state.transaction_start {
            self.open.insert(first, id);
        }
        self.states.insert(id, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aqueduct_protocol::ids::LeaderEpoch;
    use aqueduct_protocol::records::Attributes;

    fn batch(epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(offset),
            batch_length: 49,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: offset,
            producer_id: ProducerId(1),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: sequence,
            record_count: count,
        }
    }

    fn in_transaction(mut header: BatchHeader) -> BatchHeader {
        header.attributes = header.attributes.with_transactional(true);
        header
    }

    impl Producers {
        /// Both checks, in their order.
        fn check(&self, header: &BatchHeader) -> Result<(), Refusal> {
            self.check_epoch(header)?;
            self.check_sequence(header)
        }
    }

    #[test]
    fn the_last_five_batches_are_recognised_and_no_others() {
        let mut producers = Producers::default();
        for i in 0..7 {
            let header = batch(0, i * 10, 10, i as i64 * 10);
            assert_eq!((producers.check(&header), producers.repeated(&header)), (Ok(()), None));
            producers.append(&header);
        }
        for i in 2..7 {
            let found = producers.repeated(&batch(0, i * 10, 10, 0)).unwrap();
            assert_eq!((found.first_offset(), found.timestamp), (Offset(i as i64 * 10), i as i64 * 10));
        }
        assert_eq!(producers.repeated(&batch(0, 10, 10, 0)), None);
        let out_of_order = Err(Refusal::OutOfOrder { last: 69 });
        assert_eq!(producers.check(&batch(0, 10, 10, 0)), out_of_order, "too old");
        assert_eq!(producers.check(&batch(0, 60, 5, 0)), out_of_order, "a part of the last");
        assert_eq!(producers.check(&batch(0, 71, 1, 0)), out_of_order, "a gap");
    }

    #[test]
    fn what_a_snapshot_left_out_is_recalled_from_the_log() {
        let all: Vec<_> = (0..7).map(|i| batch(0, i * 10, 10, i64::from(i) * 10)).collect();
        let mut whole = Producers::default();
        all.iter().for_each(|header| whole.append(header));
        let mut restored = whole.clone();
        restored.states.get_mut(&ProducerId(1)).unwrap().batches.drain(..4);
        restored.recall([batch(9, 0, 10, 0)].into_iter().chain(all));
        assert_eq!(restored, whole, "an earlier epoch and what is known already are passed over");
        let mut other = Producers::default();
        other.recall([batch(0, 0, 1, 0)]);
        assert!(other.is_empty(), "who is not in the snapshot has expired");
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old() {
        let mut producers = Producers::default();
        assert_eq!(producers.check(&batch(3, 100, 1, 0)), Ok(()), "an unknown producer may begin anywhere");
        producers.append(&batch(3, 100, 1, 0));
        assert_eq!(producers.check(&batch(4, 101, 1, 0)), Err(Refusal::OutOfOrder { last: 100 }));
        assert_eq!(producers.check(&batch(4, 0, 1, 0)), Ok(()));
        producers.append(&batch(4, 0, 1, 1));
        let stale = Err(Refusal::StaleEpoch { newest: ProducerEpoch(4) });
        assert_eq!(producers.check(&batch(3, 100, 1, 0)), stale);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        producers.append(&batch(0, i32::MAX - 1, 2, 0));
        assert_eq!(producers.check(&batch(0, 0, 4, 0)), Ok(()));
        producers.append(&batch(0, i32::MAX, 4, 2));
        assert_eq!(producers.check(&batch(0, 3, 1, 0)), Ok(()), "a batch across the end ends at 2");
        assert!(producers.repeated(&batch(0, i32::MAX, 4, 0)).is_some());
    }

    #[test]
    fn transactions_hold_back_what_is_stable() {
        let mut producers = Producers::default();
        producers.append(&in_transaction(batch(0, 0, 2, 10)));
        assert_eq!(producers.first_unstable(), Some(Offset(10)));
        assert_eq!(producers.check(&batch(0, 2, 1, 0)), Err(Refusal::InTransaction));
        let marker = in_transaction(batch(0, -1, 1, 15));
        assert_eq!(producers.check_marker(&marker, 7, 0), Ok(()));
        let ended = producers.end_transaction(&marker, false, 7).unwrap();
        assert_eq!((ended.first_offset, ended.last_offset, ended.aborted), (Offset(10), Offset(15), true));
        assert_eq!(producers.first_unstable(), Some(Offset(10)));
        producers.on_high_watermark(Offset(15));
        assert_eq!(producers.first_unstable(), Some(Offset(10)));
        producers.on_high_watermark(Offset(16));
        assert_eq!(producers.first_unstable(), None);
        assert_eq!(producers.check_marker(&marker, 6, 0), Err(Refusal::StaleCoordinator { newest: 7 }));
    }

    #[test]
    fn silence_expires_unless_a_transaction_is_open() {
        let mut producers = Producers::default();
        producers.append(&batch(0, 0, 1, 100));
        let mut other = in_transaction(batch(0, 0, 1, 100));
        other.producer_id = ProducerId(2);
        producers.append(&other);
        producers.expire(149, 50);
        assert_eq!(producers.iter().count(), 2);
        producers.expire(150, 50);
        assert_eq!(producers.iter().map(|(id, _)| id).collect::<Vec<_>>(), [ProducerId(2)]);
    }

    #[test]
    fn a_transaction_begins_with_a_guard_that_its_end_takes_away() {
        let mut producers = Producers::default();
        let of = |epoch, sequence| Newcomer {
            id: ProducerId(1),
            epoch: ProducerEpoch(epoch),
            sequence,
            raises_epoch: true,
        };
        let first = in_transaction(batch(0, 0, 1, 0));
        let check =
            |producers: &Producers, guard| producers.check_verified(&first, Verification::Guarded(guard));
        assert_eq!(check(&producers, None), Err(Refusal::NotVerified));
        let guard = producers.begin_verification(of(0, 0), 5);
        assert_eq!(producers.begin_verification(of(0, 3), 6), guard, "one guard a producer");
        assert_eq!(check(&producers, guard), Ok(()));
        let later = in_transaction(batch(0, 3, 1, 0));
        assert_eq!(
            producers.check(&later),
            Err(Refusal::OutOfOrder { last: -1 }),
            "not before what was first"
        );
        producers.append(&first);
        assert_eq!(check(&producers, None), Ok(()), "the transaction is open");
        assert_eq!(producers.begin_verification(of(0, 1), 7), None);
        let marker = in_transaction(batch(1, -1, 1, 1));
        producers.end_transaction(&marker, true, 0).unwrap();
        assert!(!producers.is_verifying(ProducerId(1), guard.unwrap()));
        assert_eq!(check(&producers, guard), Err(Refusal::NotVerified));
        let again = producers.begin_verification(of(1, 0), 8);
        assert_ne!(again, guard);
        producers.expire(100, 50);
        assert!(producers.verifying.is_empty());
    }

    #[test]
    fn markers_of_the_second_version_raise_the_epoch() {
        let mut producers = Producers::default();
        producers.append(&in_transaction(batch(3, 0, 1, 0)));
        let marker = |epoch| in_transaction(batch(epoch, -1, 1, 1));
        let stale = Err(Refusal::StaleEpoch { newest: ProducerEpoch(3) });
        assert_eq!(producers.check_marker(&marker(3), 0, 0), Ok(()));
        assert_eq!(producers.check_marker(&marker(3), 0, 2), stale);
        assert_eq!(producers.check_marker(&marker(2), 0, 0), stale);
        assert_eq!(producers.check_marker(&marker(4), 0, 2), Ok(()));
        producers.end_transaction(&marker(4), true, 0);
        assert_eq!(producers.check_marker(&marker(4), 0, 2), Ok(()), "a repeat");
        assert_eq!(producers.check(&batch(4, 0, 1, 2)), Ok(()), "the new epoch begins at 0");
        assert_eq!(producers.active()[0].coordinator_epoch, 0);
    }
}
