//! What leaves the page cache, on the disk of the build: a temporary directory may be in memory altogether.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::path::Path;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_storage::LogConfig;
use common::{NOW, append, create, log_dir, read_all};
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

const MIB: usize = 1 << 20;
/// More than is kept of what was written last.
const BEHIND: usize = 48;

/// Whether a page of a file is not in memory. Asking may bring it there.
fn is_cold(file: &File, at: usize) -> bool {
    let mut page = [0; 1];
    preadv2(file, &mut [IoSliceMut::new(&mut page)], at as u64, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
}

/// Whether files in `dir` leave memory at all.
fn forgets(dir: &Path) -> bool {
    let mut file = tempfile::tempfile_in(dir).unwrap();
    file.write_all(&[1; MIB]).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    is_cold(&file, MIB / 2)
}

#[test]
fn what_is_appended_leaves_the_page_cache_once_it_is_on_the_disk() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let log = create(dir.path(), LogConfig::default());
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(NOW, None, Some(&vec![b'v'; MIB - 256]), &[]).unwrap();
    let batch = builder.finish().unwrap();
    let grow = || {
        append(&log, batch.clone()).unwrap();
        log.leave_cache();
    };
    (0..BEHIND).for_each(|_| grow());
    let file = File::open(log_dir(dir.path()).join("00000000000000000000.log")).unwrap();
    // Each place is asked about once.
    let is_left = (0..200).any(|mib| {
        file.sync_data().unwrap();
        grow();
        is_cold(&file, mib * MIB + MIB / 2)
    });
    assert!(is_left || !forgets(dir.path()), "all of it is in memory still");
    let end = usize::try_from(log.log_end_offset().0).unwrap();
    let last = file.metadata().unwrap().len() as usize - 1;
    assert!(!is_cold(&file, last), "what was written last is there");
    assert_eq!(read_all(&log, Offset(0), 4 * MIB).len(), end);
}
