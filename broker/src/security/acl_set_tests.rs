use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn names() -> impl Strategy<Value = String> {
    // Few letters, so that names share beginnings; one of them has two bytes that share the first with another.
    proptest::collection::vec(select(vec!["a", "b", "é", "è", "*"]), 1..5).prop_map(|parts| parts.concat())
}

fn acls() -> impl Strategy<Value = Acl> {
    let resources = select(vec![ResourceType::Topic, ResourceType::Group]);
    let patterns = select(vec![PatternType::Literal, PatternType::Prefixed]);
    let names = prop_oneof![4 => names(), 1 => Just("*".to_owned())];
    let principals = select(vec!["User:a", "User:b", "User:*", "Group:a"]);
    let hosts = select(vec!["*", "10.0.0.1", "10.0.0.2", "host.example"]);
    let operations = select(Operation::EVERY.to_vec());
    let permissions = select(vec![Permission::Deny, Permission::Allow, Permission::Allow]);
    (resources, patterns, names, principals, hosts, operations, permissions).prop_map(
        |(resource, pattern, name, principal, host, operation, permission)| Acl {
            resource,
            pattern,
            name: name.into(),
            principal: Principal::parse(principal).unwrap(),
            host: host.into(),
            operation,
            permission,
        },
    )
}

/// As [`AclSet::decide`], by looking at every ACL.
fn naive(acls: &[Acl], asked: Asked<'_>, resource: ResourceType, name: &str) -> &'static str {
    let on: Vec<&Acl> = acls.iter().filter(|acl| acl.resource == resource && acl.is_on(name)).collect();
    let matching: Vec<_> = on
        .iter()
        .filter(|acl| acl.principal == *asked.principal || acl.principal.to_string() == "User:*")
        .filter(|acl| acl.host == "*" || acl.host == asked.ip.to_string())
        .filter(|acl| acl.covers(asked.operation))
        .collect();
    match () {
        () if on.is_empty() => "no acls",
        () if matching.iter().any(|acl| acl.permission == Permission::Deny) => "denied",
        () if !matching.is_empty() => "allowed",
        () => "no match",
    }
}

fn word(verdict: Verdict<'_>) -> &'static str {
    match verdict {
        Verdict::Denied(_) => "denied",
        Verdict::Allowed(_) => "allowed",
        Verdict::NoMatch => "no match",
        Verdict::NoAcls => "no acls",
    }
}

fn id(n: usize) -> Uuid {
    Uuid((n as u128 + 1).to_be_bytes())
}

/// An ACL that lets `User:a` read, to vary.
fn allow(pattern: PatternType, name: &str) -> Acl {
    Acl {
        resource: ResourceType::Topic,
        pattern,
        name: name.to_owned().into(),
        principal: Principal::user("a"),
        host: "*".into(),
        operation: Operation::Write,
        permission: Permission::Allow,
    }
}

fn deny(pattern: PatternType, name: &str) -> Acl {
    Acl { permission: Permission::Deny, ..allow(pattern, name) }
}

fn set(acls: impl IntoIterator<Item = Acl>) -> AclSet {
    let mut set = AclSet::default();
    acls.into_iter().enumerate().for_each(|(n, acl)| set.insert(id(n), acl));
    set
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_index_decides_as_a_look_at_every_acl_does(
        acls in proptest::collection::vec(acls(), 0..40),
        removed in proptest::collection::vec(0..40usize, 0..10),
        name in names(),
        user in select(vec!["User:a", "User:c", "Group:a", "User:*"]),
        last in 1..4u8,
        operation in select(Operation::EVERY[1..].to_vec()),
    ) {
        let mut kept: Vec<(Uuid, Acl)> = Vec::new();
        for (n, acl) in acls.into_iter().enumerate() {
            if kept.iter().all(|(_, other)| *other != acl) {
                kept.push((id(n), acl));
            }
        }
        let mut set = AclSet::default();
        kept.iter().for_each(|(id, acl)| set.insert(*id, acl.clone()));
        let shared = set.clone();
        for n in removed {
            set.remove(id(n));
            kept.retain(|(other, _)| *other != id(n));
        }
        let principal = Principal::parse(user).unwrap();
        let asked = Asked { principal: &principal, ip: ip(last), operation };
        let all: Vec<Acl> = kept.iter().map(|(_, acl)| acl.clone()).collect();
        for resource in [ResourceType::Topic, ResourceType::Group, ResourceType::Cluster] {
            prop_assert_eq!(word(set.decide(asked, resource, &name)), naive(&all, asked, resource, &name));
        }
        // What is left is what it would be had the others never been there.
        let mut anew = AclSet::default();
        kept.into_iter().for_each(|(id, acl)| anew.insert(id, acl));
        prop_assert_eq!(&anew, &{
            let mut set = set;
            // Rules of one pattern are in the order of their coming, which removing keeps.
            set.ids = anew.ids.clone();
            set
        });
        drop(shared);
    }

    #[test]
    fn prefixes_are_found_longest_first(
        keys in proptest::collection::btree_set(names(), 0..30),
        name in names(),
    ) {
        let map: BTreeMap<ByteString, String> =
            keys.iter().map(|key| (key.as_str().into(), key.clone())).collect();
        let found: Vec<&String> = Prefixes { map: &map, left: &name }.collect();
        let mut expected: Vec<&String> = keys.iter().filter(|key| name.starts_with(key.as_str())).collect();
        expected.sort_by_key(|key| std::cmp::Reverse(key.len()));
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn one_permitted_resource_of_a_type_is_enough_unless_it_is_denied() {
    use PatternType::{Literal, Prefixed};
    let user = Principal::user("a");
    let asked = Asked { principal: &user, ip: ip(1), operation: Operation::Write };
    let permits = |acls: &[Acl]| set(acls.iter().cloned()).permits_any(asked, ResourceType::Topic);
    assert!(!permits(&[]));
    assert!(permits(&[allow(Literal, "t")]));
    assert!(permits(&[allow(Literal, "*"), deny(Literal, "t")]));
    assert!(!permits(&[allow(Literal, "*"), deny(Literal, "*")]));
    assert!(!permits(&[allow(Literal, "t"), deny(Literal, "t")]));
    assert!(!permits(&[allow(Literal, "team-x"), deny(Prefixed, "team-")]));
    assert!(!permits(&[allow(Prefixed, "team-x"), deny(Prefixed, "team-x")]));
    assert!(permits(&[allow(Prefixed, "team-"), deny(Prefixed, "team-x")]));
    assert!(permits(&[allow(Prefixed, "t"), deny(Literal, "t")]));
    // What would imply the operation elsewhere does not count here.
    let described = Asked { operation: Operation::Describe, ..asked };
    assert!(!set([allow(Literal, "t")]).permits_any(described, ResourceType::Topic));
    let elsewhere = Acl { host: "10.0.0.2".into(), ..allow(Literal, "t") };
    assert!(!permits(&[elsewhere]));
    assert!(!set([allow(Literal, "t")]).permits_any(asked, ResourceType::Group));
}

#[test]
fn an_acl_is_there_once() {
    let mut set = set([allow(PatternType::Literal, "t")]);
    set.insert(id(7), allow(PatternType::Literal, "t"));
    assert_eq!(set.len(), 1);
    set.remove(id(7));
    assert_eq!(set.len(), 1);
    set.remove(id(0));
    assert_eq!(set, AclSet::default());
}
