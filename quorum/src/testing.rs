//! A disk for tests that write a lot.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, FileKind};

/// Files in memory.
#[derive(Default)]
pub(crate) struct Files(Mutex<BTreeMap<FileKind, Vec<u8>>>);

impl Disk for Files {
    fn read(&self, file: FileKind) -> io::Result<Option<Bytes>> {
        Ok(self.0.lock().get(&file).map(|content| Bytes::copy_from_slice(content)))
    }

    fn read_at(&self, file: FileKind, at: u64, length: usize) -> io::Result<Bytes> {
        Ok(Bytes::copy_from_slice(&self.0.lock()[&file][at as usize..][..length]))
    }

    fn append(&self, file: FileKind, _at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().entry(file).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn cut(&self, file: FileKind, length: u64) -> io::Result<()> {
        self.0.lock().entry(file).or_default().truncate(length as usize);
        Ok(())
    }

    fn replace(&self, file: FileKind, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().insert(file, bytes.to_vec());
        Ok(())
    }
}
