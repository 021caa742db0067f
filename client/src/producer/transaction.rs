//! The state of a transactional producer's transaction. Pure: calls and answers go in, decisions come out.
//!
//! ```text
//! Uninitialized ─ init ─▶ Ready ─ begin ─▶ Open ─ commit ─▶ Committing ─▶ Ready
//!                                           │ ╲               │
//!                                           │  ╲─ abort ─▶ Aborting ─▶ Ready
//!                                           ▼               ▲
//!                                       Abortable ── abort ─╯      any ─ fenced ─▶ Fatal
//! ```
//!
//! Brokers with `transaction.version` 2 (KIP-890) take a partition into the transaction with the first batch, and give
//! the producer a new epoch with the end of each transaction; older ones are told of partitions before.

use std::collections::BTreeSet;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use bytestring::ByteString;

use crate::error::{Error, Result};
use crate::types::TopicPartition;

/// Who the coordinator says that the producer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

#[derive(Debug, Clone)]
enum State {
    Uninitialized,
    Initializing,
    Ready,
    Open,
    Committing,
    Aborting,
    /// It cannot be committed any more.
    Abortable(Error),
    /// The producer cannot be used any more.
    Fatal(Error),
}

/// What ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) identity: Identity,
    pub(crate) implicit: bool,
    /// After an abort the producer needs another epoch: nobody knows which of its sequence numbers are taken.
    pub(crate) raise_epoch: bool,
}

/// A producer's transaction, or the lack of one.
#[derive(Debug)]
pub(super) struct Transaction {
    transactional_id: ByteString,
    state: State,
    identity: Option<Identity>,
    /// Partitions join with their first batch.
    implicit: bool,
    /// To be made part of the transaction before they can be sent to.
    wanted: BTreeSet<TopicPartition>,
    joined: BTreeSet<TopicPartition>,
    /// The coordinator may know of the transaction.
    begun: bool,
    raise_epoch: bool,
}

impl Transaction {
    pub(super) fn new(transactional_id: ByteString) -> Self {
        Self {
            transactional_id,
            state: State::Uninitialized,
            identity: None,
            implicit: false,
            wanted: BTreeSet::new(),
            joined: BTreeSet::new(),
            begun: false,
            raise_epoch: false,
        }
    }

    pub(super) fn transactional_id(&self) -> &ByteString {
        &self.transactional_id
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Whether partitions join with their first batch.
    pub(super) fn implicit(&self) -> bool {
        self.implicit
    }

    /// Whether there is a transaction that an abort would end.
    pub(super) fn needs_abort(&self) -> bool {
        matches!(self.state, State::Open | State::Abortable(_) | State::Aborting)
    }

    pub(super) fn begin_init(&mut self) -> Result<()> {
        match &self.state {
            State::Uninitialized | State::Initializing => self.state = State::Initializing,
            _ => return Err(self.wrong("init_transactions was called before")),
        }
        Ok(())
    }

    pub(super) fn initialized(&mut self, identity: Identity, implicit: bool) {
        self.identity = Some(identity);
        self.implicit = implicit;
        self.state = State::Ready;
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        match &self.state {
            State::Ready => self.state = State::Open,
            State::Uninitialized | State::Initializing => {
                return Err(self.wrong("init_transactions has to be called first"));
            }
            _ => return Err(self.failure("there is a transaction already")),
        }
        Ok(())
    }

    /// Whether records may be added.
    pub(super) fn check_append(&self) -> Result<()> {
        match &self.state {
            State::Open => Ok(()),
            _ => Err(self.failure("there is no open transaction; call begin_transaction first")),
        }
    }

    /// Whether a batch may go to the partition now; otherwise notes that the partition is to join.
    pub(super) fn admits(&mut self, partition: &TopicPartition) -> bool {
        if !matches!(self.state, State::Open | State::Committing) {
            return false;
        }
        if self.implicit || self.joined.contains(partition) {
            return true;
        }
        self.wanted.insert(partition.clone());
        false
    }

    /// A batch goes to the partition.
    pub(super) fn sending(&mut self, partition: &TopicPartition) {
        self.begun = true;
        if self.implicit && !self.joined.contains(partition) {
            self.joined.insert(partition.clone());
        }
    }

    pub(super) fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Partitions that the coordinator is to be told of now.
    pub(super) fn take_wanted(&mut self) -> Option<(Identity, Vec<TopicPartition>)> {
        let identity = self.identity?;
        if self.wanted.is_empty() || !matches!(self.state, State::Open | State::Committing) {
            return None;
        }
        self.begun = true;
        Some((identity, std::mem::take(&mut self.wanted).into_iter().collect()))
    }

    /// The coordinator knows of these partitions.
    pub(super) fn joined(&mut self, partitions: Vec<TopicPartition>) {
        self.joined.extend(partitions);
    }

    /// A batch, or a call to the coordinator, has failed for good. `sent` says that a batch was sent and may be written.
    pub(super) fn failed(&mut self, error: &Error, sent: bool) {
        self.raise_epoch |= sent;
        if is_fatal(error) {
            self.state = State::Fatal(error.clone());
        } else if matches!(self.state, State::Open | State::Committing) {
            self.state = State::Abortable(error.clone());
        }
    }

    /// A call that only the coordinator's own producer may make was refused: it is another one by now.
    pub(super) fn refused(&mut self, error: &Error) {
        match error.code() {
            Some(ErrorCode::InvalidProducerEpoch | ErrorCode::InvalidTxnState) => {
                self.state = State::Fatal(error.clone());
            }
            _ => self.failed(error, false),
        }
    }

    /// Why nothing that waits will be sent any more.
    pub(super) fn dooms(&self) -> Option<Error> {
        match &self.state {
            State::Abortable(cause) | State::Fatal(cause) => Some(self.caused_by(cause)),
            State::Aborting => {
                Some(Error::TransactionAborted { transactional_id: self.transactional_id.to_string() })
            }
            _ => None,
        }
    }

    pub(super) fn begin_commit(&mut self) -> Result<()> {
        match &self.state {
            State::Open | State::Committing => self.state = State::Committing,
            _ => return Err(self.failure("there is no open transaction")),
        }
        Ok(())
    }

    pub(super) fn begin_abort(&mut self) -> Result<()> {
        match &self.state {
            State::Open | State::Abortable(_) | State::Aborting => self.state = State::Aborting,
            State::Committing => {
                return Err(
                    self.wrong("the transaction is being committed; commit_transaction may be repeated")
                );
            }
            _ => return Err(self.failure("there is no open transaction")),
        }
        self.wanted.clear();
        Ok(())
    }

    /// What to tell the coordinator once all batches are back; `None` where it knows of nothing.
    pub(super) fn ending(&self) -> Result<Option<Ending>> {
        if let State::Abortable(_) | State::Fatal(_) = &self.state {
            return Err(self.failure("the transaction has failed"));
        }
        let Some(identity) = self.identity.filter(|_| self.begun) else { return Ok(None) };
        Ok(Some(Ending { identity, implicit: self.implicit, raise_epoch: self.raise_epoch }))
    }

    /// The transaction has ended; `identity` is that of the next one, where it changes.
    pub(super) fn ended(&mut self, identity: Option<Identity>) {
        self.identity = identity.or(self.identity);
        self.wanted.clear();
        self.joined.clear();
        self.begun = false;
        self.raise_epoch = false;
        self.state = State::Ready;
    }

    /// Why a call cannot be made: what went wrong before, or else that it is out of place.
    fn failure(&self, why: &str) -> Error {
        match &self.state {
            State::Abortable(cause) | State::Fatal(cause) => self.caused_by(cause),
            _ => self.wrong(why),
        }
    }

    fn caused_by(&self, cause: &Error) -> Error {
        let transactional_id = self.transactional_id.to_string();
        Error::Transaction { transactional_id, cause: Box::new(cause.clone()) }
    }

    fn wrong(&self, why: &str) -> Error {
        Error::Invalid(format!("transactional.id {}: {why}", self.transactional_id))
    }
}

/// Whether no later transaction of this producer can succeed either.
fn is_fatal(error: &Error) -> bool {
    matches!(error, Error::UnsupportedVersion { .. } | Error::Closed(_))
        || matches!(
            error.code(),
            Some(
                ErrorCode::ProducerFenced
                    | ErrorCode::TransactionalIdAuthorizationFailed
                    | ErrorCode::ClusterAuthorizationFailed
                    | ErrorCode::InvalidProducerIdMapping
                    | ErrorCode::UnsupportedForMessageFormat
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Identity = Identity { id: ProducerId(7), epoch: ProducerEpoch(0) };
    const NEXT: Identity = Identity { id: ProducerId(7), epoch: ProducerEpoch(1) };

    fn ready(implicit: bool) -> Transaction {
        let mut transaction = Transaction::new("t".into());
        assert!(transaction.begin().is_err(), "not initialized");
        transaction.begin_init().expect("first");
        transaction.initialized(FIRST, implicit);
        transaction
    }

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn code(code: ErrorCode) -> Error {
        Error::of_code("b:1", "Produce", || "t-0".to_owned(), code.code(), None).expect("an error")
    }

    #[test]
    fn partitions_join_before_they_are_sent_to() {
        let mut transaction = ready(false);
        assert!(transaction.check_append().is_err());
        assert!(!transaction.admits(&tp(0)), "nothing is open");
        transaction.begin().expect("ready");
        assert!(transaction.begin().is_err(), "one at a time");
        transaction.check_append().expect("open");
        assert!(!transaction.admits(&tp(0)));
        assert!(!transaction.admits(&tp(0)));
        assert_eq!(transaction.take_wanted(), Some((FIRST, vec![tp(0)])));
        assert_eq!(transaction.take_wanted(), None);
        transaction.joined(vec![tp(0)]);
        assert!(transaction.admits(&tp(0)));
        assert!(!transaction.admits(&tp(1)));
        transaction.begin_commit().expect("open");
        assert!(transaction.admits(&tp(0)), "what is buffered still goes out");
        assert!(transaction.check_append().is_err());
        let ending = Ending { identity: FIRST, implicit: false, raise_epoch: false };
        assert_eq!(transaction.ending().expect("sound"), Some(ending));
        transaction.ended(None);
        assert_eq!(transaction.identity(), Some(FIRST));
        transaction.begin().expect("ready");
        assert!(!transaction.admits(&tp(0)), "a new transaction has no partitions");
    }

    #[test]
    fn an_empty_transaction_needs_no_call() {
        for implicit in [false, true] {
            let mut transaction = ready(implicit);
            transaction.begin().expect("ready");
            transaction.begin_commit().expect("open");
            assert_eq!(transaction.ending().expect("sound"), None);
        }
    }

    #[test]
    fn newer_brokers_take_partitions_with_their_batches_and_raise_the_epoch() {
        let mut transaction = ready(true);
        transaction.begin().expect("ready");
        assert!(transaction.admits(&tp(0)));
        transaction.sending(&tp(0));
        transaction.begin_commit().expect("open");
        assert!(transaction.ending().expect("sound").is_some());
        transaction.ended(Some(NEXT));
        assert_eq!(transaction.identity(), Some(NEXT));
    }

    #[test]
    fn a_lost_batch_forbids_the_commit_and_asks_for_another_epoch() {
        let mut transaction = ready(false);
        transaction.begin().expect("ready");
        transaction.sending(&tp(0));
        transaction.failed(&code(ErrorCode::MessageTooLarge), true);
        assert_eq!(transaction.begin_commit().expect_err("failed").code(), Some(ErrorCode::MessageTooLarge));
        assert_eq!(transaction.check_append().expect_err("failed").code(), Some(ErrorCode::MessageTooLarge));
        assert!(transaction.dooms().is_some());
        transaction.begin_abort().expect("abortable");
        transaction.failed(&code(ErrorCode::OutOfOrderSequenceNumber), true);
        assert!(transaction.ending().expect("sound").expect("sent").raise_epoch);
        transaction.ended(Some(NEXT));
        transaction.begin().expect("ready again");
        assert!(transaction.dooms().is_none());
    }

    #[test]
    fn who_is_fenced_stays_so() {
        let mut transaction = ready(true);
        transaction.begin().expect("ready");
        transaction.failed(&code(ErrorCode::ProducerFenced), true);
        for refused in [transaction.begin_abort(), transaction.begin_commit(), transaction.begin()] {
            assert!(refused.expect_err("fenced").is_fenced());
        }
        let mut transaction = ready(true);
        transaction.begin().expect("ready");
        transaction.failed(&code(ErrorCode::InvalidProducerEpoch), true);
        transaction.begin_abort().expect("the coordinator has the last word");
        transaction.refused(&code(ErrorCode::InvalidProducerEpoch));
        assert!(transaction.ending().expect_err("fenced").is_fenced());
    }
}
