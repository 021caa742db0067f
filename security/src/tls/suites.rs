//! Protocol versions and cipher suites under the names that Java uses.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{SupportedProtocolVersion, version};

use crate::Error;

/// The versions of `ssl.enabled.protocols`; none named means all that are supported.
pub(super) fn versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
    const KEY: &str = "ssl.enabled.protocols";
    let mut found = Vec::new();
    for name in names {
        match name.as_str() {
            "TLSv1.3" => found.push(&version::TLS13),
            "TLSv1.2" => found.push(&version::TLS12),
            // Broken protocols; files of old may still name them.
            "TLSv1" | "TLSv1.1" | "SSLv3" | "SSLv2Hello" => {
                tracing::warn!(
                    protocol = name,
                    "protocol is not supported and left out of ssl.enabled.protocols"
                );
            }
            _ => return Err(Error::setting(KEY, format!("{name}: must be TLSv1.2 or TLSv1.3"))),
        }
    }
    if names.is_empty() {
        return Ok(vec![&version::TLS13, &version::TLS12]);
    }
    match found.is_empty() {
        true => Err(Error::setting(KEY, "names no protocol that is supported: use TLSv1.2 or TLSv1.3")),
        false => Ok(found),
    }
}

/// The suites of `ssl.cipher.suites`; none named means all that are supported.
pub(super) fn provider(names: &[String]) -> Result<Arc<CryptoProvider>, Error> {
    const KEY: &str = "ssl.cipher.suites";
    let mut provider = ring::default_provider();
    if names.is_empty() {
        return Ok(Arc::new(provider));
    }
    let name = |suite: &rustls::SupportedCipherSuite| {
        suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_")
    };
    let all = provider.cipher_suites.clone();
    provider.cipher_suites.clear();
    for wanted in names {
        match all.iter().find(|suite| name(suite) == *wanted) {
            Some(suite) => provider.cipher_suites.push(*suite),
            None => tracing::warn!(
                suite = wanted,
                "cipher suite is not supported and left out of ssl.cipher.suites"
            ),
        }
    }
    if provider.cipher_suites.is_empty() {
        let known: Vec<String> = all.iter().map(name).collect();
        return Err(Error::setting(KEY, format!("names no suite that is supported: {}", known.join(", "))));
    }
    Ok(Arc::new(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_java() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(versions(&names(&["TLSv1.2", "TLSv1.1"])).unwrap().len(), 1);
        assert!(versions(&names(&["TLSv1.1"])).is_err());
        assert!(versions(&names(&["TLSv9"])).is_err());
        let suites = names(&[
            "TLS_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_RSA_WITH_NULL_MD5",
        ]);
        assert_eq!(provider(&suites).unwrap().cipher_suites.len(), 2);
        assert!(provider(&names(&["X"])).unwrap_err().to_string().contains("TLS_CHACHA20_POLY1305_SHA256"));
    }
}
