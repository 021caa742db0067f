//! Every message in every version, against bytes that a second, independent reading of the facts files writes, against
//! the `kafka-protocol` crate, and against Kafka's own Java classes.

mod facts;
mod hostile;
mod java;
mod kafka_protocol;
mod random;
mod round_trip;
mod rules;

use aqueduct_protocol::messages::*;
use aqueduct_protocol::{Decode, Encode, EncodeError};
use bytes::{Bytes, BytesMut};

/// What the tests need of one message type.
struct Codec {
    name: &'static str,
    versions: std::ops::RangeInclusive<i16>,
    /// Decodes and encodes again; the text says what went wrong.
    round_trip: fn(Bytes, i16) -> Result<Bytes, String>,
    /// Decodes in one version and encodes in another.
    convert: fn(Bytes, i16, i16) -> Result<Bytes, EncodeError>,
    /// Decodes; whether that succeeded.
    decodes: fn(Bytes, i16) -> bool,
    /// Encodes the default value, which a version may refuse.
    default: fn(i16) -> Option<Bytes>,
}

macro_rules! table {
    ($(($message:ident, $name:literal, $min:literal, $max:literal);)*) => {
        const CODECS: &[Codec] = &[$(Codec {
            name: $name,
            versions: $min..=$max,
            round_trip: round_trip::<$message>,
            convert: |mut bytes, from, to| {
                let message = $message::decode(&mut bytes, from).expect("a good message");
                let mut buf = BytesMut::new();
                message.encode(&mut buf, to).map(|()| buf.freeze())
            },
            decodes: |mut bytes, version| $message::decode(&mut bytes, version).is_ok(),
            default: |version| {
                let mut buf = BytesMut::new();
                $message::default().encode(&mut buf, version).ok().map(|()| buf.freeze())
            },
        },)*];
    };
}

aqueduct_protocol::for_each_message!(table);

fn round_trip<M: Decode + Encode + PartialEq>(mut bytes: Bytes, version: i16) -> Result<Bytes, String> {
    let first = M::decode(&mut bytes, version).map_err(|e| e.to_string())?;
    if !bytes.is_empty() {
        return Err(format!("{} bytes left over", bytes.len()));
    }
    let mut buf = BytesMut::new();
    first.encode(&mut buf, version).map_err(|e| e.to_string())?;
    let encoded = buf.freeze();
    let second = M::decode(&mut encoded.clone(), version).map_err(|e| e.to_string())?;
    if first != second {
        return Err("another value comes back".to_owned());
    }
    Ok(encoded)
}

/// One random message.
struct Case {
    codec: &'static Codec,
    version: i16,
    seed: u64,
    bytes: Bytes,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} version {} seed {}", self.codec.name, self.version, self.seed)
    }
}

/// `each` random messages of every (message, version).
fn cases(each: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for codec in CODECS {
        let facts = facts::read(codec.name);
        for version in codec.versions.clone() {
            for seed in 0..each {
                let bytes = random::message(&facts, version, seed);
                cases.push(Case { codec, version, seed, bytes });
            }
        }
    }
    cases
}
