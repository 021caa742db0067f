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
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";
/// Every type.
pub(crate) const KINDS: [&str; 3] = [USER, CLIENT_ID, IP];

impl Entity {
    /// The parts with their types; the default has no name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&ByteString>)> {
        let parts = [(USER, &self.user), (CLIENT_ID, &self.client_id), (IP, &self.ip)];
        parts.into_iter().filter_map(|(kind, name)| match name.as_ref()? {
            Name::Default => Some((kind, None)),
            Name::Named(name) => Some((kind, Some(name))),
        })
    }

    /// The part of a type, to be set; `None` for a type that there is not.
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
