//! Decoding and encoding again gives the same value and the same bytes.

use bytes::{BufMut as _, BytesMut};

use aqueduct_protocol::messages::HeartbeatResponse;
use aqueduct_protocol::{Api, Decode as _};

use crate::{CODECS, cases};

#[test]
fn every_version_of_every_message_round_trips() {
    let cases = cases(40);
    for case in &cases {
        match (case.codec.round_trip)(case.bytes.clone(), case.version) {
            Ok(bytes) => assert_eq!(bytes, case.bytes, "{case}: other bytes"),
            Err(error) => panic!("{case}: {error}"),
        }
    }
    println!("{} messages of {} types", cases.len(), CODECS.len());
}

#[test]
fn default_values_round_trip_where_the_version_has_them() {
    for codec in CODECS {
        let mut written = 0;
        for version in codec.versions.clone() {
            let Some(bytes) = (codec.default)(version) else { continue };
            written += 1;
            let again = (codec.round_trip)(bytes.clone(), version);
            assert_eq!(again, Ok(bytes), "{} version {version}", codec.name);
        }
        assert!(written > 0, "{}: no version takes the default value", codec.name);
    }
}

#[test]
fn versions_outside_of_the_schema_are_refused() {
    for codec in CODECS {
        for version in [codec.versions.start() - 1, codec.versions.end() + 1] {
            assert!((codec.default)(version).is_none(), "{} version {version}", codec.name);
            assert!(!(codec.decodes)(vec![0; 4096].into(), version), "{} version {version}", codec.name);
        }
    }
}

#[test]
fn every_api_has_both_of_its_messages_in_the_same_versions() {
    for api in Api::all() {
        for kind in ["Request", "Response"] {
            let name = format!("{}{kind}", api.name);
            let codec = CODECS.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(codec.versions, api.min..=api.max, "{name}");
        }
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let mut buf = BytesMut::new();
    buf.put_i32(5);
    buf.put_i16(27);
    buf.put_slice(&[2, 9, 3, b'a', b'b', b'c', 200, 1, 0]);
    let mut bytes = buf.freeze();
    let expected = HeartbeatResponse { throttle_time_ms: 5, error_code: 27 };
    assert_eq!(HeartbeatResponse::decode(&mut bytes, 4), Ok(expected));
    assert!(bytes.is_empty());
}
