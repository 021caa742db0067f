//! PEM: certificates and keys as text.

use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Contents, KeyEntry, pbe};

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

pub(super) fn read(bytes: &[u8], key_password: Option<&str>) -> Result<Contents, String> {
    let mut certificates = Vec::new();
    for found in CertificateDer::pem_slice_iter(bytes) {
        certificates.push(found.map_err(|error| format!("is not PEM: {error}"))?);
    }
    let text = String::from_utf8_lossy(bytes);
    let has_key = text.contains("PRIVATE KEY-----");
    if !has_key {
        if certificates.is_empty() {
            return Err("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".into());
        }
        return Ok(Contents { keys: Vec::new(), certificates });
    }
    let key = parse_key(&text, key_password)?;
    Ok(Contents { keys: vec![KeyEntry { key, chain: certificates }], certificates: Vec::new() })
}

/// Reads a private key, decrypting it where it is encrypted.
///
/// # Errors
/// No key, a form that is not supported, a missing or wrong password.
pub fn parse_key(text: &str, password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    if let Some(start) = text.find(ENCRYPTED) {
        let password = password.ok_or("the private key is encrypted: set ssl.key.password")?;
        let end = text.find(ENCRYPTED_END).ok_or("the private key is cut off")?;
        let der = section(&text[start..end + ENCRYPTED_END.len()])?;
        let plain = pbe::decrypt_private_key(&der, password)
            .map_err(|why| format!("the private key cannot be decrypted: {why}; check ssl.key.password"))?;
        return Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(plain)));
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        let why =
            "the private key is encrypted in OpenSSL's old form: convert it with 'openssl pkcs8 -topk8'";
        return Err(why.into());
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".into())
}

fn section(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    let _: Option<SectionKind> = None;
    let body: String =
        text.lines().filter(|line| !line.starts_with("-----")).flat_map(str::split_whitespace).collect();
    // Inline values of property files may hold the whole text on one line.
    let body = body.replace(ENCRYPTED, "").replace(ENCRYPTED_END, "");
    base64::engine::general_purpose::STANDARD.decode(body).map_err(|error| format!("is not PEM: {error}"))
}
