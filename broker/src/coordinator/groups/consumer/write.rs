//! Changes of a consumer group take effect at once and are told when they are in the log; what could not be written is
//! taken back. The log fails whatever was waiting behind a write that failed, so that the writes that are taken back are
//! always the last ones.

use aqueduct_protocol::ErrorCode;
use tracing::warn;

use crate::coordinator::consumer::draft::{Draft, take_back};
use crate::coordinator::consumer::entry::Entry;
use crate::coordinator::consumer::group::ConsumerGroup;
use crate::coordinator::context::{Context, Then};
use crate::coordinator::effect::{JoinReply, Reply, SyncReply, Token, WriteId};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::MemberId;
use crate::coordinator::record::Record;
use crate::coordinator::timers::TimerKey;

/// What takes a write back.
#[derive(Debug)]
pub(crate) enum Undo {
    /// Entries, to be applied in reverse order.
    Entries(Vec<Entry>),
    /// The group as it was before it became one of the other protocol.
    Protocol(Box<Group>),
}

impl Group {
    /// The consumer group that this is; `None` for a classic one.
    pub(in crate::coordinator) fn as_consumer(&self) -> Option<&ConsumerGroup> {
        self.consumer.as_deref()
    }

    /// Decides on a change; all of it counts, or with an error nothing. `Ok` gives what is to be written.
    pub(super) fn draft<T, E>(
        &mut self,
        decide: impl FnOnce(&mut Draft<'_>) -> Result<T, E>,
    ) -> Result<(T, Vec<Entry>, Vec<Entry>), E>
    where
        E: From<ErrorCode>,
    {
        let Some(consumer) = self.consumer.as_deref_mut() else {
            return Err(ErrorCode::GroupIdNotFound.into());
        };
        let mut draft = Draft::new(&mut consumer.state);
        match decide(&mut draft) {
            Ok(value) => {
                let (entries, undo) = draft.finish();
                Ok((value, entries, undo))
            }
            Err(error) => {
                draft.discard();
                Err(error)
            }
        }
    }

    /// Writes records and answers when they are in the log. Without records the answer waits only for what was written
    /// before, as it may tell of that.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        records: Vec<Record>,
        undo: Undo,
        reply: Option<(Token, Reply)>,
    ) {
        if records.is_empty() && self.unwritten.is_empty() {
            if let Some((token, reply)) = reply {
                cx.reply(token, reply);
            }
            return;
        }
        if records.is_empty() && reply.is_none() {
            return;
        }
        self.logged = true;
        let changes = !records.is_empty();
        let write = cx.append(records, Then::Consumer { group: self.id.clone(), reply });
        self.unwritten.push_back((write, undo));
        if changes {
            self.last_write = Some(write);
        }
    }

    /// Entries of this group as records.
    pub(super) fn records(&self, entries: Vec<Entry>) -> Vec<Record> {
        let record = |entry| Record::Consumer { group: self.id.clone(), entry };
        entries.into_iter().map(record).collect()
    }

    /// A write has ended.
    pub(in crate::coordinator) fn on_written(
        &mut self,
        cx: &mut Context<'_>,
        write: WriteId,
        result: Result<(), ErrorCode>,
    ) {
        match result {
            Ok(()) => self.unwritten.retain(|(waiting, _)| *waiting != write),
            Err(error) => {
                // The first of several: those behind it fail as well, and are taken back with it.
                let mut undone = false;
                while self.unwritten.back().is_some_and(|(waiting, _)| *waiting >= write) {
                    let Some((_, undo)) = self.unwritten.pop_back() else { break };
                    self.take_back(cx, undo, error);
                    undone = true;
                }
                if undone {
                    warn!(group = %self.id, ?error, "changes of the group could not be written and are taken back");
                    self.restart_sessions(cx);
                }
            }
        }
    }

    fn take_back(&mut self, cx: &mut Context<'_>, undo: Undo, error: ErrorCode) {
        match undo {
            Undo::Entries(entries) => {
                if let Some(consumer) = self.consumer.as_deref_mut() {
                    take_back(&mut consumer.state, entries);
                    consumer.stale = true;
                }
            }
            Undo::Protocol(before) => {
                let now = self.become_group(*before);
                now.abandon(cx, error);
                match self.state() {
                    GroupState::PreparingRebalance => {
                        let limit = cx.after(self.rebalance_timeout_ms());
                        cx.timers.set(TimerKey::Join(self.id.clone()), limit);
                    }
                    GroupState::CompletingRebalance => {
                        self.prepare_rebalance(cx, "a change of protocol could not be written");
                    }
                    GroupState::Empty | GroupState::Stable | GroupState::Dead => {}
                }
            }
        }
    }

    /// Turns into `other`, keeps what is common to both protocols, and gives back what it was.
    pub(super) fn become_group(&mut self, other: Group) -> Group {
        let mut was = std::mem::replace(self, other);
        std::mem::swap(&mut self.offsets, &mut was.offsets);
        std::mem::swap(&mut self.unwritten, &mut was.unwritten);
        self.logged = was.logged;
        self.last_write = was.last_write;
        was
    }

    /// Answers everyone who waits for this group: it is none any more.
    pub(super) fn abandon(mut self, cx: &mut Context<'_>, error: ErrorCode) {
        cx.timers.cancel(&TimerKey::Join(self.id.clone()));
        cx.timers.cancel(&TimerKey::Sync(self.id.clone()));
        for id in self.pending_join.drain() {
            cx.timers.cancel(&TimerKey::Session(self.id.clone(), id));
        }
        for id in self.member_ids() {
            if let Some(token) = self.unpark_join(&id) {
                cx.reply(token, Reply::Join(JoinReply::error(error, id.clone())));
            }
            if let Some(token) = self.member_mut(&id).and_then(|member| member.syncing.take()) {
                cx.reply(token, Reply::Sync(SyncReply::error(error)));
            }
            cx.timers.cancel(&TimerKey::Session(self.id.clone(), id));
        }
    }

    /// Gives every member a whole session from now.
    pub(in crate::coordinator) fn restart_sessions(&mut self, cx: &mut Context<'_>) {
        match self.as_consumer() {
            None => self.member_ids().iter().for_each(|id| self.renew_session(cx, id)),
            Some(consumer) => {
                let ids: Vec<MemberId> = consumer.state.members().map(|(id, _)| id.clone()).collect();
                ids.iter().for_each(|id| self.renew_consumer_session(cx, id));
            }
        }
    }
}
