//! What workers ask of each other over REST, and the signatures that show that a member of the group asks (KIP-507).
//!
//! The key is the `session-key` record of the config topic. It is never logged, and a signature is compared in constant
//! time.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ring::hmac;

use crate::config_state::SessionKey;
use crate::error::{Error, Result};

/// Header with the signature, base64.
pub const SIGNATURE_HEADER: &str = "X-Connect-Authorization";
/// Header with the name of the algorithm that the signature was made with.
pub const ALGORITHM_HEADER: &str = "X-Connect-Request-Signature-Algorithm";

/// An algorithm that requests are signed with, by the name that the JVM has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    /// All names, for messages.
    pub const NAMES: [&str; 4] = ["HmacSHA1", "HmacSHA256", "HmacSHA384", "HmacSHA512"];

    /// The algorithm of that name, in any case, as the JVM has it.
    pub fn from_name(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        Some([Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512][at])
    }

    /// Bytes of a key where `inter.worker.key.size` does not say.
    pub fn key_length(self) -> usize {
        match self {
            Self::Sha1 | Self::Sha512 => 64,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    fn of_ring(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// The signature of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    algorithm: Algorithm,
    name: String,
    mac: Vec<u8>,
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signature").field("algorithm", &self.name).finish_non_exhaustive()
    }
}

impl Signature {
    /// Reads the two headers; `None` where one is missing.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for an algorithm that is not known here, or text that is not base64.
    pub fn from_headers(signature: Option<&str>, algorithm: Option<&str>) -> Result<Option<Self>> {
        let (Some(signature), Some(name)) = (signature, algorithm) else { return Ok(None) };
        let algorithm = Algorithm::from_name(name)
            .ok_or_else(|| Error::invalid(format!("Algorithm {name} not available")))?;
        let mac = BASE64
            .decode(signature)
            .map_err(|e| Error::invalid(format!("the signature of the request is not base64: {e}")))?;
        Ok(Some(Self { algorithm, name: name.to_owned(), mac }))
    }

    /// Signs `body` with `key`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where the algorithm is not known.
    pub fn sign(key: &SessionKey, algorithm: &str, body: &[u8]) -> Result<Self> {
        let known = Algorithm::from_name(algorithm).ok_or_else(|| {
            Error::invalid(format!(
                "inter.worker.signature.algorithm={algorithm} is not known; one of: {}",
                Algorithm::NAMES.join(", ")
            ))
        })?;
        let mac = hmac::sign(&hmac::Key::new(known.of_ring(), &key.key), body);
        Ok(Self { algorithm: known, name: algorithm.to_owned(), mac: mac.as_ref().to_vec() })
    }

    /// The values of [`SIGNATURE_HEADER`] and [`ALGORITHM_HEADER`].
    pub fn headers(&self) -> (String, &str) {
        (BASE64.encode(&self.mac), &self.name)
    }

    /// Whether `body` was signed with `key`.
    pub fn is_valid(&self, key: &SessionKey, body: &[u8]) -> bool {
        hmac::verify(&hmac::Key::new(self.algorithm.of_ring(), &key.key), body, &self.mac).is_ok()
    }

    /// Checks a request against the key of the group and the algorithms that `inter.worker.verification.algorithms` allows.
    ///
    /// # Errors
    /// [`Error::BadRequest`], [`Error::Forbidden`] or [`Error::Unavailable`], with the reference's words.
    pub fn check(
        signature: Option<&Self>,
        body: &[u8],
        key: Option<&SessionKey>,
        allowed: &[String],
    ) -> Result<()> {
        let Some(signature) = signature else {
            return Err(Error::invalid("Internal request missing required signature"));
        };
        if !allowed.contains(&signature.name) {
            return Err(Error::BadRequest(format!(
                "This worker does not support the '{}' key signing algorithm used by other workers. This worker is \
                 currently configured to use: [{}]. Check that all workers' configuration files permit the same set of \
                 signature algorithms, and correct any misconfigured worker and restart it.",
                signature.name,
                allowed.join(", ")
            )));
        }
        match key {
            None => Err(Error::Unavailable(
                "This worker is still starting up and has not been able to read a session key from the config topic yet"
                    .to_owned(),
            )),
            Some(key) if signature.is_valid(key, body) => Ok(()),
            Some(_) => Err(Error::Forbidden("Internal request contained invalid signature.".to_owned())),
        }
    }
}

/// A request to another worker.
#[derive(Clone, Debug)]
pub struct InternalRequest {
    pub method: &'static str,
    /// All of the address.
    pub url: String,
    /// JSON; an empty one is not sent.
    pub body: Bytes,
    /// `None` with protocols that do not sign.
    pub signature: Option<Signature>,
}

/// How a worker reaches others. The worker itself knows nothing of HTTP.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Sends a request and waits until it is carried out.
    ///
    /// # Errors
    /// What the other worker answered, or why it could not be reached.
    async fn send(&self, request: InternalRequest) -> Result<()>;
}

/// A worker that is alone.
pub struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn send(&self, request: InternalRequest) -> Result<()> {
        Err(Error::internal(format!("this worker has no way to reach {}", request.url)))
    }
}

/// The address of `path` (segments, not encoded) below the URL that a worker advertises.
pub fn address(base: &str, path: &[&str]) -> String {
    let mut url = base.trim_end_matches('/').to_owned();
    for segment in path {
        url.push('/');
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    url
}

/// The body of a request that hands in task configurations: a JSON array of objects.
pub fn task_configs_body(configs: &[BTreeMap<String, String>]) -> Bytes {
    serde_json::to_vec(configs).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// Peers that cannot be reached, shared.
pub fn no_peers() -> Arc<dyn Peers> {
    Arc::new(NoPeers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> SessionKey {
        SessionKey { key: bytes.to_vec(), algorithm: "HmacSHA256".to_owned(), created: 0 }
    }

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let signature = Signature::sign(&key(b"Jefe"), "HmacSHA256", b"what do ya want for nothing?");
        let signature = signature.expect("a known algorithm");
        assert_eq!(signature.headers().0, "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
        let (text, name) = signature.headers();
        let read = Signature::from_headers(Some(&text), Some(name)).expect("readable").expect("there");
        assert!(read.is_valid(&key(b"Jefe"), b"what do ya want for nothing?"));
        assert!(!read.is_valid(&key(b"Jefe"), b"what do ya want for nothing!"));
        assert!(!read.is_valid(&key(b"Jeff"), b"what do ya want for nothing?"));
    }

    #[test]
    fn requests_that_are_not_signed_well_are_refused() {
        let allowed = ["HmacSHA256".to_owned()];
        let good = Signature::sign(&key(b"k"), "HmacSHA256", b"x").expect("known");
        let other = Signature::sign(&key(b"k"), "HmacSHA512", b"x").expect("known");
        let code = |signature: Option<&Signature>, body: &[u8], key: Option<&SessionKey>| {
            Signature::check(signature, body, key, &allowed).map_err(|e| e.status_code())
        };
        let k = key(b"k");
        assert_eq!(code(Some(&good), b"x", Some(&k)), Ok(()));
        assert_eq!(code(None, b"x", Some(&k)), Err(400));
        assert_eq!(code(Some(&other), b"x", Some(&k)), Err(400));
        assert_eq!(code(Some(&good), b"y", Some(&k)), Err(403));
        assert_eq!(code(Some(&good), b"x", Some(&key(b"old"))), Err(403));
        assert_eq!(code(Some(&good), b"x", None), Err(503));
        assert!(Signature::from_headers(Some("%"), Some("HmacSHA256")).is_err());
        assert!(Signature::from_headers(Some("AA=="), Some("Rot13")).is_err());
        assert_eq!(Signature::from_headers(None, Some("HmacSHA256")).expect("no error"), None);
        assert_eq!(format!("{good:?}"), "Signature { algorithm: \"HmacSHA256\", .. }");
    }

    #[test]
    fn addresses_encode_their_segments() {
        assert_eq!(
            address("http://h:1/", &["connectors", "a b/c", "tasks"]),
            "http://h:1/connectors/a%20b%2Fc/tasks"
        );
    }
}
