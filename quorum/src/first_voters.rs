//! The first voters of a quorum, as an administrator wrote them into the directory of each of them.
//!
//! ```text
//! "AQQVOT01" | crc32c u32 | count u16 | count × (node id u64, peer)
//! ```
//! All of them have the same file, so that each can begin the log with the same entry, whoever is elected. It counts only
//! while the log is empty.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::{get_peer, put_peer};
use crate::disk::{Disk, FileKind};
use crate::error::StartError;
use crate::identity::{seal, unseal};
use crate::types::{NodeId, Peer};

const MAGIC: &[u8; 8] = b"AQQVOT01";

/// Formats a directory that belongs to none so far for one of the first voters, whose peers have the directories with which
/// they vote.
///
/// # Errors
/// A directory in which a quorum has files, or that cannot be written to.
pub fn format(disk: &dyn Disk, voters: &BTreeMap<NodeId, Peer>) -> Result<(), StartError> {
    let failed = |source| StartError::Io { place: FileKind::Voters.name().into(), source };
    for file in FileKind::ALL.into_iter().filter(|file| *file != FileKind::Voters) {
        if disk.read(file).map_err(failed)?.is_some() {
            return Err(StartError::NotEmpty { file: file.name() });
        }
    }
    disk.replace(FileKind::Voters, &encode(voters)).map_err(failed)
}

/// Whether a directory was formatted for a voter, or has been part of a quorum.
pub fn is_of_quorum(directory: &Path) -> bool {
    [FileKind::Voters, FileKind::Identity].into_iter().any(|file| directory.join(file.name()).exists())
}

/// What [`format`] wrote; `None` where it did not.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<BTreeMap<NodeId, Peer>>, StartError> {
    let file = FileKind::Voters.name();
    let content = disk.read(FileKind::Voters);
    let content = content.map_err(|source| StartError::Io { place: file.into(), source })?;
    let damaged = || StartError::Damaged { file, at: 0, why: "it cannot be read".into() };
    content.map(|content| decode(content).ok_or_else(damaged)).transpose()
}

fn encode(voters: &BTreeMap<NodeId, Peer>) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u16(u16::try_from(voters.len()).unwrap_or(u16::MAX));
    for (id, peer) in voters.iter().take(usize::from(u16::MAX)) {
        body.put_u64(*id);
        put_peer(&mut body, peer);
    }
    seal(MAGIC, &body)
}

fn decode(content: Bytes) -> Option<BTreeMap<NodeId, Peer>> {
    let mut body = unseal(MAGIC, content)?;
    let mut voters = BTreeMap::new();
    for _ in 0..body.try_get_u16().ok()? {
        voters.insert(body.try_get_u64().ok()?, get_peer(&mut body)?);
    }
    body.is_empty().then_some(voters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Directory;
    use crate::types::DirectoryId;

    #[test]
    fn a_directory_is_formatted_once_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        assert!(read(&disk).unwrap().is_none() && !is_of_quorum(dir.path()));
        let peer = |id: u8| Peer {
            directory: DirectoryId([id; 16]),
            listener: "CONTROLLER".into(),
            host: format!("h{id}"),
            port: 9093,
        };
        let voters: BTreeMap<NodeId, Peer> = [(1, peer(1)), (2, peer(2))].into();
        format(&disk, &voters).unwrap();
        assert!(is_of_quorum(dir.path()));
        assert_eq!(read(&disk).unwrap(), Some(voters.clone()));
        let content = encode(&voters);
        for cut in 0..content.len() {
            disk.replace(FileKind::Voters, &content[..cut]).unwrap();
            assert!(matches!(read(&disk), Err(StartError::Damaged { .. })), "{cut}");
        }
        disk.replace(FileKind::Log, b"x").unwrap();
        assert!(matches!(format(&disk, &voters), Err(StartError::NotEmpty { file: "quorum.log" })));
    }
}
