//! How the connections of one listener are secured: its TLS and SASL, read from the settings in force and read anew
//! when these or the files behind them change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use aqueduct_security::mapping::Rules;
use aqueduct_security::tls::TlsOptions;
use aqueduct_security::{Error, dn};
use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

use super::Principal;
use super::sasl::SaslSetup;
use crate::config::{ConfigError, Listener, Reconfigurable, Settings, broker_keys};

/// Settings as one listener sees them: its own before those of all.
pub(crate) struct ListenerSettings<'a> {
    settings: &'a Settings,
    prefix: String,
}

impl<'a> ListenerSettings<'a> {
    pub fn new(settings: &'a Settings, listener: &Listener) -> Self {
        Self { settings, prefix: listener.prefix() }
    }

    /// The value of a key, where it is set, and the name that it is set under.
    pub fn find(&self, key: &str) -> Option<(String, &'a str)> {
        let own = format!("{}{key}", self.prefix);
        let properties = &self.settings.in_force;
        match properties.get(&own) {
            Some(value) => Some((own, value)),
            None => properties.get(key).map(|value| (key.to_owned(), value)),
        }
    }

    /// The value that is set for this listener alone.
    pub fn find_own(&self, key: &str) -> Option<&'a str> {
        self.settings.in_force.get(&format!("{}{key}", self.prefix))
    }

    /// As [`Self::find`], with names that begin with a mechanism first.
    pub fn find_for(&self, mechanism: &str, key: &str) -> Option<(String, &'a str)> {
        self.find(&format!("{}.{key}", mechanism.to_ascii_lowercase())).or_else(|| self.find(key))
    }

    /// The value of a key, or its default.
    pub fn text(&self, key: &str) -> String {
        let default = broker_keys::find_known(key).and_then(|row| row.default);
        self.find(key).map(|(_, value)| value).or(default).unwrap_or_default().trim().to_owned()
    }

    /// The value of a key that the table says is a number.
    pub fn number(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap_or_default()
    }
}

/// What new connections are secured with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub tls: Option<Tls>,
    pub sasl: Option<Arc<SaslSetup>>,
}

/// TLS of a listener.
pub(crate) struct Tls {
    pub acceptor: TlsAcceptor,
    rules: Rules,
    options: TlsOptions,
    stamps: Vec<(PathBuf, Stamp)>,
}

/// What changes with the content of a file.
type Stamp = Option<(SystemTime, u64)>;

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Tls {
    fn read(settings: &ListenerSettings<'_>, is_sasl: bool) -> Result<Self, Error> {
        let value = |key: &str| match key {
            // Clients that say by SASL who they are need no certificate, unless this very listener wants one.
            "ssl.client.auth" if is_sasl => settings.find_own(key).map(str::to_owned),
            _ => settings.find(key).map(|(_, value)| value.to_owned()),
        };
        let options = TlsOptions::read(&value)?;
        let rules = Rules::parse(&settings.text("ssl.principal.mapping.rules"))?;
        // Taken before the files are read, so that a change in between is seen as one.
        let stamps = stamps(&options);
        let acceptor = TlsAcceptor::from(options.server()?);
        Ok(Self { acceptor, rules, options, stamps })
    }

    fn files_changed(&self) -> bool {
        self.stamps != stamps(&self.options)
    }

    /// Who a client certificate stands for.
    pub fn principal(&self, certificate: &[u8]) -> Result<Principal, String> {
        let name = dn::subject(certificate).ok_or("the client's certificate cannot be read")?;
        let name = self.rules.apply(&name).map_err(|error| error.to_string())?;
        Ok(Principal::user(name))
    }
}

fn stamps(options: &TlsOptions) -> Vec<(PathBuf, Stamp)> {
    let stamp = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let stamp = metadata.and_then(|found| Some((found.modified().ok()?, found.len())));
        (path, stamp)
    };
    options.files().into_iter().map(stamp).collect()
}

/// One listener's security, as it is now.
#[derive(Debug)]
pub(crate) struct ListenerSecurity {
    pub listener: Listener,
    now: ArcSwap<Setup>,
}

impl ListenerSecurity {
    /// Reads everything that the listener needs, its files included: blocks.
    ///
    /// # Errors
    /// Settings or files that cannot be used; the text names the listener.
    pub fn read(listener: Listener, settings: &Settings) -> Result<Self, ConfigError> {
        let setup = Self::setup(&listener, settings, None)?;
        Ok(Self { listener, now: ArcSwap::from_pointee(setup) })
    }

    /// What a connection that begins now is secured with.
    pub fn current(&self) -> Arc<Setup> {
        self.now.load_full()
    }

    /// Takes over changed settings and files; what cannot be used is logged, and what was there before stays. Blocks.
    pub fn refresh(&self, settings: &Settings) {
        let now = self.current();
        match Self::setup(&self.listener, settings, Some(&now)) {
            Ok(next) => {
                let same = |now: &Tls, next: &Tls| now.options == next.options && now.stamps == next.stamps;
                let tls_changed = match (&now.tls, &next.tls) {
                    (Some(now), Some(next)) => !same(now, next),
                    _ => false,
                };
                self.now.store(Arc::new(next));
                if tls_changed {
                    tracing::info!(listener = self.listener.name, "keys and certificates were read anew");
                }
            }
            Err(error) => tracing::error!(
                listener = self.listener.name,
                %error,
                "changed security settings cannot be used; those before stay in force"
            ),
        }
    }

    /// Whether a key or trust store changed on disk.
    pub fn files_changed(&self) -> bool {
        self.current().tls.as_ref().is_some_and(Tls::files_changed)
    }

    fn setup(listener: &Listener, settings: &Settings, before: Option<&Setup>) -> Result<Setup, ConfigError> {
        let view = ListenerSettings::new(settings, listener);
        let named = |error: Error| ConfigError::Conflict(format!("listener {}: {error}", listener.name));
        let tls = match listener.protocol.is_tls() {
            true => Some(Tls::read(&view, listener.protocol.is_sasl()).map_err(named)?),
            false => None,
        };
        let sasl = match listener.protocol.is_sasl() {
            true => {
                let before = before.and_then(|setup| setup.sasl.as_deref());
                Some(Arc::new(SaslSetup::read(&view, before).map_err(named)?))
            }
            false => None,
        };
        Ok(Setup { tls, sasl })
    }
}

impl Reconfigurable for ListenerSecurity {
    fn validate(&self, next: &Settings) -> Result<(), ConfigError> {
        Self::setup(&self.listener, next, Some(&self.current())).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Properties;

    fn read(pairs: &[(&str, &str)]) -> Result<ListenerSecurity, ConfigError> {
        let mut file = Properties::default();
        file.set("node.id", "1").set("listeners", "SASL_PLAINTEXT://127.0.0.1:0");
        for (key, value) in pairs {
            file.set(key, value);
        }
        let settings = Settings::read(file)?;
        ListenerSecurity::read(settings.listeners.bound[0].clone(), &settings)
    }

    #[test]
    fn a_listeners_own_settings_count_before_those_of_all() {
        let users = |name: &str| {
            format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_{name}=\"p\";")
        };
        let security = read(&[
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256"),
            ("plain.sasl.jaas.config", &users("all")),
            ("listener.name.sasl_plaintext.plain.sasl.jaas.config", &users("own")),
            ("connections.max.reauth.ms", "1000"),
            ("listener.name.sasl_plaintext.scram-sha-256.connections.max.reauth.ms", "2000"),
        ])
        .unwrap();
        let setup = security.current();
        let sasl = setup.sasl.as_ref().unwrap();
        assert_eq!(sasl.plain.keys().collect::<Vec<_>>(), ["own"]);
        assert_eq!(
            (sasl.max_reauth_ms("PLAIN"), sasl.max_reauth_ms("SCRAM-SHA-256")),
            (Some(1000), Some(2000))
        );
        assert_eq!(sasl.max_reauth_ms("OAUTHBEARER"), None);
    }

    #[test]
    fn what_cannot_be_offered_is_refused() {
        let message = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().to_string();
        assert!(message(&[]).contains("GSSAPI is not supported"));
        assert!(message(&[("sasl.enabled.mechanisms", "PLAIN")]).contains("PlainLoginModule required"));
        let oauth = ("sasl.enabled.mechanisms", "OAUTHBEARER");
        assert!(message(&[oauth]).contains("sasl.oauthbearer.jwks.endpoint.url"));
        let handler = (
            "listener.name.sasl_plaintext.oauthbearer.sasl.server.callback.handler.class",
            "com.example.Own",
        );
        assert!(message(&[oauth, handler]).contains("com.example.Own cannot be loaded"));
        let jaas = (
            "oauthbearer.sasl.jaas.config",
            "a.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"x\";",
        );
        assert!(read(&[oauth, jaas]).is_ok(), "tokens without a signature were asked for");
    }
}
