//! Splits a stream of bytes into lines without copying them.

use bytes::{Buf, Bytes};
use memchr::{memchr2, memrchr2};

/// Bytes that have been read and not yet given out as lines.
///
/// A line ends with `\n`, `\r` or `\r\n`. What has no end yet waits, and so does a `\r` in the last place: a `\n` may
/// follow.
#[derive(Debug, Default)]
pub struct Lines {
    /// Whole lines, ends included.
    whole: Bytes,
    /// The beginning of a line whose end has not been read.
    unfinished: Bytes,
}

/// A line and the bytes that it took, its end included.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub text: Bytes,
    pub taken: usize,
}

impl Lines {
    /// Takes back the unfinished line, to put it before the next bytes that are read.
    pub fn unfinished(&self) -> &Bytes {
        &self.unfinished
    }

    /// Whether every whole line has been given out.
    pub fn needs_more(&self) -> bool {
        self.whole.is_empty()
    }

    /// Takes what was read, which starts with the unfinished line. Only when [`Lines::needs_more`].
    pub fn refill(&mut self, bytes: impl Into<Bytes>) {
        debug_assert!(self.whole.is_empty(), "lines would be lost");
        self.unfinished = bytes.into();
        let decided = match self.unfinished.last() {
            Some(b'\r') => self.unfinished.len() - 1,
            _ => self.unfinished.len(),
        };
        if let Some(end) = memrchr2(b'\n', b'\r', &self.unfinished[..decided]) {
            // A last "\r\n" whose "\n" was found keeps its "\r" before it; a "\r" that was found ends a line alone, or
            // belongs to the "\n" which would have been found instead.
            self.whole = self.unfinished.split_to(end + 1);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next whole line.
    pub fn next(&mut self) -> Option<Line> {
        let end = memchr2(b'\n', b'\r', &self.whole)?;
        let pair = self.whole[end] == b'\r' && self.whole.get(end + 1) == Some(&b'\n');
        let taken = end + if pair { 2 } else { 1 };
        let text = self.whole.split_to(end);
        self.whole.advance(taken - end);
        Some(Line { text, taken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `size` bytes and gives the lines, the bytes they took and what is unfinished.
    fn split(input: &[u8], size: usize) -> (Vec<String>, usize, Vec<u8>) {
        let mut lines = Lines::default();
        let (mut texts, mut taken) = (Vec::new(), 0);
        for piece in input.chunks(size) {
            let mut next = lines.unfinished().to_vec();
            next.extend_from_slice(piece);
            lines.refill(next);
            while let Some(line) = lines.next() {
                taken += line.taken;
                texts.push(String::from_utf8(line.text.to_vec()).expect("text"));
            }
            assert!(lines.needs_more());
        }
        (texts, taken, lines.unfinished().to_vec())
    }

    #[test]
    fn every_line_end_counts_and_the_last_line_waits() {
        for (input, texts, unfinished) in [
            ("", vec![], ""),
            ("a", vec![], "a"),
            ("a\n", vec!["a"], ""),
            ("a\r\nb\n", vec!["a", "b"], ""),
            ("a\rb\n", vec!["a", "b"], ""),
            ("a\n\n\nb", vec!["a", "", ""], "b"),
            ("a\r", vec![], "a\r"),
            ("a\r\r", vec!["a"], "\r"),
            ("ä\nß\r\n", vec!["ä", "ß"], ""),
        ] {
            for size in 1..=8 {
                let (got, taken, rest) = split(input.as_bytes(), size);
                assert_eq!(got, texts, "{input:?} by {size}");
                assert_eq!(rest, unfinished.as_bytes(), "{input:?} by {size}");
                assert_eq!(taken + rest.len(), input.len(), "{input:?} by {size}");
            }
        }
    }
}
