//! Names and numbers of groups. Text is kept in buffers of its own: a slice of a request would keep the whole request
//! in memory for as long as the group lives.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self("".into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// `group.id`.
    GroupId
);
text!(
    /// The coordinator's name for one member of a group; empty for a client that has none yet.
    MemberId
);
text!(
    /// `group.instance.id`: the name under which a static member comes back after a restart.
    InstanceId
);
text!(
    /// `transactional.id`.
    TransactionalId
);

/// Number of a group's rebalance; -1 where a client has none, 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub i32);

impl Generation {
    /// What a client sends that is no member, and what an answer with an error carries.
    pub const NONE: Self = Self(-1);

    /// The generation after this one; after the last of all comes 1.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }

    /// Whether a client claims to be part of a generation.
    pub fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The partition of `__consumer_offsets` or `__transaction_state` whose leader coordinates a group or an id: Java's string hash over UTF-16 units, with the
/// sign bit cleared, modulo the number of partitions.
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_javas_string_hash() {
        // "console-consumer".hashCode() and friends, as Java computes them.
        for (group, hash) in [
            ("", 0),
            ("a", 97),
            ("ab", 3105),
            ("polygenelubricants", i32::MIN),
            ("é😀", 233 * 961 + 0xd83d * 31 + 0xde00),
        ] {
            assert_eq!(partition_of(group, 50), (hash & i32::MAX) % 50, "{group}");
        }
    }

    #[test]
    fn generations_never_turn_negative() {
        assert_eq!(Generation(0).next(), Generation(1));
        assert_eq!(Generation(i32::MAX).next(), Generation(1));
    }
}
