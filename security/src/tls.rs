//! `ssl.*` settings, and the rustls configurations that they make.

mod options;
mod suites;
mod verify;

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use options::{ClientAuth, TlsOptions};

use crate::Error;
use crate::store::KeyEntry;

impl TlsOptions {
    /// What a listener needs. Reads the stores.
    ///
    /// # Errors
    /// Stores that cannot be read, no private key, protocols or cipher suites of which none is supported.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = self.provider()?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions()?)
            .map_err(|error| Error::setting("ssl.cipher.suites", error.to_string()))?;
        let builder = match self.client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            auth => {
                let trusted = self.trusted()?.ok_or_else(|| {
                    let why = "must name the certificates to trust where ssl.client.auth is not none";
                    Error::setting("ssl.truststore.location", why)
                })?;
                let roots = Arc::new(roots(&trusted));
                let inner = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| Error::setting("ssl.truststore.location", error.to_string()))?;
                let required = auth == ClientAuth::Required;
                builder.with_client_cert_verifier(Arc::new(verify::ClientCertificates {
                    inner,
                    trusted,
                    required,
                }))
            }
        };
        let mut keys = Vec::new();
        for entry in self.keys()? {
            keys.push(Arc::new(certified(entry, &provider)?));
        }
        if keys.is_empty() {
            let why = "a listener that speaks TLS needs a private key: set ssl.keystore.location, or \
                       ssl.keystore.type=PEM with ssl.keystore.certificate.chain and ssl.keystore.key";
            return Err(Error::setting("ssl.keystore.location", why));
        }
        let mut config = builder.with_cert_resolver(Arc::new(Keys(keys)));
        // A ticket would outlive a change of the trusted certificates.
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// What a client needs. Reads the stores.
    ///
    /// # Errors
    /// Stores that cannot be read, protocols or cipher suites of which none is supported.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = self.provider()?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions()?)
            .map_err(|error| Error::setting("ssl.cipher.suites", error.to_string()))?;
        let verifier = verify::ServerCertificates::new(self.trusted()?, self.verify_host, provider.clone())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let config = match self.keys()?.into_iter().next() {
            None => builder.with_no_client_auth(),
            Some(entry) => {
                let key = certified(entry, &provider)?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        Ok(Arc::new(config))
    }

    fn keys(&self) -> Result<Vec<KeyEntry>, Error> {
        match &self.keystore {
            Some(source) => Ok(source.read()?.keys),
            None => Ok(Vec::new()),
        }
    }

    /// `None` where no trust store is set.
    fn trusted(&self) -> Result<Option<Vec<CertificateDer<'static>>>, Error> {
        let Some(source) = &self.truststore else { return Ok(None) };
        let contents = source.read()?;
        let mut trusted = contents.certificates;
        // As Java does, the certificates of a store's own keys count too.
        trusted.extend(contents.keys.into_iter().filter_map(|entry| entry.chain.into_iter().next()));
        match trusted.is_empty() {
            true => Err(Error::setting(source.key(), "holds no certificate to trust")),
            false => Ok(Some(trusted)),
        }
    }
}

/// Certificates that cannot be trust anchors are left out: they may still be trusted as they stand.
fn roots(trusted: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    roots
}

fn certified(entry: KeyEntry, provider: &rustls::crypto::CryptoProvider) -> Result<CertifiedKey, Error> {
    const KEY: &str = "ssl.keystore";
    if entry.chain.is_empty() {
        return Err(Error::setting(KEY, "the private key has no certificate beside it"));
    }
    let key = provider.key_provider.load_private_key(entry.key).map_err(|error| {
        let why = format!("the private key is of a kind that is not supported ({error}): use RSA of 2048 bits or more, P-256, P-384 or Ed25519");
        Error::setting(KEY, why)
    })?;
    let certified = CertifiedKey::new(entry.chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(Error::setting(KEY, "the private key does not belong to the certificate"))
        }
        _ => Ok(certified),
    }
}

/// A listener's keys: the first one that the client can check.
#[derive(Debug)]
struct Keys(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }
}

#[cfg(test)]
mod tests;
