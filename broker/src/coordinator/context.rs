//! What the transitions of a group act through.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::ProducerId;
use bytes::Bytes;

use super::effect::{Effect, Marker, Reply, Token, TransactionalProducer, WriteId};
use super::ids::{Generation, GroupId, MemberId};
use super::member::Member;
use super::options::GroupOptions;
use super::pending::OpenTransactions;
use super::record::Record;
use super::request::Now;
use super::timers::Timers;
use crate::metadata::MetadataImage;

/// What is done when an append is over.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing: the record only saves a reload some work.
    Nothing,
    /// The records take effect, and one code for each partition is the answer.
    Answer { token: Token, codes: Vec<ErrorCode> },
    /// The offsets wait for the end of a producer's transaction, and one code for each partition is the answer.
    Pending { group: GroupId, token: Token, codes: Vec<ErrorCode>, producer: ProducerId },
    /// A producer's transaction ends.
    Marker { token: Token, marker: Marker },
    /// The records take effect, and nobody waits.
    Apply,
    /// The records take effect and the group is gone.
    Delete { group: GroupId, token: Token },
    /// The leader's assignment becomes the group's.
    Assign { group: GroupId, generation: Generation, assignments: HashMap<MemberId, Bytes> },
    /// Changes of a consumer group, which have taken effect already, are in the log.
    Consumer { group: GroupId, reply: Option<(Token, Reply)> },
    /// A static member has come back under a new id.
    Replace(Box<Replacement>),
}

/// A static member's return, until it is on disk.
#[derive(Debug)]
pub(super) struct Replacement {
    pub group: GroupId,
    /// The JoinGroup that waits.
    pub token: Token,
    /// The id that was given.
    pub new_id: MemberId,
    /// The member as it was, for the case that the append fails.
    pub old: Member,
    /// Who led the group before.
    pub leader: MemberId,
    pub may_skip_assignment: bool,
}

/// Appends under way.
#[derive(Debug, Default)]
pub(super) struct Writes {
    next: u64,
    pending: HashMap<WriteId, (Arc<[Record]>, Then)>,
}

impl Writes {
    fn begin(&mut self, records: Arc<[Record]>, then: Then) -> WriteId {
        self.next += 1;
        let write = WriteId(self.next);
        self.pending.insert(write, (records, then));
        write
    }

    pub fn take(&mut self, write: WriteId) -> Option<(Arc<[Record]>, Then)> {
        self.pending.remove(&write)
    }
}

/// All that a transition may touch besides its group.
pub(super) struct Context<'a> {
    pub now: Now,
    pub options: &'a GroupOptions,
    pub image: &'a Arc<MetadataImage>,
    pub timers: &'a mut Timers,
    pub writes: &'a mut Writes,
    pub open: &'a OpenTransactions,
    pub effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub fn reply(&mut self, token: Token, reply: Reply) {
        self.effects.push(Effect::Reply(token, reply));
    }

    pub fn append(&mut self, records: Vec<Record>, then: Then) -> WriteId {
        let records: Arc<[Record]> = records.into();
        let write = self.writes.begin(records.clone(), then);
        self.effects.push(Effect::Append(write, records));
        write
    }

    /// As [`Context::append`], as part of a transaction.
    pub fn append_transactional(
        &mut self,
        producer: TransactionalProducer,
        records: Vec<Record>,
        then: Then,
    ) {
        let records: Arc<[Record]> = records.into();
        let write = self.writes.begin(records.clone(), then);
        self.effects.push(Effect::AppendTransactional(write, producer, records));
    }

    /// As [`Context::append`], for the end of a transaction.
    pub fn append_marker(&mut self, marker: Marker, then: Then) {
        let write = self.writes.begin(Arc::new([]), then);
        self.effects.push(Effect::AppendMarker(write, marker));
    }

    /// The moment `millis` from now.
    pub fn after(&self, millis: i64) -> i64 {
        self.now.tick_ms.saturating_add(millis)
    }
}
