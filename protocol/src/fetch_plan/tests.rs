//! The plan against the generated encoder.

use proptest::prelude::*;

use super::*;
use crate::frame;
use crate::message::Encode;
use crate::messages::FetchResponse;
use crate::messages::fetch_response::{FetchableTopicResponse, PartitionData};

fn whole(chunks: Chunks<Bytes>) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks.chunks {
        match chunk {
            Chunk::Inline(bytes) => {
                assert!(!bytes.is_empty(), "an empty chunk would be a system call for nothing");
                out.extend_from_slice(&bytes);
            }
            Chunk::File(bytes) => out.extend_from_slice(&bytes),
        }
    }
    assert_eq!(out.len(), chunks.length);
    out
}

fn plain_records(records: &Option<Records<Bytes>>) -> Option<Bytes> {
    match records {
        None => None,
        Some(Records::Inline(bytes)) => Some(bytes.clone()),
        Some(Records::Files { slices, .. }) => Some(slices.concat().into()),
    }
}

fn plain(plan: &FetchPlan<Bytes>) -> FetchResponse {
    let partition = |p: &FetchPartition<Bytes>| PartitionData {
        partition_index: p.partition_index,
        error_code: p.error_code,
        high_watermark: p.high_watermark,
        last_stable_offset: p.last_stable_offset,
        log_start_offset: p.log_start_offset,
        diverging_epoch: p.diverging_epoch.clone(),
        current_leader: p.current_leader.clone(),
        snapshot_id: p.snapshot_id.clone(),
        aborted_transactions: p.aborted_transactions.clone(),
        preferred_read_replica: p.preferred_read_replica,
        records: plain_records(&p.records),
    };
    let topic = |t: &FetchTopic<Bytes>| FetchableTopicResponse {
        topic: t.topic.clone(),
        topic_id: t.topic_id,
        partitions: t.partitions.iter().map(partition).collect(),
    };
    FetchResponse {
        throttle_time_ms: plan.throttle_time_ms,
        error_code: plan.error_code,
        session_id: plan.session_id,
        responses: plan.topics.iter().map(topic).collect(),
        node_endpoints: plan.node_endpoints.clone(),
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(0), 1..40usize, 1000..3000usize].prop_map(|n| Bytes::from(vec![n as u8; n]))
}

fn records() -> impl Strategy<Value = Option<Records<Bytes>>> {
    prop_oneof![
        Just(None),
        bytes().prop_map(|b| Some(Records::Inline(b))),
        prop::collection::vec(bytes(), 0..4).prop_map(|slices| {
            let length = slices.iter().map(Bytes::len).sum();
            Some(Records::Files { slices, length })
        }),
    ]
}

/// Values that old versions refuse are rare, so that most cases encode in all versions.
fn rarely(fallback: i32) -> impl Strategy<Value = i32> {
    prop_oneof![9 => Just(fallback), 1 => any::<i32>()]
}

fn partition() -> impl Strategy<Value = FetchPartition<Bytes>> {
    let aborted = prop::option::of(prop::collection::vec(any::<(i64, i64)>(), 0..3));
    (any::<(i32, i16, i64, i64, i64)>(), rarely(-1), rarely(-1), rarely(-1), rarely(-1), aborted, records())
        .prop_map(|(plain, epoch, leader, snapshot, replica, aborted, records)| FetchPartition {
            partition_index: plain.0,
            error_code: plain.1,
            high_watermark: plain.2,
            last_stable_offset: plain.3,
            log_start_offset: plain.4,
            diverging_epoch: EpochEndOffset { epoch, ..Default::default() },
            current_leader: LeaderIdAndEpoch { leader_id: leader, ..Default::default() },
            snapshot_id: SnapshotId { epoch: snapshot, ..Default::default() },
            aborted_transactions: aborted.map(|list| {
                let pair = |(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset };
                list.into_iter().map(pair).collect()
            }),
            preferred_read_replica: replica,
            records,
        })
}

fn plan() -> impl Strategy<Value = FetchPlan<Bytes>> {
    let topic = ("[a-z]{0,9}", any::<[u8; 16]>(), prop::collection::vec(partition(), 0..4))
        .prop_map(|(name, id, partitions)| FetchTopic { topic: name.into(), topic_id: Uuid(id), partitions });
    let node = any::<(i32, i32)>().prop_map(|(node_id, port)| NodeEndpoint {
        node_id,
        host: "h".into(),
        port,
        rack: None,
    });
    let nodes = prop_oneof![9 => Just(Vec::new()), 1 => prop::collection::vec(node, 1..3)];
    (any::<(i32, i16)>(), rarely(0), prop::collection::vec(topic, 0..4), nodes).prop_map(
        |((throttle_time_ms, error_code), session_id, topics, node_endpoints)| FetchPlan {
            throttle_time_ms,
            error_code,
            session_id,
            topics,
            node_endpoints,
        },
    )
}

proptest! {
    #[test]
    fn chunks_end_to_end_are_the_generated_bytes(plan in plan(), version in 4i16..=18) {
        let mut expected = BytesMut::new();
        let plain = plain(&plan);
        match plain.encode(&mut expected, version) {
            Ok(()) => {
                let body = plan.clone().into_body(version).expect("the generated encoder took it");
                prop_assert_eq!(whole(body), expected.to_vec());
                let mut framed = BytesMut::new();
                frame::encode_response(&mut framed, &plain, ApiKey::FETCH, version, 77).expect("encodes");
                let ours = plan.into_frame(version, 77).expect("the generated encoder took it");
                prop_assert_eq!(whole(ours), framed.to_vec());
            }
            Err(error) => prop_assert_eq!(plan.into_body(version).map(whole), Err(error)),
        }
    }
}

#[test]
fn records_are_handed_on_and_not_copied() {
    let large = Bytes::from(vec![7; 4096]);
    let partition = |records| FetchPartition { records: Some(records), ..Default::default() };
    let slices = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let partitions =
        vec![partition(Records::Files { slices, length: 6 }), partition(Records::Inline(large.clone()))];
    let topic = FetchTopic { topic: "t".into(), topic_id: Uuid::ZERO, partitions };
    let plan = FetchPlan { topics: vec![topic], ..Default::default() };
    let chunks = plan.into_frame(16, 1).expect("encodes").chunks;
    let shape: Vec<bool> = chunks.iter().map(|c| matches!(c, Chunk::File(_))).collect();
    assert_eq!(shape, [false, true, true, false, false, false]);
    assert!(chunks.iter().any(|c| matches!(c, Chunk::Inline(b) if b.as_ptr() == large.as_ptr())));
}
