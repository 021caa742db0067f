//! What a request is to the fetch sessions: a full one, one that begins a session, or one that continues it (KIP-227).

use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch};
use bytestring::ByteString;
use parking_lot::Mutex;

use super::read::Outcome;
use super::session::{PartitionKey, Position, Session};
use super::sessions::Sessions;

/// The epoch of a request that wants no session, or no longer.
const FINAL: i32 = -1;
/// The epoch of a request that begins a session.
const INITIAL: i32 = 0;

/// What is told of a partition besides what was read: its topic's name, who leads it.
pub(crate) type About = (Option<ByteString>, Option<(BrokerId, LeaderEpoch)>);

/// A partition that was read: how the client names it, what is known of it, from where.
pub(crate) type Read = ((PartitionKey, About, Position), Outcome);

/// One request's place in its session.
pub(crate) enum FetchContext {
    /// Everything asked for is answered, nothing is remembered.
    Sessionless(Vec<(PartitionKey, Position)>),
    /// Everything asked for is answered, and remembered from then on.
    Full { by_id: bool, positions: Vec<(PartitionKey, Position)> },
    /// Only news is answered.
    Incremental { id: i32, session: Arc<Mutex<Session>>, positions: Vec<(PartitionKey, Position)> },
}

impl FetchContext {
    /// Finds or begins the session that `(id, epoch)` speaks of.
    ///
    /// # Errors
    /// The code for the whole response: the session is unknown, the epoch is not the next one, or the session names its
    /// topics the other way.
    pub fn begin(
        sessions: &Sessions,
        (id, epoch): (i32, i32),
        by_id: bool,
        wanted: Vec<(PartitionKey, Position)>,
        forgotten: Vec<PartitionKey>,
        now_ms: i64,
    ) -> Result<Self, ErrorCode> {
        if epoch == FINAL || epoch == INITIAL {
            if id != 0 {
                sessions.remove(id);
            }
            return Ok(match epoch {
                INITIAL => Self::Full { by_id, positions: wanted },
                _ => Self::Sessionless(wanted),
            });
        }
        let session = sessions.get(id, now_ms).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut held = session.lock();
        if held.by_id() != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if !held.advance(epoch) {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        held.update(wanted, forgotten);
        let (size, positions) = (held.len(), held.positions());
        drop(held);
        if size == 0 {
            sessions.remove(id);
            return Ok(Self::Sessionless(Vec::new()));
        }
        sessions.resized(id, size);
        Ok(Self::Incremental { id, session, positions })
    }

    /// The partitions to read, in order.
    pub fn positions(&self) -> Vec<(PartitionKey, Position)> {
        match self {
            Self::Sessionless(positions)
            | Self::Full { positions, .. }
            | Self::Incremental { positions, .. } => positions.clone(),
        }
    }

    /// The session of an answer that tells nothing: a session begins with what it is told.
    pub fn id(&self) -> i32 {
        match self {
            Self::Incremental { id, .. } => *id,
            Self::Sessionless(_) | Self::Full { .. } => 0,
        }
    }

    /// Settles what is answered: the session's id, and the partitions that belong into the answer.
    pub fn finish(
        self,
        sessions: &Sessions,
        read: impl Iterator<Item = Read>,
        now_ms: i64,
    ) -> (i32, Vec<(PartitionKey, About, Outcome)>) {
        match self {
            Self::Sessionless(_) => (0, read.map(|((key, name, _), outcome)| (key, name, outcome)).collect()),
            Self::Full { by_id, .. } => {
                let mut cached = Vec::new();
                let mut told = Vec::new();
                for ((key, name, position), outcome) in read {
                    cached.push((key.clone(), position, outcome.told()));
                    told.push((key, name, outcome));
                }
                if cached.is_empty() {
                    return (0, told);
                }
                let id = sessions.put(Session::new(by_id, cached), now_ms).unwrap_or(0);
                (id, told)
            }
            Self::Incremental { id, session, .. } => {
                let mut session = session.lock();
                let news = |((key, name, _), outcome): Read| {
                    session.tell(&key, outcome.told()).then_some((key, name, outcome))
                };
                (id, read.filter_map(news).collect())
            }
        }
    }
}
