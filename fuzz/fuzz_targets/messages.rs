//! Every message of the wire, from a client or from a broker: two bytes choose the message and its version, the rest are
//! its bytes. What is read can be written, and reads the same again.

#![no_main]

use aqueduct_fuzz::Seeds;
use aqueduct_protocol::header::RequestHeader;
use aqueduct_protocol::{Decode, Encode};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

struct Codec {
    versions: (i16, i16),
    check: fn(Bytes, i16),
    default: fn(i16) -> Option<Bytes>,
}

macro_rules! table {
    ($(($message:ident, $name:literal, $min:literal, $max:literal);)*) => {
        const TABLE: &[Codec] = &[$(Codec {
            versions: ($min, $max),
            check: check::<aqueduct_protocol::messages::$message>,
            default: default::<aqueduct_protocol::messages::$message>,
        },)*];
    };
}

aqueduct_protocol::for_each_message!(table);

fn check<M: Decode + Encode + PartialEq + std::fmt::Debug>(mut bytes: Bytes, version: i16) {
    let Ok(first) = M::decode(&mut bytes, version) else { return };
    let mut written = BytesMut::new();
    first.encode(&mut written, version).expect("what was read in a version can be written in it");
    let mut written = written.freeze();
    let copy = written.clone();
    let second = M::decode(&mut written, version).expect("what was written can be read");
    assert!(written.is_empty(), "{} bytes are left over", written.len());
    // Numbers that are not equal to themselves are told by their bytes.
    if first != second {
        let mut again = BytesMut::new();
        second.encode(&mut again, version).expect("as before");
        assert_eq!(copy, again, "it reads otherwise the second time");
    }
}

fn default<M: Encode + Default>(version: i16) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    M::default().encode(&mut bytes, version).ok()?;
    Some(bytes.freeze())
}

fuzz_target!(
    init: {
        let mut seeds = Seeds::new();
        for (index, codec) in TABLE.iter().enumerate() {
            for version in codec.versions.0..=codec.versions.1 {
                let body = (codec.default)(version).unwrap_or_default();
                seeds.put(&[&[index as u8, (version - codec.versions.0) as u8], &body[..]].concat());
            }
        }
    },
    |data: &[u8]| {
        let [message, version, body @ ..] = data else { return };
        let codec = &TABLE[usize::from(*message) % TABLE.len()];
        let (min, max) = codec.versions;
        let version = min + i16::from(*version) % (max - min + 1);
        let body = Bytes::copy_from_slice(body);
        let _ = RequestHeader::decode(&mut body.clone());
        (codec.check)(body, version);
    }
);
