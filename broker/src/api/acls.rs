//! What the three APIs of ACLs share: the wire's numbers, and refusing where there is no authorizer.

use aqueduct_protocol::error_code::ErrorCode;
use bytestring::ByteString;

use super::{Context, own};
use crate::metadata::Rejection;
use crate::security::{
    Acl, AclFilter, Operation, PatternFilter, PatternType, Permission, Principal, ResourceType,
};

/// The number of "any" in every field of a filter.
const ANY: i8 = 1;
/// The number of the pattern filter that takes every pattern with a resource of that name.
const MATCH: i8 = 2;

/// Whether ACLs may be listed or changed, by an operation on the cluster.
pub(super) fn admit(context: &Context, operation: Operation) -> Result<(), Rejection> {
    if !context.allows_cluster(operation) {
        let code = ErrorCode::ClusterAuthorizationFailed;
        return Err(Rejection::new(code, code.message()));
    }
    if !context.node.authorizer.is_enabled() {
        return Err(Rejection::new(
            ErrorCode::SecurityDisabled,
            "No Authorizer is configured on the broker: set authorizer.class.name",
        ));
    }
    Ok(())
}

fn invalid(why: String) -> Rejection {
    Rejection::new(ErrorCode::InvalidRequest, why)
}

/// The fields of a filter as they come in.
pub(super) struct Filter<'a> {
    pub resource: i8,
    pub name: &'a Option<ByteString>,
    pub pattern: i8,
    pub principal: &'a Option<ByteString>,
    pub host: &'a Option<ByteString>,
    pub operation: i8,
    pub permission: i8,
}

impl Filter<'_> {
    pub fn read(self) -> Result<AclFilter, Rejection> {
        fn number<T>(what: &str, code: i8, read: fn(i8) -> Option<T>) -> Result<Option<T>, Rejection> {
            match read(code) {
                None if code != ANY => Err(invalid(format!("Unknown {what} {code} in the filter."))),
                read => Ok(read),
            }
        }
        let pattern = match (self.pattern, PatternType::from_code(self.pattern)) {
            (ANY, _) => PatternFilter::Any,
            (MATCH, _) => PatternFilter::Match,
            (_, Some(pattern)) => PatternFilter::Exactly(pattern),
            (code, None) => return Err(invalid(format!("Unknown pattern type {code} in the filter."))),
        };
        Ok(AclFilter {
            resource: number("resource type", self.resource, ResourceType::from_code)?,
            name: self.name.as_deref().map(own),
            pattern,
            principal: self.principal.as_deref().map(own),
            host: self.host.as_deref().map(own),
            operation: number("operation", self.operation, Operation::from_code)?,
            permission: number("permission type", self.permission, Permission::from_code)?,
        })
    }
}

/// The fields of an ACL as they come in.
pub(super) struct Binding<'a> {
    pub resource: i8,
    pub name: &'a str,
    pub pattern: i8,
    pub principal: &'a str,
    pub host: &'a str,
    pub operation: i8,
    pub permission: i8,
}

impl Binding<'_> {
    /// Whatever a filter may say beyond that is no part of an ACL.
    pub fn read(self) -> Result<Acl, Rejection> {
        let Some((kind, name)) = self.principal.split_once(':') else {
            return Err(invalid(format!(
                "Could not parse principal from `{}` (no colon is present separating the principal type from the principal name)",
                self.principal
            )));
        };
        let wrong = |what: &str, code: i8| invalid(format!("Invalid {what} {code}"));
        Ok(Acl {
            resource: ResourceType::from_code(self.resource)
                .ok_or_else(|| wrong("resourceType", self.resource))?,
            pattern: PatternType::from_code(self.pattern)
                .ok_or_else(|| wrong("patternType", self.pattern))?,
            name: own(self.name),
            principal: Principal { kind: own(kind), name: own(name) },
            host: own(self.host),
            operation: Operation::from_code(self.operation)
                .ok_or_else(|| wrong("operation", self.operation))?,
            permission: Permission::from_code(self.permission)
                .ok_or_else(|| wrong("permissionType", self.permission))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(resource: i8, pattern: i8, operation: i8, permission: i8) -> Result<AclFilter, Rejection> {
        let none = None;
        let (name, principal, host) = (&none, &none, &none);
        Filter { resource, name, pattern, principal, host, operation, permission }.read()
    }

    fn binding(resource: i8, pattern: i8, operation: i8, permission: i8) -> Result<Acl, Rejection> {
        let (name, principal, host) = ("t", "User:a:b", "*");
        Binding { resource, name, pattern, principal, host, operation, permission }.read()
    }

    #[test]
    fn numbers_of_filters_and_acls_are_read_or_refused() {
        let any = filter(1, 1, 1, 1).unwrap();
        assert_eq!((any.resource, any.pattern, any.operation), (None, PatternFilter::Any, None));
        let some = filter(2, 4, 3, 2).unwrap();
        assert_eq!(some.pattern, PatternFilter::Exactly(PatternType::Prefixed));
        assert_eq!((some.resource, some.permission), (Some(ResourceType::Topic), Some(Permission::Deny)));
        for (resource, pattern, operation, permission) in
            [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0), (99, 1, 1, 1), (1, 5, 1, 1)]
        {
            assert!(filter(resource, pattern, operation, permission).is_err());
        }
        assert_eq!(binding(2, 3, 3, 3).unwrap().principal.to_string(), "User:a:b");
        for (resource, pattern, operation, permission) in
            [(1, 3, 3, 3), (2, 1, 3, 3), (2, 2, 3, 3), (2, 3, 1, 3), (2, 3, 3, 1), (2, 3, 3, 0)]
        {
            assert!(binding(resource, pattern, operation, permission).is_err());
        }
    }
}
