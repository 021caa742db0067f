//! Who is at the other end of a connection.

use std::fmt;

use bytestring::ByteString;

/// An identity as listeners establish it and ACLs name it, written `KIND:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    /// `User`, unless a principal builder says otherwise.
    pub kind: ByteString,
    pub name: ByteString,
}

/// The kind of everybody that Kafka itself authenticates.
pub const USER: &str = "User";

impl Principal {
    /// A user by name.
    pub fn user(name: impl Into<ByteString>) -> Self {
        Self { kind: ByteString::from_static(USER), name: name.into() }
    }

    /// Whoever comes over a listener that does not authenticate.
    pub fn anonymous() -> Self {
        Self::user("ANONYMOUS")
    }

    /// The user that stands for everybody in ACLs.
    pub fn everybody() -> Self {
        Self { kind: ByteString::from_static(USER), name: ByteString::from_static("*") }
    }

    /// Whether `text` is how this principal is written.
    pub fn is_written(&self, text: &str) -> bool {
        text.split_once(':').is_some_and(|(kind, name)| self.kind == kind && self.name == name)
    }

    /// Reads `KIND:NAME`; `None` where the colon or one of the two is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let own = |text: &str| ByteString::from(text.to_owned());
        (!kind.is_empty() && !name.is_empty()).then(|| Self { kind: own(kind), name: own(name) })
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_principal_are_one() {
        for text in ["User:ANONYMOUS", "User:CN=a,O=b:c", "Group:x"] {
            assert_eq!(Principal::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "User", "User:", ":x"] {
            assert_eq!(Principal::parse(text), None, "{text}");
        }
        assert_eq!(Principal::anonymous(), Principal::parse("User:ANONYMOUS").unwrap());
    }
}
