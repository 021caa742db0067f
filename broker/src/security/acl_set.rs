//! All ACLs of the cluster, indexed so that a decision looks at few of them however many there are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use aqueduct_protocol::ids::Uuid;
use bytestring::ByteString;

use super::acl::{Hosts, WILDCARD};
use super::{Acl, AclFilter, Operation, PatternType, Permission, Principal, ResourceType};

/// The ACLs at one moment. Cheap to copy while shared: what does not change is not copied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AclSet {
    acls: BTreeMap<Uuid, Arc<Acl>>,
    ids: HashMap<Arc<Acl>, Uuid>,
    types: [TypeIndex; ResourceType::EVERY.len()],
}

/// What the ACLs say about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    Denied(&'a Acl),
    Allowed(&'a Acl),
    /// There are ACLs for the resource, but none for this request.
    NoMatch,
    /// The resource has no ACLs at all.
    NoAcls,
}

/// Who asks to do what.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub principal: &'a Principal,
    /// In canonical form: an IPv4 address is one however it came.
    pub ip: IpAddr,
    pub operation: Operation,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct TypeIndex {
    principals: HashMap<Principal, Arc<Patterns<Vec<Rule>>>>,
    /// How many ACLs each pattern has, whoever they are for.
    counts: Patterns<usize>,
}

/// Something for each pattern of names.
#[derive(Debug, Clone, Default, PartialEq)]
struct Patterns<T> {
    literal: HashMap<ByteString, T>,
    prefixed: BTreeMap<ByteString, T>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    hosts: Hosts,
    acl: Arc<Acl>,
}

impl AclSet {
    pub fn is_empty(&self) -> bool {
        self.acls.is_empty()
    }

    pub fn len(&self) -> usize {
        self.acls.len()
    }

    /// Whether this very ACL is there.
    pub fn contains(&self, acl: &Acl) -> bool {
        self.ids.contains_key(acl)
    }

    /// Every ACL with its id.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &Arc<Acl>)> {
        self.acls.iter().map(|(id, acl)| (*id, acl))
    }

    /// The ACLs that a filter finds.
    pub fn find<'a>(&'a self, filter: &'a AclFilter) -> impl Iterator<Item = (Uuid, &'a Arc<Acl>)> {
        self.iter().filter(|(_, acl)| filter.matches(acl))
    }

    /// Adds an ACL; one that is there already stays as it is.
    pub fn insert(&mut self, id: Uuid, acl: Acl) {
        if self.contains(&acl) || self.acls.contains_key(&id) {
            return;
        }
        let acl = Arc::new(acl);
        self.acls.insert(id, acl.clone());
        self.ids.insert(acl.clone(), id);
        let index = &mut self.types[type_at(acl.resource)];
        *index.counts.entry(acl.pattern, &acl.name) += 1;
        let patterns = index.principals.entry(acl.principal.clone()).or_default();
        let rules = Arc::make_mut(patterns).entry(acl.pattern, &acl.name);
        rules.push(Rule { hosts: Hosts::of(&acl.host), acl });
    }

    /// Takes an ACL away.
    pub fn remove(&mut self, id: Uuid) {
        let Some(acl) = self.acls.remove(&id) else { return };
        self.ids.remove(&acl);
        let index = &mut self.types[type_at(acl.resource)];
        index.counts.update(&acl, |count| {
            *count -= 1;
            *count == 0
        });
        let Some(patterns) = index.principals.get_mut(&acl.principal) else { return };
        let patterns = Arc::make_mut(patterns);
        patterns.update(&acl, |rules| {
            rules.retain(|rule| rule.acl != acl);
            rules.is_empty()
        });
        if patterns.is_empty() {
            index.principals.remove(&acl.principal);
        }
    }

    /// What the ACLs say about `asked` on the resource of that type and name: any denial counts before every permission.
    pub fn decide(&self, asked: Asked<'_>, resource: ResourceType, name: &str) -> Verdict<'_> {
        let index = &self.types[type_at(resource)];
        let mut allowed = None;
        let everybody = Principal::everybody();
        for principal in [asked.principal, &everybody] {
            let Some(patterns) = index.principals.get(principal) else { continue };
            let rules = patterns.on(name).flatten();
            for rule in rules.filter(|rule| rule.hosts.contains(asked.ip) && rule.acl.covers(asked.operation))
            {
                match rule.acl.permission {
                    Permission::Deny => return Verdict::Denied(&rule.acl),
                    Permission::Allow => allowed = Some(&*rule.acl),
                }
            }
        }
        match allowed {
            Some(acl) => Verdict::Allowed(acl),
            None if index.counts.on(name).next().is_some() => Verdict::NoMatch,
            None => Verdict::NoAcls,
        }
    }

    /// Whether `asked` is permitted on at least one resource of the type, whatever its name. Unlike in
    /// [`AclSet::decide`] only the operation itself counts, nothing that implies it.
    pub fn permits_any(&self, asked: Asked<'_>, resource: ResourceType) -> bool {
        let index = &self.types[type_at(resource)];
        let mut allowed = Vec::new();
        let (mut denied, mut denied_prefixes) = (Vec::new(), Vec::new());
        let everybody = Principal::everybody();
        let found = [asked.principal, &everybody].into_iter().filter_map(|p| index.principals.get(p));
        for rule in found.flat_map(|patterns| patterns.all()).flatten() {
            let acl = &*rule.acl;
            let covers = acl.operation == asked.operation || acl.operation == Operation::All;
            if !covers || !rule.hosts.contains(asked.ip) {
                continue;
            }
            match (acl.permission, acl.pattern) {
                (Permission::Allow, _) => allowed.push(acl),
                (Permission::Deny, PatternType::Literal) if acl.name == WILDCARD => return false,
                (Permission::Deny, PatternType::Literal) => denied.push(&*acl.name),
                (Permission::Deny, PatternType::Prefixed) => denied_prefixes.push(&*acl.name),
            }
        }
        allowed.into_iter().any(|acl| match acl.pattern {
            PatternType::Literal if acl.name == WILDCARD => true,
            PatternType::Literal if denied.contains(&&*acl.name) => false,
            _ => !denied_prefixes.iter().any(|prefix| acl.name.starts_with(prefix)),
        })
    }
}

fn type_at(resource: ResourceType) -> usize {
    (resource.code() - ResourceType::Topic.code()) as usize
}

impl<T> Patterns<T> {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.prefixed.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.literal.values().chain(self.prefixed.values())
    }

    fn entry(&mut self, pattern: PatternType, name: &ByteString) -> &mut T
    where
        T: Default,
    {
        match pattern {
            PatternType::Literal => self.literal.entry(name.clone()).or_default(),
            PatternType::Prefixed => self.prefixed.entry(name.clone()).or_default(),
        }
    }

    /// Changes what stands at the pattern of `acl`, and drops it where `change` says that nothing is left.
    fn update(&mut self, acl: &Acl, change: impl FnOnce(&mut T) -> bool) {
        let value = match acl.pattern {
            PatternType::Literal => self.literal.get_mut(&acl.name),
            PatternType::Prefixed => self.prefixed.get_mut(&acl.name),
        };
        if value.is_some_and(change) {
            match acl.pattern {
                PatternType::Literal => self.literal.remove(&acl.name),
                PatternType::Prefixed => self.prefixed.remove(&acl.name),
            };
        }
    }

    /// What stands at the patterns that take in `name`.
    fn on<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a T> + use<'a, 'n, T> {
        let wildcard = if name == WILDCARD { None } else { self.literal.get(WILDCARD) };
        self.literal.get(name).into_iter().chain(wildcard).chain(Prefixes { map: &self.prefixed, left: name })
    }
}

/// The values whose keys `left` begins with, longest first.
///
/// The greatest key up to a name is either a prefix of it, or all shorter prefixes lie within what both have in common.
/// So each step finds a prefix or shortens the search, and skips all that lies between.
struct Prefixes<'a, 'n, T> {
    map: &'a BTreeMap<ByteString, T>,
    left: &'n str,
}

impl<'a, T> Iterator for Prefixes<'a, '_, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        while !self.left.is_empty() {
            let range = (Bound::Unbounded, Bound::Included(self.left));
            let (key, value) = self.map.range::<str, _>(range).next_back()?;
            let common = key.bytes().zip(self.left.bytes()).take_while(|(a, b)| a == b).count();
            if common == key.len() {
                self.left = &self.left[..floor(self.left, common.saturating_sub(1))];
                return Some(value);
            }
            self.left = &self.left[..floor(self.left, common)];
        }
        None
    }
}

/// The nearest border of characters at or below `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
#[path = "acl_set_tests.rs"]
mod tests;
