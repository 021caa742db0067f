//! Which cluster, node and directory a disk belongs to.
//!
//! ```text
//! "AQQIDN01" | crc32c u32 | cluster id | node id u64 | directory id 16
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::{get_directory, get_text, put_directory, put_text};
use crate::disk::{Disk, FileKind};
use crate::error::StartError;
use crate::types::{DirectoryId, NodeId};

const MAGIC: &[u8; 8] = b"AQQIDN01";

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub cluster_id: String,
    pub node: NodeId,
    pub directory: DirectoryId,
}

impl Identity {
    /// Reads who the disk says that this node is, or formats it with `new`. A disk of another cluster or node is refused.
    pub(crate) fn open(disk: &dyn Disk, new: Self) -> Result<Self, StartError> {
        let failed = |source| StartError::Io { place: FileKind::Identity.name().into(), source };
        let Some(content) = disk.read(FileKind::Identity).map_err(failed)? else {
            for other in [FileKind::Vote, FileKind::Log, FileKind::Snapshot] {
                if disk.read(other).map_err(failed)?.is_some() {
                    return Err(damaged("it is missing, while other files of the quorum are there"));
                }
            }
            disk.replace(FileKind::Identity, &new.encode()).map_err(failed)?;
            return Ok(new);
        };
        let found = Self::decode(content).ok_or_else(|| damaged("it cannot be read"))?;
        if found.cluster_id != new.cluster_id {
            return Err(StartError::OtherCluster { found: found.cluster_id, expected: new.cluster_id });
        }
        if found.node != new.node {
            return Err(StartError::OtherNode { found: found.node, expected: new.node });
        }
        Ok(found)
    }

    fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        put_text(&mut body, &self.cluster_id);
        body.put_u64(self.node);
        put_directory(&mut body, self.directory);
        seal(MAGIC, &body)
    }

    fn decode(content: Bytes) -> Option<Self> {
        let mut body = unseal(MAGIC, content)?;
        let cluster_id = get_text(&mut body)?;
        let node = body.try_get_u64().ok()?;
        Some(Self { cluster_id, node, directory: get_directory(&mut body)? })
    }
}

fn damaged(why: &str) -> StartError {
    StartError::Damaged { file: FileKind::Identity.name(), at: 0, why: why.to_owned() }
}

/// A file that is written as a whole: its magic, a checksum, its content.
pub(crate) fn seal(magic: &[u8; 8], body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 12);
    out.put_slice(magic);
    out.put_u32(crc32c::crc32c(body));
    out.put_slice(body);
    out.freeze()
}

/// The content of such a file; `None` where it is not what was written.
pub(crate) fn unseal(magic: &[u8; 8], mut content: Bytes) -> Option<Bytes> {
    let mut found = [0; 8];
    content.try_copy_to_slice(&mut found).ok()?;
    let crc = content.try_get_u32().ok()?;
    (&found == magic && crc32c::crc32c(&content) == crc).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Directory;

    #[test]
    fn a_disk_of_another_cluster_or_node_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        let me = |cluster: &str, node, directory| Identity {
            cluster_id: cluster.into(),
            node,
            directory: DirectoryId([directory; 16]),
        };
        assert_eq!(Identity::open(&disk, me("c", 1, 5)).unwrap(), me("c", 1, 5));
        assert_eq!(Identity::open(&disk, me("c", 1, 6)).unwrap(), me("c", 1, 5), "formatted once");
        let other = Identity::open(&disk, me("d", 1, 5)).unwrap_err();
        assert!(matches!(other, StartError::OtherCluster { .. }));
        assert!(matches!(Identity::open(&disk, me("c", 2, 5)).unwrap_err(), StartError::OtherNode { .. }));
        let mut content = disk.read(FileKind::Identity).unwrap().unwrap().to_vec();
        content[15] ^= 1;
        disk.replace(FileKind::Identity, &content).unwrap();
        assert!(matches!(Identity::open(&disk, me("c", 1, 5)).unwrap_err(), StartError::Damaged { .. }));
    }
}
