use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

use crate::ids::Offset;

use super::varint::Cursor;
use super::{BatchHeader, RecordError, TimestampType};

/// One record, decoded. Key, value and headers are slices of the batch (or of its decompressed records).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    /// Milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In order; keys may repeat.
    pub headers: Vec<Header>,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub key: ByteString,
    pub value: Option<Bytes>,
}

/// One record's fields as they lie in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// To be added to the batch's base timestamp.
    pub timestamp_delta: i64,
    /// To be added to the batch's base offset.
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// How many headers there are.
    pub headers: i32,
    /// Key, value and headers with their lengths, to be copied as they are.
    pub tail: &'a [u8],
}

impl RawRecord<'_> {
    /// The record's timestamp in a batch with `header`.
    pub fn timestamp(&self, header: &BatchHeader) -> i64 {
        match header.attributes.timestamp_type() {
            TimestampType::CreateTime => header.base_timestamp.wrapping_add(self.timestamp_delta),
            TimestampType::LogAppendTime => header.max_timestamp,
        }
    }
}

/// Where the fields of one record are.
struct Layout {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: i32,
    /// Start of the key's length, of the headers, and of the next record.
    tail_at: usize,
    headers_at: usize,
    end: usize,
}

impl Layout {
    /// Reads the record at `at`; checks all of its lengths except those inside the headers.
    fn read(bytes: &[u8], at: usize) -> Result<Self, RecordError> {
        let mut outer = Cursor { bytes, at };
        let length = outer.varint("record length")?;
        let length = length_of("record length", length, outer.left())?;
        let end = outer.at + length;
        let mut cursor = Cursor { bytes: &bytes[..end], at: outer.at };
        cursor.byte("record attributes")?;
        let timestamp_delta = cursor.varlong("timestamp delta")?;
        let offset_delta = cursor.varint("offset delta")?;
        let tail_at = cursor.at;
        let key = nullable(&mut cursor, "key")?;
        let value = nullable(&mut cursor, "value")?;
        let headers = cursor.varint("header count")?;
        // A header takes at least two bytes, so that a count beyond that is refused before anything is built.
        if headers < 0 || headers as usize > cursor.left() / 2 {
            return Err(RecordError::BadLength {
                field: "header count",
                length: headers as i64,
                left: cursor.left(),
            });
        }
        Ok(Self { timestamp_delta, offset_delta, key, value, headers, tail_at, headers_at: cursor.at, end })
    }

    /// Reads the headers, giving the place of each key and value to `each`; they must end with the record.
    fn headers(
        &self,
        bytes: &[u8],
        mut each: impl FnMut(Range<usize>, Option<Range<usize>>),
    ) -> Result<(), RecordError> {
        let mut cursor = Cursor { bytes: &bytes[..self.end], at: self.headers_at };
        for _ in 0..self.headers {
            let length = cursor.varint("header key")?;
            let length = length_of("header key", length, cursor.left())?;
            let start = cursor.take("header key", length)?;
            each(start..start + length, nullable(&mut cursor, "header value")?);
        }
        if cursor.left() > 0 {
            let length = (self.end - self.headers_at) as i64;
            return Err(RecordError::BadLength { field: "record length", length, left: cursor.left() });
        }
        Ok(())
    }
}

fn length_of(field: &'static str, length: i32, left: usize) -> Result<usize, RecordError> {
    match usize::try_from(length) {
        Ok(length) if length <= left => Ok(length),
        _ => Err(RecordError::BadLength { field, length: length as i64, left }),
    }
}

fn nullable(cursor: &mut Cursor<'_>, field: &'static str) -> Result<Option<Range<usize>>, RecordError> {
    let length = cursor.varint(field)?;
    if length < 0 {
        return Ok(None);
    }
    let start = cursor.take(field, length as usize)?;
    Ok(Some(start..start + length as usize))
}

/// Reads the records in `bytes`, which are not compressed, one after the other, and gives each to `each` with its index.
/// Stops at the first error; returns how many records there were.
pub fn for_each_raw<'a, E: From<RecordError>>(
    bytes: &'a [u8],
    mut each: impl FnMut(i32, RawRecord<'a>) -> Result<(), E>,
) -> Result<i64, E> {
    let (mut at, mut index) = (0, 0i64);
    while at < bytes.len() {
        let layout = Layout::read(bytes, at)?;
        layout.headers(bytes, |_, _| {})?;
        let raw = RawRecord {
            timestamp_delta: layout.timestamp_delta,
            offset_delta: layout.offset_delta,
            key: layout.key.map(|range| &bytes[range]),
            value: layout.value.map(|range| &bytes[range]),
            headers: layout.headers,
            tail: &bytes[layout.tail_at..layout.end],
        };
        each(i32::try_from(index).unwrap_or(i32::MAX), raw)?;
        at = layout.end;
        index += 1;
    }
    Ok(index)
}

/// Decodes the records of a batch one by one; ends after the first error.
#[derive(Debug)]
pub struct Records {
    bytes: Bytes,
    header: BatchHeader,
    at: usize,
    index: i32,
    failed: bool,
}

impl Records {
    /// `bytes` are the records of the batch with `header`, not compressed.
    pub(super) fn new(header: BatchHeader, bytes: Bytes) -> Self {
        Self { bytes, header, at: 0, index: 0, failed: false }
    }

    fn decode(&mut self) -> Result<Record, RecordError> {
        let layout = Layout::read(&self.bytes, self.at)?;
        // Room for the usual few; a count that is only claimed gets no more.
        let mut headers = Vec::with_capacity((layout.headers as usize).min(16));
        layout.headers(&self.bytes, |key, value| {
            headers
                .push(Header { key: text(self.bytes.slice(key)), value: value.map(|v| self.bytes.slice(v)) });
        })?;
        self.at = layout.end;
        self.index += 1;
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(layout.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        Ok(Record {
            offset: Offset(self.header.base_offset.0.wrapping_add(layout.offset_delta as i64)),
            timestamp,
            key: layout.key.map(|range| self.bytes.slice(range)),
            value: layout.value.map(|range| self.bytes.slice(range)),
            headers,
        })
    }

    fn end(&self) -> Option<Result<Record, RecordError>> {
        let left = self.bytes.len() - self.at;
        let base_offset = self.header.base_offset.0;
        (left > 0).then_some(Err(RecordError::TrailingBytes { base_offset, left }))
    }
}

/// Header keys are text; as in the Java client, what is not UTF-8 is replaced, so that one odd key does not make a
/// partition unreadable.
fn text(bytes: Bytes) -> ByteString {
    match ByteString::try_from(bytes.clone()) {
        Ok(text) => text,
        Err(_) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.index >= self.header.record_count { self.end()? } else { self.decode() };
        self.failed = item.is_err();
        Some(item)
    }
}
