//! OffsetCommit and OffsetDelete.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;

use super::Groups;
use crate::coordinator::context::{Context, Then};
use crate::coordinator::effect::{Effect, Reply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::GroupId;
use crate::coordinator::offsets::Committed;
use crate::coordinator::record::Record;
use crate::coordinator::request::{Caller, Commit, CommitOffset, Now};

impl Groups {
    /// Answers when the offsets are in the log.
    pub fn on_commit(&mut self, now: Now, token: Token, commit: &Commit) -> Vec<Effect> {
        let mut effects = Vec::new();
        let group =
            self.groups.entry(commit.group.clone()).or_insert_with(|| Group::new(commit.group.clone()));
        let unknown = group.is_forgettable() && commit.caller.generation.is_some();
        self.with(now, &mut effects, &commit.group, |group, cx| {
            let checked = if unknown {
                Err(if commit.knows_unknown_group {
                    ErrorCode::GroupIdNotFound
                } else {
                    ErrorCode::IllegalGeneration
                })
            } else {
                group.may_commit(commit)
            };
            match checked {
                Ok(()) => group.commit(cx, token, commit),
                Err(error) => cx.reply(token, Reply::Partitions(Err(error))),
            }
        });
        effects
    }

    /// Forgets offsets of topics that nobody reads; answers when that is in the log.
    pub fn on_offset_delete(
        &mut self,
        now: Now,
        token: Token,
        group: &GroupId,
        partitions: &[(Arc<str>, i32)],
    ) -> Vec<Effect> {
        if group.as_str().is_empty() {
            return vec![Effect::Reply(token, Reply::Partitions(Err(ErrorCode::InvalidGroupId)))];
        }
        let missing = || Reply::Partitions(Err(ErrorCode::GroupIdNotFound));
        self.ask(now, group, token, missing, |group, cx| {
            if group.state() != GroupState::Empty && !group.is_consumer_group() {
                cx.reply(token, Reply::Partitions(Err(ErrorCode::NonEmptyGroup)));
            } else {
                group.delete_offsets(cx, token, partitions);
            }
        })
    }
}

impl Group {
    /// Whether the caller's offsets are wanted.
    fn may_commit(&self, commit: &Commit) -> Result<(), ErrorCode> {
        if self.consumer.is_some() {
            return self.consumer_may_commit(
                &commit.caller,
                false,
                commit.knows_unknown_group,
                &commit.offsets,
            );
        }
        let Caller { member_id, instance_id, generation } = &commit.caller;
        if !generation.is_some() && self.state() == GroupState::Empty {
            // An administrator, or a consumer that assigns partitions to itself.
            return Ok(());
        }
        if !generation.is_some() && member_id.as_str().is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(member_id, instance_id.as_ref())?;
        if *generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state() == GroupState::CompletingRebalance {
            // The member knows the generation, yet not what of it is its own.
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    fn commit(&mut self, cx: &mut Context<'_>, token: Token, commit: &Commit) {
        if self.member(&commit.caller.member_id).is_some() {
            self.renew_session(cx, &commit.caller.member_id);
        }
        let expire_ms = commit.retention_ms.map(|keep| cx.now.wall_ms.saturating_add(keep));
        let mut records = Vec::with_capacity(commit.offsets.len());
        let mut codes = Vec::with_capacity(commit.offsets.len());
        for at in &commit.offsets {
            let metadata = at.metadata.clone().unwrap_or_default();
            if metadata.encode_utf16().count() > cx.options.offset_metadata_max {
                codes.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            codes.push(ErrorCode::None);
            records.push(self.offset_record(at, metadata, cx.now.wall_ms, expire_ms));
        }
        if records.is_empty() {
            cx.reply(token, Reply::Partitions(Ok(codes)));
        } else {
            cx.append(records, Then::Answer { token, codes });
        }
    }

    pub(super) fn offset_record(
        &self,
        at: &CommitOffset,
        metadata: Box<str>,
        commit_ms: i64,
        expire_ms: Option<i64>,
    ) -> Record {
        let &CommitOffset { offset, leader_epoch, topic_id, partition, .. } = at;
        let value = Committed { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id };
        Record::Offset { group: self.id.clone(), topic: at.topic.clone(), partition, value: Some(value) }
    }

    fn delete_offsets(&mut self, cx: &mut Context<'_>, token: Token, partitions: &[(Arc<str>, i32)]) {
        let mut records = Vec::new();
        let mut codes = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            if self.is_subscribed(topic) {
                codes.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            codes.push(ErrorCode::None);
            if self.offsets.get(topic, *partition).is_some() {
                records.push(self.tombstone(topic, *partition));
            }
        }
        if records.is_empty() {
            cx.reply(token, Reply::Partitions(Ok(codes)));
        } else {
            cx.append(records, Then::Answer { token, codes });
        }
    }

    pub(super) fn tombstone(&self, topic: &Arc<str>, partition: i32) -> Record {
        Record::Offset { group: self.id.clone(), topic: topic.clone(), partition, value: None }
    }
}
