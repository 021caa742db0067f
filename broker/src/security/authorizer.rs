//! Decides whether a client may do something, by the rules of Kafka's `StandardAuthorizer`: super users may do
//! everything, a denial counts before every permission, and what no ACL permits is denied.

use std::collections::HashSet;
use std::fmt;

use super::audit::Audit;
use super::{Acl, AclSet, Asked, Operation, Principal, ResourceType, Verdict};
use crate::api::Client;

/// What the authorizer is set to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizerSettings {
    /// Whoever may do everything, whatever ACLs say.
    pub super_users: HashSet<Principal>,
    /// Whether everybody may do everything to a resource that has no ACLs at all.
    pub allow_everyone: bool,
}

/// The authorizer as it is configured. Without `authorizer.class.name` everybody may do everything, as in Kafka.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    settings: Option<AuthorizerSettings>,
    audit: Audit,
}

/// Why a request is allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule<'a> {
    SuperUser,
    Acl(&'a Acl),
    /// No ACL speaks of the request.
    Default,
}

impl Authorizer {
    pub fn new(settings: Option<AuthorizerSettings>) -> Self {
        Self { settings, audit: Audit::default() }
    }

    /// Whether there is an authorizer at all.
    pub fn is_enabled(&self) -> bool {
        self.settings.is_some()
    }

    /// Whether `client` may do `operation` to the resource of that type and name. What is denied is logged, and what is
    /// allowed at a finer level.
    pub fn allows(
        &self,
        acls: &AclSet,
        client: &Client,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> bool {
        let (allowed, rule) = self.decide(acls, client, operation, resource, name);
        self.audit.log(allowed, client, operation, (resource, name), rule);
        allowed
    }

    /// As [`Authorizer::allows`], without logging: for questions whose denial denies the client nothing.
    pub fn would_allow(
        &self,
        acls: &AclSet,
        client: &Client,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> bool {
        self.decide(acls, client, operation, resource, name).0
    }

    /// Whether `client` may do `operation` to some resource of the type.
    pub fn allows_any(
        &self,
        acls: &AclSet,
        client: &Client,
        operation: Operation,
        resource: ResourceType,
    ) -> bool {
        // A name that stands for all others shows super users, and clients that nothing keeps back.
        const SOME_NAME: &str = "hardcode";
        let asked = Asked { principal: &client.principal, ip: client.ip, operation };
        let allowed = self.would_allow(acls, client, operation, resource, SOME_NAME)
            || acls.permits_any(asked, resource);
        self.audit.log(allowed, client, operation, (resource, "*"), Rule::Default);
        allowed
    }

    fn decide<'a>(
        &self,
        acls: &'a AclSet,
        client: &Client,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> (bool, Rule<'a>) {
        let Some(settings) = &self.settings else { return (true, Rule::Default) };
        if settings.super_users.contains(&client.principal) {
            return (true, Rule::SuperUser);
        }
        let asked = Asked { principal: &client.principal, ip: client.ip, operation };
        match acls.decide(asked, resource, name) {
            Verdict::Denied(acl) => (false, Rule::Acl(acl)),
            Verdict::Allowed(acl) => (true, Rule::Acl(acl)),
            Verdict::NoMatch => (false, Rule::Default),
            Verdict::NoAcls => (settings.allow_everyone, Rule::Default),
        }
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuperUser => f.write_str("super user"),
            Self::Acl(acl) => write!(f, "ACL: {acl}"),
            Self::Default => f.write_str("no ACL matches"),
        }
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::Uuid;

    use super::*;
    use crate::security::{PatternType, Permission};

    fn client(name: &'static str) -> Client {
        Client {
            host: "/10.0.0.1".into(),
            ip: [10, 0, 0, 1].into(),
            principal: Principal::user(name),
            listener: "PLAINTEXT".into(),
        }
    }

    fn acls() -> AclSet {
        let mut acls = AclSet::default();
        let acl = Acl {
            resource: ResourceType::Topic,
            pattern: PatternType::Literal,
            name: "t".into(),
            principal: Principal::user("a"),
            host: "*".into(),
            operation: Operation::Write,
            permission: Permission::Allow,
        };
        acls.insert(Uuid([1; 16]), acl);
        acls
    }

    #[test]
    fn super_users_acls_and_the_default_decide_in_turn() {
        let super_users = HashSet::from([Principal::user("root")]);
        let closed = Authorizer::new(Some(AuthorizerSettings { super_users, allow_everyone: false }));
        let open = Authorizer::new(Some(AuthorizerSettings { allow_everyone: true, ..Default::default() }));
        let none = Authorizer::new(None);
        let acls = acls();
        let may = |authorizer: &Authorizer, user, operation, name| {
            authorizer.allows(&acls, &client(user), operation, ResourceType::Topic, name)
        };
        for authorizer in [&closed, &open] {
            assert!(may(authorizer, "a", Operation::Write, "t"));
            assert!(may(authorizer, "a", Operation::Describe, "t"));
            assert!(!may(authorizer, "a", Operation::Read, "t"));
            assert!(!may(authorizer, "b", Operation::Write, "t"));
        }
        assert!(!may(&closed, "a", Operation::Write, "u") && may(&open, "a", Operation::Write, "u"));
        assert!(may(&closed, "root", Operation::Delete, "t"));
        assert!(may(&none, "b", Operation::Delete, "t") && !none.is_enabled());
        let any = |authorizer: &Authorizer, user| {
            authorizer.allows_any(&acls, &client(user), Operation::Write, ResourceType::Topic)
        };
        assert!(any(&closed, "a") && !any(&closed, "b") && any(&closed, "root") && any(&open, "b"));
    }
}
