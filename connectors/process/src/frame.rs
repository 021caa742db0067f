//! Frames: four bytes of length, the most significant one first, then so many bytes of JSON.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of the length in front of a frame.
pub const PREFIX: usize = 4;

/// What a plugin wrote is not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is beyond the limit, which is also what text on standard output looks like.
    #[error("a frame of {length} bytes was announced, the limit is {limit}{}", looks_like(.start))]
    TooLarge { length: u32, limit: usize, start: Vec<u8> },
    /// A frame without a message.
    #[error("an empty frame was sent")]
    Empty,
}

/// Says what the bytes in place of a length are, where they are text.
fn looks_like(start: &[u8]) -> String {
    let is_text = start.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    if !is_text || start.len() < PREFIX {
        return String::new();
    }
    let text = String::from_utf8_lossy(start).escape_debug().to_string();
    format!(
        "; the bytes are the text \"{text}\": standard output is for frames alone, print to standard error instead"
    )
}

/// Cuts a stream of bytes into frames. Holds at most one frame and what was pushed after it.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    limit: usize,
}

impl FrameReader {
    /// Frames of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame without its length; `None` until all of it has come.
    ///
    /// # Errors
    /// Where what came is not a frame. The stream is of no use after that.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > self.limit {
            let start = self.buffer[..self.buffer.len().min(40)].to_vec();
            return Err(FrameError::TooLarge { length, limit: self.limit, start });
        }
        if size == 0 {
            return Err(FrameError::Empty);
        }
        if self.buffer.len() - PREFIX < size {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    /// Bytes of a frame that has not come to its end.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

/// A message as a frame.
///
/// # Errors
/// Where it is larger than `limit`; the size is given.
pub fn frame(message: &[u8], limit: usize) -> Result<Bytes, usize> {
    let length = u32::try_from(message.len()).ok().filter(|_| message.len() <= limit);
    let length = length.ok_or(message.len())?;
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            cut in 1usize..40,
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                stream.extend_from_slice(&frame(message, 64).expect("fits"));
            }
            let mut reader = FrameReader::new(64);
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().expect("a frame") {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert_eq!(reader.pending(), 0);
        }
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let mut reader = FrameReader::new(1 << 20);
        reader.push(b"Hello, world\n");
        let error = reader.next_frame().expect_err("text");
        for part in ["1214606444 bytes", "the limit is 1048576", "Hello, world\\n", "standard error"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let mut reader = FrameReader::new(8);
        reader.push(&[0, 0, 0, 9]);
        let error = reader.next_frame().expect_err("too large").to_string();
        assert_eq!(error, "a frame of 9 bytes was announced, the limit is 8");
        let mut reader = FrameReader::new(8);
        reader.push(&[0; 4]);
        assert_eq!(reader.next_frame(), Err(FrameError::Empty));
        assert_eq!(frame(&[0; 9], 8), Err(9));
    }
}
