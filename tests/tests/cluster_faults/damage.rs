//! What a loss of power does to the logs of a node, which has ended: bytes that were never synced are missing, empty or wrong.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aqueduct_protocol::records::BatchHeader;
use aqueduct_tests::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// The end is missing, or there is nothing but zeros.
    Torn,
    /// Bytes in the middle are others.
    Flipped,
}

/// Bytes of a batch before those that its checksum covers: offset, length, leader epoch, magic.
const UNCHECKED: usize = 17;

/// Damages most of the partitions in a log directory; returns how many.
pub fn damage(data: &Path, damage: Damage, random: &mut Random) -> Result<u32> {
    let points = recovery_points(
        &fs::read_to_string(data.join("recovery-point-offset-checkpoint")).unwrap_or_default(),
    );
    let mut partitions: Vec<PathBuf> =
        fs::read_dir(data)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    // So that a seed tells all.
    partitions.sort();
    let mut damaged = 0;
    for folder in partitions.iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((topic, _)) = name.rsplit_once('-') else { continue };
        // The log of the quorum is synced before anything is promised.
        if topic == "__cluster_metadata" || random.below(4) == 0 {
            continue;
        }
        let Some(segment) = last_segment(folder)? else { continue };
        let bytes = fs::read(&segment)?;
        let batches = unsynced(&bytes, points.get(&name).copied().unwrap_or(0));
        let Some((first, _)) = batches.first().copied() else { continue };
        let file = File::options().write(true).open(&segment)?;
        match damage {
            Damage::Torn => {
                // Mostly little is lost.
                let most = (bytes.len() - first) as u64;
                let most = if random.below(4) > 0 { most.min(2000) } else { most };
                let lost = 1 + random.below(most) as usize;
                file.set_len((bytes.len() - lost) as u64)?;
                if random.below(3) == 0 {
                    file.set_len(bytes.len() as u64)?;
                }
            }
            Damage::Flipped => {
                for _ in 0..=random.below(3) {
                    let (at, length) = batches[random.index(batches.len())];
                    let place = at + UNCHECKED + random.index(length - UNCHECKED);
                    let wrong = bytes[place] ^ (1 + random.below(255) as u8);
                    file.write_all_at(&[wrong], place as u64)?;
                }
                if random.below(3) == 0 {
                    flip_index(&segment.with_extension("index"), random)?;
                }
            }
        }
        damaged += 1;
    }
    Ok(damaged)
}

fn flip_index(path: &Path, random: &mut Random) -> Result<()> {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return Ok(()) };
    let length = file.metadata()?.len();
    if length > 0 {
        file.write_all_at(&[random.below(256) as u8], random.below(length))?;
    }
    Ok(())
}

fn last_segment(folder: &Path) -> Result<Option<PathBuf>> {
    let mut last = None;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            last = last.max(Some(path));
        }
    }
    Ok(last)
}

/// Where the batches are that end at or after `recovery_point`, with their lengths.
fn unsynced(bytes: &[u8], recovery_point: i64) -> Vec<(usize, usize)> {
    let (mut at, mut batches) = (0, Vec::new());
    while let Ok(header) = BatchHeader::parse(&bytes[at..]) {
        let end = at + header.size();
        if end > bytes.len() {
            break;
        }
        if header.last_offset().0 >= recovery_point {
            batches.push((at, header.size()));
        }
        at = end;
    }
    batches
}

/// Up to where each partition (`topic-0`) is known to be synced.
fn recovery_points(text: &str) -> HashMap<String, i64> {
    let point = |line: &str| {
        let mut words = line.split(' ');
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        Some((format!("{topic}-{partition}"), offset))
    };
    text.lines().skip(2).filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::Offset;
    use aqueduct_protocol::records::{BatchBuilder, Compression};

    use super::*;

    fn batch(offset: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None).base_offset(Offset(offset));
        builder.append(1, None, Some(b"a value"), &[]).expect("a record");
        builder.finish().expect("a batch").to_vec()
    }

    #[test]
    fn only_what_is_not_synced_is_damaged() {
        let length = batch(0).len();
        let log = [batch(0), batch(1), batch(2), batch(3)[..20].to_vec()].concat();
        assert_eq!(unsynced(&log, 0), [(0, length), (length, length), (2 * length, length)]);
        assert_eq!(unsynced(&log, 2), [(2 * length, length)]);
        assert_eq!(unsynced(&log, 3), []);
        let points = recovery_points("0\n2\nrecords 3 17\na-b 0 5\n");
        assert_eq!(points, HashMap::from([("records-3".to_owned(), 17), ("a-b-0".to_owned(), 5)]));
    }
}
