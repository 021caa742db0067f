//! One access control entry on one pattern of resources, and the filters that find them.

use std::fmt;
use std::net::IpAddr;

use bytestring::ByteString;

use super::{Operation, Principal, ResourceType};

/// Matches every name, every user or every address.
pub const WILDCARD: &str = "*";

/// How an ACL's resource name is compared, numbered as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum PatternType {
    /// The name itself, or every name where it is `*`.
    Literal = 3,
    /// Every name that begins so.
    Prefixed = 4,
}

impl PatternType {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The pattern type of a number; those that only filters may have are none.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            3 => Some(Self::Literal),
            4 => Some(Self::Prefixed),
            _ => None,
        }
    }
}

/// What an ACL does to those that it matches, numbered as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum Permission {
    Deny = 2,
    Allow = 3,
}

impl Permission {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The permission of a number.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Deny),
            3 => Some(Self::Allow),
            _ => None,
        }
    }
}

/// An access control entry with the resources that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    pub resource: ResourceType,
    pub pattern: PatternType,
    pub name: ByteString,
    pub principal: Principal,
    /// An address, or `*`.
    pub host: ByteString,
    pub operation: Operation,
    pub permission: Permission,
}

impl Acl {
    /// Whether the entry's operation covers the one that is asked for. Denials imply nothing.
    pub fn covers(&self, asked: Operation) -> bool {
        use Operation::*;
        if self.operation == All || self.operation == asked {
            return true;
        }
        self.permission == Permission::Allow
            && match asked {
                Describe => matches!(self.operation, Read | Write | Delete | Alter),
                DescribeConfigs => self.operation == AlterConfigs,
                _ => false,
            }
    }

    /// Whether the entry's pattern takes in a resource of this name.
    pub fn is_on(&self, name: &str) -> bool {
        match self.pattern {
            PatternType::Literal => self.name == name || self.name == WILDCARD,
            PatternType::Prefixed => name.starts_with(&*self.name),
        }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:?} for {} from {} on {:?}:{:?}:{}",
            self.permission,
            self.operation,
            self.principal,
            self.host,
            self.resource,
            self.pattern,
            self.name
        )
    }
}

/// The addresses that an ACL's host stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hosts {
    All,
    One(IpAddr),
    /// A name: clients are known by their addresses.
    None,
}

impl Hosts {
    pub fn of(host: &str) -> Self {
        match host.parse::<IpAddr>() {
            _ if host == WILDCARD => Self::All,
            Ok(ip) => Self::One(ip.to_canonical()),
            Err(_) => Self::None,
        }
    }

    pub fn contains(self, ip: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::One(own) => own == ip,
            Self::None => false,
        }
    }
}

/// The patterns that a filter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternFilter {
    /// Any type with exactly the filter's name.
    Any,
    /// Every pattern that takes in a resource of the filter's name.
    Match,
    /// One type with exactly the filter's name.
    Exactly(PatternType),
}

/// Finds ACLs; `None` stands for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclFilter {
    pub resource: Option<ResourceType>,
    pub name: Option<ByteString>,
    pub pattern: PatternFilter,
    /// As text: one that is no principal finds nothing.
    pub principal: Option<ByteString>,
    pub host: Option<ByteString>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

impl AclFilter {
    /// Whether the filter finds this ACL.
    pub fn matches(&self, acl: &Acl) -> bool {
        self.resource.is_none_or(|resource| resource == acl.resource)
            && self.matches_pattern(acl)
            && self.principal.as_ref().is_none_or(|principal| acl.principal.is_written(principal))
            && self.host.as_ref().is_none_or(|host| *host == acl.host)
            && self.operation.is_none_or(|operation| operation == acl.operation)
            && self.permission.is_none_or(|permission| permission == acl.permission)
    }

    fn matches_pattern(&self, acl: &Acl) -> bool {
        if let PatternFilter::Exactly(pattern) = self.pattern
            && pattern != acl.pattern
        {
            return false;
        }
        match (&self.name, self.pattern) {
            (None, _) => true,
            (Some(name), PatternFilter::Match) => acl.is_on(name),
            (Some(name), _) => *name == acl.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(pattern: PatternType, name: &str) -> Acl {
        Acl {
            resource: ResourceType::Topic,
            pattern,
            name: name.into(),
            principal: Principal::user("a"),
            host: "*".into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    fn any() -> AclFilter {
        AclFilter {
            resource: None,
            name: None,
            pattern: PatternFilter::Any,
            principal: None,
            host: None,
            operation: None,
            permission: None,
        }
    }

    #[test]
    fn an_allowed_operation_implies_describing_and_a_denied_one_nothing() {
        let allowed = |operation| Acl { operation, ..acl(PatternType::Literal, "t") };
        for operation in [Operation::Read, Operation::Write, Operation::Delete, Operation::Alter] {
            assert!(allowed(operation).covers(Operation::Describe));
            let denied = Acl { permission: Permission::Deny, ..allowed(operation) };
            assert!(!denied.covers(Operation::Describe) && denied.covers(operation));
        }
        assert!(allowed(Operation::AlterConfigs).covers(Operation::DescribeConfigs));
        assert!(!allowed(Operation::Create).covers(Operation::Describe));
        assert!(!allowed(Operation::AlterConfigs).covers(Operation::Describe));
        assert!(allowed(Operation::All).covers(Operation::TwoPhaseCommit));
    }

    #[test]
    fn a_filter_by_name_takes_patterns_as_it_says() {
        let literal = acl(PatternType::Literal, "foo");
        let prefixed = acl(PatternType::Prefixed, "fo");
        let all = acl(PatternType::Literal, "*");
        let found = |pattern, name: &str| {
            let filter = AclFilter { pattern, name: Some(name.to_owned().into()), ..any() };
            [&literal, &prefixed, &all].map(|acl| filter.matches(acl))
        };
        assert_eq!(found(PatternFilter::Any, "foo"), [true, false, false]);
        assert_eq!(found(PatternFilter::Any, "fo"), [false, true, false]);
        assert_eq!(found(PatternFilter::Match, "foo"), [true, true, true]);
        assert_eq!(found(PatternFilter::Match, "bar"), [false, false, true]);
        assert_eq!(found(PatternFilter::Exactly(PatternType::Literal), "*"), [false, false, true]);
        assert_eq!(found(PatternFilter::Exactly(PatternType::Prefixed), "foo"), [false, false, false]);
        let prefixes = AclFilter { pattern: PatternFilter::Exactly(PatternType::Prefixed), ..any() };
        assert!(prefixes.matches(&prefixed) && !prefixes.matches(&literal));
    }

    #[test]
    fn a_filter_compares_what_it_names() {
        let acl = acl(PatternType::Literal, "t");
        assert!(any().matches(&acl));
        assert!(AclFilter { principal: Some("User:a".into()), ..any() }.matches(&acl));
        assert!(!AclFilter { principal: Some("User:ab".into()), ..any() }.matches(&acl));
        assert!(!AclFilter { principal: Some("User".into()), ..any() }.matches(&acl));
        assert!(!AclFilter { host: Some("127.0.0.1".into()), ..any() }.matches(&acl));
        assert!(!AclFilter { operation: Some(Operation::All), ..any() }.matches(&acl));
        assert!(!AclFilter { permission: Some(Permission::Deny), ..any() }.matches(&acl));
        assert!(!AclFilter { resource: Some(ResourceType::Group), ..any() }.matches(&acl));
    }

    #[test]
    fn hosts_are_addresses_however_they_are_written() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(Hosts::of("*").contains(ip("10.0.0.1")));
        assert!(Hosts::of("0:0:0:0:0:0:0:1").contains(ip("::1")));
        assert!(Hosts::of("::ffff:10.0.0.1").contains(ip("10.0.0.1")));
        assert!(!Hosts::of("10.0.0.1").contains(ip("10.0.0.2")));
        assert!(!Hosts::of("localhost").contains(ip("127.0.0.1")));
    }
}
