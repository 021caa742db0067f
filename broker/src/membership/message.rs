//! The two APIs that our nodes speak among themselves, in the frames of every other API: messages of the quorum, and
//! requests for the active controller. Both need CLUSTER_ACTION.

use aqueduct_protocol::api::ApiKey;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::{Decode, DecodeError, Encode, EncodeError, Request as Api};
use aqueduct_quorum::{DirectoryId, Peer};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::wire::{Wire, wire_enum, wire_struct};
use crate::controller::{Reply, Request};
use crate::metadata::{MetadataError, Rejection};

/// Bytes that the protocol crate takes as they are: what is in them is checked by who reads them.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident),+) => {
        $( $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $name(pub Bytes);

        impl Encode for $name {
            fn encode(&self, out: &mut BytesMut, _: i16) -> Result<(), EncodeError> {
                out.put_slice(&self.0);
                Ok(())
            }
        }

        impl Decode for $name {
            fn decode(bytes: &mut Bytes, _: i16) -> Result<Self, DecodeError> {
                Ok(Self(std::mem::take(bytes)))
            }
        } )+
    };
}

opaque! {
    /// A request of another member to this node's quorum.
    QuorumMessage,
    /// What the quorum answers, or why it was not asked: see [`open`].
    QuorumAnswer,
    /// An [`Asked`].
    AskController,
    /// An [`Answered`], or why there is none: see [`open`].
    ControllerAnswer
}

impl Api for QuorumMessage {
    type Response = QuorumAnswer;
    const API_KEY: i16 = ApiKey::QUORUM_MESSAGE;
    const NAME: &'static str = "QuorumMessage";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 0;
    const FIRST_FLEXIBLE: i16 = i16::MAX;
}

impl Api for AskController {
    type Response = ControllerAnswer;
    const API_KEY: i16 = ApiKey::ASK_CONTROLLER;
    const NAME: &'static str = "AskController";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 0;
    const FIRST_FLEXIBLE: i16 = i16::MAX;
}

/// An answer with its error code before it.
pub(crate) fn closed(answer: Result<Bytes, ErrorCode>) -> Bytes {
    let mut out = BytesMut::new();
    match answer {
        Ok(bytes) => {
            ErrorCode::None.put(&mut out);
            out.put_slice(&bytes);
        }
        Err(code) => code.put(&mut out),
    }
    out.freeze()
}

/// What [`closed`] wrote; `None` where it did not.
pub(crate) fn open(mut bytes: Bytes) -> Option<Result<Bytes, ErrorCode>> {
    match ErrorCode::get(&mut bytes)? {
        ErrorCode::None => Some(Ok(bytes)),
        code => Some(Err(code)),
    }
}

/// Who asks. A node of another cluster, or with another disk than the quorum knows it with, is told so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    pub cluster_id: String,
    pub node: u64,
    pub directory: DirectoryId,
}

/// What is asked, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub sender: Sender,
    pub wish: Wish,
}

/// What the active controller can be asked for by other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Decisions. What an administrator asks for was authorised at the node that it was asked of.
    Decide(Vec<Request>),
    /// To follow the quorum, reached there.
    Observe(Peer),
    /// A vote for a node that follows; where the version is known it must be that directory.
    AddVoter {
        node: u64,
        directory: DirectoryId,
    },
    RemoveVoter {
        node: u64,
        directory: DirectoryId,
    },
    /// How far everybody is: a DescribeQuorum response of version 2.
    Describe,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    /// For each request a reply, and the version of the image that has them all.
    Decided {
        version: u64,
        replies: Vec<Answer>,
    },
    Done,
    Described(Bytes),
    Refused(Rejection),
    /// The node asked does not decide; who does, where it knows.
    NotController(Option<Leader>),
    /// The sender is none of this cluster's nodes, whoever leads: why, and what to do.
    Stranger(Rejection),
}

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Granted(Reply),
    Refused(Rejection),
}

/// The leader of the quorum, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub node: u64,
    pub peer: Peer,
}

impl From<Answer> for Result<Reply, MetadataError> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Granted(reply) => Ok(reply),
            Answer::Refused(rejection) => Err(rejection.into()),
        }
    }
}

impl Wire for DirectoryId {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        Wire::get(bytes).map(Self)
    }
}

wire_struct!(Peer { directory, listener, host, port });
wire_struct!(Sender { cluster_id, node, directory });
wire_struct!(Asked { sender, wish });
wire_struct!(Leader { node, peer });
wire_enum!(Wish {
    0 = Decide(requests),
    1 = Observe(peer),
    2 = AddVoter { node, directory },
    3 = RemoveVoter { node, directory },
    4 = Describe,
});
wire_enum!(Answer { 0 = Granted(reply), 1 = Refused(rejection) });
wire_enum!(Answered {
    0 = Decided { version, replies },
    1 = Done,
    2 = Described(response),
    3 = Refused(rejection),
    4 = NotController(leader),
    5 = Stranger(why),
});

/// The bytes of a value.
pub(super) fn encode(value: &impl Wire) -> Bytes {
    let mut out = BytesMut::new();
    value.put(&mut out);
    out.freeze()
}

/// A value that takes up all of `bytes`.
pub(super) fn decode<T: Wire>(mut bytes: Bytes) -> Option<T> {
    let value = T::get(&mut bytes)?;
    bytes.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Command;

    #[test]
    fn what_is_asked_and_answered_round_trips() {
        let peer = Peer { directory: DirectoryId([1; 16]), listener: "C".into(), host: "h".into(), port: 1 };
        let sender = Sender { cluster_id: "c".into(), node: 4, directory: DirectoryId([4; 16]) };
        let wishes = [
            Wish::Decide(vec![Request::Command(Command::AllocateProducerIds { count: 1 })]),
            Wish::Observe(peer.clone()),
            Wish::AddVoter { node: 4, directory: DirectoryId([1; 16]) },
            Wish::RemoveVoter { node: 4, directory: DirectoryId::UNKNOWN },
            Wish::Describe,
        ];
        for wish in wishes {
            let asked = Asked { sender: sender.clone(), wish };
            let bytes = encode(&asked);
            assert_eq!(decode(bytes.clone()), Some(asked));
            for cut in 0..bytes.len() {
                assert_eq!(decode::<Asked>(bytes.slice(..cut)), None);
            }
        }
        let rejection = Rejection::new(ErrorCode::InvalidRequest, "no");
        for answered in [
            Answered::Decided { version: 7, replies: vec![Answer::Refused(rejection.clone())] },
            Answered::Done,
            Answered::Described(Bytes::from_static(b"x")),
            Answered::Refused(rejection),
            Answered::NotController(Some(Leader { node: 1, peer })),
            Answered::Stranger(Rejection::new(ErrorCode::InconsistentClusterId, "why")),
        ] {
            assert_eq!(decode(encode(&answered)), Some(answered));
        }
        assert_eq!(open(closed(Err(ErrorCode::NotController))), Some(Err(ErrorCode::NotController)));
        assert_eq!(open(closed(Ok("b".into()))), Some(Ok("b".into())));
    }
}
