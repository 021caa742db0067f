//! The `kafka-protocol` crate reads our bytes and writes the same ones. It was generated from Kafka 4.1, so it lacks
//! the newest versions; those are left to the Java classes.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ConsumerProtocolAssignment, ConsumerProtocolSubscription, RequestKind, ResponseKind,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use aqueduct_protocol::Api;

use crate::{Case, cases};

/// What the crate lacks: (message, first version that it does not know).
const BEHIND: &[(&str, i16)] = &[
    ("ApiVersionsRequest", 5),
    ("ApiVersionsResponse", 5),
    ("DeleteGroupsRequest", 3),
    ("DeleteGroupsResponse", 3),
    ("DescribeLogDirsRequest", 5),
    ("DescribeLogDirsResponse", 5),
    ("InitProducerIdRequest", 6),
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("TxnOffsetCommitRequest", 6),
    ("TxnOffsetCommitResponse", 6),
    ("WriteTxnMarkersRequest", 2),
    ("WriteTxnMarkersResponse", 2),
];

fn reencode<M: Decodable + Encodable>(mut bytes: Bytes, version: i16) -> Result<Bytes, String> {
    let message = M::decode(&mut bytes, version).map_err(|e| e.to_string())?;
    let mut buf = BytesMut::new();
    message.encode(&mut buf, version).map_err(|e| e.to_string())?;
    Ok(buf.freeze())
}

/// `None` for a message that the crate does not have.
fn oracle(case: &Case) -> Option<Result<Bytes, String>> {
    let (name, version, mut bytes) = (case.codec.name, case.version, case.bytes.clone());
    match name {
        "ConsumerProtocolSubscription" => {
            return Some(reencode::<ConsumerProtocolSubscription>(bytes, version));
        }
        "ConsumerProtocolAssignment" => return Some(reencode::<ConsumerProtocolAssignment>(bytes, version)),
        _ => {}
    }
    let api = Api::all()
        .iter()
        .find(|a| name.strip_prefix(a.name).is_some_and(|r| r == "Request" || r == "Response"))?;
    let key = ApiKey::try_from(api.key).ok()?;
    let mut buf = BytesMut::new();
    let written = if name.ends_with("Request") {
        RequestKind::decode(key, &mut bytes, version).and_then(|m| m.encode(&mut buf, version))
    } else {
        ResponseKind::decode(key, &mut bytes, version).and_then(|m| m.encode(&mut buf, version))
    };
    Some(written.map(|()| buf.freeze()).map_err(|e| e.to_string()))
}

#[test]
fn the_crate_writes_the_same_bytes() {
    let (mut equal, mut wrong, mut left_out) = (0, Vec::new(), BTreeSet::new());
    for case in cases(12) {
        let behind = BEHIND.iter().any(|(name, from)| case.codec.name == *name && case.version >= *from);
        match oracle(&case).filter(|_| !behind) {
            Some(Ok(bytes)) if bytes == case.bytes => equal += 1,
            Some(Ok(_)) => wrong.push(format!("{case}: other bytes")),
            Some(Err(error)) => wrong.push(format!("{case}: {error}")),
            None if behind => {}
            None => {
                left_out.insert(case.codec.name);
            }
        }
    }
    println!("{equal} messages equal");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    // What coordinators store is not of the wire, and headers have a form of their own there.
    left_out.retain(|name| !name.ends_with("Key") && !name.ends_with("Value"));
    let expected = ["RequestHeader", "ResponseHeader"];
    assert!(left_out.iter().eq(&expected), "left out: {left_out:?}");
}
