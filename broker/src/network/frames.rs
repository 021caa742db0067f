//! Requests out of a byte stream: four bytes of size, then the request.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Limits;

/// Read at once where the size of the request is not known yet.
const FIRST_READ: usize = 16 << 10;
/// No more is reserved on the word of the size field; beyond it the buffer grows with what arrives.
const TRUSTED: usize = 1 << 20;
/// A sender that stops in the middle of a request for so long is cut off, so that it does not hold memory.
const STALL: Duration = Duration::from_secs(30);

/// One request, and the memory that was granted for it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub bytes: Bytes,
    /// Given back when the request has been handled.
    pub memory: Option<OwnedSemaphorePermit>,
}

/// Why the stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("request of {size} bytes is outside of 0 to socket.request.max.bytes={limit}")]
    Size { size: i32, limit: usize },
    #[error("connection ended within a request")]
    Cut,
    #[error("nothing came for {} s within a request", STALL.as_secs())]
    Stalled,
}

/// Reads frames; one allocation serves one request after the other.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    limit: usize,
}

impl FrameReader {
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Changes the size that the next request may have.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether nothing of a next request has been read.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Gives the memory back; only while empty.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The next request; `None` where the stream ends between two.
    pub async fn next<S>(&mut self, stream: &mut S, limits: &Limits) -> Result<Option<Frame>, FrameError>
    where
        S: AsyncRead + Unpin,
    {
        while self.buffer.len() < 4 {
            self.buffer.reserve(FIRST_READ);
            let started = !self.buffer.is_empty();
            let read = match started {
                true => self.read_soon(stream).await?,
                false => stream.read_buf(&mut self.buffer).await?,
            };
            if read == 0 {
                return if started { Err(FrameError::Cut) } else { Ok(None) };
            }
        }
        let size = i32::from_be_bytes([self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]]);
        let length = match usize::try_from(size) {
            Ok(length) if length <= self.limit => length,
            _ => return Err(FrameError::Size { size, limit: self.limit }),
        };
        let memory = limits.memory(length).await;
        let total = length + 4;
        while self.buffer.len() < total {
            let missing = total - self.buffer.len();
            self.buffer.reserve(missing.min(self.buffer.len().max(TRUSTED)));
            if self.read_soon(stream).await? == 0 {
                return Err(FrameError::Cut);
            }
        }
        self.buffer.advance(4);
        Ok(Some(Frame { bytes: self.buffer.split_to(length).freeze(), memory }))
    }

    async fn read_soon<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<usize, FrameError> {
        match timeout(STALL, stream.read_buf(&mut self.buffer)).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(FrameError::Stalled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(1, 1, 64 << 20)
    }

    #[tokio::test]
    async fn frames_come_out_whole_however_they_are_cut() {
        let mut input = Vec::new();
        for size in [0usize, 1, 10, 100_000, 3_000_000] {
            input.extend((size as i32).to_be_bytes());
            input.extend((0..size).map(|i| i as u8));
        }
        for piece in [1usize << 10, 4097, 1 << 20] {
            let (mut tx, mut rx) = tokio::io::duplex(piece);
            let sent = input.clone();
            let sender =
                tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut tx, &sent).await });
            let mut reader = FrameReader::new(4 << 20);
            let limits = limits();
            for size in [0usize, 1, 10, 100_000, 3_000_000] {
                let frame = reader.next(&mut rx, &limits).await.unwrap().unwrap();
                assert_eq!(frame.bytes.len(), size);
                assert!(frame.bytes.iter().enumerate().all(|(i, b)| *b == i as u8));
            }
            sender.await.unwrap().unwrap();
            assert!(reader.next(&mut rx, &limits).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn sizes_out_of_bounds_and_cut_streams_are_errors() {
        for size in [-1i32, 101, i32::MAX, i32::MIN] {
            let bytes = size.to_be_bytes();
            let error = FrameReader::new(100).next(&mut &bytes[..], &limits()).await.unwrap_err();
            assert!(matches!(error, FrameError::Size { .. }), "{size}");
        }
        for cut in [&b"\0\0"[..], &b"\0\0\0\x05abc"[..]] {
            let error = FrameReader::new(100).next(&mut &cut[..], &limits()).await.unwrap_err();
            assert!(matches!(error, FrameError::Cut));
        }
    }

    #[tokio::test]
    async fn a_large_size_reserves_little_until_the_bytes_come() {
        let mut reader = FrameReader::new(100 << 20);
        let mut input = &b"\x06\0\0\0x"[..];
        assert!(reader.next(&mut input, &Limits::new(1, 1, 200 << 20)).await.is_err());
        assert!(reader.buffer.capacity() < 3 << 20);
    }
}
