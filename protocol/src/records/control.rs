//! Control records: what the cluster writes into a partition for its own use.

use super::{Record, RecordError};

/// What a control record says; the first fields of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's transaction is undone.
    Abort,
    /// The producer's transaction is done.
    Commit,
    /// Anything else, by its number: the quorum's own, or newer than this code. Readers skip it.
    Other(i16),
}

impl ControlType {
    /// Reads the key of a control record.
    pub fn parse(key: &[u8]) -> Result<Self, RecordError> {
        let Some(&[_, _, high, low]) = key.get(..4) else {
            return Err(RecordError::Truncated { field: "control record key", needed: 4, left: key.len() });
        };
        Ok(match i16::from_be_bytes([high, low]) {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    /// The key of a control record, version 0.
    pub fn key(self) -> [u8; 4] {
        let code = match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(code) => code,
        };
        let [high, low] = code.to_be_bytes();
        [0, 0, high, low]
    }
}

/// The end of one producer's transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    pub committed: bool,
    /// Epoch of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// Reads a control record; `None` where it marks something else.
    pub fn parse(record: &Record) -> Result<Option<Self>, RecordError> {
        let committed = match ControlType::parse(record.key.as_deref().unwrap_or_default())? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            ControlType::Other(_) => return Ok(None),
        };
        let value = record.value.as_deref().unwrap_or_default();
        let Some(&[a, b, c, d]) = value.get(2..6) else {
            return Err(RecordError::Truncated {
                field: "end transaction marker",
                needed: 6,
                left: value.len(),
            });
        };
        Ok(Some(Self { committed, coordinator_epoch: i32::from_be_bytes([a, b, c, d]) }))
    }

    /// The value of the control record, version 0.
    pub fn value(self) -> [u8; 6] {
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }

    /// The key of the control record.
    pub fn key(self) -> [u8; 4] {
        if self.committed { ControlType::Commit.key() } else { ControlType::Abort.key() }
    }
}
