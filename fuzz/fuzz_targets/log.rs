//! The files of a log directory after a crash, a bad disk or somebody's hand: a log opens whatever they hold or says why
//! not, and what it then takes survives.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use aqueduct_fuzz::{Seeds, join, part};
use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{BatchBuilder, BatchHeader, Compression, patch_crc};
use aqueduct_storage::{Log, LogConfig, LogDir, MetaProperties, Origin, Recovery, read_topic_id};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_700_000_000_000;

/// Files that a directory may hold, each a part of the input.
const FILES: &[&str] = &[
    "t-0/00000000000000000000.log",
    "t-0/00000000000000000000.index",
    "t-0/00000000000000000000.timeindex",
    "t-0/00000000000000000000.txnindex",
    "t-0/00000000000000000003.snapshot",
    "t-0/00000000000000000003.log",
    "t-0/leader-epoch-checkpoint",
    "t-0/partition.metadata",
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
    "meta.properties",
    ".kafka_cleanshutdown",
];

static ROOT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a folder for the log can be made")
});

fn config() -> LogConfig {
    LogConfig { segment_index_bytes: 4096, index_interval_bytes: 64, ..LogConfig::default() }
}

/// Gives batches the checksums that their bytes have, since no mutation would guess them.
fn mend(mut segment: &mut [u8]) {
    while let Ok(header) = BatchHeader::parse(segment)
        && header.size() <= segment.len()
    {
        let (batch, rest) = std::mem::take(&mut segment).split_at_mut(header.size());
        let _ = patch_crc(batch);
        segment = rest;
    }
}

fn append(log: &Log) -> Option<Offset> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(NOW, Some(b"k"), Some(b"v"), &[]).expect("a good record");
    let bytes = builder.finish().expect("a good batch");
    let epoch = log.latest_epoch().unwrap_or(LeaderEpoch(0));
    log.append_as_leader(bytes, epoch, Origin::Client, NOW).ok().map(|info| info.last_offset)
}

fn seed(dir: &Path) -> Vec<u8> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("t-0")).expect("a folder can be made");
    let log = Log::open(&dir.join("t-0"), config(), Recovery::UNKNOWN, NOW).expect("an empty log");
    for sequence in 0..3 {
        let mut builder = BatchBuilder::new(Compression::Lz4)
            .producer(ProducerId(9), ProducerEpoch(0), sequence)
            .transactional(true);
        builder.append(NOW + i64::from(sequence), Some(b"k"), Some(&[7; 90]), &[]).expect("a good record");
        let bytes = builder.finish().expect("a good batch");
        log.append_as_leader(bytes, LeaderEpoch(2), Origin::Client, NOW).expect("a good append");
    }
    log.close().expect("a log closes");
    drop(log);
    let contents: Vec<Vec<u8>> =
        FILES.iter().map(|name| fs::read(dir.join(name)).unwrap_or_default()).collect();
    join(&contents.iter().map(|content| content.as_slice()).collect::<Vec<_>>())
}

fuzz_target!(
    init: {
        let mut seeds = Seeds::new();
        let seed = seed(&ROOT.path().join("seed"));
        seeds.put(&seed);
        seeds.put(&seed[..seed.len() / 2]);
        seeds.put(&join(&[b"", b"", b"", b"", b"", b"", b"0\n1\n0 0\n", b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n",
            b"0\n1\nt 0 3\n", b"0\n1\nt 0 1\n", b"0\n1\nt 0 2\n", b"0\n0\n",
            b"version=1\ncluster.id=c\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n", b"{\"version\":0,\"brokerEpoch\":3}"]));
    },
    |data: &[u8]| {
        let dir = ROOT.path().join("run");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("t-0")).expect("a folder can be made");
        let mut rest = data;
        for name in FILES {
            let content = part(&mut rest);
            if !content.is_empty() {
                let mut content = content.to_vec();
                if data.len().is_multiple_of(2) && name.ends_with(".log") {
                    mend(&mut content);
                }
                fs::write(dir.join(name), content).expect("a file can be written");
            }
        }
        let _ = MetaProperties::read(&dir);
        let _ = read_topic_id(&dir.join("t-0"));
        if let Ok(dirs) = LogDir::open(&dir) {
            let _ = (dirs.logs(), dirs.futures());
            let _ = (dirs.read_recovery_points(), dirs.read_log_starts(), dirs.read_high_watermarks());
            let _ = dirs.read_cleaner_offsets();
            dirs.release();
        }
        let Ok(log) = Log::open(&dir.join("t-0"), config(), Recovery::UNKNOWN, NOW) else { return };
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        log.set_high_watermark(end);
        if let Ok(slice) = log.read(start, 1 << 20, end, true) {
            let _ = slice.read_to_bytes();
        }
        let _ = (log.offset_for_timestamp(NOW), log.max_timestamp(), log.aborted_transactions(start, end));
        let appended = append(&log);
        let end = log.log_end_offset();
        assert!(appended.is_none_or(|last| last.0 + 1 == end.0));
        log.abandon();
        drop(log);
        if let Some(last) = appended {
            let again = Log::open(&dir.join("t-0"), config(), Recovery::UNKNOWN, NOW).expect("it opened before");
            assert!(again.log_end_offset() > last, "what was written to an opened log is there after a crash");
        }
    }
);
