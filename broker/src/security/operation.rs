//! What can be done to a resource.

/// An operation, numbered as on the wire and in ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum Operation {
    /// In an ACL: every operation.
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
    CreateTokens = 13,
    DescribeTokens = 14,
    TwoPhaseCommit = 15,
}

impl Operation {
    /// Every operation, by number.
    pub const EVERY: [Self; 14] = [
        Self::All,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::ClusterAction,
        Self::DescribeConfigs,
        Self::AlterConfigs,
        Self::IdempotentWrite,
        Self::CreateTokens,
        Self::DescribeTokens,
        Self::TwoPhaseCommit,
    ];

    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The operation of a number.
    pub fn from_code(code: i8) -> Option<Self> {
        Self::EVERY.into_iter().find(|operation| operation.code() == code)
    }

    /// The operation's bit in a field of authorized operations.
    pub fn bit(self) -> i32 {
        1 << self.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_wire() {
        assert!(Operation::EVERY.iter().enumerate().all(|(at, operation)| operation.code() == at as i8 + 2));
        assert_eq!(Operation::from_code(12), Some(Operation::IdempotentWrite));
        assert!([0, 1, 16, -1].into_iter().all(|code| Operation::from_code(code).is_none()));
    }
}
