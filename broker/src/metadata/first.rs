//! What an administrator has a cluster begin with, beside the metadata of a node that decides. It counts while nothing was
//! decided: whoever decides first puts it before all else.
//!
//! ```text
//! "AQFIRST1" | crc32c u32 | records...
//! ```

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::journal::replace;
use super::{MetadataError, Record};

const MAGIC: &[u8; 8] = b"AQFIRST1";
/// Name of the file.
const FILE_NAME: &str = "aqueduct-first.metadata";

/// Writes it down in `dir`. Blocks on the disk.
///
/// # Errors
/// Of the disk.
pub fn write(dir: &Path, records: &[Record]) -> io::Result<()> {
    let mut body = BytesMut::new();
    records.iter().for_each(|record| record.encode(&mut body));
    let mut content = BytesMut::with_capacity(body.len() + 12);
    content.put_slice(MAGIC);
    content.put_u32(crc32c::crc32c(&body));
    content.put_slice(&body);
    replace(&dir.join(FILE_NAME), &content)
}

/// What was written down in `dir`; nothing where nothing was. Blocks on the disk.
///
/// # Errors
/// Of the disk, and damage.
pub fn read(dir: &Path) -> Result<Vec<Record>, MetadataError> {
    let path = dir.join(FILE_NAME);
    let content = match std::fs::read(&path) {
        Ok(content) => Bytes::from(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(MetadataError::Journal { path: path.display().to_string(), source }),
    };
    decode(content).ok_or_else(|| MetadataError::FirstDamaged { path: path.display().to_string() })
}

fn decode(mut content: Bytes) -> Option<Vec<Record>> {
    let mut magic = [0; 8];
    content.try_copy_to_slice(&mut magic).ok()?;
    let crc = content.try_get_u32().ok()?;
    if &magic != MAGIC || crc32c::crc32c(&content) != crc {
        return None;
    }
    let mut records = Vec::new();
    while !content.is_empty() {
        records.push(Record::decode(&mut content)?);
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let records =
            [Record::Feature { name: "group.version".into(), level: 0 }, Record::ProducerIds { next: 7 }];
        write(dir.path(), &records).unwrap();
        assert_eq!(read(dir.path()).unwrap(), records);
        let path = dir.path().join(FILE_NAME);
        let content = std::fs::read(&path).unwrap();
        for cut in 0..content.len() {
            std::fs::write(&path, &content[..cut]).unwrap();
            let error = read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("aqueduct-first.metadata is damaged"), "{cut}: {error}");
        }
    }
}
