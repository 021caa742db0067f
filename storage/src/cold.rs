//! Reading without waiting for the disk.
//!
//! Looking for records takes a few small reads of index and log, nearly always of pages that are in memory. A thread that
//! serves many connections tries with [`if_cached`]; where that fails it leaves the work to a thread that may wait.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::unix::fs::FileExt;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

thread_local! {
    static NO_WAIT: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` in such a way that reads of log and index files inside of it fail, with [`crate::Error::is_cold`], instead
/// of waiting for the disk.
pub fn if_cached<T>(work: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            NO_WAIT.set(self.0);
        }
    }
    let _reset = Reset(NO_WAIT.replace(true));
    work()
}

/// Fills `buffer` from position `at` on.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    if !NO_WAIT.get() {
        return file.read_exact_at(buffer, at);
    }
    let mut done = 0;
    while done < buffer.len() {
        let mut slices = [IoSliceMut::new(&mut buffer[done..])];
        match preadv2(file, &mut slices, at + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ErrorKind::WouldBlock.into()),
            // Not every file system can tell.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return file.read_exact_at(&mut buffer[done..], at + done as u64);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pages_that_are_not_in_memory_are_not_waited_for() {
        // On the disk of the build: a temporary directory may be in memory altogether.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let content: Vec<u8> = (0..1 << 20).map(|i: u32| i as u8).collect();
        file.write_all(&content).unwrap();
        file.sync_all().unwrap();
        let mut buffer = vec![0; 5000];
        if_cached(|| read_exact_at(&file, &mut buffer, 100)).unwrap();
        assert_eq!(buffer, content[100..5100]);
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        match if_cached(|| read_exact_at(&file, &mut buffer, 500_000)) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            // The file system keeps its pages, or cannot tell.
            Ok(()) => assert_eq!(buffer, content[500_000..505_000]),
        }
        read_exact_at(&file, &mut buffer, 500_000).unwrap();
        assert_eq!(buffer, content[500_000..505_000]);
        assert!(!NO_WAIT.get());
    }
}
