//! Walking over the batch headers of a log file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aqueduct_protocol::records::{BatchHeader, HEADER_LEN, RecordError, compute_crc};

use crate::error::IoContext;
use crate::{Error, cold};

/// What stands at a position of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A batch that lies wholly before the end.
    Batch { position: u64, header: BatchHeader },
    /// The end, exactly.
    End,
    /// Something else.
    Torn(RecordError),
}

/// Reads batch after batch from a position to an end, through one small buffer.
pub(crate) struct Scan<'a> {
    file: Arc<File>,
    path: &'a Path,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    chunk: usize,
}

impl<'a> Scan<'a> {
    /// For finding one batch: reads little at a time.
    pub(crate) const LOOKUP: usize = 4 << 10;
    /// For going through a whole segment.
    pub(crate) const SEQUENTIAL: usize = 256 << 10;

    pub(crate) fn new(file: Arc<File>, path: &'a Path, range: std::ops::Range<u64>, chunk: usize) -> Self {
        Self { file, path, at: range.start, end: range.end, buffer: Vec::new(), buffer_at: 0, chunk }
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    pub(crate) fn step(&mut self) -> Result<Step, Error> {
        let left = self.end.saturating_sub(self.at);
        if left == 0 {
            return Ok(Step::End);
        }
        let position = self.at;
        let head = self.bytes(position, HEADER_LEN.min(left as usize))?;
        let header = match BatchHeader::parse(head) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Torn(error)),
        };
        if header.size() as u64 > left {
            let (needed, left) = (header.size(), left as usize);
            return Ok(Step::Torn(RecordError::Truncated { field: "batch", needed, left }));
        }
        self.at += header.size() as u64;
        Ok(Step::Batch { position, header })
    }

    /// Computes the checksum of a batch that was just stepped over.
    pub(crate) fn check_crc(
        &mut self,
        position: u64,
        header: &BatchHeader,
    ) -> Result<Result<(), RecordError>, Error> {
        let (mut at, end) = (position, position + header.size() as u64);
        let mut computed = None;
        while at < end {
            let take = ((end - at) as usize).min(self.chunk);
            let bytes = self.bytes(at, take)?;
            computed = Some(match computed {
                None => compute_crc(bytes),
                Some(crc) => aqueduct_protocol::records::extend_crc(crc, bytes),
            });
            at += take as u64;
        }
        let computed = computed.unwrap_or_default();
        if computed == header.crc {
            return Ok(Ok(()));
        }
        let (base_offset, stored) = (header.base_offset.0, header.crc);
        Ok(Err(RecordError::CrcMismatch { base_offset, stored, computed }))
    }

    /// `len` bytes from `at`, which lie before the end; `len` is at most a chunk or a header.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Error> {
        let buffered = at >= self.buffer_at && at + len as u64 <= self.buffer_at + self.buffer.len() as u64;
        if !buffered {
            let want = (self.end - at).min(self.chunk.max(len) as u64) as usize;
            self.buffer.clear();
            self.buffer.resize(want, 0);
            self.buffer_at = at;
            cold::read_exact_at(&self.file, &mut self.buffer, at).at("read", self.path)?;
        }
        let start = (at - self.buffer_at) as usize;
        Ok(&self.buffer[start..start + len])
    }
}
