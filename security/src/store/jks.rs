//! Java's own key store format.
//!
//! ```text
//! FEEDFEED | version u32 | count u32 | entry... | SHA-1(password, "Mighty Aphrodite", all before)
//! entry: 1 key | alias | date i64 | EncryptedPrivateKeyInfo | count | certificate...
//!        2     | alias | date i64 | certificate
//! ```

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use subtle::ConstantTimeEq as _;

use super::{Contents, KeyEntry};
use crate::der::{self, Reader};

pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const DIGEST: usize = 20;
/// Sun's key protector.
const PROTECTOR: &str = "1.3.6.1.4.1.42.2.17.1.1";

pub(super) fn read(
    bytes: &[u8],
    password: Option<&str>,
    key_password: Option<&str>,
) -> Result<Contents, String> {
    let (content, seal) = bytes.split_at_checked(bytes.len().saturating_sub(DIGEST)).ok_or("is cut off")?;
    if let Some(password) = password {
        let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        digest.update(&utf16(password));
        digest.update(b"Mighty Aphrodite");
        digest.update(content);
        if !bool::from(digest.finish().as_ref().ct_eq(seal)) {
            return Err("the password of the store is wrong, or the file is damaged".into());
        }
    }
    let mut input = Input(content);
    let mut contents = Contents::default();
    let cut = || "is cut off".to_owned();
    input.number().ok_or_else(cut)?;
    let version = input.number().ok_or_else(cut)?;
    let count = input.number().ok_or_else(cut)?;
    for _ in 0..count {
        let tag = input.number().ok_or_else(cut)?;
        let alias = input.text().ok_or_else(cut)?;
        input.bytes(8).ok_or_else(cut)?;
        match tag {
            1 => {
                let sealed = input.block().ok_or_else(cut)?;
                let mut chain = Vec::new();
                for _ in 0..input.number().ok_or_else(cut)? {
                    chain.push(input.certificate(version).ok_or_else(cut)?);
                }
                let password = key_password.or(password).ok_or("has a private key: set its password")?;
                let key = unseal(sealed, password).map_err(|why| format!("entry {alias}: {why}"))?;
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
                contents.keys.push(KeyEntry { key, chain });
            }
            2 => contents.certificates.push(input.certificate(version).ok_or_else(cut)?),
            other => return Err(format!("entry {alias} is of kind {other}, which is not supported")),
        }
    }
    Ok(contents)
}

/// The protector's stream is SHA-1 over the password and what it gave before; it begins with a salt and ends with a
/// check of the plain key.
fn unseal(sealed: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let damaged = || "private key is damaged".to_owned();
    let mut info = Reader(sealed).enter(der::SEQUENCE).ok_or_else(damaged)?;
    let mut algorithm = info.enter(der::SEQUENCE).ok_or_else(damaged)?;
    let oid = algorithm.take(der::OID).ok_or_else(damaged)?;
    if der::dotted(oid.content) != PROTECTOR {
        return Err("private key is protected in a way that is not supported".into());
    }
    let data = info.take(der::OCTET_STRING).ok_or_else(damaged)?.content;
    if data.len() < 2 * DIGEST {
        return Err(damaged());
    }
    let (salt, rest) = data.split_at(DIGEST);
    let (cipher, check) = rest.split_at(rest.len() - DIGEST);
    let password = utf16(password);
    let digest = |input: &[u8]| {
        let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        digest.update(&password);
        digest.update(input);
        digest.finish()
    };
    let mut plain = Vec::with_capacity(cipher.len());
    let mut last = salt.to_vec();
    for piece in cipher.chunks(DIGEST) {
        last = digest(&last).as_ref().to_vec();
        plain.extend(piece.iter().zip(&last).map(|(a, b)| a ^ b));
    }
    match bool::from(digest(&plain).as_ref().ct_eq(check)) {
        true => Ok(plain),
        false => Err("the password of the private key is wrong: check ssl.key.password".into()),
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(length as usize)
    }

    fn text(&mut self) -> Option<String> {
        let length = u16::from_be_bytes(self.bytes(2)?.try_into().ok()?);
        Some(String::from_utf8_lossy(self.bytes(length as usize)?).into_owned())
    }

    fn certificate(&mut self, version: u32) -> Option<CertificateDer<'static>> {
        if version >= 2 {
            self.text()?;
        }
        Some(CertificateDer::from(self.block()?.to_vec()))
    }
}
