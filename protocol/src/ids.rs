//! Newtypes for the numbers of the wire, so that an offset is never taken for an epoch.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $raw);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$raw> for $name {
            fn from(raw: $raw) -> Self {
                Self(raw)
            }
        }
    };
}

number!(
    /// Position of a record in a partition, in records from 0.
    Offset(i64)
);
number!(
    /// Number of a leader's reign over a partition; -1 where unknown.
    LeaderEpoch(i32)
);
number!(
    /// Identity of an idempotent or transactional producer; -1 for none.
    ProducerId(i64)
);
number!(
    /// Number of one incarnation of a producer id; -1 for none.
    ProducerEpoch(i16)
);
number!(
    /// `node.id` of a broker; -1 for none.
    BrokerId(i32)
);
number!(
    /// Index of a partition within its topic, from 0.
    PartitionIndex(i32)
);

impl Offset {
    /// The offset `records` further on.
    pub fn plus(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

/// A topic id or another 128-bit identity; shown in Kafka's form, 22 characters of URL-safe base64.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The id that stands for "none".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Reads the form that [`fmt::Display`] writes; `None` where it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        let mut bits: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let six = ALPHABET.iter().position(|a| *a == c)? as u128;
            // 22 digits hold 132 bits; the last four must be zero.
            if i == 21 {
                if six & 0xf != 0 {
                    return None;
                }
                bits = (bits << 2) | (six >> 4);
            } else {
                bits = (bits << 6) | six;
            }
        }
        Some(Self(bits.to_be_bytes()))
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (i, c) in text.iter_mut().enumerate() {
            let six = if i == 21 { (bits << 4) & 0x3f } else { (bits >> (122 - 6 * i)) & 0x3f };
            *c = ALPHABET[six as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_round_trips() {
        for seed in [0u128, 1, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210] {
            let id = Uuid(seed.to_be_bytes());
            assert_eq!(Uuid::parse(&id.to_string()), Some(id));
        }
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
    }
}
