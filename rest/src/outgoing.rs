//! The HTTP client by which a worker asks another: TLS as `listeners.https.ssl.*` (or `ssl.*`) say, with the trust and the
//! host name checks of `ssl.truststore.*` and `ssl.endpoint.identification.algorithm`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aqueduct_connect_worker::{ConfigMap, WorkerConfig};
use aqueduct_security::Error;
use aqueduct_security::tls::TlsOptions;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

use crate::tls::Reloading;

/// How long another worker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As long as a request to this worker may take itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Gives the client; it follows changes of the files that the settings name. Cheap to clone.
#[derive(Clone)]
pub struct Outgoing(Arc<Clients>);

struct Clients {
    plain: Client,
    /// Without settings it is made when it is first used: hundreds of certificates that the system trusts are not to take
    /// memory and time where all speak HTTP.
    encrypted: OnceLock<Option<Reloading<Client>>>,
}

impl Outgoing {
    /// Reads the settings and their files: blocks.
    ///
    /// # Errors
    /// `ssl.*` settings and files that cannot be used.
    pub fn new(config: &WorkerConfig) -> Result<Self, Error> {
        let settings = config.rest_ssl_settings("listeners.https.");
        let encrypted = OnceLock::new();
        if !settings.is_empty() {
            let made = Reloading::read(&settings, build)?;
            encrypted.get_or_init(|| Some(made));
        }
        let plain = finish(Client::builder().tls_built_in_root_certs(false))?;
        Ok(Self(Arc::new(Clients { plain, encrypted })))
    }

    /// The client for `url` as it is now; do not keep it.
    pub fn client(&self, url: &str) -> Client {
        if !url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")) {
            return self.0.plain.clone();
        }
        let made = self.0.encrypted.get_or_init(|| {
            Reloading::read(&ConfigMap::new(), build)
                .inspect_err(|error| tracing::error!(%error, "no worker can be reached by HTTPS"))
                .ok()
        });
        made.as_ref().map_or_else(|| self.0.plain.clone(), Reloading::current)
    }
}

fn build(options: &TlsOptions) -> Result<Client, Error> {
    finish(Client::builder().use_preconfigured_tls((*options.client()?).clone()))
}

fn finish(builder: ClientBuilder) -> Result<Client, Error> {
    builder
        .redirect(Policy::none())
        .no_proxy()
        .user_agent("aqueduct-connect")
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(|error| Error::setting("listeners.https.ssl.*", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aqueduct_connect_worker::Mode;

    #[test]
    fn wrong_tls_settings_are_named() {
        let config = |more: &[(&str, &str)]| {
            let base =
                [("key.converter", "K"), ("value.converter", "V"), ("offset.storage.file.filename", "f")];
            let all = base.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            WorkerConfig::from_properties(&all, Mode::Standalone).expect("valid")
        };
        assert!(Outgoing::new(&config(&[])).is_ok());
        let wrong = config(&[("listeners.https.ssl.truststore.location", "/nowhere/trust.jks")]);
        let error = Outgoing::new(&wrong).err().expect("no such file").to_string();
        assert!(error.contains("ssl.truststore.location"), "{error}");
    }
}
