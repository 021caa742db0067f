//! Password-based encryption as key stores use it: PBES2 (RFC 8018) and the older schemes of PKCS#12 (RFC 7292).

use std::num::NonZeroU32;

use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use des::TdesEde3;
use rc2::Rc2;
use ring::digest::{self, Algorithm};
use ring::pbkdf2;

use crate::der::{self, Reader};

/// More would only keep the start of the process waiting.
const MAX_ITERATIONS: u32 = 20_000_000;

/// Decrypts an EncryptedPrivateKeyInfo.
pub(super) fn decrypt_private_key(der: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let damaged = || "it is damaged".to_owned();
    let mut info = Reader(der).enter(der::SEQUENCE).ok_or_else(damaged)?;
    let algorithm = info.enter(der::SEQUENCE).ok_or_else(damaged)?;
    let data = info.take(der::OCTET_STRING).ok_or_else(damaged)?;
    decrypt(algorithm, data.content, password)
}

/// Decrypts with the algorithm that an AlgorithmIdentifier names.
pub(super) fn decrypt(mut algorithm: Reader<'_>, data: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let oid = algorithm.take(der::OID).map(|oid| der::dotted(oid.content)).unwrap_or_default();
    let mut params = algorithm.enter(der::SEQUENCE).ok_or("the parameters of its encryption are damaged")?;
    match oid.as_str() {
        "1.2.840.113549.1.5.13" => pbes2(params, data, password),
        "1.2.840.113549.1.12.1.3"
        | "1.2.840.113549.1.12.1.4"
        | "1.2.840.113549.1.12.1.5"
        | "1.2.840.113549.1.12.1.6" => {
            let salt = params.take(der::OCTET_STRING).ok_or("it has no salt")?.content;
            let iterations = iterations(params.number())?.get();
            let derive = |id: u8, length: usize| {
                derive(&digest::SHA1_FOR_LEGACY_USE_ONLY, id, password, salt, iterations, length)
            };
            let iv = derive(2, 8);
            match oid.as_str() {
                "1.2.840.113549.1.12.1.3" => cbc::<TdesEde3>(&derive(1, 24), &iv, data),
                "1.2.840.113549.1.12.1.4" => {
                    let two = derive(1, 16);
                    cbc::<TdesEde3>(&[&two[..], &two[..8]].concat(), &iv, data)
                }
                "1.2.840.113549.1.12.1.5" => cbc::<Rc2>(&derive(1, 16), &iv, data),
                _ => cbc::<Rc2>(&derive(1, 5), &iv, data),
            }
        }
        other => Err(format!("its encryption ({other}) is not supported")),
    }
}

fn pbes2(mut params: Reader<'_>, data: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let damaged = || "the parameters of its encryption are damaged".to_owned();
    let mut kdf = params.enter(der::SEQUENCE).ok_or_else(damaged)?;
    let name = kdf.take(der::OID).map(|oid| der::dotted(oid.content)).unwrap_or_default();
    if name != "1.2.840.113549.1.5.12" {
        return Err(format!("its key derivation ({name}) is not supported"));
    }
    let mut kdf = kdf.enter(der::SEQUENCE).ok_or_else(damaged)?;
    let salt = kdf.take(der::OCTET_STRING).ok_or_else(damaged)?.content;
    let iterations = iterations(kdf.number())?;
    let _length = kdf.take(der::INTEGER);
    let prf = kdf.enter(der::SEQUENCE).and_then(|mut prf| prf.take(der::OID));
    let prf = prf.map(|oid| der::dotted(oid.content));
    let prf = match prf.as_deref() {
        None | Some("1.2.840.113549.2.7") => pbkdf2::PBKDF2_HMAC_SHA1,
        Some("1.2.840.113549.2.9") => pbkdf2::PBKDF2_HMAC_SHA256,
        Some("1.2.840.113549.2.10") => pbkdf2::PBKDF2_HMAC_SHA384,
        Some("1.2.840.113549.2.11") => pbkdf2::PBKDF2_HMAC_SHA512,
        Some(other) => return Err(format!("its hash function ({other}) is not supported")),
    };
    let mut scheme = params.enter(der::SEQUENCE).ok_or_else(damaged)?;
    let cipher = scheme.take(der::OID).map(|oid| der::dotted(oid.content)).unwrap_or_default();
    let iv = scheme.take(der::OCTET_STRING).ok_or_else(damaged)?.content;
    let derive = |length: usize| {
        let mut key = vec![0; length];
        pbkdf2::derive(prf, iterations, salt, password.as_bytes(), &mut key);
        key
    };
    match cipher.as_str() {
        "2.16.840.1.101.3.4.1.2" => cbc::<Aes128>(&derive(16), iv, data),
        "2.16.840.1.101.3.4.1.22" => cbc::<Aes192>(&derive(24), iv, data),
        "2.16.840.1.101.3.4.1.42" => cbc::<Aes256>(&derive(32), iv, data),
        "1.2.840.113549.3.7" => cbc::<TdesEde3>(&derive(24), iv, data),
        other => Err(format!("its cipher ({other}) is not supported")),
    }
}

fn iterations(count: Option<u32>) -> Result<NonZeroU32, String> {
    count
        .filter(|count| *count <= MAX_ITERATIONS)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| "its number of iterations is out of bounds".to_owned())
}

fn cbc<C>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, String>
where
    C: cbc::cipher::BlockCipherDecrypt + cbc::cipher::KeyInit,
{
    let decryptor = Decryptor::<C>::new_from_slices(key, iv)
        .map_err(|_| "the parameters of its encryption are damaged")?;
    decryptor.decrypt_padded_vec::<Pkcs7>(data).map_err(|_| "the password is wrong".to_owned())
}

/// The key derivation of PKCS#12 (RFC 7292, appendix B.2): `id` is 1 for keys, 2 for initial vectors, 3 for MACs.
pub(super) fn derive(
    algorithm: &'static Algorithm,
    id: u8,
    password: &str,
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Vec<u8> {
    let block = algorithm.block_len();
    let mut password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    password.extend([0, 0]);
    let fill = |bytes: &[u8]| -> Vec<u8> {
        let total = bytes.len().div_ceil(block) * block;
        bytes.iter().copied().cycle().take(total).collect()
    };
    let mut input = [fill(salt), fill(&password)].concat();
    let mut out = Vec::with_capacity(length + algorithm.output_len());
    while out.len() < length {
        let mut context = digest::Context::new(algorithm);
        context.update(&vec![id; block]);
        context.update(&input);
        let mut hash = context.finish();
        for _ in 1..iterations {
            hash = digest::digest(algorithm, hash.as_ref());
        }
        out.extend_from_slice(hash.as_ref());
        let addend: Vec<u8> = hash.as_ref().iter().copied().cycle().take(block).collect();
        for piece in input.chunks_mut(block) {
            add_one_more(piece, &addend);
        }
    }
    out.truncate(length);
    out
}

/// `piece += addend + 1`, as big-endian numbers.
fn add_one_more(piece: &mut [u8], addend: &[u8]) {
    let mut carry = 1u16;
    for (byte, add) in piece.iter_mut().zip(addend).rev() {
        carry += *byte as u16 + *add as u16;
        *byte = carry as u8;
        carry >>= 8;
    }
}
