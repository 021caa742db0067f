//! What offsets may say: never more than what is in the topic (sources) or in the file (sinks). Plain data in, violations
//! out.

use std::collections::{BTreeMap, BTreeSet};

/// A line in the topic of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    pub offset: i64,
    /// When the broker appended it.
    pub appended: i64,
}

/// An offset that a source stored: it has read that many bytes of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub position: u64,
    /// Where it is in the offsets topic.
    pub place: String,
    /// From when on it counts.
    pub at: i64,
}

/// Where each line of the input ends; lines are `<0>`, `<1>` and so on.
pub fn ends(lines: u64) -> Vec<u64> {
    let mut end = 0;
    let length = |line: u64| format!("<{line}>\n").len() as u64;
    (0..lines)
        .map(|line| {
            end += length(line);
            end
        })
        .collect()
}

/// Offsets of source `pair` that were stored before the lines that they cover were in the topic.
pub fn sources_ahead(pair: usize, ends: &[u64], lines: &[Line], stored: &[Stored]) -> Vec<String> {
    let mut first: BTreeMap<u64, Line> = BTreeMap::new();
    for line in lines {
        let known = first.entry(line.number).or_insert(*line);
        if line.appended < known.appended {
            *known = *line;
        }
    }
    // For each number of lines: when the last of them came, and which it was.
    let mut complete = vec![(i64::MIN, 0)];
    for number in 0..ends.len() as u64 {
        let before = *complete.last().expect("not empty");
        let at = first.get(&number).map_or(i64::MAX, |line| line.appended);
        complete.push(before.max((at, number)));
    }
    let mut wrong = Vec::new();
    for offset in stored {
        let covered = ends.partition_point(|end| *end <= offset.position);
        let (at, number) = complete[covered];
        if at > offset.at {
            let line = match first.get(&number) {
                Some(line) => format!("comes {} ms later, at offset {}", at - offset.at, line.offset),
                None => "is not there".to_owned(),
            };
            wrong.push(format!(
                "source-{pair}, task 0, file in-{pair}: offset {} ({}) covers line {number}, which {line} in topic \
                 lines-{pair}, partition 0",
                offset.position, offset.place
            ));
        }
    }
    wrong
}

/// One sink, watched while it works.
#[derive(Debug, Default)]
pub struct Sink {
    pub commits: u64,
    committed: i64,
    /// Lines of its topic that no commit covered yet, by offset.
    uncovered: BTreeMap<i64, u64>,
    written: BTreeSet<u64>,
}

impl Sink {
    /// Its group says that all below `offset` is done.
    pub fn commit(&mut self, offset: i64) {
        self.commits += 1;
        // A worker that was cut off may be late with its own.
        self.committed = self.committed.max(offset);
    }

    /// A line is in its topic.
    pub fn line(&mut self, offset: i64, number: u64) {
        self.uncovered.insert(offset, number);
    }

    /// A line is in its file.
    pub fn wrote(&mut self, number: u64) {
        self.written.insert(number);
    }

    /// Lines that a commit covers and the file does not hold, as told of sink `pair`.
    pub fn check(&mut self, pair: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        while let Some(entry) = self.uncovered.first_entry()
            && *entry.key() < self.committed
        {
            let (offset, number) = entry.remove_entry();
            if !self.written.contains(&number) {
                wrong.push(format!(
                    "sink-{pair}, task 0, topic lines-{pair}, partition 0: offset {} is committed, and the record at \
                     {offset} (line {number}) is not in file out-{pair}",
                    self.committed
                ));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, offset: i64, appended: i64) -> Line {
        Line { number, offset, appended }
    }

    fn stored(position: u64, at: i64) -> Stored {
        Stored { position, place: "connect-offsets-0@7".into(), at }
    }

    #[test]
    fn a_source_offset_may_not_come_before_what_it_covers() {
        assert_eq!(ends(11)[9..], [40, 45]);
        let (ends, lines) = (ends(3), [line(0, 0, 10), line(1, 1, 12), line(1, 2, 11)]);
        let ahead = |position, at| sources_ahead(4, &ends, &lines, &[stored(position, at)]);
        assert_eq!(ahead(0, 0).len(), 0);
        assert_eq!(ahead(8, 11).len(), 0, "the first of two counts");
        assert_eq!(
            ahead(8, 10),
            [
                "source-4, task 0, file in-4: offset 8 (connect-offsets-0@7) covers line 1, which comes 1 ms later, at \
              offset 2 in topic lines-4, partition 0"
            ]
        );
        assert!(ahead(12, 99)[0].contains("covers line 2, which is not there"));
    }

    #[test]
    fn a_sink_offset_may_not_be_committed_before_the_line_is_written() {
        let mut sink = Sink::default();
        (0..4).for_each(|number| sink.line(number as i64 + 10, number));
        (0..2).for_each(|number| sink.wrote(number));
        sink.commit(12);
        assert_eq!(sink.check(3).len(), 0);
        sink.commit(13);
        assert_eq!(
            sink.check(3),
            [
                "sink-3, task 0, topic lines-3, partition 0: offset 13 is committed, and the record at 12 (line 2) is not \
              in file out-3"
            ]
        );
        sink.wrote(3);
        sink.commit(14);
        assert_eq!((sink.check(3).len(), sink.commits), (0, 3), "told once");
    }
}
