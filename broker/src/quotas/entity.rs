//! Whom a quota is for.

use bytestring::ByteString;

/// One name of a type, or all that have no quota under their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    Default,
    Named(ByteString),
}

/// A user, a client id, both together, or an address. A type that is `None` is no part of the entity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entity {
    pub user: Option<Name>,
    pub client_id: Option<Name>,
    pub ip: Option<Name>,
}

/// The type names on the wire.
pub(crate) const USER: &str = "user";
pub(crate) const CLIENT_ID: &str = "client-id";
pub(crate) const IP: &str = "ip";

impl Entity {
    /// The parts with their types; the default has no name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&ByteString>)> {
        let parts = [(USER, &self.user), (CLIENT_ID, &self.client_id), (IP, &self.ip)];
        parts.into_iter().filter_map(|(kind, name)| match name.as_ref()? {
            Name::Default => Some((kind, None)),
            Name::Named(name) => Some((kind, Some(name))),
        })
    }

    /// The part of a type, for a type that there is.
    pub fn part(&self, kind: &str) -> Option<&Option<Name>> {
        match kind {
            USER => Some(&self.user),
            CLIENT_ID => Some(&self.client_id),
            IP => Some(&self.ip),
            _ => None,
        }
    }

    /// As [`Entity::part`], to be set.
    pub fn part_mut(&mut self, kind: &str) -> Option<&mut Option<Name>> {
        match kind {
            USER => Some(&mut self.user),
            CLIENT_ID => Some(&mut self.client_id),
            IP => Some(&mut self.ip),
            _ => None,
        }
    }
}

impl From<Option<ByteString>> for Name {
    fn from(name: Option<ByteString>) -> Self {
        name.map_or(Self::Default, Self::Named)
    }
}
