//! All quotas of the cluster, and which of them counts for a client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;

use super::{Entity, Name, QuotaKey, QuotaValue};

/// Values of one entity.
pub type Values = BTreeMap<QuotaKey, QuotaValue>;

/// The quotas at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuotaSet {
    entities: BTreeMap<Entity, Arc<Values>>,
    /// How many values each kind has at each level of precedence, so that empty levels cost nothing.
    counts: [[usize; LEVELS]; QuotaKey::EVERY.len()],
}

/// A quota that counts for a client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Applied {
    pub limit: f64,
    /// Whether each user has the limit to itself.
    pub by_user: bool,
    /// Whether each client id has the limit to itself.
    pub by_client: bool,
}

/// User and client id of a level of precedence: by name, by default or not at all.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Named,
    Default,
    None,
}

/// Kafka's order of precedence, the strongest first.
const PRECEDENCE: [(Part, Part); 8] = [
    (Part::Named, Part::Named),
    (Part::Named, Part::Default),
    (Part::Named, Part::None),
    (Part::Default, Part::Named),
    (Part::Default, Part::Default),
    (Part::Default, Part::None),
    (Part::None, Part::Named),
    (Part::None, Part::Default),
];
/// The last one is that of addresses.
const LEVELS: usize = PRECEDENCE.len() + 1;

impl QuotaSet {
    /// Whether no quota is set at all.
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// Whether a quota of this kind is set anywhere.
    pub fn has(&self, key: QuotaKey) -> bool {
        self.counts[key as usize].iter().any(|count| *count > 0)
    }

    /// What is set on an entity.
    pub fn get(&self, entity: &Entity) -> Option<&Values> {
        self.entities.get(entity).map(|values| &**values)
    }

    /// Every entity that has quotas.
    pub fn iter(&self) -> impl Iterator<Item = (&Entity, &Values)> {
        self.entities.iter().map(|(entity, values)| (entity, &**values))
    }

    /// Sets everything that an entity has from now on.
    pub fn set(&mut self, entity: &Entity, values: &Values) {
        let level = level(entity);
        if let Some(old) = self.entities.remove(entity) {
            old.keys().for_each(|key| self.counts[*key as usize][level] -= 1);
        }
        if values.is_empty() {
            return;
        }
        values.keys().for_each(|key| self.counts[*key as usize][level] += 1);
        self.entities.insert(entity.clone(), Arc::new(values.clone()));
    }

    /// The quota that counts for a client, where there is one.
    pub fn of_client(&self, key: QuotaKey, user: &ByteString, client_id: &ByteString) -> Option<Applied> {
        let counts = &self.counts[key as usize];
        let name = |part: Part, name: &ByteString| match part {
            Part::Named => Some(Name::Named(name.clone())),
            Part::Default => Some(Name::Default),
            Part::None => None,
        };
        let at = |(level, (by_user, by_client)): (usize, (Part, Part))| {
            if counts[level] == 0 {
                return None;
            }
            let entity =
                Entity { user: name(by_user, user), client_id: name(by_client, client_id), ip: None };
            let limit = self.get(&entity)?.get(&key)?.0;
            Some(Applied { limit, by_user: by_user != Part::None, by_client: by_client != Part::None })
        };
        PRECEDENCE.into_iter().enumerate().find_map(at)
    }

    /// Connections a second that an address may open, where that is limited.
    pub fn of_address(&self, ip: IpAddr) -> Option<f64> {
        let key = QuotaKey::ConnectionCreationRate;
        if self.counts[key as usize][LEVELS - 1] == 0 {
            return None;
        }
        let at = |name: Name| {
            let entity = Entity { ip: Some(name), ..Entity::default() };
            Some(self.get(&entity)?.get(&key)?.0)
        };
        at(Name::Named(ip.to_string().into())).or_else(|| at(Name::Default))
    }
}

fn level(entity: &Entity) -> usize {
    let part = |name: &Option<Name>| match name {
        Some(Name::Named(_)) => Part::Named,
        Some(Name::Default) => Part::Default,
        None => Part::None,
    };
    let own = (part(&entity.user), part(&entity.client_id));
    PRECEDENCE.iter().position(|level| *level == own).unwrap_or(LEVELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(user: Option<&str>, client_id: Option<&str>) -> Entity {
        let name = |text: &str| match text {
            "<default>" => Name::Default,
            text => Name::Named(text.to_owned().into()),
        };
        Entity { user: user.map(name), client_id: client_id.map(name), ip: None }
    }

    #[test]
    fn the_eight_levels_come_in_order() {
        let default = Some("<default>");
        let (u, c) = (Some("u"), Some("c"));
        let levels = [
            (entity(u, c), true, true),
            (entity(u, default), true, true),
            (entity(u, None), true, false),
            (entity(default, c), true, true),
            (entity(default, default), true, true),
            (entity(default, None), true, false),
            (entity(None, c), false, true),
            (entity(None, default), false, true),
        ];
        let key = QuotaKey::ProducerByteRate;
        let mut set = QuotaSet::default();
        let applied = |set: &QuotaSet| set.of_client(key, &"u".into(), &"c".into());
        assert_eq!(applied(&set), None);
        for (n, (entity, by_user, by_client)) in levels.iter().enumerate().rev() {
            set.set(entity, &Values::from([(key, QuotaValue(n as f64 + 1.0))]));
            let expected = Applied { limit: n as f64 + 1.0, by_user: *by_user, by_client: *by_client };
            assert_eq!(applied(&set), Some(expected));
        }
        let of = |user: &'static str, client: &'static str| {
            set.of_client(key, &user.into(), &client.into()).map(|applied| applied.limit)
        };
        assert_eq!([of("u", "x"), of("x", "c"), of("x", "x")], [Some(2.0), Some(4.0), Some(5.0)]);
        assert_eq!(set.of_client(QuotaKey::ConsumerByteRate, &"u".into(), &"c".into()), None);
        for (entity, ..) in &levels {
            set.set(entity, &Values::new());
        }
        assert_eq!(set, QuotaSet::default());
    }

    #[test]
    fn an_address_has_its_own_limit_or_the_default() {
        let key = QuotaKey::ConnectionCreationRate;
        let mut set = QuotaSet::default();
        let ip = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(set.of_address(ip), None);
        let of = |name| Entity { ip: Some(name), ..Entity::default() };
        set.set(&of(Name::Default), &Values::from([(key, QuotaValue(5.0))]));
        assert_eq!(set.of_address(ip), Some(5.0));
        set.set(&of(Name::Named("10.0.0.1".into())), &Values::from([(key, QuotaValue(7.0))]));
        assert_eq!(set.of_address(ip), Some(7.0));
        assert!(set.has(key) && !set.has(QuotaKey::ProducerByteRate));
    }
}
