//! Certificates and private keys out of the stores that Java uses: PEM, JKS and PKCS#12.

mod jks;
mod pbe;
mod pem;
mod pkcs12;

use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use pem::parse_key as parse_pem_key;

/// What a store holds.
#[derive(Default)]
pub struct Contents {
    pub keys: Vec<KeyEntry>,
    /// Certificates that stand alone: those to trust.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// A private key and its certificates, its own first.
pub struct KeyEntry {
    pub key: PrivateKeyDer<'static>,
    pub chain: Vec<CertificateDer<'static>>,
}

impl Clone for KeyEntry {
    fn clone(&self) -> Self {
        Self { key: self.key.clone_key(), chain: self.chain.clone() }
    }
}

impl std::fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyEntry").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { keys, certificates } = self;
        f.debug_struct("Contents")
            .field("keys", &keys.len())
            .field("certificates", &certificates.len())
            .finish()
    }
}

/// The form of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreType {
    Jks,
    Pkcs12,
    Pem,
}

impl StoreType {
    /// Reads the value of `ssl.keystore.type`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.trim().to_ascii_uppercase().as_str() {
            "JKS" => Self::Jks,
            "PKCS12" => Self::Pkcs12,
            "PEM" => Self::Pem,
            _ => return None,
        })
    }
}

/// Reads the store in `bytes`. As Java does, a store that is said to be JKS or PKCS12 may be either.
///
/// # Errors
/// What is wrong with it: a text that names the file, never a password.
pub fn read(
    bytes: &[u8],
    kind: StoreType,
    password: Option<&str>,
    key_password: Option<&str>,
) -> Result<Contents, String> {
    match kind {
        StoreType::Pem => pem::read(bytes, key_password),
        _ if bytes.starts_with(&jks::MAGIC) => jks::read(bytes, password, key_password),
        _ if bytes.first() == Some(&0x30) => pkcs12::read(bytes, password, key_password),
        _ if bytes.starts_with(b"-----BEGIN") => {
            Err("holds PEM: set the type (ssl.keystore.type, ssl.truststore.type) to PEM".into())
        }
        _ => Err("is neither a JKS nor a PKCS#12 store".into()),
    }
}

/// As [`read`], from a file.
pub fn load(
    path: &Path,
    kind: StoreType,
    password: Option<&str>,
    key_password: Option<&str>,
) -> Result<Contents, String> {
    let bytes =
        std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    read(&bytes, kind, password, key_password).map_err(|why| format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests;
