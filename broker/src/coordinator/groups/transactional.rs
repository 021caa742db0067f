//! TxnOffsetCommit, and the markers that make its offsets count or undo them.

use std::collections::HashSet;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::ProducerId;

use super::Groups;
use crate::coordinator::context::{Context, Then};
use crate::coordinator::effect::{Effect, Marker, Reply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::GroupId;
use crate::coordinator::record::Record;
use crate::coordinator::request::{Caller, FetchTopic, Now, TransactionalCommit};

impl Groups {
    /// Answers when the offsets are in the log; they count from the transaction's commit marker on.
    pub fn on_transactional_commit(
        &mut self,
        now: Now,
        token: Token,
        commit: &TransactionalCommit,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let group =
            self.groups.entry(commit.group.clone()).or_insert_with(|| Group::new(commit.group.clone()));
        let unknown = group.is_forgettable() && commit.caller.generation.is_some();
        self.with(now, &mut effects, &commit.group, |group, cx| {
            let checked = match unknown {
                true => Err(ErrorCode::IllegalGeneration),
                false => group.may_commit_in_transaction(commit),
            };
            match checked {
                Ok(()) => group.commit_in_transaction(cx, token, commit),
                Err(error) => cx.reply(token, Reply::Partitions(Err(error))),
            }
        });
        effects
    }

    /// Writes the end of a producer's transaction; answers when it is in the log and its offsets have taken effect.
    pub fn on_marker(&mut self, now: Now, token: Token, marker: Marker) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut cx = Context {
            now,
            options: &self.options,
            image: &self.image,
            timers: &mut self.timers,
            writes: &mut self.writes,
            open: &self.open,
            effects: &mut effects,
        };
        cx.append_marker(marker, Then::Marker { token, marker });
        effects
    }

    /// Takes an offset of a transaction from the log.
    pub fn replay_transactional(&mut self, producer: ProducerId, record: Record) {
        match record {
            Record::Offset { group: id, topic, partition, value: Some(at) } => {
                let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone()));
                group.logged = true;
                self.open.add(producer, &id, &topic, partition, at);
            }
            other => self.replay(other),
        }
    }

    /// Takes the end of a transaction from the log.
    pub fn replay_marker(&mut self, producer: ProducerId, committed: bool) {
        for (group, topic, partition, at) in self.open.end(producer, committed) {
            let group = self.groups.entry(group.clone()).or_insert_with(|| Group::new(group));
            group.logged = true;
            group.offsets.insert(&topic, partition, at);
        }
    }

    /// The partitions asked for, or all, whose offsets a transaction may still change.
    pub fn unstable(&self, group: &str, topics: Option<&[FetchTopic]>) -> HashSet<(Arc<str>, i32)> {
        let Some(topics) = topics else {
            return self.open.places(group).map(|(topic, index)| (topic.clone(), index)).collect();
        };
        let places =
            topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&topic.name, *index)));
        let unstable = places.filter(|(topic, index)| self.open.holds(group, topic, *index));
        unstable.map(|(topic, index)| (topic.clone(), index)).collect()
    }
}

impl Group {
    /// Old clients say nothing of their membership, and are believed.
    fn may_commit_in_transaction(&self, commit: &TransactionalCommit) -> Result<(), ErrorCode> {
        if self.consumer.is_some() {
            return self.consumer_may_commit(&commit.caller, true, true, &commit.offsets);
        }
        let Caller { member_id, instance_id, generation } = &commit.caller;
        if !generation.is_some() && self.state() == GroupState::Empty {
            return Ok(());
        }
        if !generation.is_some() && member_id.as_str().is_empty() && instance_id.is_none() {
            return Ok(());
        }
        self.check_member(member_id, instance_id.as_ref())?;
        if *generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(())
    }

    fn commit_in_transaction(&mut self, cx: &mut Context<'_>, token: Token, commit: &TransactionalCommit) {
        let mut records = Vec::with_capacity(commit.offsets.len());
        let mut codes = Vec::with_capacity(commit.offsets.len());
        for at in &commit.offsets {
            let metadata = at.metadata.clone().unwrap_or_default();
            if metadata.encode_utf16().count() > cx.options.offset_metadata_max {
                codes.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            codes.push(ErrorCode::None);
            records.push(self.offset_record(at, metadata, cx.now.wall_ms, None));
        }
        if records.is_empty() {
            cx.reply(token, Reply::Partitions(Ok(codes)));
        } else {
            let producer = commit.producer.id;
            cx.append_transactional(
                commit.producer,
                records,
                Then::Pending { group: self.id.clone(), token, codes, producer },
            );
        }
    }
}

/// Whether nothing of the group is left that a transaction may still bring back.
pub(super) fn is_settled(cx: &Context<'_>, group: &GroupId) -> bool {
    !cx.open.holds_any(group.as_str())
}
