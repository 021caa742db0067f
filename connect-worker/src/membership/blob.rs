//! Member metadata and assignments as bytes, versions 0 to 2 (big-endian, Kafka's primitive types).
//!
//! Assignment v0 is `version error leader leader-url config-offset [assigned]`; v1 and v2 add `[revoked] delay`. Within a
//! list a task number of -1 stands for the connector itself.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Load;
use crate::ids::{ConnectorName, TaskId};

const CONNECTOR: i32 = -1;

/// A blob that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct BlobError {
    what: &'static str,
    why: String,
}

/// What a worker tells when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its advertised REST address, with a slash at the end.
    pub url: String,
    /// Its config offset.
    pub offset: i64,
    /// What it holds; only from version 1 on.
    pub current: Option<Assignment>,
}

/// Why an assignment is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentError {
    None,
    /// The leader has not read as much of the config topic as a member.
    ConfigMismatch,
}

/// What the leader tells a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub error: AssignmentError,
    /// Member id of the leader.
    pub leader: String,
    pub leader_url: String,
    /// The config offset that the assignment was made from.
    pub offset: i64,
    /// With [`super::Protocol::Eager`] all that the worker is to run; else, on its way to the worker, what is new.
    pub assigned: Load,
    pub revoked: Load,
    /// Milliseconds until the worker is to rejoin; 0 for never.
    pub delay: i32,
}

impl Metadata {
    pub fn encode(&self, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(version);
        put_string(&mut out, &self.url);
        out.put_i64(self.offset);
        if version >= 1 {
            match &self.current {
                Some(current) => {
                    let bytes = current.encode(version);
                    out.put_i32(i32::try_from(bytes.len()).expect("an assignment is far below 2 GiB"));
                    out.put(bytes);
                }
                None => out.put_i32(-1),
            }
        }
        out.freeze()
    }

    /// # Errors
    /// Where the bytes are cut short or a length is wrong.
    pub fn decode(bytes: &Bytes) -> Result<Self, BlobError> {
        let mut input = Input { bytes: bytes.clone(), what: "worker metadata" };
        let version = input.version()?;
        let url = input.string()?;
        let offset = input.i64()?;
        let mut current = None;
        if version >= 1 && input.bytes.has_remaining() {
            let length = input.i32()?;
            if length >= 0 {
                let nested = input.take(length)?;
                if !nested.is_empty() {
                    current = Some(Assignment::decode(&nested)?);
                }
            }
        }
        Ok(Self { url, offset, current })
    }
}

impl Assignment {
    /// An assignment of nothing.
    pub fn empty(leader: impl Into<String>, leader_url: impl Into<String>, offset: i64) -> Self {
        Self {
            error: AssignmentError::None,
            leader: leader.into(),
            leader_url: leader_url.into(),
            offset,
            assigned: Load::default(),
            revoked: Load::default(),
            delay: 0,
        }
    }

    pub fn encode(&self, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(version);
        out.put_i16(match self.error {
            AssignmentError::None => 0,
            AssignmentError::ConfigMismatch => 1,
        });
        put_string(&mut out, &self.leader);
        put_string(&mut out, &self.leader_url);
        out.put_i64(self.offset);
        put_load(&mut out, &self.assigned);
        if version >= 1 {
            put_load(&mut out, &self.revoked);
            out.put_i32(self.delay);
        }
        out.freeze()
    }

    /// # Errors
    /// Where the bytes are cut short or a length is wrong.
    pub fn decode(bytes: &Bytes) -> Result<Self, BlobError> {
        let mut input = Input { bytes: bytes.clone(), what: "worker assignment" };
        let version = input.version()?;
        let error = match input.i16()? {
            0 => AssignmentError::None,
            1 => AssignmentError::ConfigMismatch,
            other => return Err(input.error(format!("error code {other} is unknown"))),
        };
        let mut assignment = Self::empty(input.string()?, input.string()?, input.i64()?);
        assignment.error = error;
        assignment.assigned = input.load()?;
        if version >= 1 && input.bytes.has_remaining() {
            assignment.revoked = input.load()?;
        }
        if version >= 1 && input.bytes.has_remaining() {
            assignment.delay = input.i32()?;
        }
        Ok(assignment)
    }
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("names and addresses are below 32 KiB"));
    out.put_slice(text.as_bytes());
}

fn put_load(out: &mut BytesMut, load: &Load) {
    let mut by_connector: BTreeMap<&ConnectorName, Vec<i32>> = BTreeMap::new();
    for connector in &load.connectors {
        by_connector.entry(connector).or_default().push(CONNECTOR);
    }
    for id in &load.tasks {
        let number = i32::try_from(id.task).expect("task numbers are below 2^31");
        by_connector.entry(&id.connector).or_default().push(number);
    }
    out.put_i32(i32::try_from(by_connector.len()).expect("a count of connectors"));
    for (connector, numbers) in by_connector {
        put_string(out, connector);
        out.put_i32(i32::try_from(numbers.len()).expect("a count of tasks"));
        numbers.into_iter().for_each(|number| out.put_i32(number));
    }
}

struct Input {
    bytes: Bytes,
    what: &'static str,
}

impl Input {
    fn error(&self, why: impl Into<String>) -> BlobError {
        BlobError { what: self.what, why: why.into() }
    }

    fn need(&self, length: usize) -> Result<(), BlobError> {
        if self.bytes.remaining() < length {
            return Err(self.error(format!("{length} bytes expected, {} are left", self.bytes.remaining())));
        }
        Ok(())
    }

    fn version(&mut self) -> Result<i16, BlobError> {
        match self.i16()? {
            version if version >= 0 => Ok(version),
            version => Err(self.error(format!("version {version} is negative"))),
        }
    }

    fn i16(&mut self) -> Result<i16, BlobError> {
        self.need(2)?;
        Ok(self.bytes.get_i16())
    }

    fn i32(&mut self) -> Result<i32, BlobError> {
        self.need(4)?;
        Ok(self.bytes.get_i32())
    }

    fn i64(&mut self) -> Result<i64, BlobError> {
        self.need(8)?;
        Ok(self.bytes.get_i64())
    }

    fn take(&mut self, length: i32) -> Result<Bytes, BlobError> {
        let length =
            usize::try_from(length).map_err(|_| self.error(format!("length {length} is negative")))?;
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    fn string(&mut self) -> Result<String, BlobError> {
        let length = self.i16()?;
        let bytes = self.take(length.into())?;
        String::from_utf8(bytes.into()).map_err(|_| self.error("a string is not UTF-8"))
    }

    /// How many items follow; none where the array is null.
    fn count(&mut self, least_size: usize) -> Result<usize, BlobError> {
        let count = usize::try_from(self.i32()?.max(0)).unwrap_or(0);
        self.need(count.saturating_mul(least_size))?;
        Ok(count)
    }

    fn load(&mut self) -> Result<Load, BlobError> {
        let mut load = Load::default();
        for _ in 0..self.count(6)? {
            let connector = ConnectorName::from(self.string()?);
            for _ in 0..self.count(4)? {
                match self.i32()? {
                    CONNECTOR => {
                        load.connectors.insert(connector.clone());
                    }
                    number => {
                        let task = u32::try_from(number)
                            .map_err(|_| self.error(format!("task number {number} is negative")))?;
                        load.tasks.insert(TaskId { connector: connector.clone(), task });
                    }
                }
            }
        }
        Ok(load)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load() -> impl Strategy<Value = Load> {
        (
            proptest::collection::btree_set("[a-c]{1,3}", 0..4),
            proptest::collection::btree_set(("[a-c]{1,3}", 0..5u32), 0..6),
        )
            .prop_map(|(connectors, tasks)| Load {
                connectors: connectors.into_iter().map(ConnectorName::from).collect(),
                tasks: tasks.into_iter().map(|(c, t)| TaskId::new(c, t)).collect(),
            })
    }

    fn assignment() -> impl Strategy<Value = Assignment> {
        (load(), load(), any::<i64>(), any::<i32>(), any::<bool>()).prop_map(
            |(assigned, revoked, offset, delay, mismatch)| Assignment {
                error: if mismatch { AssignmentError::ConfigMismatch } else { AssignmentError::None },
                assigned,
                revoked,
                delay,
                ..Assignment::empty("leader-1", "http://h:8083/", offset)
            },
        )
    }

    proptest! {
        #[test]
        fn assignments_round_trip(assignment in assignment(), version in 1..3i16) {
            prop_assert_eq!(Assignment::decode(&assignment.encode(version)), Ok(assignment));
        }

        #[test]
        fn metadata_round_trips(current in proptest::option::of(assignment()), version in 1..3i16) {
            let metadata = Metadata { url: "http://h:1/".into(), offset: 7, current };
            prop_assert_eq!(Metadata::decode(&metadata.encode(version)), Ok(metadata));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = Bytes::from(bytes);
            let _ = (Assignment::decode(&bytes), Metadata::decode(&bytes));
        }

        #[test]
        fn a_cut_assignment_is_refused_or_lacks_only_its_tail(assignment in assignment(), cut in 0..64usize) {
            let bytes = assignment.encode(2);
            let _ = Assignment::decode(&bytes.slice(..bytes.len().saturating_sub(cut)));
        }
    }

    #[test]
    fn version_0_is_short() {
        let metadata = Metadata { url: "http://a:8083/".into(), offset: 3, current: None };
        let bytes = metadata.encode(0);
        assert_eq!(&bytes[..], b"\0\0\0\x0ehttp://a:8083/\0\0\0\0\0\0\0\x03");
        assert_eq!(Metadata::decode(&bytes), Ok(metadata));

        let mut assignment = Assignment::empty("m", "u", 1);
        assignment.assigned.connectors.insert("c".into());
        assignment.assigned.tasks.insert(TaskId::new("c", 0));
        let bytes = assignment.encode(0);
        assert_eq!(
            &bytes[..],
            b"\0\0\0\0\0\x01m\0\x01u\0\0\0\0\0\0\0\x01\0\0\0\x01\0\x01c\0\0\0\x02\xff\xff\xff\xff\0\0\0\0"
        );
        assert_eq!(Assignment::decode(&bytes), Ok(assignment));
    }
}
