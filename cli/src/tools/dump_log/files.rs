//! The files beside segments: indexes, snapshots of producers, checkpoints.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_protocol::records::extend_crc;

use super::super::output::print_lines;
use super::segment::{Batches, base_offset};

/// Batches of the segment beside an index, by last offset: position and largest timestamp.
fn batches_beside(path: &Path) -> Result<HashMap<i64, (u64, i64)>> {
    let segment = path.with_extension("log");
    let mut batches = Batches::open(&segment).with_context(|| segment.display().to_string())?;
    let mut found = HashMap::new();
    while let Some((at, batch)) = batches.next()? {
        found.insert(batch.header.last_offset().0, (at, batch.header.max_timestamp));
    }
    Ok(found)
}

fn entries<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = &[u8; N]> {
    bytes.as_chunks::<N>().0.iter()
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> i64 {
    (i64::from(int(bytes, at)) << 32) | i64::from(int(bytes, at + 4) as u32)
}

fn short(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn base(path: &Path) -> Result<i64> {
    base_offset(path).context("its name does not begin with an offset")
}

/// `.index`: offset and position. An index that is still written to ends in zeros.
pub fn index(path: &Path, sanity: bool) -> Result<()> {
    let (bytes, base) = (std::fs::read(path)?, base(path)?);
    let mut found: Vec<(i64, i64)> = Vec::new();
    for entry in entries::<8>(&bytes) {
        let (offset, position) = (base + i64::from(int(entry, 0)), i64::from(int(entry, 4)));
        if found.last().is_some_and(|(last, _)| offset <= *last) || (offset == base && position == 0) {
            break;
        }
        found.push((offset, position));
    }
    if !sanity {
        return print_lines(
            found.iter().map(|(offset, position)| format!("offset: {offset} position: {position}")),
        );
    }
    ensure!(bytes.len() % 8 == 0, "{} bytes are not a whole number of entries", bytes.len());
    let batches = batches_beside(path)?;
    for (offset, position) in &found {
        // An entry stands for the batch that ends with its offset.
        match batches.get(offset) {
            Some((at, _)) if *at as i64 == *position => {}
            Some((at, _)) => bail!("offset {offset} is at {at}, the index says {position}"),
            None => bail!("offset {offset} ends no batch of the segment"),
        }
    }
    print_lines([format!("{} passed sanity check.", path.display())])
}

/// `.timeindex`: the largest timestamp up to an offset.
pub fn time_index(path: &Path, sanity: bool) -> Result<()> {
    let (bytes, base) = (std::fs::read(path)?, base(path)?);
    let mut found: Vec<(i64, i64)> = Vec::new();
    for entry in entries::<12>(&bytes) {
        let (timestamp, offset) = (long(entry, 0), base + i64::from(int(entry, 8)));
        if found.last().is_some_and(|(last, _)| timestamp <= *last) || timestamp == 0 {
            break;
        }
        found.push((timestamp, offset));
    }
    if !sanity {
        return print_lines(found.iter().map(|(at, offset)| format!("timestamp: {at} offset: {offset}")));
    }
    ensure!(bytes.len() % 12 == 0, "{} bytes are not a whole number of entries", bytes.len());
    let mut batches: Vec<(i64, i64)> =
        batches_beside(path)?.into_iter().map(|(offset, (_, timestamp))| (offset, timestamp)).collect();
    batches.sort_unstable();
    for (timestamp, offset) in &found {
        let up_to = batches.iter().take_while(|(last, _)| last <= offset);
        let holding = batches.iter().find(|(last, _)| last >= offset).map(|(_, largest)| *largest);
        let largest = up_to.map(|(_, largest)| *largest).max().max(holding);
        if largest.is_none_or(|largest| largest < *timestamp) {
            bail!("no record up to offset {offset} has the timestamp {timestamp}");
        }
    }
    print_lines([format!("{} passed sanity check.", path.display())])
}

/// `.txnindex`: transactions that were aborted.
pub fn transaction_index(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path)?;
    ensure!(bytes.len() % 34 == 0, "{} bytes are not a whole number of entries", bytes.len());
    print_lines(entries::<34>(&bytes).map(|entry| {
        format!(
            "version: {} producerId: {} firstOffset: {} lastOffset: {} lastStableOffset: {}",
            short(entry, 0),
            long(entry, 2),
            long(entry, 10),
            long(entry, 18),
            long(entry, 26)
        )
    }))
}

/// `.snapshot`: the producers at an offset.
pub fn snapshot(path: &Path) -> Result<()> {
    const HEAD: usize = 10;
    const ENTRY: usize = 46;
    let bytes = std::fs::read(path)?;
    ensure!(bytes.len() >= HEAD, "{} bytes are too few for a snapshot of producers", bytes.len());
    let (version, stored, count) = (short(&bytes, 0), int(&bytes, 2) as u32, int(&bytes, 6));
    ensure!(version == 1, "version {version} of a snapshot is not known");
    let computed = extend_crc(0, &bytes[6..]);
    ensure!(stored == computed, "crc {stored} does not match the bytes ({computed})");
    ensure!(
        count >= 0 && bytes.len() == HEAD + count as usize * ENTRY,
        "{count} producers are announced in {} bytes",
        bytes.len() - HEAD
    );
    print_lines(entries::<ENTRY>(&bytes[HEAD..]).map(|entry| {
        let (last_sequence, last_offset, delta) = (int(entry, 10), long(entry, 14), int(entry, 22));
        let (timestamp, start) = (long(entry, 26), long(entry, 38));
        let start = if start < 0 { "OptionalLong.empty".to_owned() } else { format!("OptionalLong[{start}]") };
        let mut line = format!(
            "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {start} lastTimestamp: {timestamp}",
            long(entry, 0),
            short(entry, 8),
            int(entry, 34),
        );
        // A producer whose last batch was a marker has none to show.
        if last_offset >= 0 {
            // Sequences begin again at 0 after the largest.
            let first = last_sequence.wrapping_sub(delta) & i32::MAX;
            line += &format!(
                " firstSequence: {first} lastSequence: {last_sequence} lastOffset: {last_offset} offsetDelta: {delta} timestamp: {timestamp}"
            );
        }
        line
    }))
}

/// Checkpoints, leader epochs and properties are text.
pub fn text(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let is_checkpoint = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("checkpoint"));
    if is_checkpoint {
        check_checkpoint(&text)?;
    }
    print_lines(text.lines())
}

/// A version, a count, and so many lines.
fn check_checkpoint(text: &str) -> Result<()> {
    let mut lines = text.lines();
    ensure!(lines.next() == Some("0"), "the first line must be the version 0");
    let count: usize =
        lines.next().and_then(|line| line.parse().ok()).context("the second line must be a count")?;
    let found = lines.filter(|line| !line.trim().is_empty()).count();
    ensure!(found == count, "{count} entries are announced, {found} are there");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_big_endian() {
        let bytes = (-5i64).to_be_bytes();
        assert_eq!(long(&bytes, 0), -5);
        assert_eq!(long(&(1i64 << 40 | 7).to_be_bytes(), 0), 1 << 40 | 7);
    }

    #[test]
    fn a_checkpoint_has_as_many_lines_as_it_says() {
        assert!(check_checkpoint("0\n1\nt 0 5\n").is_ok());
        assert!(check_checkpoint("0\n2\nt 0 5\n").is_err());
        assert!(check_checkpoint("1\n0\n").is_err());
        assert!(check_checkpoint("").is_err());
    }
}
