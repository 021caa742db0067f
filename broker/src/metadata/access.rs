//! Commands about ACLs and quotas, decided; their records' bytes.

use std::collections::{BTreeMap, HashSet};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::record::{get_text, get_uuid, put_text};
use super::{MetadataImage, Outcome, Record, Rejection};
use crate::quotas::{Entity, Name, QuotaKey, QuotaValue};
use crate::security::{Acl, AclFilter, Operation, PatternType, Permission, Principal, ResourceType};

/// Most ACLs that one filter may delete, as in Kafka's controller.
const MOST_AT_ONCE: usize = 10_000;

type Decided = Result<(Vec<Record>, Outcome), Rejection>;

/// An ACL that is there already stays, and that is no error.
pub(super) fn create_acl(image: &MetadataImage, id: Uuid, acl: &Acl) -> Decided {
    let invalid = |why: &str| Err(Rejection::new(ErrorCode::InvalidRequest, why));
    if acl.name.is_empty() {
        return invalid("Invalid empty resource name");
    }
    if acl.resource == ResourceType::Cluster && acl.name != crate::security::CLUSTER_NAME {
        return invalid("The only valid name for the CLUSTER resource is kafka-cluster");
    }
    if image.acls.contains(acl) {
        return Ok((Vec::new(), Outcome::Done));
    }
    Ok((vec![Record::Acl { id, acl: acl.clone() }], Outcome::Done))
}

/// Deletes what the filter finds, and tells what that was.
pub(super) fn delete_acls(image: &MetadataImage, filter: &AclFilter) -> Decided {
    let (mut records, mut deleted) = (Vec::new(), Vec::new());
    for (id, acl) in image.acls.find(filter) {
        if records.len() == MOST_AT_ONCE {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Cannot remove more than {MOST_AT_ONCE} acls in a single delete operation."),
            ));
        }
        records.push(Record::AclDeleted { id });
        deleted.push(acl.clone());
    }
    Ok((records, Outcome::Acls(deleted)))
}

/// Changes quotas of one entity: `None` takes a value away.
pub(super) fn alter_quota(
    image: &MetadataImage,
    entity: &[(ByteString, Option<ByteString>)],
    ops: &[(ByteString, Option<QuotaValue>)],
) -> Decided {
    let entity = check_entity(entity)?;
    let had = image.quotas.get(&entity).cloned().unwrap_or_default();
    let mut values = had.clone();
    let mut seen = HashSet::new();
    for (name, value) in ops {
        if !seen.insert(name) {
            return Err(invalid(format!("Quota key {name} is there twice")));
        }
        let key = QuotaKey::from_name(name).filter(|key| key.is_for(&entity));
        match (key, value) {
            (Some(key), None) => {
                values.remove(&key);
            }
            // Nothing of that name can be set, so nothing is there to be taken away.
            (None, None) => {}
            (Some(key), Some(value)) => {
                check_value(key, value.0)?;
                values.insert(key, *value);
            }
            (None, Some(_)) => return Err(invalid(format!("Invalid configuration key {name}"))),
        }
    }
    let records = if values == had { Vec::new() } else { vec![Record::Quota { entity, values }] };
    Ok((records, Outcome::Done))
}

fn invalid(why: String) -> Rejection {
    Rejection::new(ErrorCode::InvalidRequest, why)
}

fn check_entity(asked: &[(ByteString, Option<ByteString>)]) -> Result<Entity, Rejection> {
    let mut entity = Entity::default();
    for (kind, name) in asked {
        let Some(part) = entity.part_mut(kind) else {
            return Err(invalid(format!("Unhandled client quota entity type: {kind}")));
        };
        if part.is_some() {
            return Err(invalid(format!("Invalid client quota entity, duplicate entity entry {kind}")));
        }
        if name.as_ref().is_some_and(|name| name.is_empty()) {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
        *part = Some(Name::from(name.clone()));
    }
    match &entity {
        Entity { user: None, client_id: None, ip: None } => {
            Err(invalid("Invalid empty client quota entity".into()))
        }
        Entity { user: None, client_id: None, ip: Some(Name::Named(ip)) } if !is_address(ip) => {
            Err(invalid(format!("{ip} is not a valid IP or resolvable host.")))
        }
        Entity { user, client_id, ip: Some(_) } if user.is_some() || client_id.is_some() => {
            Err(invalid("Invalid client quota entity: ip cannot be combined with user or client-id".into()))
        }
        _ => Ok(entity),
    }
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

fn check_value(key: QuotaKey, value: f64) -> Result<(), Rejection> {
    let name = key.name();
    if value.is_nan() || value <= 0.0 {
        return Err(invalid(format!("Quota {name} must be greater than 0")));
    }
    match key.whole_up_to() {
        Some((most, kind)) if value > most => {
            Err(invalid(format!("Proposed value for {name} is too large for a {kind}.")))
        }
        Some(_) if value % 1.0 > 1e-6 => Err(invalid(format!("{name} cannot be a fractional value."))),
        _ => Ok(()),
    }
}

pub(super) fn put_acl(out: &mut BytesMut, id: Uuid, acl: &Acl) {
    out.put_u8(1);
    out.put_slice(&id.0);
    out.put_i8(acl.resource.code());
    out.put_i8(acl.pattern.code());
    put_text(out, &acl.name);
    put_text(out, &acl.principal.kind);
    put_text(out, &acl.principal.name);
    put_text(out, &acl.host);
    out.put_i8(acl.operation.code());
    out.put_i8(acl.permission.code());
}

pub(super) fn put_acl_deleted(out: &mut BytesMut, id: Uuid) {
    out.put_u8(0);
    out.put_slice(&id.0);
}

pub(super) fn get_acl(bytes: &mut Bytes) -> Option<Record> {
    let is_there = bytes.try_get_u8().ok()?;
    let id = get_uuid(bytes)?;
    match is_there {
        0 => Some(Record::AclDeleted { id }),
        1 => {
            let acl = Acl {
                resource: ResourceType::from_code(bytes.try_get_i8().ok()?)?,
                pattern: PatternType::from_code(bytes.try_get_i8().ok()?)?,
                name: get_text(bytes)?,
                principal: Principal { kind: get_text(bytes)?, name: get_text(bytes)? },
                host: get_text(bytes)?,
                operation: Operation::from_code(bytes.try_get_i8().ok()?)?,
                permission: Permission::from_code(bytes.try_get_i8().ok()?)?,
            };
            Some(Record::Acl { id, acl })
        }
        _ => None,
    }
}

pub(super) fn put_quota(out: &mut BytesMut, entity: &Entity, values: &BTreeMap<QuotaKey, QuotaValue>) {
    for name in [&entity.user, &entity.client_id, &entity.ip] {
        match name {
            None => out.put_u8(0),
            Some(Name::Default) => out.put_u8(1),
            Some(Name::Named(name)) => {
                out.put_u8(2);
                put_text(out, name);
            }
        }
    }
    out.put_u8(values.len() as u8);
    for (key, value) in values {
        put_text(out, key.name());
        out.put_f64(value.0);
    }
}

pub(super) fn get_quota(bytes: &mut Bytes) -> Option<Record> {
    let mut entity = Entity::default();
    for part in [&mut entity.user, &mut entity.client_id, &mut entity.ip] {
        *part = match bytes.try_get_u8().ok()? {
            0 => None,
            1 => Some(Name::Default),
            2 => Some(Name::Named(get_text(bytes)?)),
            _ => return None,
        };
    }
    let mut values = BTreeMap::new();
    for _ in 0..bytes.try_get_u8().ok()? {
        let key = QuotaKey::from_name(&get_text(bytes)?)?;
        values.insert(key, QuotaValue(bytes.try_get_f64().ok()?));
    }
    Some(Record::Quota { entity, values })
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
