//! How fast one partition takes batches: `cargo run --release -p aqueduct-storage --example append_bench [MiB]`.

use std::time::Instant;

use aqueduct_protocol::ids::{LeaderEpoch, Offset};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_storage::{Log, LogConfig, Origin, TopicPartition};
use bytes::Bytes;

const NOW: i64 = 1_700_000_000_000;

fn batch(codec: Compression, size: usize, record: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    let mut state = 1u64;
    while builder.size() + record < size {
        // Half of it compresses.
        let value: Vec<u8> = (0..record).map(|i| if i % 2 == 0 { b'x' } else { next(&mut state) }).collect();
        builder.append(NOW, Some(b"key-0123"), Some(&value), &[]).expect("the batch has room");
    }
    builder.finish().expect("the batch can be compressed")
}

fn next(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*state >> 56) as u8
}

fn run(name: &str, batch: &Bytes, total: usize) -> Result<(), aqueduct_storage::Error> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let partition = TopicPartition::new("bench", 0);
    let log = Log::create(dir.path(), &partition, None, LogConfig::default(), NOW)?;
    let count = total / batch.len();
    let started = Instant::now();
    for _ in 0..count {
        log.append_as_leader(batch.clone(), LeaderEpoch(0), Origin::Client, NOW)?;
    }
    let took = started.elapsed().as_secs_f64();
    let end = log.set_high_watermark(log.log_end_offset());
    let mib = (count * batch.len()) as f64 / f64::from(1 << 20);
    let started = Instant::now();
    let (mut next, mut slices) = (Offset(0), 0u32);
    while next < end {
        let slice = log.read(next, 1 << 20, end, true)?;
        slices += 1;
        next = Offset(slice.base_offset.0 + (slice.len / batch.len()).max(1) as i64 * records(batch));
    }
    let lookup = started.elapsed().as_secs_f64() / f64::from(slices) * 1e6;
    let each = took / count as f64 * 1e6;
    println!("{name:<28} {:>8.0} MiB/s  {each:>8.2} us a batch  {lookup:>6.2} us a lookup", mib / took);
    Ok(())
}

fn records(batch: &Bytes) -> i64 {
    aqueduct_protocol::records::BatchHeader::parse(batch).expect("the batch is sound").record_count as i64
}

fn main() -> Result<(), aqueduct_storage::Error> {
    let mib: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(512);
    for (size, record) in [(500, 100), (16 << 10, 100), (64 << 10, 100), (64 << 10, 1000), (900 << 10, 1000)]
    {
        let batch = batch(Compression::None, size, record);
        run(&format!("none {size} of {record}"), &batch, mib << 20)?;
    }
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let batch = batch(codec, 64 << 10, 100);
        run(&format!("{codec} 64 KiB of 100, packed {}", batch.len()), &batch, mib << 18)?;
    }
    Ok(())
}
