//! Produce: what is accepted, what is refused and how.

use anyhow::Result;
use aqueduct_protocol::messages::InitProducerIdRequest;
use aqueduct_protocol::messages::produce_response::PartitionProduceResponse;
use aqueduct_protocol::records::{BatchBuilder, Compression, TimestampType, patch_crc};
use aqueduct_tests::server::{Kind, shared};
use bytes::{Bytes, BytesMut};

use crate::groups::ready;
use crate::socket::Socket;
use crate::{batch, batch_at, create, now_ms, produce_request, same, send};

/// An answer in one line. Where no single record is at fault, Apache Kafka explains nothing and we may.
fn show(answer: &PartitionProduceResponse) -> String {
    let records: Vec<i32> = answer.record_errors.iter().map(|record| record.batch_index).collect();
    let explained = answer.error_message.is_some() && !records.is_empty();
    let time = if answer.log_append_time_ms == -1 { "none" } else { "some" };
    format!(
        "error {} base {} time {time} start {} records {records:?} explained {explained}",
        answer.error_code, answer.base_offset, answer.log_start_offset
    )
}

fn changed(batch: &Bytes, change: impl Fn(&mut [u8])) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    change(&mut bytes);
    patch_crc(&mut bytes).expect("still a batch");
    bytes.freeze()
}

#[test]
fn sequences_of_an_idempotent_producer() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.sequences", 1, &[])?;
        let ask = InitProducerIdRequest {
            transaction_timeout_ms: 1000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let mut given = socket.call(&ask, 4)?;
        // COORDINATOR_LOAD_IN_PROGRESS, until the first ids are there.
        while given.error_code == 14 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            given = socket.call(&ask, 4)?;
        }
        let id = given.producer_id;
        let mut seen = vec![format!("error {} epoch {}", given.error_code, given.producer_epoch)];
        let mut step = |what: &str, epoch: i16, sequence: i32, values: &[&[u8]]| -> Result<()> {
            let answer = send(
                &mut socket,
                8,
                "wire.sequences",
                batch_at(1_700_000_000_000, values, Some((id, epoch, sequence))),
            )?;
            seen.push(format!("{what}: {}", show(&answer)));
            Ok(())
        };
        step("first", 0, 0, &[b"a", b"b"])?;
        step("next", 0, 2, &[b"c"])?;
        step("repeated", 0, 2, &[b"c"])?;
        step("repeated first", 0, 0, &[b"a", b"b"])?;
        step("overlapping", 0, 1, &[b"b", b"c"])?;
        step("gap", 0, 9, &[b"x"])?;
        for sequence in 3..9 {
            step("more", 0, sequence, &[b"m"])?;
        }
        step("repeated beyond five", 0, 2, &[b"c"])?;
        step("repeated within five", 0, 4, &[b"m"])?;
        step("new epoch not at zero", 1, 5, &[b"x"])?;
        step("new epoch", 1, 0, &[b"x"])?;
        step("old epoch", 0, 9, &[b"x"])?;
        step("negative sequence", 1, -1, &[b"x"])?;
        Ok(seen)
    })?;
    Ok(())
}

#[test]
fn sequences_of_a_producer_that_is_not_known() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.unknown-producer", 1, &[])?;
        let mut seen = Vec::new();
        for (id, epoch, sequence) in [
            (777_001, 0, 5),
            (777_001, 0, 6),
            (777_002, 3, 0),
            (777_002, 2, 0),
            (777_003, 0, i32::MAX),
            (777_003, 0, 0),
        ] {
            let records = batch(&[b"x"], Some((id, epoch, sequence)));
            seen.push(show(&send(&mut socket, 8, "wire.unknown-producer", records)?));
        }
        Ok(seen)
    })?;
    Ok(())
}

#[test]
fn batches_that_are_refused() -> Result<()> {
    same(|server| {
        // With the topic of the groups' offsets, which is asked for below.
        let mut socket = ready(server, &["wire-produce"])?;
        create(&mut socket, "wire.refused", 1, &[("max.message.bytes", "2000")])?;
        create(&mut socket, "wire.compacted", 1, &[("cleanup.policy", "compact")])?;
        create(&mut socket, "wire.append-time", 1, &[("message.timestamp.type", "LogAppendTime")])?;
        let good = batch(&[b"a", b"b"], None);
        let hour = 3_600_000;
        let mut log_append =
            BatchBuilder::new(Compression::None).timestamp_type(TimestampType::LogAppendTime);
        log_append.append(now_ms(), None, Some(b"v"), &[])?;
        let log_append = log_append.finish()?;
        let mut keyed = BatchBuilder::new(Compression::Zstd);
        keyed.append(now_ms(), Some(b"k"), Some(b"v"), &[])?;
        let keyed = keyed.finish()?;
        let cases: Vec<(&str, &str, Bytes)> = vec![
            ("good", "wire.refused", good.clone()),
            ("empty", "wire.refused", Bytes::new()),
            ("two batches", "wire.refused", [good.clone(), good.clone()].concat().into()),
            ("cut", "wire.refused", good.slice(..good.len() - 3)),
            ("trailing byte", "wire.refused", [&good[..], b"x"].concat().into()),
            ("bad checksum", "wire.refused", {
                let mut b = good.to_vec();
                b[70] ^= 1;
                b.into()
            }),
            ("magic 1", "wire.refused", {
                let mut b = good.to_vec();
                b[16] = 1;
                b.into()
            }),
            ("magic 3", "wire.refused", {
                let mut b = good.to_vec();
                b[16] = 3;
                b.into()
            }),
            ("base offset 5", "wire.refused", {
                let mut b = good.to_vec();
                b[7] = 5;
                b.into()
            }),
            ("count too high", "wire.refused", changed(&good, |b| b[60] = 3)),
            ("count too low", "wire.refused", changed(&good, |b| b[60] = 1)),
            ("last delta wrong", "wire.refused", changed(&good, |b| b[26] = 7)),
            ("no records", "wire.refused", changed(&batch(&[], None), |_| {})),
            ("control", "wire.refused", changed(&good, |b| b[22] |= 0x20)),
            (
                "transactional",
                "wire.refused",
                changed(&batch(&[b"t"], Some((888_001, 0, 0))), |b| b[22] |= 0x10),
            ),
            ("record length wrong", "wire.refused", changed(&good, |b| b[61] = b[61].wrapping_add(4))),
            ("too large", "wire.refused", batch(&[&[b'x'; 3000]], None)),
            ("no timestamp", "wire.refused", batch_at(-1, &[b"v"], None)),
            ("old", "wire.refused", batch_at(1, &[b"v"], None)),
            ("two hours ahead", "wire.refused", batch_at(now_ms() + 2 * hour, &[b"v"], None)),
            (
                "two hours ahead, append time",
                "wire.append-time",
                batch_at(now_ms() + 2 * hour, &[b"v"], None),
            ),
            ("append time from the producer", "wire.refused", log_append.clone()),
            ("append time from the producer, append time", "wire.append-time", log_append),
            ("append time", "wire.append-time", good.clone()),
            ("no key on a compacted topic", "wire.compacted", good.clone()),
            ("key on a compacted topic", "wire.compacted", keyed.clone()),
            ("wrong largest timestamp", "wire.refused", changed(&good, |b| b[42] ^= 1)),
            ("no such topic", "wire.none", good.clone()),
            ("internal topic", "__consumer_offsets", good.clone()),
        ];
        let mut seen = Vec::new();
        for version in [3, 7, 8, 9, 11] {
            for (what, topic, records) in &cases {
                let answer = send(&mut socket, version, topic, records.clone())?;
                seen.push(format!("{version} {what}: {}", show(&answer)));
            }
        }
        for (version, records) in [(6, keyed.clone()), (7, keyed)] {
            seen.push(format!(
                "zstd in {version}: {}",
                show(&send(&mut socket, version, "wire.compacted", records)?)
            ));
        }
        for acks in [2, -2] {
            let answer = socket.call(&produce_request("wire.refused", acks, good.clone()), 8)?;
            seen.push(format!("acks {acks}: {}", show(&answer.responses[0].partition_responses[0])));
        }
        Ok(seen)
    })?;
    Ok(())
}

/// Apache Kafka answers UNKNOWN_SERVER_ERROR, which says nothing and which clients try again.
#[test]
fn an_unknown_codec_is_an_invalid_record() -> Result<()> {
    let mut socket = Socket::open(shared(Kind::Aqueduct)?)?;
    create(&mut socket, "wire.codec", 1, &[])?;
    let records = changed(&batch(&[b"a"], None), |b| b[22] |= 0x07);
    let answer = send(&mut socket, 8, "wire.codec", records)?;
    assert_eq!(answer.error_code, 87, "{answer:?}");
    Ok(())
}
