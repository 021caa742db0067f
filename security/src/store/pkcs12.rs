//! PKCS#12 stores (RFC 7292), as keytool and OpenSSL write them.

use ring::{digest, hmac};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::pbe;
use super::{Contents, KeyEntry};
use crate::der::{self, CONTEXT_0, Element, OCTET_STRING, OID, Reader, SEQUENCE, SET};

const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const LOCAL_KEY_ID: &str = "1.2.840.113549.1.9.21";
/// Stores hold no more bags than this within one another.
const MAX_DEPTH: usize = 4;

/// What was found, with the ids that bind keys to their certificates.
#[derive(Default)]
struct Found<'a> {
    keys: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    certificates: Vec<(CertificateDer<'static>, Option<Vec<u8>>)>,
    password: &'a str,
    key_password: &'a str,
}

pub(super) fn read(
    bytes: &[u8],
    password: Option<&str>,
    key_password: Option<&str>,
) -> Result<Contents, String> {
    let damaged = || "is not a PKCS#12 store that can be read".to_owned();
    let mut pfx = Reader(bytes).enter(SEQUENCE).ok_or_else(damaged)?;
    pfx.number().ok_or_else(damaged)?;
    let (kind, content) = content_info(&mut pfx).ok_or_else(damaged)?;
    if kind != DATA {
        return Err("is signed with a certificate, which is not supported".into());
    }
    let safe = Reader(content).take(OCTET_STRING).ok_or_else(damaged)?.content;
    let password = password.unwrap_or_default();
    if let Some(mac) = pfx.enter(SEQUENCE) {
        check_mac(mac, safe, password)?;
    }
    let mut found = Found { password, key_password: key_password.unwrap_or(password), ..Found::default() };
    let mut infos = Reader(safe).enter(SEQUENCE).ok_or_else(damaged)?;
    while !infos.is_empty() {
        let (kind, content) = content_info(&mut infos).ok_or_else(damaged)?;
        match kind.as_str() {
            DATA => {
                let bags = Reader(content).take(OCTET_STRING).ok_or_else(damaged)?;
                found.bags(bags.content, 0)?;
            }
            ENCRYPTED_DATA => {
                let bags = encrypted(content).ok_or_else(damaged)?;
                let plain = pbe::decrypt(bags.0, bags.1, password)
                    .map_err(|why| format!("cannot be decrypted: {why}"))?;
                found.bags(&plain, 0)?;
            }
            other => return Err(format!("holds content ({other}) that is not supported")),
        }
    }
    Ok(found.join())
}

fn content_info<'a>(reader: &mut Reader<'a>) -> Option<(String, &'a [u8])> {
    let mut info = reader.enter(SEQUENCE)?;
    let kind = der::dotted(info.take(OID)?.content);
    Some((kind, info.take(CONTEXT_0)?.content))
}

/// Algorithm and data of an EncryptedData.
fn encrypted(content: &[u8]) -> Option<(Reader<'_>, &[u8])> {
    let mut data = Reader(content).enter(SEQUENCE)?;
    data.number()?;
    let mut info = data.enter(SEQUENCE)?;
    info.take(OID)?;
    let algorithm = info.enter(SEQUENCE)?;
    // Implicitly tagged, so that the bytes follow at once.
    Some((algorithm, info.take(0x80)?.content))
}

fn check_mac(mut mac: Reader<'_>, content: &[u8], password: &str) -> Result<(), String> {
    let damaged = || "the check sum of the store is damaged".to_owned();
    let mut info = mac.enter(SEQUENCE).ok_or_else(damaged)?;
    let algorithm = info.enter(SEQUENCE).and_then(|mut id| id.take(OID)).ok_or_else(damaged)?;
    let expected = info.take(OCTET_STRING).ok_or_else(damaged)?.content;
    let salt = mac.take(OCTET_STRING).ok_or_else(damaged)?.content;
    let iterations = if mac.is_empty() { 1 } else { mac.number().ok_or_else(damaged)? };
    let (hash, tag) = match der::dotted(algorithm.content).as_str() {
        "1.3.14.3.2.26" => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        "2.16.840.1.101.3.4.2.1" => (&digest::SHA256, hmac::HMAC_SHA256),
        "2.16.840.1.101.3.4.2.2" => (&digest::SHA384, hmac::HMAC_SHA384),
        "2.16.840.1.101.3.4.2.3" => (&digest::SHA512, hmac::HMAC_SHA512),
        // A newer form; a wrong password shows when the content is decrypted.
        _ => return Ok(()),
    };
    let key = pbe::derive(hash, 3, password, salt, iterations, hash.output_len());
    hmac::verify(&hmac::Key::new(tag, &key), content, expected)
        .map_err(|_| "the password of the store is wrong, or the file is damaged".to_owned())
}

impl Found<'_> {
    fn bags(&mut self, bytes: &[u8], depth: usize) -> Result<(), String> {
        let damaged = || "holds an entry that is damaged".to_owned();
        let mut bags = Reader(bytes).enter(SEQUENCE).ok_or_else(damaged)?;
        while !bags.is_empty() {
            let mut bag = bags.enter(SEQUENCE).ok_or_else(damaged)?;
            let kind = der::dotted(bag.take(OID).ok_or_else(damaged)?.content);
            let value = bag.take(CONTEXT_0).ok_or_else(damaged)?;
            let id = local_key_id(bag.enter(SET));
            match kind.as_str() {
                "1.2.840.113549.1.12.10.1.1" => self.keys.push((value.content.to_vec(), id)),
                "1.2.840.113549.1.12.10.1.2" => {
                    let key = pbe::decrypt_private_key(value.content, self.key_password)
                        .or_else(|_| pbe::decrypt_private_key(value.content, self.password))
                        .map_err(|why| format!("private key: {why}: check ssl.key.password"))?;
                    self.keys.push((key, id));
                }
                "1.2.840.113549.1.12.10.1.3" => {
                    if let Some(certificate) = certificate(value) {
                        self.certificates.push((certificate, id));
                    }
                }
                "1.2.840.113549.1.12.10.1.6" if depth < MAX_DEPTH => self.bags(value.content, depth + 1)?,
                // Secret keys, revocation lists: nothing for TLS.
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives each key its certificate, and those that signed it, as far as they are here.
    fn join(self) -> Contents {
        let mut contents = Contents::default();
        let mut taken = vec![false; self.certificates.len()];
        for (key, id) in self.keys {
            let own = match &id {
                Some(_) => self.certificates.iter().position(|(_, other)| *other == id),
                None => None,
            };
            let mut next = own.or(if self.certificates.is_empty() { None } else { Some(0) });
            let mut chain: Vec<CertificateDer<'static>> = Vec::new();
            while let Some(at) = next {
                taken[at] = true;
                let certificate = self.certificates[at].0.clone();
                let issuer = names(&certificate).map(|(issuer, _)| issuer.to_vec());
                next = self.certificates.iter().position(|(other, _)| {
                    *other != certificate
                        && !chain.contains(other)
                        && names(other).map(|(_, subject)| subject) == issuer.as_deref()
                });
                chain.push(certificate);
            }
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
            contents.keys.push(KeyEntry { key, chain });
        }
        let alone = self.certificates.into_iter().zip(taken).filter(|(_, taken)| !taken);
        contents.certificates = alone.map(|((certificate, _), _)| certificate).collect();
        contents
    }
}

/// Issuer and subject of a certificate.
fn names(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
    let _ = reader.take(CONTEXT_0);
    reader.next()?;
    reader.next()?;
    let issuer = reader.take(SEQUENCE)?.whole;
    reader.next()?;
    Some((issuer, reader.take(SEQUENCE)?.whole))
}

fn certificate(bag: Element<'_>) -> Option<CertificateDer<'static>> {
    let mut pair = Reader(bag.content).enter(SEQUENCE)?;
    let kind = der::dotted(pair.take(OID)?.content);
    let bytes = pair.enter(CONTEXT_0)?.take(OCTET_STRING)?.content;
    (kind == "1.2.840.113549.1.9.22.1").then(|| CertificateDer::from(bytes.to_vec()))
}

fn local_key_id(attributes: Option<Reader<'_>>) -> Option<Vec<u8>> {
    let mut attributes = attributes?;
    while let Some(mut attribute) = attributes.enter(SEQUENCE) {
        let kind = der::dotted(attribute.take(OID)?.content);
        if kind == LOCAL_KEY_ID {
            return Some(attribute.enter(SET)?.take(OCTET_STRING)?.content.to_vec());
        }
    }
    None
}
