use super::*;
use crate::metadata::{Command, decide};
use crate::security::PatternFilter;

fn acl(name: &str) -> Acl {
    Acl {
        resource: ResourceType::Topic,
        pattern: PatternType::Prefixed,
        name: name.to_owned().into(),
        principal: Principal::user("CN=a:b"),
        host: "*".into(),
        operation: Operation::Read,
        permission: Permission::Deny,
    }
}

fn apply(image: &mut MetadataImage, command: Command) -> Result<Outcome, String> {
    let (records, outcome) = decide(image, &command).map_err(|rejection| rejection.message)?;
    records.iter().for_each(|record| image.apply(record));
    Ok(outcome)
}

fn id(n: u8) -> Uuid {
    Uuid([n; 16])
}

#[test]
fn records_round_trip_and_cut_bytes_are_none() {
    let values = BTreeMap::from([(QuotaKey::ProducerByteRate, QuotaValue(0.5))]);
    let named = |name: &str| Some(Name::Named(name.to_owned().into()));
    let records = [
        Record::Acl { id: id(3), acl: acl("t") },
        Record::AclDeleted { id: id(3) },
        Record::Quota {
            entity: Entity { user: named("u"), client_id: Some(Name::Default), ip: None },
            values: values.clone(),
        },
        Record::Quota { entity: Entity { ip: named("::1"), ..Entity::default() }, values: BTreeMap::new() },
    ];
    for record in records {
        let mut out = BytesMut::new();
        record.encode(&mut out);
        let bytes = out.freeze();
        assert_eq!(Record::decode(&mut bytes.clone()), Some(record));
        for cut in 0..bytes.len() {
            assert_eq!(Record::decode(&mut bytes.slice(..cut)), None);
        }
    }
}

#[test]
fn an_acl_is_created_once_and_deleted_by_filter() {
    let mut image = MetadataImage::default();
    let create = |n: u8, acl: Acl| Command::CreateAcl { id: id(n), acl };
    for (n, name) in [(1, "a"), (2, "b"), (3, "a")] {
        apply(&mut image, create(n, acl(name))).unwrap();
    }
    assert_eq!(image.acls.len(), 2);
    let mut copy = MetadataImage::default();
    image.to_records().iter().for_each(|record| copy.apply(record));
    assert_eq!(copy.acls, image.acls);
    let filter = AclFilter {
        resource: None,
        name: Some("a".into()),
        pattern: PatternFilter::Any,
        principal: None,
        host: None,
        operation: None,
        permission: None,
    };
    let delete = || Command::DeleteAcls { filter: filter.clone() };
    assert_eq!(apply(&mut image, delete()).unwrap(), Outcome::Acls(vec![acl("a").into()]));
    assert_eq!(apply(&mut image, delete()).unwrap(), Outcome::Acls(Vec::new()));
    assert!(image.acls.contains(&acl("b")));
    assert!(apply(&mut image, create(9, acl(""))).is_err());
    let cluster = Acl { resource: ResourceType::Cluster, ..acl("other") };
    assert!(apply(&mut image, create(9, cluster)).unwrap_err().contains("kafka-cluster"));
}

#[test]
fn quotas_are_set_changed_and_taken_away() {
    let mut image = MetadataImage::default();
    let alter = |ops: &[(&'static str, Option<f64>)]| Command::AlterQuota {
        entity: vec![("user".into(), Some("u".into())), ("client-id".into(), None)],
        ops: ops.iter().map(|(key, value)| ((*key).into(), value.map(QuotaValue))).collect(),
    };
    let entity = Entity { user: Some(Name::Named("u".into())), client_id: Some(Name::Default), ip: None };
    apply(&mut image, alter(&[("producer_byte_rate", Some(10.0)), ("request_percentage", Some(0.5))]))
        .unwrap();
    apply(&mut image, alter(&[("producer_byte_rate", None), ("unknown", None)])).unwrap();
    let left: Vec<_> =
        image.quotas.get(&entity).unwrap().iter().map(|(key, value)| (*key, value.0)).collect();
    assert_eq!(left, [(QuotaKey::RequestPercentage, 0.5)]);
    let mut copy = MetadataImage::default();
    image.to_records().iter().for_each(|record| copy.apply(record));
    assert_eq!(copy.quotas, image.quotas);
    apply(&mut image, alter(&[("request_percentage", None)])).unwrap();
    assert!(image.quotas.is_empty());
}

#[test]
fn quotas_that_make_no_sense_are_refused() {
    let image = MetadataImage::default();
    let refused = |parts: &[(&'static str, Option<&'static str>)], key: &'static str, value: f64| {
        let command = Command::AlterQuota {
            entity: parts.iter().map(|(kind, name)| ((*kind).into(), name.map(Into::into))).collect(),
            ops: vec![(key.into(), Some(QuotaValue(value)))],
        };
        decide(&image, &command).map_or_else(|rejection| rejection.message, |_| String::new())
    };
    let user = [("user", Some("u"))];
    let ip = [("ip", Some("10.0.0.1"))];
    assert_eq!(refused(&user, "producer_byte_rate", 1.0), "");
    assert_eq!(refused(&ip, "connection_creation_rate", 1.0), "");
    assert_eq!(refused(&[("ip", None)], "connection_creation_rate", 1.0), "");
    assert!(refused(&[], "producer_byte_rate", 1.0).contains("empty"));
    assert!(refused(&[("user", Some(""))], "producer_byte_rate", 1.0).contains("Empty user"));
    assert!(refused(&[("host", None)], "producer_byte_rate", 1.0).contains("Unhandled"));
    assert!(refused(&[user[0], user[0]], "producer_byte_rate", 1.0).contains("duplicate"));
    assert!(refused(&[user[0], ip[0]], "producer_byte_rate", 1.0).contains("ip"));
    assert!(refused(&[("ip", Some("nowhere"))], "connection_creation_rate", 1.0).contains("not a valid IP"));
    assert!(refused(&user, "connection_creation_rate", 1.0).contains("Invalid configuration key"));
    assert!(refused(&ip, "producer_byte_rate", 1.0).contains("Invalid configuration key"));
    assert!(refused(&user, "producer_byte_rate", 0.0).contains("greater than 0"));
    assert!(refused(&user, "request_percentage", f64::NAN).contains("greater than 0"));
    assert!(refused(&user, "producer_byte_rate", 1.5).contains("fractional"));
    assert_eq!(refused(&user, "request_percentage", 1.5), "");
    assert!(refused(&user, "consumer_byte_rate", 1e19).contains("too large"));
}
