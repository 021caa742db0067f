//! Every schedule of a few steps of one producer, one partition and the coordinator between them: which batches of a
//! transaction are taken.
//!
//! The rules: a batch is taken while its transaction is going on and at no other time; and one whose coordinator has just
//! said that it may be is not refused as unknown, unless a marker came in between that had come before.

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{Attributes, BatchHeader};

use crate::producers::{Producers, Refusal};
use crate::{Newcomer, Verification, VerificationGuard};

const PRODUCER: ProducerId = ProducerId(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    AtRest,
    /// With the partition.
    Ongoing,
    /// Its marker is not written.
    Ended,
}

/// How far a request has come; it is for a batch of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Guarded(i16, Option<VerificationGuard>),
    Admitted(i16, Option<VerificationGuard>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The producer sends a batch; with one on its way, it has lost patience and comes on another connection.
    Send,
    /// The coordinator is asked about the request.
    Ask(usize),
    Append(usize),
    End,
    Mark,
    /// The last marker comes once more: its writer had not heard that it was there.
    MarkAgain,
}

const STEPS: [Step; 8] = [
    Step::Send,
    Step::Ask(0),
    Step::Ask(1),
    Step::Append(0),
    Step::Append(1),
    Step::End,
    Step::Mark,
    Step::MarkAgain,
];

#[derive(Clone)]
struct World {
    version: i16,
    partition: Producers,
    transaction: Transaction,
    /// The producer's, which the coordinator knows.
    epoch: i16,
    sequence: i32,
    end: i64,
    requests: Vec<Request>,
    repeated_marker: bool,
    taken: u32,
}

impl World {
    fn new(version: i16) -> Self {
        Self {
            version,
            partition: Producers::default(),
            transaction: Transaction::AtRest,
            epoch: 0,
            sequence: 0,
            end: 0,
            requests: Vec::new(),
            repeated_marker: false,
            taken: 0,
        }
    }

    fn batch(&self, epoch: i16, sequence: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(self.end),
            batch_length: 49,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: Attributes::default().with_transactional(true),
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: self.end,
            producer_id: PRODUCER,
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: sequence,
            record_count: 1,
        }
    }

    /// `None` where there is nothing to be done.
    fn step(&self, step: Step) -> Option<Self> {
        let mut next = self.clone();
        match step {
            Step::Send if self.requests.len() < 2 => {
                let guard = next.begin(self.epoch);
                next.requests.push(Request::Guarded(self.epoch, guard));
            }
            Step::Ask(n) => {
                let Request::Guarded(epoch, guard) = *self.requests.get(n)? else { return None };
                next.ask(n, epoch, guard);
            }
            Step::Append(n) => {
                let Request::Admitted(epoch, guard) = *self.requests.get(n)? else { return None };
                next.requests.remove(n);
                next.append(epoch, guard);
            }
            Step::End if self.transaction == Transaction::Ongoing => {
                next.transaction = Transaction::Ended;
                if self.version >= 2 {
                    (next.epoch, next.sequence) = (self.epoch + 1, 0);
                }
            }
            Step::Mark if self.transaction == Transaction::Ended => {
                next.mark();
                next.transaction = Transaction::AtRest;
            }
            // Before the second version nothing tells it from the marker of the transaction that goes on by then.
            Step::MarkAgain
                if self.version >= 2 && self.transaction != Transaction::Ended && self.end > 0 =>
            {
                next.repeated_marker = true;
                next.mark();
            }
            _ => return None,
        }
        Some(next)
    }

    fn begin(&mut self, epoch: i16) -> Option<VerificationGuard> {
        let (epoch, raises_epoch) = (ProducerEpoch(epoch), self.version >= 2);
        let newcomer = Newcomer { id: PRODUCER, epoch, sequence: self.sequence, raises_epoch };
        self.partition.begin_verification(newcomer, 0)
    }

    /// As a coordinator and whoever asks it do; a guard that has lapsed is taken anew.
    fn ask(&mut self, n: usize, epoch: i16, guard: Option<VerificationGuard>) {
        let Some(given) = guard else {
            self.requests[n] = Request::Admitted(epoch, None);
            return;
        };
        if epoch != self.epoch || self.transaction == Transaction::Ended {
            self.requests.remove(n);
            return;
        }
        self.transaction = Transaction::Ongoing;
        self.requests[n] = match self.partition.is_verifying(PRODUCER, given) {
            true => Request::Admitted(epoch, guard),
            false => Request::Guarded(epoch, self.begin(epoch)),
        };
    }

    fn append(&mut self, epoch: i16, guard: Option<VerificationGuard>) {
        // The sequence is not what this is about: the batch that comes next is the one that was sent.
        let known = self.partition.iter().find(|(id, _)| *id == PRODUCER).map(|(_, state)| state);
        let same = known.filter(|state| state.epoch.0 == epoch);
        let last = same.and_then(|state| state.batches.last()).map_or(-1, |batch| batch.last_sequence);
        let header = self.batch(epoch, last + 1);
        let goes_on = self.transaction == Transaction::Ongoing && epoch == self.epoch;
        let checked = self.partition.check_epoch(&header);
        let checked =
            checked.and_then(|()| self.partition.check_verified(&header, Verification::Guarded(guard)));
        match checked {
            Ok(()) => {
                // Between its end and its marker a transaction takes what was under way, and the marker ends that, too.
                let is_ending = self.transaction == Transaction::Ended;
                assert!(goes_on || is_ending, "taken in {:?} of epoch {}", self.transaction, self.epoch);
                self.partition.append(&header);
                self.end += 1;
                self.sequence = last + 2;
                self.taken += 1;
            }
            Err(Refusal::NotVerified) => {
                let lapsed = self.repeated_marker || !goes_on || guard.is_none() || self.version < 2;
                assert!(lapsed, "a transaction that goes on is not known");
            }
            Err(_) => assert!(!goes_on, "a transaction that goes on is of an old epoch"),
        }
    }

    fn mark(&mut self) {
        let marker = self.batch(self.epoch, -1);
        if self.partition.check_marker(&marker, 0, self.version).is_ok() {
            self.partition.end_transaction(&marker, true, 0);
            self.end += 1;
        }
    }
}

fn explore(world: &World, depth: u32, path: &mut Vec<Step>, taken: &mut u32) {
    *taken = (*taken).max(world.taken);
    if depth == 0 {
        return;
    }
    for step in STEPS {
        path.push(step);
        let shown = std::panic::AssertUnwindSafe(|| world.step(step));
        match std::panic::catch_unwind(shown) {
            Ok(Some(next)) => explore(&next, depth - 1, path, taken),
            Ok(None) => {}
            Err(why) => {
                eprintln!("after {path:?}");
                std::panic::resume_unwind(why);
            }
        }
        path.pop();
    }
}

#[test]
fn a_batch_is_taken_while_its_transaction_goes_on() {
    for version in [1, 2] {
        let mut taken = 0;
        explore(&World::new(version), 11, &mut Vec::new(), &mut taken);
        assert!(taken >= 3, "version {version}: {taken} batches at most");
    }
}
