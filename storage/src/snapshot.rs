//! `.snapshot` files: the producers of a partition as they were at an offset.

use std::path::Path;

use aqueduct_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::extend_crc;

use crate::error::IoContext;
use crate::producers::{AppendedBatch, ProducerState, Producers};
use crate::{Error, files};

const VERSION: i16 = 1;
/// Version, checksum, count.
const HEAD: usize = 2 + 4 + 4;
const ENTRY: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;

/// Writes the state at `offset`. It is not synced: a damaged snapshot is noticed by its checksum and passed over.
pub(crate) fn write(dir: &Path, offset: Offset, producers: &Producers) -> Result<(), Error> {
    let path = files::path(dir, offset, files::SNAPSHOT);
    std::fs::write(&path, encode(producers)).at("write", &path)
}

/// Reads the state at `offset`; [`Error::DamagedFile`] where it cannot be trusted.
pub(crate) fn read(dir: &Path, offset: Offset) -> Result<Producers, Error> {
    let path = files::path(dir, offset, files::SNAPSHOT);
    let bytes = std::fs::read(&path).at("read", &path)?;
    decode(&bytes).map_err(|why| Error::damaged(&path, why))
}

fn encode(producers: &Producers) -> Vec<u8> {
    let mut states: Vec<_> = producers.iter().collect();
    states.sort_unstable_by_key(|(id, _)| *id);
    let mut out = Vec::with_capacity(HEAD + states.len() * ENTRY);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(states.len() as i32).to_be_bytes());
    for (id, state) in states {
        let last = state.batches.last();
        out.extend_from_slice(&id.0.to_be_bytes());
        out.extend_from_slice(&state.epoch.0.to_be_bytes());
        out.extend_from_slice(&last.map_or(-1, |b| b.last_sequence).to_be_bytes());
        out.extend_from_slice(&last.map_or(-1, |b| b.last_offset.0).to_be_bytes());
        out.extend_from_slice(&last.map_or(0, |b| b.offset_delta).to_be_bytes());
        out.extend_from_slice(&state.timestamp.to_be_bytes());
        out.extend_from_slice(&state.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&state.transaction_start.map_or(-1, |o| o.0).to_be_bytes());
    }
    let crc = extend_crc(0, &out[6..]);
    out[2..6].copy_from_slice(&crc.to_be_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Producers, String> {
    let mut rest = bytes;
    let version = i16::from_be_bytes(take(&mut rest)?);
    if version != VERSION {
        return Err(format!("version {version}, {VERSION} expected"));
    }
    let stored = u32::from_be_bytes(take(&mut rest)?);
    let computed = extend_crc(0, rest);
    if stored != computed {
        return Err(format!("crc {stored:#010x} does not match the bytes ({computed:#010x})"));
    }
    let count = i32::from_be_bytes(take(&mut rest)?);
    if count as i64 * ENTRY as i64 != rest.len() as i64 {
        return Err(format!("{count} producers announced in {} bytes", rest.len()));
    }
    let mut producers = Producers::default();
    for _ in 0..count {
        let id = ProducerId(i64::from_be_bytes(take(&mut rest)?));
        let epoch = ProducerEpoch(i16::from_be_bytes(take(&mut rest)?));
        let last_sequence = i32::from_be_bytes(take(&mut rest)?);
        let last_offset = Offset(i64::from_be_bytes(take(&mut rest)?));
        let offset_delta = i32::from_be_bytes(take(&mut rest)?);
        let timestamp = i64::from_be_bytes(take(&mut rest)?);
        let coordinator_epoch = i32::from_be_bytes(take(&mut rest)?);
        let start = i64::from_be_bytes(take(&mut rest)?);
        let batch = AppendedBatch { last_sequence, last_offset, offset_delta, timestamp };
        let batches = if last_offset.0 >= 0 { vec![batch] } else { Vec::new() };
        let transaction_start = (start >= 0).then_some(Offset(start));
        producers
            .restore(id, ProducerState { epoch, batches, coordinator_epoch, timestamp, transaction_start });
    }
    Ok(producers)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest.split_first_chunk().ok_or("cut short")?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_round_trip_and_damage_is_noticed() {
        let mut producers = Producers::default();
        for (id, start) in [(7, None), (9, Some(Offset(3)))] {
            let batch =
                AppendedBatch { last_sequence: 5, last_offset: Offset(8), offset_delta: 2, timestamp: 77 };
            let state = ProducerState {
                epoch: ProducerEpoch(2),
                batches: vec![batch],
                coordinator_epoch: 4,
                timestamp: 77,
                transaction_start: start,
            };
            producers.restore(ProducerId(id), state);
        }
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Offset(11), &producers).unwrap();
        assert_eq!(read(dir.path(), Offset(11)).unwrap(), producers);
        let sound = encode(&producers);
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&sound[..at]).is_err(), "cut at {at}");
        }
    }
}
