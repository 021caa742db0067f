//! What an operation is done to.

use super::Operation;

/// The type of a resource, numbered as on the wire and in ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum ResourceType {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
    DelegationToken = 6,
    User = 7,
}

impl ResourceType {
    /// Every type, by number.
    pub const EVERY: [Self; 6] =
        [Self::Topic, Self::Group, Self::Cluster, Self::TransactionalId, Self::DelegationToken, Self::User];

    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The type of a number.
    pub fn from_code(code: i8) -> Option<Self> {
        Self::EVERY.into_iter().find(|kind| kind.code() == code)
    }

    /// The operations that make sense on a resource of this type, [`Operation::All`] left out.
    pub fn operations(self) -> &'static [Operation] {
        use Operation::*;
        match self {
            Self::Topic => &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs],
            Self::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
            Self::Cluster => {
                &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe]
            }
            Self::TransactionalId => &[Describe, Write, TwoPhaseCommit],
            Self::DelegationToken => &[Describe],
            Self::User => &[CreateTokens, DescribeTokens],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_wire() {
        assert!(ResourceType::EVERY.iter().enumerate().all(|(at, kind)| kind.code() == at as i8 + 2));
        assert_eq!(ResourceType::from_code(3), Some(ResourceType::Group));
        assert!([0, 1, 8, -1].into_iter().all(|code| ResourceType::from_code(code).is_none()));
    }
}
