//! The messages of AddRaftVoter and RemoveRaftVoter (KIP-853), written by hand from the protocol's description.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::api::ApiKey;
use crate::codec::{read, write};
use crate::ids::Uuid;
use crate::{Decode, DecodeError, Encode, EncodeError, Request};

/// Where a voter is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterListener {
    pub name: ByteString,
    pub host: ByteString,
    pub port: u16,
}

/// AddRaftVoterRequest, versions 0 to 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddRaftVoterRequest {
    pub cluster_id: Option<ByteString>,
    pub timeout_ms: i32,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub listeners: Vec<VoterListener>,
    /// Version 1: whether the answer may come when the leader has taken the change up only. Ours comes when it is agreed on.
    pub ack_when_committed: bool,
}

/// RemoveRaftVoterRequest, version 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveRaftVoterRequest {
    pub cluster_id: Option<ByteString>,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
}

/// The response of either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftVoterResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<ByteString>,
}

impl Encode for AddRaftVoterRequest {
    fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
        write::nullable_string(out, true, self.cluster_id.as_deref(), "AddRaftVoterRequest.ClusterId")?;
        out.put_i32(self.timeout_ms);
        out.put_i32(self.voter_id);
        out.put_slice(&self.voter_directory_id.0);
        write::array(out, true, &self.listeners, "AddRaftVoterRequest.Listeners", |out, listener| {
            write::string(out, true, &listener.name, "AddRaftVoterRequest.Listeners.Name")?;
            write::string(out, true, &listener.host, "AddRaftVoterRequest.Listeners.Host")?;
            out.put_u16(listener.port);
            out.put_u8(0);
            Ok(())
        })?;
        if version >= 1 {
            out.put_u8(u8::from(self.ack_when_committed));
        }
        out.put_u8(0);
        Ok(())
    }
}

impl Decode for AddRaftVoterRequest {
    fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, DecodeError> {
        read::check_version("AddRaftVoterRequest", version, 0, 1)?;
        let this = Self {
            cluster_id: read::nullable_string(bytes, true, "AddRaftVoterRequest.ClusterId")?,
            timeout_ms: read::i32(bytes, "AddRaftVoterRequest.TimeoutMs")?,
            voter_id: read::i32(bytes, "AddRaftVoterRequest.VoterId")?,
            voter_directory_id: read::uuid(bytes, "AddRaftVoterRequest.VoterDirectoryId")?,
            listeners: read::array(bytes, true, 5, version, "AddRaftVoterRequest.Listeners", |bytes| {
                let listener = VoterListener {
                    name: read::string(bytes, true, version, "AddRaftVoterRequest.Listeners.Name")?,
                    host: read::string(bytes, true, version, "AddRaftVoterRequest.Listeners.Host")?,
                    port: read::u16(bytes, "AddRaftVoterRequest.Listeners.Port")?,
                };
                read::skip_tags(bytes, "AddRaftVoterRequest.Listeners")?;
                Ok(listener)
            })?,
            ack_when_committed: match version {
                0 => true,
                _ => read::bool(bytes, "AddRaftVoterRequest.AckWhenCommitted")?,
            },
        };
        read::skip_tags(bytes, "AddRaftVoterRequest")?;
        Ok(this)
    }
}

impl Encode for RemoveRaftVoterRequest {
    fn encode(&self, out: &mut BytesMut, _: i16) -> Result<(), EncodeError> {
        write::nullable_string(out, true, self.cluster_id.as_deref(), "RemoveRaftVoterRequest.ClusterId")?;
        out.put_i32(self.voter_id);
        out.put_slice(&self.voter_directory_id.0);
        out.put_u8(0);
        Ok(())
    }
}

impl Decode for RemoveRaftVoterRequest {
    fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, DecodeError> {
        read::check_version("RemoveRaftVoterRequest", version, 0, 0)?;
        let this = Self {
            cluster_id: read::nullable_string(bytes, true, "RemoveRaftVoterRequest.ClusterId")?,
            voter_id: read::i32(bytes, "RemoveRaftVoterRequest.VoterId")?,
            voter_directory_id: read::uuid(bytes, "RemoveRaftVoterRequest.VoterDirectoryId")?,
        };
        read::skip_tags(bytes, "RemoveRaftVoterRequest")?;
        Ok(this)
    }
}

impl Encode for RaftVoterResponse {
    fn encode(&self, out: &mut BytesMut, _: i16) -> Result<(), EncodeError> {
        out.put_i32(self.throttle_time_ms);
        out.put_i16(self.error_code);
        write::nullable_string(out, true, self.error_message.as_deref(), "RaftVoterResponse.ErrorMessage")?;
        out.put_u8(0);
        Ok(())
    }
}

impl Decode for RaftVoterResponse {
    fn decode(bytes: &mut Bytes, _: i16) -> Result<Self, DecodeError> {
        let this = Self {
            throttle_time_ms: read::i32(bytes, "RaftVoterResponse.ThrottleTimeMs")?,
            error_code: read::i16(bytes, "RaftVoterResponse.ErrorCode")?,
            error_message: read::nullable_string(bytes, true, "RaftVoterResponse.ErrorMessage")?,
        };
        read::skip_tags(bytes, "RaftVoterResponse")?;
        Ok(this)
    }
}

impl Request for AddRaftVoterRequest {
    type Response = RaftVoterResponse;
    const API_KEY: i16 = ApiKey::ADD_RAFT_VOTER;
    const NAME: &'static str = "AddRaftVoter";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 1;
    const FIRST_FLEXIBLE: i16 = 0;
}

impl Request for RemoveRaftVoterRequest {
    type Response = RaftVoterResponse;
    const API_KEY: i16 = ApiKey::REMOVE_RAFT_VOTER;
    const NAME: &'static str = "RemoveRaftVoter";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 0;
    const FIRST_FLEXIBLE: i16 = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip_and_cut_bytes_are_refused() {
        let add = AddRaftVoterRequest {
            cluster_id: Some("c".into()),
            timeout_ms: 5,
            voter_id: 4,
            voter_directory_id: Uuid([4; 16]),
            listeners: vec![VoterListener { name: "C".into(), host: "h".into(), port: 9093 }],
            ack_when_committed: true,
        };
        for version in 0..=1 {
            let mut out = BytesMut::new();
            add.encode(&mut out, version).unwrap();
            let bytes = out.freeze();
            assert_eq!(AddRaftVoterRequest::decode(&mut bytes.clone(), version), Ok(add.clone()));
            for cut in 0..bytes.len() {
                assert!(AddRaftVoterRequest::decode(&mut bytes.slice(..cut), version).is_err());
            }
        }
        let remove =
            RemoveRaftVoterRequest { cluster_id: None, voter_id: 4, voter_directory_id: Uuid([4; 16]) };
        let mut out = BytesMut::new();
        remove.encode(&mut out, 0).unwrap();
        assert_eq!(RemoveRaftVoterRequest::decode(&mut out.freeze(), 0), Ok(remove));
    }
}
