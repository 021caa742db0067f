//! `.txnindex` files: the aborted transactions whose marker is in a segment. Most segments have none, and no file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use aqueduct_protocol::ids::{Offset, ProducerId};

use crate::error::IoContext;
use crate::{Error, files};

const VERSION: i16 = 0;
const LEN: usize = 2 + 4 * 8;

/// A transaction that was aborted; readers of committed records pass over its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// Of its marker.
    pub last_offset: Offset,
    /// The last stable offset when it ended: what ends later can only touch what lies from here on.
    pub(crate) last_stable_offset: Offset,
}

/// Adds a transaction to the segment at `base`, unless it is there.
pub(crate) fn append(dir: &Path, base: Offset, aborted: &AbortedTransaction) -> Result<(), Error> {
    if read(dir, base)?.iter().any(|known| known.last_offset == aborted.last_offset) {
        return Ok(());
    }
    let path = files::path(dir, base, files::TXN_INDEX);
    let mut file = OpenOptions::new().append(true).create(true).open(&path).at("open", &path)?;
    file.write_all(&encode(aborted)).at("write", &path)
}

/// The transactions of the segment at `base`, in the order of their markers.
fn read(dir: &Path, base: Offset) -> Result<Vec<AbortedTransaction>, Error> {
    read_at(&files::path(dir, base, files::TXN_INDEX))
}

/// The same by the name of the file.
pub(crate) fn read_at(path: &Path) -> Result<Vec<AbortedTransaction>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).at("read", path),
    };
    // An entry that a crash cut short is written again when the log is recovered.
    bytes.chunks_exact(LEN).map(|entry| decode(entry).map_err(|why| Error::damaged(path, why))).collect()
}

/// Writes a new file with these transactions and makes it durable.
pub(crate) fn create(path: &Path, aborted: &[AbortedTransaction]) -> Result<(), Error> {
    let bytes: Vec<u8> = aborted.iter().flat_map(encode).collect();
    std::fs::write(path, bytes).at("write", path)?;
    files::sync(path)
}

/// Drops transactions whose marker is at `end` or behind, and what is damaged.
pub(crate) fn truncate(dir: &Path, base: Offset, end: Offset) -> Result<(), Error> {
    let path = files::path(dir, base, files::TXN_INDEX);
    if !path.exists() {
        return Ok(());
    }
    let known = read(dir, base).unwrap_or_default();
    let kept: Vec<u8> = known.iter().filter(|a| a.last_offset < end).flat_map(encode).collect();
    if kept.is_empty() { files::remove(&path) } else { files::write_atomically(&path, &kept) }
}

/// Makes the file durable, if there is one.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    match std::fs::File::open(path) {
        Ok(file) => file.sync_data().at("sync", path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).at("open", path),
    }
}

fn encode(aborted: &AbortedTransaction) -> [u8; LEN] {
    let mut out = [0; LEN];
    let fields =
        [aborted.producer_id.0, aborted.first_offset.0, aborted.last_offset.0, aborted.last_stable_offset.0];
    for (field, target) in fields.iter().zip(out[2..].chunks_exact_mut(8)) {
        target.copy_from_slice(&field.to_be_bytes());
    }
    out
}

fn decode(entry: &[u8]) -> Result<AbortedTransaction, String> {
    let version = i16::from_be_bytes([entry[0], entry[1]]);
    if version != VERSION {
        return Err(format!("entry of version {version}, {VERSION} expected"));
    }
    let mut fields =
        entry[2..].chunks_exact(8).map(|field| field.iter().fold(0i64, |n, b| n << 8 | *b as i64));
    let mut next = || fields.next().unwrap_or_default();
    Ok(AbortedTransaction {
        producer_id: ProducerId(next()),
        first_offset: Offset(next()),
        last_offset: Offset(next()),
        last_stable_offset: Offset(next()),
    })
}
