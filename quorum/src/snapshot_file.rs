//! A snapshot on disk and on its way.
//!
//! ```text
//! "AQQSNP01" | crc32c u32 | length of meta u32 | meta | state
//! on its way: state | crc32c u32
//! ```

use bytes::{Bytes, BytesMut};

use crate::codec::{get_bytes, get_meta, put_bytes, put_meta};
use crate::disk::{Disk, FileKind};
use crate::error::StartError;
use crate::identity::{seal, unseal};
use crate::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"AQQSNP01";

/// A snapshot file's content.
pub(crate) fn encode(meta: &SnapshotMeta, state: &[u8]) -> Bytes {
    let mut head = BytesMut::new();
    put_meta(&mut head, meta);
    let mut body = BytesMut::with_capacity(head.len() + state.len() + 4);
    put_bytes(&mut body, &head);
    body.extend_from_slice(state);
    seal(MAGIC, &body)
}

fn decode(content: Bytes) -> Option<(SnapshotMeta, Bytes)> {
    let mut body = unseal(MAGIC, content)?;
    let meta = get_meta(&mut get_bytes(&mut body)?)?;
    Some((meta, body))
}

/// The snapshot that is on disk, if any.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<(SnapshotMeta, Bytes)>, StartError> {
    let file = FileKind::Snapshot.name();
    let content = disk.read(FileKind::Snapshot);
    let Some(content) = content.map_err(|source| StartError::Io { place: file.into(), source })? else {
        return Ok(None);
    };
    let why = "it is not what was written".to_owned();
    decode(content).map(Some).ok_or(StartError::Damaged { file, at: 0, why })
}

/// A state with its checksum, for the way.
pub(crate) fn pack(state: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(state.len() + 4);
    out.extend_from_slice(state);
    out.extend_from_slice(&crc32c::crc32c(state).to_be_bytes());
    out
}

/// The state, where all of it has come as it was.
pub(crate) fn unpack(packed: Vec<u8>) -> Option<Bytes> {
    let mut state = Bytes::from(packed);
    let at = state.len().checked_sub(4)?;
    let crc = state.split_off(at);
    (crc[..] == crc32c::crc32c(&state).to_be_bytes()).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipped_bytes_are_noticed() {
        let meta = SnapshotMeta { snapshot_id: "3-8".into(), ..Default::default() };
        let content = encode(&meta, b"state");
        assert_eq!(decode(content.clone()), Some((meta, Bytes::from_static(b"state"))));
        for at in 0..content.len() {
            let mut bad = content.to_vec();
            bad[at] ^= 4;
            assert_eq!(decode(bad.into()), None);
        }
        let mut packed = pack(b"state");
        assert_eq!(unpack(packed.clone()).as_deref(), Some(&b"state"[..]));
        packed[2] ^= 1;
        assert_eq!(unpack(packed), None);
        assert_eq!(unpack(vec![1, 2]), None);
    }
}
