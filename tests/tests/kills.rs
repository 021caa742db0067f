//! A node is killed again and again while three clients write, and its files are damaged in between: what was acknowledged
//! and not damaged is there, in its place; what is damaged is said in the log.

#[allow(dead_code)]
#[path = "wire/socket.rs"]
mod socket;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use aqueduct_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest};
use aqueduct_protocol::records::{BatchBuilder, Batches, Compression};
use aqueduct_tests::server::{Kind, Server};
use bytes::Bytes;
use socket::Socket;

const TOPIC: &str = "killed";
const PARTITIONS: i32 = 3;
const ROUNDS: u32 = 8;

/// A small generator of its own, so that a seed tells all.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Values by their offsets.
type Records = BTreeMap<i64, String>;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// Writes batches of three records until the node is gone; returns what it acknowledged.
fn write(mut socket: Socket, partition: i32, round: u32) -> Result<Records> {
    let mut acknowledged = Records::new();
    for number in 0.. {
        let values: Vec<String> = (0..3)
            .map(|n| format!("{round}-{partition}-{number}-{n}-{}", "x".repeat(number % 300)))
            .collect();
        let mut builder = BatchBuilder::new(Compression::None);
        for value in &values {
            builder.append(now_ms(), None, Some(value.as_bytes()), &[])?;
        }
        let partition_data =
            vec![PartitionProduceData { index: partition, records: Some(builder.finish()?) }];
        let topic_data = vec![TopicProduceData { name: TOPIC.into(), partition_data, ..Default::default() }];
        let request = ProduceRequest { acks: 1, timeout_ms: 1000, topic_data, ..Default::default() };
        let Ok(response) = socket.call(&request, 9) else { return Ok(acknowledged) };
        let answer = &response.responses[0].partition_responses[0];
        ensure!(answer.error_code == 0, "partition {partition}: code {}", answer.error_code);
        for (n, value) in values.into_iter().enumerate() {
            let before = acknowledged.insert(answer.base_offset + n as i64, value);
            ensure!(before.is_none(), "partition {partition}: an offset was given twice");
        }
    }
    Ok(acknowledged)
}

fn read(server: &Server, partition: i32) -> Result<Records> {
    let mut socket = Socket::open(server)?;
    let mut records = Records::new();
    let mut offset = 0;
    loop {
        let wanted = FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset: offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topics = vec![FetchTopic { topic: TOPIC.into(), topic_id: Uuid::ZERO, partitions: vec![wanted] }];
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: 1 << 24,
            session_epoch: -1,
            topics,
            ..Default::default()
        };
        let response = socket.call(&request, 11)?;
        let answer = &response.responses[0].partitions[0];
        ensure!(answer.error_code == 0, "partition {partition}@{offset}: code {}", answer.error_code);
        let bytes = answer.records.clone().unwrap_or_default();
        if bytes.is_empty() {
            ensure!(offset == answer.high_watermark, "partition {partition}: nothing at {offset}");
            return Ok(records);
        }
        for batch in Batches::new(bytes) {
            let Ok(batch) = batch else { break };
            batch.check_crc()?;
            for record in batch.records()? {
                let record = record?;
                ensure!(
                    record.offset.0 == offset,
                    "partition {partition}: {} instead of {offset}",
                    record.offset
                );
                let value = record.value.context("every record has a value")?;
                records.insert(offset, String::from_utf8(value.to_vec())?);
                offset += 1;
            }
        }
    }
}

fn files(dir: &Path, kind: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == kind)).collect();
    files.sort();
    Ok(files)
}

/// Does something to the files of a partition; returns the offset from which on records are lost, if any are.
fn damage(dir: &Path, random: &mut Random) -> Result<Option<i64>> {
    let logs = files(dir, "log")?;
    match random.below(5) {
        0 => Ok(None),
        1 => {
            // A batch that was being written.
            let newest = logs.last().context("a log has a segment")?;
            let bytes = std::fs::read(&logs[0])?;
            let torn = random.below(bytes.len().min(200) as u64 + 1) as usize;
            std::fs::File::options().append(true).open(newest)?.write_all(&bytes[..torn])?;
            Ok(None)
        }
        2 => {
            for path in files(dir, "index")?.into_iter().chain(files(dir, "timeindex")?) {
                if random.below(2) == 0 {
                    std::fs::remove_file(path)?;
                }
            }
            Ok(None)
        }
        3 => {
            for path in files(dir, "index")?.into_iter().chain(files(dir, "timeindex")?) {
                std::fs::write(path, vec![random.below(256) as u8; random.below(600) as usize])?;
            }
            Ok(None)
        }
        _ => {
            let path = &logs[random.below(logs.len() as u64) as usize];
            let mut bytes = std::fs::read(path)?;
            let mut batches = Vec::new();
            let mut at = 0;
            for batch in Batches::new(Bytes::from(bytes.clone())) {
                let Ok(batch) = batch else { break };
                batches.push((at, batch.bytes.len(), batch.header.base_offset.0));
                at += batch.bytes.len();
            }
            if batches.is_empty() {
                return Ok(None);
            }
            let (at, size, offset) = batches[random.below(batches.len() as u64) as usize];
            // The checksum covers what follows the magic.
            let byte = at + 17 + random.below(size as u64 - 17) as usize;
            bytes[byte] ^= 1 << random.below(8);
            std::fs::write(path, bytes)?;
            Ok(Some(offset))
        }
    }
}

#[test]
fn what_was_acknowledged_and_not_damaged_outlives_kills_and_damage() -> Result<()> {
    let seed = now_ms() as u64 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut server = Server::start(Kind::Aqueduct)?;
    let config = CreatableTopicConfig { name: "segment.bytes".into(), value: Some("1048576".into()) };
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: vec![config],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    ensure!(Socket::open(&server)?.call(&request, 4)?.topics[0].error_code == 0);

    let mut expected: Vec<Records> = vec![Records::new(); PARTITIONS as usize];
    for round in 0..ROUNDS {
        let time = Duration::from_millis(50 + random.below(400));
        let id = match &mut server {
            Server::Aqueduct(broker) => broker.process().id(),
            Server::ApacheKafka(_) => bail!("ours is under test"),
        };
        // All are connected before the node's time runs.
        let sockets: Vec<Socket> = (0..PARTITIONS).map(|_| Socket::open(&server)).collect::<Result<_>>()?;
        let written: Vec<Result<Records>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..)
                .zip(sockets)
                .map(|(partition, socket)| scope.spawn(move || write(socket, partition, round)))
                .collect();
            std::thread::sleep(time);
            aqueduct_tests::process::signal(id, "KILL").expect("the node runs");
            writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
        });
        server.kill();
        let mut said = Vec::new();
        for (partition, written) in written.into_iter().enumerate() {
            expected[partition].extend(written?);
            let dir = server.data().join(format!("{TOPIC}-{partition}"));
            if let Some(lost) = damage(&dir, &mut random)? {
                expected[partition].split_off(&lost);
                said.push(format!("{TOPIC}-{partition}"));
            }
        }
        let before = log(&mut server).len();
        server.restart()?;
        for partition in 0..PARTITIONS {
            let found = read(&server, partition)?;
            let missing: Vec<_> = expected[partition as usize]
                .iter()
                .filter(|(offset, value)| found.get(offset) != Some(value))
                .map(|(offset, _)| offset)
                .collect();
            ensure!(
                missing.is_empty(),
                "seed {seed}, round {round}, partition {partition}: missing {missing:?}"
            );
            // What was written and not acknowledged may be there, and counts from then on.
            expected[partition as usize] = found;
        }
        let log = log(&mut server)[before..].to_owned();
        for partition in said {
            let is_said = |line: &str| line.contains(&partition) && line.contains("not a sound batch");
            ensure!(
                log.lines().any(is_said),
                "seed {seed}, round {round}: nothing about {partition} in\n{log}"
            );
        }
    }
    server.stop()
}

fn log(server: &mut Server) -> String {
    match server {
        Server::Aqueduct(broker) => broker.process().log(),
        Server::ApacheKafka(kafka) => kafka.process().log(),
    }
}
