//! How fast a log is compacted: `cargo run --release -p aqueduct-storage --example clean_bench [MiB]`.

use std::time::Instant;

use aqueduct_protocol::ids::LeaderEpoch;
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_storage::{CleanerLimits, Error, Log, LogConfig, Origin, TopicPartition};

const NOW: i64 = 1_700_000_000_000;
/// Kafka's defaults for one thread.
const LIMITS: CleanerLimits =
    CleanerLimits { dedupe_bytes: 128 << 20, load_factor: 0.9, io_bytes: 256 << 10 };

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Fills a log with records of `size` bytes in batches of 16 KiB; each key comes about `times` times.
fn fill(log: &Log, codec: Compression, size: usize, times: u64, total: usize) -> Result<u64, Error> {
    let (records, mut state, mut written) = ((total / size) as u64, 1u64, 0);
    let keys = (records / times).max(1);
    while written < records {
        let mut builder = BatchBuilder::new(codec);
        while builder.size() + size < 16 << 10 {
            let key = (next(&mut state) % keys).to_be_bytes();
            // Half of it compresses.
            let byte =
                |i: usize| if i.is_multiple_of(2) { b'x' } else { (state >> (i % 40)) as u8 ^ i as u8 };
            let value: Vec<u8> = (0..size - 20).map(byte).collect();
            builder.append(NOW, Some(&key), Some(&value), &[]).expect("the batch has room");
            written += 1;
        }
        let batch = builder.finish().expect("the batch can be compressed");
        log.append_as_leader(batch, LeaderEpoch(0), Origin::Client, NOW)?;
    }
    log.set_high_watermark(log.log_end_offset());
    Ok(written)
}

/// Seconds of processor time that this process has taken.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn run(codec: Compression, size: usize, times: u64, total: usize) -> Result<(), Error> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let config = LogConfig {
        segment_bytes: 8 << 20,
        min_cleanable_dirty_ratio: 0.0,
        compact: true,
        delete: false,
        retention_ms: -1,
        ..LogConfig::default()
    };
    let log = Log::create(dir.path(), &TopicPartition::new("bench", 0), None, config, NOW)?;
    fill(&log, codec, size, times, total)?;
    let cleanable = log.cleanable(None, NOW)?;
    let (started, before) = (Instant::now(), cpu());
    let cleaned = log.clean(&cleanable, &LIMITS, NOW, &mut |_| true)?;
    let (took, used) = (started.elapsed().as_secs_f64(), cpu() - before);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:<26} {:>7.0} MiB/s cleaned  {:>6.2} M records/s  {:>6.2} CPU s/GiB  {:>5.1} % kept",
        format!("{codec} {size} B, {times} of a key"),
        mib(cleaned.bytes_read) / took,
        cleaned.records_read as f64 / took / 1e6,
        used * 1024.0 / mib(cleaned.bytes_read),
        cleaned.records_written as f64 * 100.0 / cleaned.records_read as f64,
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    let mib: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(512);
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for size in [100, 1024] {
            for times in [1, 4] {
                run(codec, size, times, mib << 20)?;
            }
        }
    }
    Ok(())
}
