use std::ops::Range;
use std::os::unix::fs::FileExt;

use aqueduct_protocol::records::{BatchHeader, HEADER_LEN, RecordError};

use crate::Error;
use crate::error::IoContext;
use crate::segment::Segment;

/// Reads whole batches of a segment one after the other, many at once.
#[derive(Debug)]
pub(crate) struct BatchReader<'a> {
    segment: &'a Segment,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    chunk: usize,
    bytes_read: u64,
}

/// A batch where it was found.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    pub(crate) batch: &'a [u8],
}

impl<'a> BatchReader<'a> {
    /// For the batches in `range`; `buffer` is room to work in.
    pub(crate) fn new(segment: &'a Segment, range: Range<u64>, chunk: usize, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let chunk = chunk.max(HEADER_LEN);
        Self {
            segment,
            at: range.start,
            end: range.end,
            buffer,
            buffer_at: range.start,
            chunk,
            bytes_read: 0,
        }
    }

    /// The next batch. [`Error::DamagedLog`] where something else is.
    pub(crate) fn next(&mut self) -> Result<Option<Read<'_>>, Error> {
        let (position, left) = (self.at, self.end.saturating_sub(self.at));
        if left == 0 {
            return Ok(None);
        }
        let segment = self.segment;
        let damage = |source| segment.damage(position, source);
        let header =
            BatchHeader::parse(self.bytes(position, HEADER_LEN.min(left as usize))?).map_err(damage)?;
        let size = header.size();
        if size as u64 > left {
            let error = RecordError::Truncated { field: "batch", needed: size, left: left as usize };
            return Err(damage(error));
        }
        self.at += size as u64;
        Ok(Some(Read { position, header, batch: self.bytes(position, size)? }))
    }

    /// Bytes read from the file since the last call.
    pub(crate) fn take_bytes_read(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_read)
    }

    /// Gives back the room, no larger than it need be.
    pub(crate) fn into_buffer(mut self) -> Vec<u8> {
        self.buffer.truncate(self.chunk);
        self.buffer.shrink_to(self.chunk);
        self.buffer
    }

    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Error> {
        let is_there = at >= self.buffer_at && at + len as u64 <= self.buffer_at + self.buffer.len() as u64;
        if !is_there {
            let want = (self.end - at).min(self.chunk.max(len) as u64) as usize;
            self.buffer.resize(want, 0);
            self.buffer_at = at;
            self.segment.file()?.read_exact_at(&mut self.buffer, at).at("read", self.segment.path())?;
            self.bytes_read += want as u64;
        }
        let start = (at - self.buffer_at) as usize;
        Ok(&self.buffer[start..start + len])
    }
}
