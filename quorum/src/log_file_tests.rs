use openraft::{CommittedLeaderId, EntryPayload};

use super::*;
use crate::disk::Directory;
use crate::testing::Files;
use crate::types::Proposal;

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

fn entry(term: u64, index: u64) -> Entry {
    let data = Bytes::from(format!("{term}/{index}").repeat(5));
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(Proposal { epoch: term, data }) }
}

fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

fn open(dir: &tempfile::TempDir) -> (Arc<dyn Disk>, LogFile) {
    let disk: Arc<dyn Disk> = Arc::new(Directory::open(dir.path()).unwrap());
    (disk.clone(), LogFile::open(disk).unwrap())
}

fn all(log: &LogFile) -> Vec<Entry> {
    log.read(0, u64::MAX, false).unwrap()
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut log) = open(&dir);
    log.append(&entries(1, 1..6)).unwrap();
    log.append(&entries(2, 6..9)).unwrap();
    log.save_vote(&Vote::new_committed(2, 3)).unwrap();
    log.truncate(8).unwrap();
    log.purge(id(1, 3)).unwrap();
    log.append(&entries(3, 8..10)).unwrap();
    let expected: Vec<_> = [entries(1, 4..6), entries(2, 6..8), entries(3, 8..10)].concat();
    assert_eq!(all(&log), expected);
    let again = LogFile::open(disk).unwrap();
    assert_eq!(all(&again), expected);
    assert_eq!((again.purged(), again.last()), (Some(id(1, 3)), Some(id(3, 9))));
    assert_eq!(again.vote(), Some(Vote::new_committed(2, 3)));
    assert_eq!(again.read(5, 8, true).unwrap().len(), 3);
}

#[test]
fn purging_beyond_the_end_leaves_an_empty_log_that_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut log) = open(&dir);
    log.append(&entries(1, 1..4)).unwrap();
    log.purge(id(2, 50)).unwrap();
    assert_eq!((all(&log).len(), log.last()), (0, Some(id(2, 50))));
    assert!(log.append(&entries(2, 60..61)).is_err(), "a hole");
    log.append(&entries(2, 51..53)).unwrap();
    assert_eq!(LogFile::open(disk).unwrap().last(), Some(id(2, 52)));
}

/// A log of two blocks, where the second begins, and all of its bytes.
fn two_blocks() -> (Arc<dyn Disk>, LogFile, usize, Bytes) {
    let disk: Arc<dyn Disk> = Arc::new(Files::default());
    let mut log = LogFile::open(disk.clone()).unwrap();
    log.append(&entries(1, 1..3)).unwrap();
    let kept = log.end as usize;
    log.append(&entries(1, 3..5)).unwrap();
    let whole = disk.read(FileKind::Log).unwrap().unwrap();
    (disk, log, kept, whole)
}

#[test]
fn a_torn_append_is_cut_off_at_any_byte() {
    let (disk, _log, kept, whole) = two_blocks();
    for cut in kept..whole.len() {
        disk.replace(FileKind::Log, &whole[..cut]).unwrap();
        assert_eq!(all(&LogFile::open(disk.clone()).unwrap()), entries(1, 1..3));
        // The file has grown, but the rest never came to the disk.
        let mut holes = whole.to_vec();
        holes[cut..].fill(0);
        disk.replace(FileKind::Log, &holes).unwrap();
        assert_eq!(all(&LogFile::open(disk.clone()).unwrap()), entries(1, 1..3), "{cut}");
    }
}

#[test]
fn flipped_bytes_are_damage() {
    let (disk, mut log, kept, whole) = two_blocks();
    for at in 0..kept {
        let mut bad = whole.to_vec();
        bad[at] ^= 0x10;
        disk.replace(FileKind::Log, &bad).unwrap();
        assert!(LogFile::open(disk.clone()).is_err(), "{at}");
    }
    disk.replace(FileKind::Log, &whole).unwrap();
    log.save_vote(&Vote::new(4, 2)).unwrap();
    let mut vote = disk.read(FileKind::Vote).unwrap().unwrap().to_vec();
    *vote.last_mut().unwrap() ^= 1;
    disk.replace(FileKind::Vote, &vote).unwrap();
    assert!(LogFile::open(disk).is_err());
}
