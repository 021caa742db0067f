//! Who may commit and fetch the offsets of a consumer group. A commit with an older epoch counts for partitions that the
//! member has had since then (KIP-1251): its request and the news of a new epoch may have crossed.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;

use crate::coordinator::consumer::partitions::epoch_of;
use crate::coordinator::consumer::state::Member;
use crate::coordinator::group::Group;
use crate::coordinator::ids::MemberId;
use crate::coordinator::request::{Caller, CommitOffset};

impl Group {
    /// Whether the caller's offsets are wanted. `transactional` is said of TxnOffsetCommit, `knows_epochs` of
    /// OffsetCommit 9 and later.
    pub(in crate::coordinator::groups) fn consumer_may_commit<'a>(
        &self,
        caller: &Caller,
        transactional: bool,
        knows_epochs: bool,
        offsets: impl IntoIterator<Item = &'a CommitOffset>,
    ) -> Result<(), ErrorCode> {
        let state = &self.as_consumer().ok_or(ErrorCode::GroupIdNotFound)?.state;
        let epoch = caller.generation.0;
        if epoch < 0 && state.is_empty() {
            return Ok(());
        }
        if transactional
            && epoch == -1
            && caller.member_id.as_str().is_empty()
            && caller.instance_id.is_none()
        {
            return Ok(());
        }
        let member = state.member(&caller.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !transactional && !member.is_classic() && !knows_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if epoch == member.standing.epoch {
            return Ok(());
        }
        let stale = out_of_date(member);
        if epoch > member.standing.epoch {
            return Err(stale);
        }
        let had_since = |topic: Uuid, index: i32| {
            let standing = &member.standing;
            let since =
                epoch_of(&standing.assigned, topic, index).or(epoch_of(&standing.revoking, topic, index));
            since.is_some_and(|since| epoch >= since)
        };
        let all = offsets.into_iter().all(|at| had_since(at.topic_id, at.partition));
        if all { Ok(()) } else { Err(stale) }
    }

    /// Whether someone may see the group's offsets: who says that it is a member must be one, and up to date.
    pub(in crate::coordinator) fn may_fetch(
        &self,
        member: Option<&MemberId>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let Some(consumer) = self.as_consumer() else { return Ok(()) };
        if member.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member.and_then(|id| consumer.state.member(id)).ok_or(ErrorCode::UnknownMemberId)?;
        if epoch == member.standing.epoch { Ok(()) } else { Err(out_of_date(member)) }
    }
}

fn out_of_date(member: &Member) -> ErrorCode {
    if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}
