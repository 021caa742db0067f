//! The journal of the single-node backend: one file of records, each with its length and checksum.
//!
//! ```text
//! "AQMETA01" | cluster id | { length u32 | crc32c u32 | records... }*
//! ```
//! One entry is one accepted batch of changes. An entry that a crash cut short ends the file and is cut off; anything
//! else that does not add up is damage and stops the start. A file that has grown far beyond its content is rewritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::{MetadataError, MetadataImage, Record};

const MAGIC: &[u8; 8] = b"AQMETA01";
/// A journal smaller than this is never rewritten.
const REWRITE_ABOVE: u64 = 1 << 20;

/// Name of the file.
pub const FILE_NAME: &str = "aqueduct-metadata.journal";

/// An open journal, positioned at its end.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    /// Size after the last rewrite.
    base_size: u64,
}

impl Journal {
    /// Opens the journal in `dir`, or begins one for the cluster, and returns the image that it holds.
    pub fn open(dir: &Path, cluster_id: &str) -> Result<(Self, MetadataImage), MetadataError> {
        let path = dir.join(FILE_NAME);
        let failed = |source| MetadataError::Journal { path: path.display().to_string(), source };
        let mut image = MetadataImage::new(cluster_id.into());
        if !path.exists() {
            let journal = Self::write_new(&path, &image).map_err(failed)?;
            return Ok((journal, image));
        }
        let mut file = OpenOptions::new().read(true).append(true).open(&path).map_err(failed)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        let total = content.len() as u64;
        let mut bytes = Bytes::from(content);
        let damaged = |at: u64, why: &str| MetadataError::Damaged {
            path: path.display().to_string(),
            at,
            why: why.to_owned(),
        };
        let owner = read_head(&mut bytes).ok_or_else(|| damaged(0, "not a metadata journal"))?;
        if owner != cluster_id {
            return Err(damaged(
                8,
                &format!("it belongs to cluster {owner}, this directory to {cluster_id}"),
            ));
        }
        let mut good = total - bytes.len() as u64;
        while bytes.len() >= 8 {
            let (length, crc) = (bytes.get_u32() as usize, bytes.get_u32());
            if length > bytes.len() {
                break;
            }
            let mut entry = bytes.split_to(length);
            if crc32c::crc32c(&entry) != crc {
                // The last entry may be torn: its length was written, its content not yet.
                if bytes.is_empty() {
                    break;
                }
                return Err(damaged(good, "checksum mismatch"));
            }
            while !entry.is_empty() {
                let record = Record::decode(&mut entry)
                    .ok_or_else(|| damaged(good, "unknown record, perhaps of a newer version"))?;
                image.apply(&record);
            }
            good = total - bytes.len() as u64;
        }
        if good < total {
            tracing::warn!(path = %path.display(), bytes = total - good, "metadata journal ends in a torn entry, cut off");
            file.set_len(good).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        let base_size = good;
        Ok((Self { path, file, size: good, base_size }, image))
    }

    /// Appends one entry and returns once it is on disk.
    pub fn append(&mut self, records: &[Record]) -> Result<(), MetadataError> {
        let entry = entry(records);
        let result = self.file.write_all(&entry).and_then(|()| self.file.sync_data());
        if let Err(source) = result {
            // What came of it is unknown; take it off again so that later entries do not follow half an entry.
            let _ = self.file.set_len(self.size);
            return Err(self.failed(source));
        }
        self.size += entry.len() as u64;
        Ok(())
    }

    /// Rewrites the file as what `image` needs, where it has grown far beyond that.
    pub fn maybe_rewrite(&mut self, image: &MetadataImage) -> Result<(), MetadataError> {
        if self.size < REWRITE_ABOVE || self.size < self.base_size * 4 {
            return Ok(());
        }
        *self = Self::write_new(&self.path, image).map_err(|source| self.failed(source))?;
        Ok(())
    }

    fn write_new(path: &Path, image: &MetadataImage) -> io::Result<Self> {
        let mut content = BytesMut::new();
        content.put_slice(MAGIC);
        content.put_u16(image.cluster_id.len() as u16);
        content.put_slice(image.cluster_id.as_bytes());
        let records = image.to_records();
        content.unsplit(entry(&records));
        replace(path, &content)?;
        let file = OpenOptions::new().append(true).open(path)?;
        let size = content.len() as u64;
        Ok(Self { path: path.to_owned(), file, size, base_size: size })
    }

    fn failed(&self, source: io::Error) -> MetadataError {
        MetadataError::Journal { path: self.path.display().to_string(), source }
    }
}

/// Puts a file in the place of the one that may be there, as a whole or not at all.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn entry(records: &[Record]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u64(0);
    records.iter().for_each(|record| record.encode(&mut out));
    let (length, crc) = ((out.len() - 8) as u32, crc32c::crc32c(&out[8..]));
    out[..4].copy_from_slice(&length.to_be_bytes());
    out[4..8].copy_from_slice(&crc.to_be_bytes());
    out
}

fn read_head(bytes: &mut Bytes) -> Option<ByteString> {
    let mut magic = [0; 8];
    bytes.try_copy_to_slice(&mut magic).ok()?;
    let length = bytes.try_get_u16().ok()? as usize;
    if &magic != MAGIC || length > bytes.len() {
        return None;
    }
    Some(std::str::from_utf8(&bytes.split_to(length)).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(id: i64) -> Vec<Record> {
        vec![Record::ProducerIds { next: id }]
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), "c").unwrap();
        journal.append(&next(1000)).unwrap();
        journal.append(&next(2000)).unwrap();
        let (_, image) = Journal::open(dir.path(), "c").unwrap();
        assert_eq!(image.next_producer_id, 2000);
    }

    #[test]
    fn a_torn_tail_is_cut_off_at_any_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), "c").unwrap();
        journal.append(&next(1000)).unwrap();
        let kept = journal.size;
        journal.append(&next(2000)).unwrap();
        let whole = std::fs::read(&journal.path).unwrap();
        for cut in kept as usize..whole.len() {
            std::fs::write(&journal.path, &whole[..cut]).unwrap();
            let (_, image) = Journal::open(dir.path(), "c").unwrap();
            assert_eq!(image.next_producer_id, 1000);
            assert_eq!(std::fs::metadata(&journal.path).unwrap().len(), kept);
        }
    }

    #[test]
    fn damage_and_foreign_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), "c").unwrap();
        journal.append(&next(1000)).unwrap();
        let kept = journal.size as usize;
        journal.append(&next(2000)).unwrap();
        assert!(Journal::open(dir.path(), "other").unwrap_err().to_string().contains("belongs to cluster c"));
        let mut whole = std::fs::read(&journal.path).unwrap();
        whole[kept - 1] ^= 1;
        std::fs::write(&journal.path, &whole).unwrap();
        assert!(Journal::open(dir.path(), "c").unwrap_err().to_string().contains("checksum mismatch"));
    }

    #[test]
    fn a_grown_journal_is_rewritten_with_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut image) = Journal::open(dir.path(), "c").unwrap();
        let records = vec![Record::ProducerIds { next: 7 }; 130_000];
        journal.append(&records).unwrap();
        image.apply(&records[0]);
        journal.maybe_rewrite(&image).unwrap();
        assert!(journal.size < 1000);
        journal.append(&next(9)).unwrap();
        assert_eq!(Journal::open(dir.path(), "c").unwrap().1.next_producer_id, 9);
    }
}
