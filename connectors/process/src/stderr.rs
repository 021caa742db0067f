//! The last lines that a plugin wrote to standard error.

use std::collections::VecDeque;

const MAX_LINES: usize = 20;
const MAX_LINE_BYTES: usize = 512;

/// Lines of a stream of bytes; the last ones are kept, cut to a length.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    /// The line that has not come to its end.
    open: Vec<u8>,
    /// The open line was longer than what is kept of it.
    cut: bool,
}

impl Tail {
    /// Takes bytes; gives the lines that they end.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut ended = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = MAX_LINE_BYTES - self.open.len();
            self.cut |= text.len() > room;
            self.open.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                ended.extend(self.end_line());
            }
        }
        ended
    }

    fn end_line(&mut self) -> Option<String> {
        let mut line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).trim_end().to_owned();
        if std::mem::take(&mut self.cut) {
            line.push('…');
        }
        if line.is_empty() {
            return None;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clone());
        Some(line)
    }

    /// All that is kept, for an error's text: one line each behind a bar, or that there is nothing.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.lines.iter().cloned().collect();
        if !self.open.is_empty() {
            lines.push(String::from_utf8_lossy(&self.open).into_owned());
        }
        if lines.is_empty() {
            return "it wrote nothing to standard error".to_owned();
        }
        let shown: String = lines.iter().map(|line| format!("\n\t| {line}")).collect();
        format!("its last lines on standard error:{shown}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_lines_and_bounds_each() {
        let mut tail = Tail::default();
        assert_eq!(tail.push(b"one\ntw"), ["one"]);
        assert_eq!(tail.push(b"o\r\n\n"), ["two"]);
        let long = tail.push(&[b"x".repeat(10_000), b"\n".to_vec()].concat());
        assert_eq!(long[0].len(), MAX_LINE_BYTES + '…'.len_utf8());
        for n in 0..100 {
            tail.push(format!("line {n}\n").as_bytes());
        }
        tail.push(&b"y".repeat(1 << 20));
        let text = tail.text();
        assert!(text.contains("\n\t| line 80\n\t| line 81"), "{text}");
        assert!(!text.contains("line 79") && text.len() < 2 * MAX_LINES * MAX_LINE_BYTES);
        assert_eq!(Tail::default().text(), "it wrote nothing to standard error");
    }
}
