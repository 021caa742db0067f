//! Fetch and ListOffsets: waiting, limits, offsets out of range.

use std::time::{Duration, Instant};

use anyhow::Result;
use aqueduct_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use aqueduct_protocol::messages::fetch_response::PartitionData;
use aqueduct_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use aqueduct_protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest};
use aqueduct_tests::server::{Kind, shared};

use crate::socket::Socket;
use crate::{batch, batch_at, create, same, send};

/// Asks for partitions as (topic, partition, offset) without a session and without waiting.
pub fn request(partitions: &[(&str, i32, i64)]) -> FetchRequest {
    let topic = |(topic, partition, offset): &(&str, i32, i64)| {
        let partition = FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        FetchTopic { topic: (*topic).into(), partitions: vec![partition], ..Default::default() }
    };
    FetchRequest {
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: partitions.iter().map(topic).collect(),
        ..Default::default()
    }
}

/// The answer for one partition, at once.
pub fn at(socket: &mut Socket, topic: &str, partition: i32, offset: i64) -> Result<PartitionData> {
    Ok(socket.call(&request(&[(topic, partition, offset)]), 11)?.responses.remove(0).partitions.remove(0))
}

/// An answer in one line: errors, offsets and bytes of each partition.
pub fn show(response: &FetchResponse) -> String {
    let mut line = format!("error {}", response.error_code);
    for topic in &response.responses {
        for p in &topic.partitions {
            line += &format!(
                "; {}-{} error {} high {} stable {} start {} aborted {:?} replica {} bytes {:?}",
                topic.topic,
                p.partition_index,
                p.error_code,
                p.high_watermark,
                p.last_stable_offset,
                p.log_start_offset,
                p.aborted_transactions.as_ref().map(Vec::len),
                p.preferred_read_replica,
                p.records.as_ref().map(|records| records.len()),
            );
        }
    }
    line
}

#[test]
fn a_waiting_fetch_is_woken_by_the_append() -> Result<()> {
    for kind in Kind::BOTH {
        let server = shared(kind)?;
        let (mut reader, mut writer) = (Socket::open(server)?, Socket::open(server)?);
        create(&mut writer, "wire.wait", 1, &[])?;
        let mut waits = Vec::new();
        for round in 0..9 {
            let wait = FetchRequest { max_wait_ms: 60_000, ..request(&[("wire.wait", 0, round)]) };
            let id = reader.start(&wait, 11)?;
            std::thread::sleep(Duration::from_millis(50));
            let from = Instant::now();
            send(&mut writer, 8, "wire.wait", batch(&[b"woken"], None))?;
            let response = reader.finish::<FetchRequest>(id, 11)?;
            waits.push(from.elapsed());
            assert!(!response.responses[0].partitions[0].records.as_ref().is_none_or(|r| r.is_empty()));
        }
        waits.sort_unstable();
        if kind == Kind::Aqueduct {
            // A busy machine holds up some of them.
            assert!(waits[4] < Duration::from_millis(100), "{waits:?}");
        }
        // More bytes than there are: the answer comes when the time is over, with what is there.
        let wait = FetchRequest { max_wait_ms: 300, min_bytes: 10_000, ..request(&[("wire.wait", 0, 0)]) };
        let from = Instant::now();
        let response = reader.call(&wait, 11)?;
        assert!(from.elapsed() >= Duration::from_millis(300), "{kind:?} {:?}", from.elapsed());
        assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|r| !r.is_empty()));
        // An error does not wait.
        let from = Instant::now();
        let wait = FetchRequest { max_wait_ms: 60_000, ..request(&[("wire.wait", 0, 99)]) };
        assert_eq!(reader.call(&wait, 11)?.responses[0].partitions[0].error_code, 1);
        assert!(from.elapsed() < Duration::from_secs(30));
    }
    Ok(())
}

/// The first partition with data gives at least its first batch; the others must fit.
#[test]
fn limits_of_bytes() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        for topic in ["wire.limit-a", "wire.limit-b"] {
            create(&mut socket, topic, 1, &[])?;
            for _ in 0..4 {
                send(&mut socket, 8, topic, batch(&[&[b'x'; 1000]], None))?;
            }
        }
        let mut seen = Vec::new();
        for version in [4, 11] {
            for (total, each) in [
                (50 << 20, 1 << 20),
                (50 << 20, 10),
                (50 << 20, 0),
                (10, 1 << 20),
                (0, 0),
                (1500, 1 << 20),
                (1 << 20, 1500),
                (5000, 5000),
                (5000, 2500),
                (4500, 1 << 20),
            ] {
                for offset in [0, 2] {
                    let mut ask = request(&[("wire.limit-a", 0, offset), ("wire.limit-b", 0, offset)]);
                    ask.max_bytes = total;
                    if version < 7 {
                        ask.session_epoch = Default::default();
                        ask.session_epoch = -1;
                    }
                    for topic in &mut ask.topics {
                        topic.partitions[0].partition_max_bytes = each;
                    }
                    seen.push(format!(
                        "{version} {total} {each} {offset}: {}",
                        show(&socket.call(&ask, version)?)
                    ));
                }
            }
        }
        Ok(seen)
    })?;
    Ok(())
}

#[test]
fn offsets_and_partitions_that_are_not_there() -> Result<()> {
    let seen = same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.range", 1, &[])?;
        send(&mut socket, 8, "wire.range", batch(&[b"a", b"b", b"c"], None))?;
        let mut seen = Vec::new();
        for version in [4, 5, 8, 11, 12] {
            for offset in [0, 1, 2, 3, 4, -1] {
                seen.push(format!(
                    "{version} {offset}: {}",
                    show(&socket.call(&request(&[("wire.range", 0, offset)]), version)?)
                ));
            }
            let missing = request(&[("wire.range", 7, 0), ("wire.no-such-topic", 0, 0)]);
            seen.push(show(&socket.call(&missing, version)?));
            let mixed = FetchRequest {
                isolation_level: 1,
                ..request(&[("wire.range", 0, 1), ("wire.no-such-topic", 0, 0)])
            };
            seen.push(show(&socket.call(&mixed, version)?));
        }
        // An unknown leader epoch, and an old one.
        for epoch in [0, 5, -1] {
            let mut ask = request(&[("wire.range", 0, 0)]);
            ask.topics[0].partitions[0].current_leader_epoch = epoch;
            seen.push(format!("epoch {epoch}: {}", show(&socket.call(&ask, 11)?)));
        }
        Ok(seen)
    })?;
    let shape = "error 1 high -1 stable -1 start -1";
    assert_eq!(seen.iter().filter(|line| line.contains(shape)).count(), 2 * 5, "{seen:#?}");
    Ok(())
}

#[test]
fn offsets_by_time() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.times", 1, &[])?;
        create(&mut socket, "wire.empty", 1, &[])?;
        let mut seen = Vec::new();
        let base = 1_700_000_000_000;
        for late in [1000, 3000, 2000] {
            let answer = send(&mut socket, 8, "wire.times", batch_at(base + late, &[b"a", b"b"], None))?;
            seen.push(format!("{} {}", answer.error_code, answer.base_offset));
        }
        for version in [1, 2, 3, 4, 6, 7, 8, 9, 10, 11] {
            for topic in ["wire.times", "wire.empty", "wire.no-such-topic"] {
                let after = [0, 1000, 1001, 2000, 3000, 3001].map(|late| base + late);
                for timestamp in [&[-1, -2, -3, -4, -5, -6, -7][..], &after].concat() {
                    let partition =
                        ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
                    let ask = ListOffsetsTopic { name: topic.into(), partitions: vec![partition] };
                    let ask = ListOffsetsRequest { replica_id: -1, topics: vec![ask], ..Default::default() };
                    let response = socket.call(&ask, version)?;
                    seen.push(format!("{version} {topic} {timestamp}: {:?}", response.topics));
                }
            }
        }
        Ok(seen)
    })?;
    Ok(())
}
