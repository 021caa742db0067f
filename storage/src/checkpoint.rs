//! Kafka's checkpoint files: a version, a count and as many lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use aqueduct_protocol::ids::Offset;

use crate::{Error, TopicPartition, files};

/// The lines of a checkpoint file; `None` where there is no file.
pub(crate) fn read_lines(path: &Path) -> Result<Option<Vec<String>>, Error> {
    let Some(text) = files::read_text(path)? else { return Ok(None) };
    let mut lines = text.lines();
    match lines.next().map(str::trim) {
        Some("0") => {}
        other => return Err(Error::damaged(path, format!("version {other:?}, 0 expected"))),
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| Error::damaged(path, "the second line is not a count"))?;
    let lines: Vec<String> = lines.map(str::to_owned).filter(|line| !line.is_empty()).collect();
    if lines.len() != count {
        return Err(Error::damaged(path, format!("{count} lines announced, {} there", lines.len())));
    }
    Ok(Some(lines))
}

/// Writes a checkpoint file, at once.
pub(crate) fn write_lines(path: &Path, count: usize, lines: &str) -> Result<(), Error> {
    files::write_atomically(path, format!("0\n{count}\n{lines}").as_bytes())
}

/// Writes a checkpoint file that a power failure may undo or empty.
pub(crate) fn write_lines_unsynced(path: &Path, count: usize, lines: &str) -> Result<(), Error> {
    files::replace(path, format!("0\n{count}\n{lines}").as_bytes(), false)
}

/// Offsets by partition, as four files of a data directory hold them.
pub type OffsetCheckpoint = BTreeMap<TopicPartition, Offset>;

/// Reads lines of `topic partition offset`; nothing where there is no file.
pub(crate) fn read_offsets(path: &Path) -> Result<OffsetCheckpoint, Error> {
    let mut offsets = OffsetCheckpoint::new();
    for line in read_lines(path)?.unwrap_or_default() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let entry = match fields[..] {
            [topic, partition, offset] => match (partition.parse(), offset.parse()) {
                (Ok(partition), Ok(offset)) => Some((TopicPartition::new(topic, partition), Offset(offset))),
                _ => None,
            },
            _ => None,
        };
        let (partition, offset) = entry.ok_or_else(|| Error::damaged(path, format!("line {line:?}")))?;
        offsets.insert(partition, offset);
    }
    Ok(offsets)
}

/// Writes lines of `topic partition offset`.
pub(crate) fn write_offsets(path: &Path, offsets: &OffsetCheckpoint) -> Result<(), Error> {
    let mut lines = String::new();
    for (partition, offset) in offsets {
        let _ = writeln!(lines, "{} {} {offset}", partition.topic, partition.partition);
    }
    write_lines(path, offsets.len(), &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_round_trip_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recovery-point-offset-checkpoint");
        assert!(read_offsets(&path).unwrap().is_empty());
        let offsets = OffsetCheckpoint::from([
            (TopicPartition::new("a", 0), Offset(5)),
            (TopicPartition::new("b-c", 11), Offset(i64::MAX)),
        ]);
        write_offsets(&path, &offsets).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n2\na 0 5\nb-c 11 9223372036854775807\n");
        assert_eq!(read_offsets(&path).unwrap(), offsets);
        for bad in ["", "1\n0\n", "0\nx\n", "0\n2\na 0 5\n", "0\n1\na 0\n", "0\n1\na 0 b\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(read_offsets(&path), Err(Error::DamagedFile { .. })), "{bad:?}");
        }
    }
}
