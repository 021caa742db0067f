use std::collections::BTreeMap;

use aqueduct_protocol::records::{BatchBuilder, Compression};
use proptest::prelude::*;

use super::super::memory::Memory;
use super::*;
use crate::error::Detail;

const ID: ProducerId = ProducerId(7);

fn options() -> QueueOptions {
    QueueOptions {
        linger: Duration::from_millis(5),
        max_in_flight: 5,
        retries: u32::MAX,
        backoff: Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(1) },
        delivery_timeout: Duration::from_secs(120),
        transactional: false,
    }
}

fn code(code: ErrorCode) -> Error {
    let (broker, what) = ("b:1".to_owned(), "t-0".to_owned());
    Error::Api { broker, api: "Produce", what, code, message: Detail::default() }
}

fn lost() -> Error {
    Error::Disconnected { broker: "b:1".to_owned(), api: "Produce", why: "closed".to_owned() }
}

/// A queue with batches 1.. of one, two, three... records, all ready.
fn queue(batches: u64, now: Instant) -> PartitionQueue {
    let mut queue = PartitionQueue::new(TopicPartition::new("t", 0), options());
    for _ in 0..batches {
        add(&mut queue, now);
    }
    queue
}

fn add(queue: &mut PartitionQueue, now: Instant) {
    let order = queue.order();
    let memory = Arc::new(Memory::new(0));
    let deadline = now + Duration::from_secs(120);
    let mut batch = Batch::open(order, BatchBuilder::new(Compression::None), deadline, memory);
    for _ in 0..order {
        batch.grown(0);
    }
    queue.push(batch);
}

fn take(queue: &mut PartitionQueue) -> Batch {
    queue.take(Some(Numbering::Own(ID))).expect("a batch is ready")
}

fn numbers(batch: &Batch) -> (u64, i16, i32) {
    let stamp = batch.stamp.expect("numbered");
    (batch.order, stamp.epoch.0, stamp.sequence)
}

#[test]
fn numbers_follow_on_and_wrap() {
    let mut queue = queue(3, Instant::now());
    assert_eq!(numbers(&take(&mut queue)), (1, 0, 0));
    assert_eq!(numbers(&take(&mut queue)), (2, 0, 1));
    queue.sequence.as_mut().expect("begun").sequence = i32::MAX - 1;
    assert_eq!(numbers(&take(&mut queue)), (3, 0, i32::MAX - 1));
    assert_eq!(queue.sequence.map(|s| s.sequence), Some(1), "three records: max-1, max, 0");
}

#[test]
fn what_comes_back_waits_for_the_rest_and_keeps_order_and_numbers() {
    let now = Instant::now();
    let mut queue = queue(4, now);
    let [one, two, three] = [take(&mut queue), take(&mut queue), take(&mut queue)];
    assert!(queue.failed(now, one, lost()).is_none());
    assert!(!queue.is_due(now + Duration::from_secs(1), true), "two are still out");
    assert!(queue.failed(now, three, code(ErrorCode::OutOfOrderSequenceNumber)).is_none());
    assert!(queue.failed(now, two, lost()).is_none());
    assert!(!queue.is_due(now, true), "backing off");
    assert!(queue.is_due(now + Duration::from_secs(1), false));
    let again: Vec<_> = (0..4).map(|_| numbers(&take(&mut queue))).collect();
    assert_eq!(again, [(1, 0, 0), (2, 0, 1), (3, 0, 3), (4, 0, 6)]);
}

#[test]
fn a_refused_first_batch_renumbers_all_under_the_next_epoch() {
    let now = Instant::now();
    let mut queue = queue(3, now);
    let [one, two, three] = [take(&mut queue), take(&mut queue), take(&mut queue)];
    queue.succeeded(one.order);
    assert!(queue.failed(now, two, code(ErrorCode::OutOfOrderSequenceNumber)).is_none());
    assert!(queue.failed(now, three, lost()).is_none());
    assert_eq!(numbers(&take(&mut queue)), (2, 1, 0));
    assert_eq!(numbers(&take(&mut queue)), (3, 1, 2));
}

#[test]
fn after_a_batch_that_failed_for_good_the_others_keep_their_numbers_until_refused() {
    let now = Instant::now();
    let mut queue = queue(2, now);
    let [one, two] = [take(&mut queue), take(&mut queue)];
    let (_, error) = queue.failed(now, one, code(ErrorCode::MessageTooLarge)).expect("final");
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    assert!(queue.failed(now, two, lost()).is_none());
    let two = take(&mut queue);
    assert_eq!(numbers(&two), (2, 0, 1), "it may be written already");
    assert!(queue.failed(now, two, code(ErrorCode::OutOfOrderSequenceNumber)).is_none());
    assert_eq!(numbers(&take(&mut queue)), (2, 1, 0));
}

#[test]
fn a_batch_that_failed_alone_leaves_no_gap() {
    let now = Instant::now();
    let mut queue = queue(2, now);
    let one = take(&mut queue);
    assert!(queue.failed(now, one, code(ErrorCode::InvalidRecord)).is_some());
    assert_eq!(numbers(&take(&mut queue)), (2, 1, 0));
}

#[test]
fn lingers_unless_in_a_hurry_and_expires() {
    let now = Instant::now();
    let mut queue = queue(0, now);
    let order = queue.order();
    let deadline = now + Duration::from_secs(120);
    let batch = Batch::open(order, BatchBuilder::new(Compression::None), deadline, Arc::new(Memory::new(0)));
    queue.begin(batch, now);
    assert!(!queue.is_due(now, false));
    assert!(queue.is_due(now, true));
    assert_eq!(queue.next_event(), Some(now + Duration::from_millis(5)));
    let mut expired = Vec::new();
    queue.expire(now + Duration::from_secs(119), &mut expired);
    assert!(expired.is_empty());
    queue.expire(deadline, &mut expired);
    let (_, error) = expired.pop().expect("expired");
    assert!(error.to_string().contains("t-0 not delivered (delivery.timeout.ms)"), "{error}");
    assert!(queue.is_idle());
}

/// What a broker keeps of a producer, and the log.
#[derive(Default)]
struct Log {
    epoch: i16,
    /// First sequence of each of the last five batches, and the next sequence.
    recent: VecDeque<(i32, i32)>,
    batches: Vec<u64>,
}

impl Log {
    fn append(&mut self, batch: &Batch) -> Result<(), ErrorCode> {
        let (order, epoch, sequence) = numbers(batch);
        if epoch < self.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if epoch > self.epoch {
            if sequence != 0 {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            self.epoch = epoch;
            self.recent.clear();
        }
        if self.recent.iter().any(|(first, next)| *first == sequence && *next == sequence + batch.records) {
            return Ok(());
        }
        if self.recent.back().is_some_and(|(_, next)| *next != sequence) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        self.recent.push_back((sequence, sequence + batch.records));
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        self.batches.push(order);
        Ok(())
    }
}

proptest! {
    /// Connections break with requests written, half written or not at all, answers get lost, brokers refuse for a while:
    /// in the end every batch is in the log once and in order.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(steps in prop::collection::vec(0u8..6, 1..200)) {
        let mut now = Instant::now();
        let mut queue = queue(0, now);
        let mut log = Log::default();
        let mut flying: VecDeque<Batch> = VecDeque::new();
        let mut acked = BTreeMap::new();
        let mut sent = 0;
        for step in steps.into_iter().chain(std::iter::repeat_n(2, 400)) {
            now += Duration::from_millis(2);
            match step {
                0 => {
                    add(&mut queue, now);
                    sent += 1;
                }
                // The connection breaks: those written so far are in the log, but nobody says so.
                1 => {
                    for (at, batch) in std::mem::take(&mut flying).into_iter().enumerate() {
                        if at < 2 {
                            let _ = log.append(&batch);
                        }
                        prop_assert!(queue.failed(now, batch, lost()).is_none());
                    }
                }
                // The broker refuses the oldest, for now.
                3 => {
                    if let Some(batch) = flying.pop_front() {
                        prop_assert!(queue.failed(now, batch, code(ErrorCode::NotEnoughReplicas)).is_none());
                    }
                }
                4 if queue.is_due(now, false) => flying.extend(queue.take(Some(Numbering::Own(ID)))),
                _ => {
                    if let Some(batch) = flying.pop_front() {
                        match log.append(&batch) {
                            Ok(()) => {
                                queue.succeeded(batch.order);
                                prop_assert!(acked.insert(batch.order, ()).is_none());
                            }
                            Err(refused) => prop_assert!(queue.failed(now, batch, code(refused)).is_none()),
                        }
                    }
                    if queue.is_due(now, false) {
                        flying.extend(queue.take(Some(Numbering::Own(ID))));
                    }
                }
            }
        }
        prop_assert!(queue.is_idle());
        prop_assert_eq!(acked.len(), sent);
        prop_assert_eq!(log.batches, (1..=sent as u64).collect::<Vec<_>>());
    }
}

#[test]
fn a_transaction_gives_the_epoch_and_is_never_numbered_anew() {
    let now = Instant::now();
    let mut queue =
        PartitionQueue::new(TopicPartition::new("t", 0), QueueOptions { transactional: true, ..options() });
    let take_as = |queue: &mut PartitionQueue, epoch| {
        let identity = Identity { id: ID, epoch: ProducerEpoch(epoch) };
        queue.take(Some(Numbering::Transactional(identity))).expect("a batch is ready")
    };
    (0..6).for_each(|_| add(&mut queue, now));
    let one = take_as(&mut queue, 3);
    assert_eq!(numbers(&one), (1, 3, 0));
    queue.succeeded(one.order);
    let [two, three] = [take_as(&mut queue, 3), take_as(&mut queue, 3)];
    assert_eq!((numbers(&two), numbers(&three)), ((2, 3, 1), (3, 3, 3)));
    assert!(queue.failed(now, two, code(ErrorCode::NotLeaderOrFollower)).is_none(), "comes again");
    assert!(queue.failed(now, three, code(ErrorCode::OutOfOrderSequenceNumber)).is_none(), "it follows");
    let [two, three] = [take_as(&mut queue, 3), take_as(&mut queue, 3)];
    assert_eq!((numbers(&two), numbers(&three)), ((2, 3, 1), (3, 3, 3)));
    queue.succeeded(two.order);
    assert!(queue.failed(now, three, code(ErrorCode::OutOfOrderSequenceNumber)).is_some(), "a gap for good");
    assert_eq!(numbers(&take_as(&mut queue, 4)), (4, 4, 0), "a new epoch begins at 0");
    assert_eq!(queue.drain().len(), 2);
}

#[test]
fn no_more_is_sent_than_the_broker_recognises_when_the_oldest_comes_again() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut queue = queue(7, now);
    let mut sent: Vec<_> = (0..5).map(|_| take(&mut queue)).collect();
    assert!(!queue.is_due(later, true));
    let (five, one) = (sent.pop().expect("five"), sent.remove(0));
    sent.iter().for_each(|batch| queue.succeeded(batch.order));
    assert!(!queue.is_due(later, true), "the first is not acknowledged yet");
    assert!(queue.failed(now, one, lost()).is_none());
    assert!(queue.failed(now, five, lost()).is_none());
    let one = take(&mut queue);
    assert!(queue.is_due(later, true));
    let five = take(&mut queue);
    assert_eq!((one.order, five.order), (1, 5));
    assert!(!queue.is_due(later, true), "the sixth would have the broker forget the first");
    queue.succeeded(one.order);
    assert!(queue.is_due(later, true));
}
