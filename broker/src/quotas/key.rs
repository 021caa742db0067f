//! The kinds of quotas, and their values.

use std::fmt;

use super::Entity;

/// A kind of quota, under Kafka's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaKey {
    ConsumerByteRate,
    ControllerMutationRate,
    ProducerByteRate,
    RequestPercentage,
    /// Of addresses; the others are of users and client ids.
    ConnectionCreationRate,
}

impl QuotaKey {
    /// Every kind.
    pub const EVERY: [Self; 5] = [
        Self::ConsumerByteRate,
        Self::ControllerMutationRate,
        Self::ProducerByteRate,
        Self::RequestPercentage,
        Self::ConnectionCreationRate,
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::ControllerMutationRate => "controller_mutation_rate",
            Self::ProducerByteRate => "producer_byte_rate",
            Self::RequestPercentage => "request_percentage",
            Self::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|key| key.name() == name)
    }

    /// Whether this kind can be set on such an entity.
    pub fn is_for(self, entity: &Entity) -> bool {
        entity.ip.is_some() == (self == Self::ConnectionCreationRate)
    }

    /// The greatest value of a kind that takes whole numbers only.
    pub fn whole_up_to(self) -> Option<(f64, &'static str)> {
        match self {
            Self::ConsumerByteRate | Self::ProducerByteRate => Some((i64::MAX as f64, "LONG")),
            Self::ConnectionCreationRate => Some((i32::MAX as f64, "INT")),
            Self::ControllerMutationRate | Self::RequestPercentage => None,
        }
    }
}

/// A limit: bytes, percents of a thread, mutations or connections a second. Equal where the bits are.
#[derive(Clone, Copy)]
pub struct QuotaValue(pub f64);

impl PartialEq for QuotaValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for QuotaValue {}

impl fmt::Debug for QuotaValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_kinds() {
        for key in QuotaKey::EVERY {
            assert_eq!(QuotaKey::from_name(key.name()), Some(key));
        }
        assert_eq!(QuotaKey::from_name("leader.replication.throttled.rate"), None);
    }
}
