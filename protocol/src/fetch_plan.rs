//! The Fetch response as a plan: bytes to write, and slices of files to send.
//!
//! ```text
//! | size, header, topic, partition | file slice | tags, next partition | file slice | tags |
//!   Inline                           File         Inline                 File         Inline
//! ```
//!
//! A broker sends what producers wrote without looking at it. So this response is not one buffer: what stands around
//! the records is written into one allocation and cut where they go. Laid end to end, the chunks are the bytes that
//! [`crate::messages::FetchResponse`] would encode to. Versions 4 to 18.

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use crate::api::ApiKey;
use crate::codec::write;
use crate::header;
use crate::ids::Uuid;
use crate::message::{Encode as _, EncodeError, Request as _};
use crate::messages::FetchRequest;
use crate::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, NodeEndpoint, SnapshotId,
};

/// Records in memory up to this many bytes are copied next to their neighbours rather than sent as a chunk of their own.
const COPY_AT_MOST: usize = 1024;

/// A piece of the response; `F` is the caller's slice of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk<F> {
    /// Bytes to write.
    Inline(Bytes),
    /// A slice of a file to send.
    File(F),
}

/// The response, in the order in which it goes to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks<F> {
    /// What to send.
    pub chunks: Vec<Chunk<F>>,
    /// The bytes of all chunks.
    pub length: usize,
}

/// The records of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records<F> {
    /// In memory.
    Inline(Bytes),
    /// In files, one slice after the other.
    Files {
        /// The slices; empty ones are allowed.
        slices: Vec<F>,
        /// The bytes of all slices.
        length: usize,
    },
}

impl<F> Records<F> {
    /// Bytes of records.
    pub fn length(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Files { length, .. } => *length,
        }
    }
}

/// A Fetch response to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPlan<F> {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub session_id: i32,
    pub topics: Vec<FetchTopic<F>>,
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The partitions of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchTopic<F> {
    /// Written up to version 12.
    pub topic: ByteString,
    /// Written from version 13 on.
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition<F>>,
}

/// One partition. [`Default`] has what Kafka sends along with an error, and no records.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPartition<F> {
    pub partition_index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging_epoch: EpochEndOffset,
    pub current_leader: LeaderIdAndEpoch,
    pub snapshot_id: SnapshotId,
    /// Null where the consumer reads uncommitted records.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    pub preferred_read_replica: i32,
    pub records: Option<Records<F>>,
}

impl<F> Default for FetchPlan<F> {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            session_id: 0,
            topics: Vec::new(),
            node_endpoints: Vec::new(),
        }
    }
}

impl<F> Default for FetchPartition<F> {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: EpochEndOffset::default(),
            current_leader: LeaderIdAndEpoch::default(),
            snapshot_id: SnapshotId::default(),
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Some(Records::Inline(Bytes::new())),
        }
    }
}

impl<F> FetchPlan<F> {
    /// The whole frame: size, response header and body.
    pub fn into_frame(self, version: i16, correlation_id: i32) -> Result<Chunks<F>, EncodeError> {
        let mut out = Writer::with_capacity(self.inline_estimate());
        out.buf.put_i32(0);
        header::encode_response_header(&mut out.buf, ApiKey::FETCH, version, correlation_id);
        self.write(&mut out, version)?;
        let length = out.length() - 4;
        let size =
            i32::try_from(length).map_err(|_| EncodeError::TooLong { field: "FetchResponse", length })?;
        out.front()[..4].copy_from_slice(&size.to_be_bytes());
        Ok(out.finish())
    }

    /// The body alone.
    pub fn into_body(self, version: i16) -> Result<Chunks<F>, EncodeError> {
        let mut out = Writer::with_capacity(self.inline_estimate());
        self.write(&mut out, version)?;
        Ok(out.finish())
    }

    /// What the bytes around the records will take, about.
    fn inline_estimate(&self) -> usize {
        let partitions: usize = self.topics.iter().map(|t| t.partitions.len()).sum();
        64 + self.topics.len() * 40 + partitions * 96
    }

    fn write(self, out: &mut Writer<F>, version: i16) -> Result<(), EncodeError> {
        write::check_version("FetchResponse", version, FetchRequest::MIN_VERSION, FetchRequest::MAX_VERSION)?;
        let flexible = FetchRequest::is_flexible(version);
        out.buf.put_i32(self.throttle_time_ms);
        if version >= 7 {
            out.buf.put_i16(self.error_code);
            out.buf.put_i32(self.session_id);
        } else if self.session_id != 0 {
            return Err(write::not_in_version("FetchResponse.SessionId", version));
        }
        write::array_length(&mut out.buf, flexible, Some(self.topics.len()), "FetchResponse.Responses")?;
        for topic in self.topics {
            topic.write(out, version)?;
        }
        let mut tags = write::Tags::default();
        if !self.node_endpoints.is_empty() {
            const FIELD: &str = "FetchResponse.NodeEndpoints";
            if version < 16 {
                return Err(write::not_in_version(FIELD, version));
            }
            write::array(tags.start(), true, &self.node_endpoints, FIELD, |buf, v| v.encode(buf, version))?;
            tags.end(0, FIELD)?;
        }
        if flexible {
            tags.finish(&mut out.buf);
        }
        Ok(())
    }
}

impl<F> FetchTopic<F> {
    fn write(self, out: &mut Writer<F>, version: i16) -> Result<(), EncodeError> {
        const PARTITIONS: &str = "FetchResponse.FetchableTopicResponse.Partitions";
        let flexible = FetchRequest::is_flexible(version);
        if version >= 13 {
            out.buf.put_slice(&self.topic_id.0);
        } else {
            write::string(&mut out.buf, flexible, &self.topic, "FetchResponse.FetchableTopicResponse.Topic")?;
        }
        write::array_length(&mut out.buf, flexible, Some(self.partitions.len()), PARTITIONS)?;
        for partition in self.partitions {
            partition.write(out, version)?;
        }
        if flexible {
            out.buf.put_u8(0);
        }
        Ok(())
    }
}

impl<F> FetchPartition<F> {
    fn write(mut self, out: &mut Writer<F>, version: i16) -> Result<(), EncodeError> {
        const RECORDS: &str = "FetchResponse.PartitionData.Records";
        let flexible = FetchRequest::is_flexible(version);
        let buf = &mut out.buf;
        buf.put_i32(self.partition_index);
        buf.put_i16(self.error_code);
        buf.put_i64(self.high_watermark);
        buf.put_i64(self.last_stable_offset);
        if version >= 5 {
            buf.put_i64(self.log_start_offset);
        }
        write::nullable_array(
            buf,
            flexible,
            self.aborted_transactions.as_deref(),
            "FetchResponse.PartitionData.AbortedTransactions",
            |buf, v| v.encode(buf, version),
        )?;
        if version >= 11 {
            buf.put_i32(self.preferred_read_replica);
        } else if self.preferred_read_replica != -1 {
            return Err(write::not_in_version("FetchResponse.PartitionData.PreferredReadReplica", version));
        }
        write::bytes_length(buf, flexible, self.records.as_ref().map(Records::length), RECORDS)?;
        match self.records.take() {
            Some(Records::Inline(bytes)) => out.bytes(bytes),
            Some(Records::Files { slices, length }) => out.files(slices, length),
            None => {}
        }
        self.write_tags(&mut out.buf, version)
    }

    fn write_tags(&self, buf: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
        const EPOCH: &str = "FetchResponse.PartitionData.DivergingEpoch";
        const LEADER: &str = "FetchResponse.PartitionData.CurrentLeader";
        const SNAPSHOT: &str = "FetchResponse.PartitionData.SnapshotId";
        let flexible = FetchRequest::is_flexible(version);
        let allowed = |field| if flexible { Ok(()) } else { Err(write::not_in_version(field, version)) };
        let mut tags = write::Tags::default();
        if self.diverging_epoch != EpochEndOffset::default() {
            allowed(EPOCH)?;
            self.diverging_epoch.encode(tags.start(), version)?;
            tags.end(0, EPOCH)?;
        }
        if self.current_leader != LeaderIdAndEpoch::default() {
            allowed(LEADER)?;
            self.current_leader.encode(tags.start(), version)?;
            tags.end(1, LEADER)?;
        }
        if self.snapshot_id != SnapshotId::default() {
            allowed(SNAPSHOT)?;
            self.snapshot_id.encode(tags.start(), version)?;
            tags.end(2, SNAPSHOT)?;
        }
        if flexible {
            tags.finish(buf);
        }
        Ok(())
    }
}

/// Gathers chunks; `buf` is where the next inline bytes go.
struct Writer<F> {
    pieces: Vec<Piece<F>>,
    buf: BytesMut,
    /// Bytes of `pieces`.
    length: usize,
}

enum Piece<F> {
    Written(BytesMut),
    Given(Bytes),
    File(F),
}

impl<F> Writer<F> {
    fn with_capacity(inline: usize) -> Self {
        Self { pieces: Vec::new(), buf: BytesMut::with_capacity(inline), length: 0 }
    }

    fn length(&self) -> usize {
        self.length + self.buf.len()
    }

    /// Ends the current run of inline bytes.
    fn cut(&mut self) {
        if !self.buf.is_empty() {
            self.length += self.buf.len();
            self.pieces.push(Piece::Written(self.buf.split()));
        }
    }

    fn bytes(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_AT_MOST {
            self.buf.put_slice(&bytes);
            return;
        }
        self.cut();
        self.length += bytes.len();
        self.pieces.push(Piece::Given(bytes));
    }

    fn files(&mut self, slices: Vec<F>, length: usize) {
        self.cut();
        self.length += length;
        self.pieces.extend(slices.into_iter().map(Piece::File));
    }

    /// The run that was written first.
    fn front(&mut self) -> &mut BytesMut {
        match self.pieces.first_mut() {
            Some(Piece::Written(front)) => front,
            _ => &mut self.buf,
        }
    }

    fn finish(mut self) -> Chunks<F> {
        self.cut();
        let chunks = self.pieces.into_iter().map(|piece| match piece {
            Piece::Written(bytes) => Chunk::Inline(bytes.freeze()),
            Piece::Given(bytes) => Chunk::Inline(bytes),
            Piece::File(file) => Chunk::File(file),
        });
        Chunks { chunks: chunks.collect(), length: self.length }
    }
}

#[cfg(test)]
mod tests;
