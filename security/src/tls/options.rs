//! The settings, read and checked.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

use super::suites;
use crate::store::{self, Contents, KeyEntry, StoreType};
use crate::{Error, Secret};

/// `ssl.client.auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Requested,
    Required,
}

/// All `ssl.*` settings of one listener or client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    pub(super) keystore: Option<Source>,
    pub(super) truststore: Option<Source>,
    pub(super) client_auth: ClientAuth,
    /// Whether a server's certificate must be for the host that was asked for.
    pub(super) verify_host: bool,
    protocols: Vec<String>,
    suites: Vec<String>,
}

/// Where keys or certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    File {
        key: &'static str,
        path: PathBuf,
        kind: StoreType,
        password: Option<Secret>,
        key_password: Option<Secret>,
    },
    InlineKey {
        chain: Secret,
        key: Secret,
        password: Option<Secret>,
    },
    InlineCertificates(Secret),
}

impl TlsOptions {
    /// Reads the settings; `get` gives the value of a key, where it is set.
    ///
    /// # Errors
    /// Values that are not allowed, and settings that exclude each other or lack each other. Files are not read yet.
    pub fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let text =
            |key: &str| get(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let list = |key: &str| -> Vec<String> {
            let value = text(key).unwrap_or_default();
            value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let client_auth = match text("ssl.client.auth").unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "none" => ClientAuth::None,
            "requested" => ClientAuth::Requested,
            "required" => ClientAuth::Required,
            other => {
                return Err(Error::setting(
                    "ssl.client.auth",
                    format!("{other}: must be none, requested or required"),
                ));
            }
        };
        let verify_host = match get("ssl.endpoint.identification.algorithm").as_deref().map(str::trim) {
            None => true,
            Some("") => false,
            Some(value) if value.eq_ignore_ascii_case("https") => true,
            Some(other) => {
                let why = format!("{other}: must be https, or empty to trust any host name");
                return Err(Error::setting("ssl.endpoint.identification.algorithm", why));
            }
        };
        Ok(Self {
            keystore: keystore(&text)?,
            truststore: truststore(&text)?,
            client_auth,
            verify_host,
            protocols: list("ssl.enabled.protocols"),
            suites: list("ssl.cipher.suites"),
        })
    }

    /// The files that the settings name.
    pub fn files(&self) -> Vec<PathBuf> {
        let path = |source: &Option<Source>| match source {
            Some(Source::File { path, .. }) => Some(path.clone()),
            _ => None,
        };
        path(&self.keystore).into_iter().chain(path(&self.truststore)).collect()
    }

    pub(super) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
        suites::versions(&self.protocols)
    }

    pub(super) fn provider(&self) -> Result<Arc<CryptoProvider>, Error> {
        suites::provider(&self.suites)
    }
}

fn keystore(text: &dyn Fn(&str) -> Option<String>) -> Result<Option<Source>, Error> {
    let kind = kind(text, "ssl.keystore.type")?;
    let secret = |key: &str| text(key).map(Secret::new);
    match (
        secret("ssl.keystore.key"),
        secret("ssl.keystore.certificate.chain"),
        text("ssl.keystore.location"),
    ) {
        (None, None, None) => Ok(None),
        (None, None, Some(path)) => Ok(Some(Source::File {
            key: "ssl.keystore.location",
            path: path.into(),
            kind,
            password: secret("ssl.keystore.password"),
            key_password: secret("ssl.key.password"),
        })),
        (Some(_), Some(_), Some(_)) | (Some(_), None, Some(_)) | (None, Some(_), Some(_)) => {
            let why = "excludes ssl.keystore.key and ssl.keystore.certificate.chain: remove one of both";
            Err(Error::setting("ssl.keystore.location", why))
        }
        (Some(key), Some(chain), None) if kind == StoreType::Pem => {
            Ok(Some(Source::InlineKey { chain, key, password: secret("ssl.key.password") }))
        }
        (Some(_), Some(_), None) => {
            Err(Error::setting("ssl.keystore.type", "must be PEM where ssl.keystore.key is set"))
        }
        (Some(_), None, None) => {
            Err(Error::setting("ssl.keystore.certificate.chain", "must be set where ssl.keystore.key is"))
        }
        (None, Some(_), None) => {
            Err(Error::setting("ssl.keystore.key", "must be set where ssl.keystore.certificate.chain is"))
        }
    }
}

fn truststore(text: &dyn Fn(&str) -> Option<String>) -> Result<Option<Source>, Error> {
    let kind = kind(text, "ssl.truststore.type")?;
    match (text("ssl.truststore.certificates"), text("ssl.truststore.location")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Error::setting(
            "ssl.truststore.location",
            "excludes ssl.truststore.certificates: remove one of both",
        )),
        (Some(_), None) if kind != StoreType::Pem => {
            Err(Error::setting("ssl.truststore.type", "must be PEM where ssl.truststore.certificates is set"))
        }
        (Some(certificates), None) => Ok(Some(Source::InlineCertificates(Secret::new(certificates)))),
        (None, Some(path)) => Ok(Some(Source::File {
            key: "ssl.truststore.location",
            path: path.into(),
            kind,
            password: text("ssl.truststore.password").map(Secret::new),
            key_password: None,
        })),
    }
}

fn kind(text: &dyn Fn(&str) -> Option<String>, key: &str) -> Result<StoreType, Error> {
    match text(key) {
        None => Ok(StoreType::Jks),
        Some(name) => StoreType::parse(&name)
            .ok_or_else(|| Error::setting(key, format!("{name}: must be JKS, PKCS12 or PEM"))),
    }
}

impl Source {
    /// The setting to name in errors.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::File { key, .. } => key,
            Self::InlineKey { .. } => "ssl.keystore.key",
            Self::InlineCertificates(_) => "ssl.truststore.certificates",
        }
    }

    pub(super) fn read(&self) -> Result<Contents, Error> {
        let failed = |why: String| Error::setting(self.key(), why);
        match self {
            Self::File { path, kind, password, key_password, .. } => {
                let expose =
                    |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
                let (password, key_password) = (expose(password), expose(key_password));
                store::load(path, *kind, password.as_deref(), key_password.as_deref()).map_err(failed)
            }
            Self::InlineKey { chain, key, password } => {
                let chain = unfold(chain.expose());
                let read = store::read(chain.as_bytes(), StoreType::Pem, None, None)
                    .map_err(|why| Error::setting("ssl.keystore.certificate.chain", why))?;
                let password = password.as_ref().map(Secret::expose);
                let key = store::parse_pem_key(&unfold(key.expose()), password).map_err(failed)?;
                Ok(Contents {
                    keys: vec![KeyEntry { key, chain: read.certificates }],
                    certificates: Vec::new(),
                })
            }
            Self::InlineCertificates(text) => {
                store::read(unfold(text.expose()).as_bytes(), StoreType::Pem, None, None).map_err(failed)
            }
        }
    }
}

/// PEM in a property may have lost its line ends: markers get lines of their own again.
fn unfold(text: &str) -> String {
    let text = text.replace("\\n", "\n");
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.as_str();
    while let Some(start) = rest.find("-----") {
        let Some(end) = rest[start + 5..].find("-----").map(|end| start + 5 + end + 5) else { break };
        out.push_str(&rest[..start]);
        out.push('\n');
        out.push_str(&rest[start..end]);
        out.push('\n');
        rest = &rest[end..];
    }
    out.push_str(rest);
    out.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}
