//! What members say to each other, as bytes. Every request names the cluster, the sender with its directory, and the
//! receiver with the directory that it is expected to have.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse,
};

use crate::codec::{
    get_bytes, get_directory, get_entry, get_flag, get_meta, get_opt_log_id, get_text, get_vote, put_bytes,
    put_directory, put_entry, put_meta, put_opt_log_id, put_text, put_vote,
};
use crate::types::{DirectoryId, NodeId, Types, Vote};

/// Format of the messages; a node refuses others.
const VERSION: u8 = 1;
/// A snapshot larger than this is not taken.
pub(crate) const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// Who says something to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub cluster_id: String,
    pub from: NodeId,
    pub from_directory: DirectoryId,
    pub to: NodeId,
    /// Unknown before the first members are agreed on.
    pub to_directory: DirectoryId,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<NodeId>),
    Snapshot(InstallSnapshotRequest<Types>),
    /// Who are you, and is there a quorum yet?
    Hello,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Response {
    Append(AppendEntriesResponse<NodeId>),
    Vote(VoteResponse<NodeId>),
    Snapshot(Vote),
    /// The piece of a snapshot does not follow on what has come; it is to be sent from the beginning.
    SnapshotMismatch {
        expected: (String, u64),
        got: (String, u64),
    },
    Hello {
        directory: DirectoryId,
        is_new: bool,
    },
    /// The receiver does not talk to this sender; why, for its log.
    Refused(String),
    /// The receiver's node cannot go on.
    Failed(String),
}

impl Envelope {
    pub(crate) fn encode(&self, request: &Request) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        put_text(&mut out, &self.cluster_id);
        out.put_u64(self.from);
        put_directory(&mut out, self.from_directory);
        out.put_u64(self.to);
        put_directory(&mut out, self.to_directory);
        request.encode(&mut out);
        out.freeze()
    }

    /// Reads a request; `None` where the bytes are none of this version.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<(Self, Request)> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let envelope = Self {
            cluster_id: get_text(&mut bytes)?,
            from: bytes.try_get_u64().ok()?,
            from_directory: get_directory(&mut bytes)?,
            to: bytes.try_get_u64().ok()?,
            to_directory: get_directory(&mut bytes)?,
        };
        Some((envelope, Request::decode(bytes)?))
    }
}

impl Request {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Append(append) => {
                out.put_u8(1);
                put_vote(out, &append.vote);
                put_opt_log_id(out, append.prev_log_id);
                put_opt_log_id(out, append.leader_commit);
                out.put_u32(append.entries.len() as u32);
                append.entries.iter().for_each(|entry| put_entry(out, entry));
            }
            Self::Vote(vote) => {
                out.put_u8(2);
                put_vote(out, &vote.vote);
                put_opt_log_id(out, vote.last_log_id);
            }
            Self::Snapshot(piece) => {
                out.put_u8(3);
                put_vote(out, &piece.vote);
                put_meta(out, &piece.meta);
                out.put_u64(piece.offset);
                out.put_u8(u8::from(piece.done));
                put_bytes(out, &piece.data);
            }
            Self::Hello => out.put_u8(4),
        }
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let bytes = &mut bytes;
        let request = match kind {
            1 => {
                let (vote, prev_log_id) = (get_vote(bytes)?, get_opt_log_id(bytes)?);
                let leader_commit = get_opt_log_id(bytes)?;
                let mut entries = Vec::new();
                for _ in 0..bytes.try_get_u32().ok()? {
                    entries.push(get_entry(bytes)?);
                }
                Self::Append(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
            }
            2 => Self::Vote(VoteRequest { vote: get_vote(bytes)?, last_log_id: get_opt_log_id(bytes)? }),
            3 => {
                let (vote, meta) = (get_vote(bytes)?, get_meta(bytes)?);
                let (offset, done) = (bytes.try_get_u64().ok()?, get_flag(bytes)?);
                let data = get_bytes(bytes)?.to_vec();
                offset.checked_add(data.len() as u64).filter(|end| *end <= MAX_SNAPSHOT_BYTES)?;
                Self::Snapshot(InstallSnapshotRequest { vote, meta, offset, data, done })
            }
            4 => Self::Hello,
            _ => return None,
        };
        bytes.is_empty().then_some(request)
    }
}

impl Response {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Append(AppendEntriesResponse::Success) => out.put_slice(&[1, 0]),
            Self::Append(AppendEntriesResponse::PartialSuccess(id)) => {
                out.put_slice(&[1, 1]);
                put_opt_log_id(&mut out, *id);
            }
            Self::Append(AppendEntriesResponse::Conflict) => out.put_slice(&[1, 2]),
            Self::Append(AppendEntriesResponse::HigherVote(vote)) => {
                out.put_slice(&[1, 3]);
                put_vote(&mut out, vote);
            }
            Self::Vote(vote) => {
                out.put_u8(2);
                put_vote(&mut out, &vote.vote);
                out.put_u8(u8::from(vote.vote_granted));
                put_opt_log_id(&mut out, vote.last_log_id);
            }
            Self::Snapshot(vote) => {
                out.put_u8(3);
                put_vote(&mut out, vote);
            }
            Self::SnapshotMismatch { expected, got } => {
                out.put_u8(4);
                for (id, offset) in [expected, got] {
                    put_text(&mut out, id);
                    out.put_u64(*offset);
                }
            }
            Self::Hello { directory, is_new } => {
                out.put_u8(5);
                put_directory(&mut out, *directory);
                out.put_u8(u8::from(*is_new));
            }
            Self::Refused(why) => {
                out.put_u8(6);
                put_text(&mut out, why);
            }
            Self::Failed(why) => {
                out.put_u8(7);
                put_text(&mut out, why);
            }
        }
        out.freeze()
    }

    /// Reads an answer; `None` where the bytes are none.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let bytes = &mut bytes;
        Some(match kind {
            1 => Self::Append(match bytes.try_get_u8().ok()? {
                0 => AppendEntriesResponse::Success,
                1 => AppendEntriesResponse::PartialSuccess(get_opt_log_id(bytes)?),
                2 => AppendEntriesResponse::Conflict,
                3 => AppendEntriesResponse::HigherVote(get_vote(bytes)?),
                _ => return None,
            }),
            2 => Self::Vote(VoteResponse {
                vote: get_vote(bytes)?,
                vote_granted: get_flag(bytes)?,
                last_log_id: get_opt_log_id(bytes)?,
            }),
            3 => Self::Snapshot(get_vote(bytes)?),
            4 => {
                let mut place = || Some((get_text(bytes)?, bytes.try_get_u64().ok()?));
                Self::SnapshotMismatch { expected: place()?, got: place()? }
            }
            5 => Self::Hello { directory: get_directory(bytes)?, is_new: get_flag(bytes)? },
            6 => Self::Refused(get_text(bytes)?),
            7 => Self::Failed(get_text(bytes)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::entries;
    use crate::types::SnapshotMeta;

    #[test]
    fn requests_round_trip_and_cut_bytes_are_none() {
        let envelope = Envelope {
            cluster_id: "c".into(),
            from: 1,
            from_directory: DirectoryId([1; 16]),
            to: 2,
            to_directory: DirectoryId([2; 16]),
        };
        let last_log_id = Some(entries()[0].log_id);
        let requests = [
            Request::Append(AppendEntriesRequest {
                vote: Vote::new_committed(3, 1),
                prev_log_id: None,
                entries: entries(),
                leader_commit: last_log_id,
            }),
            Request::Vote(VoteRequest { vote: Vote::new(3, 1), last_log_id }),
            Request::Snapshot(InstallSnapshotRequest {
                vote: Vote::new_committed(3, 1),
                meta: SnapshotMeta { last_log_id, ..Default::default() },
                offset: 7,
                data: vec![1, 2, 3],
                done: true,
            }),
            Request::Hello,
        ];
        for request in requests {
            let bytes = envelope.encode(&request);
            let (who, what) = Envelope::decode(bytes.clone()).unwrap();
            assert_eq!((who, format!("{what:?}")), (envelope.clone(), format!("{request:?}")));
            for cut in 0..bytes.len() {
                assert!(Envelope::decode(bytes.slice(..cut)).is_none());
            }
        }
    }

    #[test]
    fn answers_round_trip_and_cut_bytes_are_none() {
        let id = Some(entries()[0].log_id);
        let vote = Vote::new_committed(3, 1);
        let answers = [
            Response::Append(AppendEntriesResponse::Success),
            Response::Append(AppendEntriesResponse::PartialSuccess(id)),
            Response::Append(AppendEntriesResponse::Conflict),
            Response::Append(AppendEntriesResponse::HigherVote(vote)),
            Response::Vote(VoteResponse { vote, vote_granted: true, last_log_id: id }),
            Response::Snapshot(vote),
            Response::SnapshotMismatch { expected: ("a".into(), 1), got: ("b".into(), 2) },
            Response::Hello { directory: DirectoryId([4; 16]), is_new: true },
            Response::Refused("no".into()),
            Response::Failed("disk".into()),
        ];
        for answer in answers {
            let bytes = answer.encode();
            assert_eq!(format!("{:?}", Response::decode(bytes.clone()).unwrap()), format!("{answer:?}"));
            for cut in 0..bytes.len() {
                assert!(Response::decode(bytes.slice(..cut)).is_none());
            }
        }
    }
}
