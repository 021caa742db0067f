//! Event types and the bodies of the events that matter.

use super::reader::{Malformed, Reader, Result};

pub const QUERY: u8 = 2;
pub const ROTATE: u8 = 4;
pub const FORMAT_DESCRIPTION: u8 = 15;
pub const XID: u8 = 16;
pub const TABLE_MAP: u8 = 19;
pub const INCIDENT: u8 = 26;
pub const HEARTBEAT: u8 = 27;
pub const GTID: u8 = 33;
pub const ANONYMOUS_GTID: u8 = 34;
pub const XA_PREPARE: u8 = 38;
pub const PARTIAL_UPDATE_ROWS: u8 = 39;
pub const HEARTBEAT_V2: u8 = 41;
pub const TAGGED_GTID: u8 = 42;
pub const MARIADB_GTID: u8 = 162;
pub const MARIADB_QUERY_COMPRESSED: u8 = 165;

/// `body` without the CRC-32 of header and body that ends it, where one does.
pub fn without_checksum<'b>(header: &[u8], body: &'b [u8]) -> &'b [u8] {
    match body.split_last_chunk::<4>() {
        Some((rest, sum)) if crc32([header, rest].concat().as_slice()).to_le_bytes() == *sum => rest,
        _ => body,
    }
}

/// CRC-32 as of IEEE 802.3, for the few bytes of a first event.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// What a rows event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsKind {
    Write,
    Update,
    Delete,
}

/// The kind of a rows event, whether it has the extra header of version 2, and whether its rows are compressed.
pub fn rows_kind(event_type: u8) -> Option<(RowsKind, bool, bool)> {
    Some(match event_type {
        23 => (RowsKind::Write, false, false),
        24 => (RowsKind::Update, false, false),
        25 => (RowsKind::Delete, false, false),
        30 => (RowsKind::Write, true, false),
        31 => (RowsKind::Update, true, false),
        32 => (RowsKind::Delete, true, false),
        166 => (RowsKind::Write, false, true),
        167 => (RowsKind::Update, false, true),
        168 => (RowsKind::Delete, false, true),
        169 => (RowsKind::Write, true, true),
        170 => (RowsKind::Update, true, true),
        171 => (RowsKind::Delete, true, true),
        _ => return None,
    })
}

/// A statement that the server logged as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub thread: u32,
    pub database: String,
    pub sql: String,
}

impl Query {
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut r = Reader(body);
        let thread = r.uint(4)? as u32;
        r.bytes(4)?;
        let database_len: usize = r.u8()?.into();
        r.bytes(2)?;
        let status_len = r.uint(2)? as usize;
        r.bytes(status_len)?;
        let database = String::from_utf8_lossy(r.bytes(database_len)?).into_owned();
        r.u8()?;
        Ok(Self { thread, database, sql: String::from_utf8_lossy(r.rest()).into_owned() })
    }
}

/// Where the log goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotate {
    pub position: u64,
    pub file: String,
}

impl Rotate {
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut r = Reader(body);
        let position = r.uint(8)?;
        Ok(Self { position, file: String::from_utf8_lossy(r.rest()).into_owned() })
    }
}

/// The id of a transaction about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gtid {
    /// UUID, with `:tag` where there is one.
    pub source: String,
    pub number: u64,
    /// Microseconds since 1970 at which the transaction was first committed; 0 where the server does not say.
    pub committed_micros: u64,
}

impl Gtid {
    /// Reads the body of an event of type [`GTID`]; `None` where it is too old to carry a commit time is no error.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut r = Reader(body);
        r.u8()?;
        let uuid: [u8; 16] = r.bytes(16)?.try_into().map_err(|_| Malformed("no UUID".to_owned()))?;
        let number = r.uint(8)?;
        // logical timestamps: type code 2, last committed, sequence number
        let mut committed_micros = 0;
        if r.u8() == Ok(2) && r.bytes(16).is_ok() {
            // The immediate commit time; its highest bit says that the original one follows.
            if let Ok(immediate) = r.uint(7) {
                let original = if immediate >> 55 & 1 == 1 { r.uint(7).unwrap_or(0) } else { immediate };
                committed_micros = original & !(1 << 55);
            }
        }
        Ok(Self { source: format_uuid(&uuid), number, committed_micros })
    }
}

pub fn format_uuid(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// MariaDB's transaction id; the server's id stands in the event header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MariaDbGtid {
    pub number: u64,
    pub domain: u32,
    /// One statement and no commit follow: DDL.
    pub standalone: bool,
}

impl MariaDbGtid {
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut r = Reader(body);
        Ok(Self { number: r.uint(8)?, domain: r.uint(4)? as u32, standalone: r.u8()? & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_query() {
        let mut body = vec![7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 99];
        body.extend_from_slice(b"db\0BEGIN");
        let query = Query::parse(&body).unwrap();
        assert_eq!((query.thread, &*query.database, &*query.sql), (7, "db", "BEGIN"));
        assert!(Query::parse(&body[..10]).is_err());
    }

    #[test]
    fn takes_off_a_checksum_only_where_there_is_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let sum = crc32(b"headbody").to_le_bytes();
        assert_eq!(without_checksum(b"head", &[b"body", &sum[..]].concat()), b"body");
        assert_eq!(without_checksum(b"head", b"binlog.000001"), b"binlog.000001");
    }

    #[test]
    fn a_gtid_carries_the_original_commit_time() {
        let mut body = vec![0];
        body.extend(0..16);
        body.extend(9u64.to_le_bytes());
        body.push(2);
        body.extend([0; 16]);
        body.extend(&(1_700_000_000_000_000u64 | 1 << 55).to_le_bytes()[..7]);
        body.extend(&1_600_000_000_000_000u64.to_le_bytes()[..7]);
        let gtid = Gtid::parse(&body).unwrap();
        assert_eq!(gtid.source, "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!((gtid.number, gtid.committed_micros), (9, 1_600_000_000_000_000));
        assert_eq!(Gtid::parse(&body[..25]).unwrap().committed_micros, 0);
    }
}
