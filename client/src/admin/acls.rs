//! ACLs: who may do what. Types, operations and permissions are the wire's numbers, with Kafka's names beside them.

use std::fmt;

use aqueduct_protocol::messages::create_acls_request::AclCreation;
use aqueduct_protocol::messages::delete_acls_request::DeleteAclsFilter;
use aqueduct_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use bytestring::ByteString;

use super::Admin;
use crate::error::{Error, Result};

const DESCRIBE: &str = "DescribeAcls";
const CREATE: &str = "CreateAcls";
const DELETE: &str = "DeleteAcls";

/// Numbers of one field of an ACL and their names, as Kafka writes them.
#[derive(Debug, Clone, Copy)]
pub struct AclNames(&'static [(i8, &'static str)]);

impl AclNames {
    /// What an ACL is about.
    pub const RESOURCE: Self = Self(&[
        (1, "ANY"),
        (2, "TOPIC"),
        (3, "GROUP"),
        (4, "CLUSTER"),
        (5, "TRANSACTIONAL_ID"),
        (6, "DELEGATION_TOKEN"),
        (7, "USER"),
    ]);
    /// How a resource's name is meant.
    pub const PATTERN: Self = Self(&[(1, "ANY"), (2, "MATCH"), (3, "LITERAL"), (4, "PREFIXED")]);
    /// What is done.
    pub const OPERATION: Self = Self(&[
        (1, "ANY"),
        (2, "ALL"),
        (3, "READ"),
        (4, "WRITE"),
        (5, "CREATE"),
        (6, "DELETE"),
        (7, "ALTER"),
        (8, "DESCRIBE"),
        (9, "CLUSTER_ACTION"),
        (10, "DESCRIBE_CONFIGS"),
        (11, "ALTER_CONFIGS"),
        (12, "IDEMPOTENT_WRITE"),
        (13, "CREATE_TOKENS"),
        (14, "DESCRIBE_TOKENS"),
        (15, "TWO_PHASE_COMMIT"),
    ]);
    /// Whether it is allowed.
    pub const PERMISSION: Self = Self(&[(1, "ANY"), (2, "DENY"), (3, "ALLOW")]);

    /// The name of a number.
    pub fn name(self, code: i8) -> &'static str {
        self.0.iter().find(|(known, _)| *known == code).map_or("UNKNOWN", |(_, name)| name)
    }

    /// The number of a name, in any case, with `-` or nothing for `_`: `ClusterAction` and `cluster-action` are one.
    pub fn code(self, name: &str) -> Option<i8> {
        let bare = |text: &str| text.replace(['-', '_'], "").to_ascii_uppercase();
        self.0.iter().find(|(_, known)| bare(known) == bare(name)).map(|(code, _)| *code)
    }

    /// Every name.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(_, name)| *name)
    }
}

/// One ACL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AclBinding {
    pub resource_type: i8,
    pub resource_name: ByteString,
    pub pattern_type: i8,
    /// `User:NAME`.
    pub principal: ByteString,
    pub host: ByteString,
    pub operation: i8,
    pub permission: i8,
}

impl fmt::Display for AclBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} for {} from {} on {} {} ({})",
            AclNames::PERMISSION.name(self.permission),
            AclNames::OPERATION.name(self.operation),
            self.principal,
            self.host,
            AclNames::RESOURCE.name(self.resource_type),
            self.resource_name,
            AclNames::PATTERN.name(self.pattern_type),
        )
    }
}

/// Which ACLs are meant: 1 in a number and `None` in a name stand for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclBindingFilter {
    pub resource_type: i8,
    pub resource_name: Option<ByteString>,
    pub pattern_type: i8,
    pub principal: Option<ByteString>,
    pub host: Option<ByteString>,
    pub operation: i8,
    pub permission: i8,
}

impl Default for AclBindingFilter {
    /// Every ACL.
    fn default() -> Self {
        Self {
            resource_type: 1,
            resource_name: None,
            pattern_type: 1,
            principal: None,
            host: None,
            operation: 1,
            permission: 1,
        }
    }
}

impl Admin {
    /// The ACLs that match, sorted. `SECURITY_DISABLED` where the cluster has no authorizer.
    pub async fn describe_acls(&self, filter: &AclBindingFilter) -> Result<Vec<AclBinding>> {
        let mut retry = self.retry(DESCRIBE);
        loop {
            match self.describe_acls_once(filter).await {
                Ok(found) => return Ok(found),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn describe_acls_once(&self, filter: &AclBindingFilter) -> Result<Vec<AclBinding>> {
        let request = |_| DescribeAclsRequest {
            resource_type_filter: filter.resource_type,
            resource_name_filter: filter.resource_name.clone(),
            pattern_type_filter: filter.pattern_type,
            principal_filter: filter.principal.clone(),
            host_filter: filter.host.clone(),
            operation: filter.operation,
            permission_type: filter.permission,
        };
        let (broker, answer) = self.client.call_any(i16::MAX, request).await?;
        let message = answer.error_message.as_deref();
        Error::check(&broker.address(), DESCRIBE, || "ACLs".to_owned(), answer.error_code, message)?;
        let mut found = Vec::new();
        for resource in answer.resources {
            found.extend(resource.acls.into_iter().map(|acl| AclBinding {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                pattern_type: resource.pattern_type,
                principal: acl.principal,
                host: acl.host,
                operation: acl.operation,
                permission: acl.permission_type,
            }));
        }
        found.sort();
        Ok(found)
    }

    /// Adds ACLs; one result each, in order.
    pub async fn create_acls(&self, acls: &[AclBinding]) -> Result<Vec<Result<()>>> {
        let creation = |acl: &AclBinding| AclCreation {
            resource_type: acl.resource_type,
            resource_name: acl.resource_name.clone(),
            resource_pattern_type: acl.pattern_type,
            principal: acl.principal.clone(),
            host: acl.host.clone(),
            operation: acl.operation,
            permission_type: acl.permission,
        };
        let mut retry = self.retry(CREATE);
        loop {
            let request = |_| CreateAclsRequest { creations: acls.iter().map(creation).collect() };
            match self.client.call_any(i16::MAX, request).await {
                Ok((broker, answer)) => {
                    let address = broker.address();
                    let mut results = answer.results.into_iter();
                    let each = |acl: &AclBinding| match results.next() {
                        Some(result) => {
                            let message = result.error_message.as_deref();
                            Error::check(&address, CREATE, || acl.to_string(), result.error_code, message)
                        }
                        None => Err(Error::left_out(&address, CREATE, acl)),
                    };
                    return Ok(acls.iter().map(each).collect());
                }
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    /// Deletes the ACLs that match, and gives them.
    pub async fn delete_acls(&self, filter: &AclBindingFilter) -> Result<Vec<AclBinding>> {
        let mut retry = self.retry(DELETE);
        loop {
            match self.delete_acls_once(filter).await {
                Ok(deleted) => return Ok(deleted),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn delete_acls_once(&self, filter: &AclBindingFilter) -> Result<Vec<AclBinding>> {
        let wanted = || DeleteAclsFilter {
            resource_type_filter: filter.resource_type,
            resource_name_filter: filter.resource_name.clone(),
            pattern_type_filter: filter.pattern_type,
            principal_filter: filter.principal.clone(),
            host_filter: filter.host.clone(),
            operation: filter.operation,
            permission_type: filter.permission,
        };
        let request = |_| DeleteAclsRequest { filters: vec![wanted()] };
        let (broker, mut answer) = self.client.call_any(i16::MAX, request).await?;
        let address = broker.address();
        let result = answer.filter_results.pop();
        let result = result.ok_or_else(|| Error::left_out(&address, DELETE, &"the filter"))?;
        let message = result.error_message.as_deref();
        Error::check(&address, DELETE, || "ACLs".to_owned(), result.error_code, message)?;
        let mut deleted = Vec::new();
        for acl in result.matching_acls {
            let binding = AclBinding {
                resource_type: acl.resource_type,
                resource_name: acl.resource_name,
                pattern_type: acl.pattern_type,
                principal: acl.principal,
                host: acl.host,
                operation: acl.operation,
                permission: acl.permission_type,
            };
            let message = acl.error_message.as_deref();
            Error::check(&address, DELETE, || binding.to_string(), acl.error_code, message)?;
            deleted.push(binding);
        }
        deleted.sort();
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_are_written() {
        for name in ["ClusterAction", "cluster_action", "CLUSTER-ACTION"] {
            assert_eq!(AclNames::OPERATION.code(name), Some(9));
        }
        assert_eq!(AclNames::RESOURCE.code("transactional-id"), Some(5));
        assert_eq!(AclNames::RESOURCE.code("nope"), None);
        assert_eq!(AclNames::PERMISSION.name(3), "ALLOW");
    }
}
