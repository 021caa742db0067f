//! SCRAM credentials in the metadata: what an administrator wants changed, whether that may be, and what is kept.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_security::scram::{Credential, MAX_ITERATIONS, MIN_ITERATIONS, Mechanism};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::Rejection;
use super::record::{get_text, put_text};

/// All credentials of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScramImage {
    users: BTreeMap<ByteString, BTreeMap<Mechanism, Credential>>,
}

/// A credential as it is from now on; `None` where it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramRecord {
    pub user: ByteString,
    pub mechanism: Mechanism,
    pub credential: Option<Credential>,
}

/// A wish to change one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramChange {
    Delete { user: ByteString, mechanism: i8 },
    Upsert { user: ByteString, mechanism: i8, iterations: i32, salt: Bytes, salted_password: SaltedPassword },
}

/// As good as a password, so that it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedPassword(pub Bytes);

impl std::fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl ScramChange {
    /// Whose credential it is.
    pub fn user(&self) -> &ByteString {
        match self {
            Self::Delete { user, .. } | Self::Upsert { user, .. } => user,
        }
    }

    /// The number of its mechanism, which may be none that is known.
    pub fn mechanism(&self) -> i8 {
        match self {
            Self::Delete { mechanism, .. } | Self::Upsert { mechanism, .. } => *mechanism,
        }
    }
}

impl ScramImage {
    /// A user's credential.
    pub fn credential(&self, user: &str, mechanism: Mechanism) -> Option<&Credential> {
        self.users.get(user)?.get(&mechanism)
    }

    /// What a user has, by mechanism.
    pub fn user(&self, user: &str) -> Option<&BTreeMap<Mechanism, Credential>> {
        self.users.get(user)
    }

    /// All users that have a credential, by name.
    pub fn users(&self) -> impl Iterator<Item = &ByteString> {
        self.users.keys()
    }

    pub(super) fn apply(&mut self, record: &ScramRecord) {
        match &record.credential {
            Some(credential) => {
                self.users
                    .entry(record.user.clone())
                    .or_default()
                    .insert(record.mechanism, credential.clone());
            }
            None => {
                if let Some(of_user) = self.users.get_mut(&record.user) {
                    of_user.remove(&record.mechanism);
                    if of_user.is_empty() {
                        self.users.remove(&record.user);
                    }
                }
            }
        }
    }

    pub(super) fn to_records(&self) -> impl Iterator<Item = ScramRecord> {
        self.users.iter().flat_map(|(user, of_user)| {
            of_user.iter().map(|(mechanism, credential)| ScramRecord {
                user: user.clone(),
                mechanism: *mechanism,
                credential: Some(credential.clone()),
            })
        })
    }
}

/// Decides on the changes of one user: all of them or none.
pub(super) fn decide(image: &ScramImage, changes: &[ScramChange]) -> Result<Vec<ScramRecord>, Rejection> {
    let no = |code, message: &str| Rejection::new(code, message);
    let mut records: Vec<ScramRecord> = Vec::with_capacity(changes.len());
    for change in changes {
        let user = change.user().clone();
        if user.is_empty() {
            return Err(no(ErrorCode::UnacceptableCredential, "Username must not be empty"));
        }
        let mechanism = Mechanism::from_code(change.mechanism())
            .ok_or_else(|| no(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"))?;
        if records.iter().any(|record| record.user == user && record.mechanism == mechanism) {
            let why = "A user credential cannot be altered twice in the same request";
            return Err(no(ErrorCode::DuplicateResource, why));
        }
        let credential = match change {
            ScramChange::Delete { .. } => {
                if image.credential(&user, mechanism).is_none() {
                    let why = "Attempt to delete a user credential that does not exist";
                    return Err(no(ErrorCode::ResourceNotFound, why));
                }
                None
            }
            ScramChange::Upsert { iterations, salt, salted_password, .. } => {
                let iterations = match u32::try_from(*iterations) {
                    Ok(n) if n > MAX_ITERATIONS => {
                        return Err(no(ErrorCode::UnacceptableCredential, "Too many iterations"));
                    }
                    Ok(n) if n >= MIN_ITERATIONS => n,
                    _ => return Err(no(ErrorCode::UnacceptableCredential, "Too few iterations")),
                };
                if salt.is_empty() || salted_password.0.len() != mechanism.output_len() {
                    let why =
                        "The salt must not be empty and the salted password must be as long as the hash";
                    return Err(no(ErrorCode::UnacceptableCredential, why));
                }
                Some(Credential::from_salted(mechanism, &salted_password.0, salt.to_vec(), iterations))
            }
        };
        records.push(ScramRecord { user, mechanism, credential });
    }
    Ok(records)
}

impl ScramRecord {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_text(out, &self.user);
        out.put_i8(self.mechanism as i8);
        let Some(credential) = &self.credential else {
            out.put_u32(0);
            return;
        };
        out.put_u32(credential.iterations);
        for bytes in [&credential.salt, &credential.stored_key, &credential.server_key] {
            out.put_u32(bytes.len() as u32);
            out.put_slice(bytes);
        }
    }

    pub(super) fn decode(bytes: &mut Bytes) -> Option<Self> {
        let user = get_text(bytes)?;
        let mechanism = Mechanism::from_code(bytes.try_get_i8().ok()?)?;
        let iterations = bytes.try_get_u32().ok()?;
        if iterations == 0 {
            return Some(Self { user, mechanism, credential: None });
        }
        let mut block = || {
            let length = bytes.try_get_u32().ok()? as usize;
            (length <= bytes.len()).then(|| bytes.split_to(length).to_vec())
        };
        let (salt, stored_key, server_key) = (block()?, block()?, block()?);
        let credential = Some(Credential { salt, stored_key, server_key, iterations });
        Some(Self { user, mechanism, credential })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsert(user: &str, mechanism: i8, iterations: i32) -> ScramChange {
        ScramChange::Upsert {
            user: user.into(),
            mechanism,
            iterations,
            salt: Bytes::from_static(b"salt"),
            salted_password: SaltedPassword(Bytes::from(vec![7; if mechanism == 1 { 32 } else { 64 }])),
        }
    }

    fn delete(user: &str, mechanism: i8) -> ScramChange {
        ScramChange::Delete { user: user.into(), mechanism }
    }

    #[test]
    fn changes_are_checked_and_round_trip() {
        let mut image = ScramImage::default();
        for (changes, code) in [
            (vec![upsert("", 1, 4096)], ErrorCode::UnacceptableCredential),
            (vec![upsert("a", 3, 4096)], ErrorCode::UnsupportedSaslMechanism),
            (vec![upsert("a", 1, 4095)], ErrorCode::UnacceptableCredential),
            (vec![upsert("a", 1, 16_385)], ErrorCode::UnacceptableCredential),
            (vec![upsert("a", 1, 4096), delete("a", 1)], ErrorCode::DuplicateResource),
            (vec![delete("a", 1)], ErrorCode::ResourceNotFound),
        ] {
            assert_eq!(decide(&image, &changes).unwrap_err().code, code, "{changes:?}");
        }
        for changes in [vec![upsert("a", 1, 4096), upsert("a", 2, 8192)], vec![delete("a", 1)]] {
            for record in decide(&image, &changes).unwrap() {
                let mut out = BytesMut::new();
                record.encode(&mut out);
                let bytes = out.freeze();
                assert_eq!(ScramRecord::decode(&mut bytes.clone()), Some(record.clone()));
                for cut in 0..bytes.len() {
                    assert_eq!(ScramRecord::decode(&mut bytes.slice(..cut)), None);
                }
                image.apply(&record);
            }
        }
        assert!(image.credential("a", Mechanism::Sha256).is_none());
        assert_eq!(image.credential("a", Mechanism::Sha512).unwrap().iterations, 8192);
        let mut copy = ScramImage::default();
        image.to_records().for_each(|record| copy.apply(&record));
        assert_eq!(copy, image);
        image.apply(&ScramRecord { user: "a".into(), mechanism: Mechanism::Sha512, credential: None });
        assert_eq!(image.users().count(), 0);
    }
}
