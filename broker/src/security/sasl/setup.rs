//! What a listener offers, read from its settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_security::jaas::Jaas;
use aqueduct_security::scram::Mechanism;
use aqueduct_security::{Error, Secret};
use bytestring::ByteString;

use super::super::listener::ListenerSettings;
use super::oauth::OauthValidator;

const PLAIN: &str = "PLAIN";
const OAUTHBEARER: &str = "OAUTHBEARER";

/// SASL of a listener.
#[derive(Debug)]
pub(crate) struct SaslSetup {
    /// In the order of `sasl.enabled.mechanisms`.
    pub mechanisms: Vec<ByteString>,
    /// Users and passwords of PLAIN.
    pub plain: BTreeMap<String, Secret>,
    pub oauth: Option<Arc<OauthValidator>>,
    /// Largest request before authentication, in bytes.
    pub max_receive_bytes: usize,
    /// Between a failure and the answer that tells it.
    pub failure_delay: Duration,
    /// `connections.max.reauth.ms` by mechanism, where above 0.
    reauth_ms: BTreeMap<ByteString, i64>,
}

impl SaslSetup {
    /// Reads the settings; `before` is what is offered until now, whose fetched keys are kept.
    pub fn read(settings: &ListenerSettings<'_>, before: Option<&Self>) -> Result<Self, Error> {
        const KEY: &str = "sasl.enabled.mechanisms";
        let mut setup = Self {
            mechanisms: Vec::new(),
            plain: BTreeMap::new(),
            oauth: None,
            max_receive_bytes: settings.number("sasl.server.max.receive.size").max(1) as usize,
            failure_delay: Duration::from_millis(
                settings.number("connection.failed.authentication.delay.ms").max(0) as u64,
            ),
            reauth_ms: BTreeMap::new(),
        };
        let named = settings.text(KEY);
        for name in named.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                PLAIN => setup.plain = plain_users(settings)?,
                OAUTHBEARER => {
                    let before = before.and_then(|setup| setup.oauth.as_ref());
                    setup.oauth = Some(OauthValidator::read(settings, before)?);
                }
                name if Mechanism::parse(name).is_some() => {}
                other => {
                    let why = format!(
                        "mechanism {other} is not supported: use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
                    );
                    return Err(Error::setting(KEY, why));
                }
            }
            let name = ByteString::from(name.to_owned());
            let limit = settings.find_for(&name, "connections.max.reauth.ms");
            if let Some(limit) = limit.and_then(|(_, value)| value.trim().parse().ok()).filter(|ms| *ms > 0) {
                setup.reauth_ms.insert(name.clone(), limit);
            }
            setup.mechanisms.push(name);
        }
        if setup.mechanisms.is_empty() {
            return Err(Error::setting(KEY, "must name a mechanism"));
        }
        Ok(setup)
    }

    #[cfg(test)]
    pub fn of_users(plain: BTreeMap<String, Secret>, failure_delay: Duration) -> Self {
        Self {
            mechanisms: vec![PLAIN.into()],
            plain,
            oauth: None,
            max_receive_bytes: 524_288,
            failure_delay,
            reauth_ms: BTreeMap::new(),
        }
    }

    /// How long a session may last without authenticating again; `None` where there is no such limit.
    pub fn max_reauth_ms(&self, mechanism: &str) -> Option<i64> {
        self.reauth_ms.get(mechanism).copied()
    }
}

/// The JAAS entry for a mechanism. What Java reads from a file that a JVM option names is not read.
pub(super) fn jaas(settings: &ListenerSettings<'_>, mechanism: &str) -> Result<Option<Jaas>, Error> {
    match settings.find_for(mechanism, "sasl.jaas.config") {
        Some((key, text)) => Jaas::parse(&key, text).map(Some),
        None => Ok(None),
    }
}

fn plain_users(settings: &ListenerSettings<'_>) -> Result<BTreeMap<String, Secret>, Error> {
    const KEY: &str = "plain.sasl.jaas.config";
    no_handler(settings, PLAIN)?;
    let jaas = jaas(settings, PLAIN)?.ok_or_else(|| {
        let why = "must be set where PLAIN is enabled, such as listener.name.LISTENER.plain.sasl.jaas.config=\
                   org.apache.kafka.common.security.plain.PlainLoginModule required user_NAME=\"PASSWORD\";";
        Error::setting(KEY, why)
    })?;
    if jaas.module_name() != "PlainLoginModule" {
        let why = format!("names {} where PlainLoginModule is expected", jaas.module);
        return Err(Error::setting(KEY, why));
    }
    let user =
        |(name, password): (&str, &Secret)| Some((name.strip_prefix("user_")?.to_owned(), password.clone()));
    Ok(jaas.options().filter_map(user).collect())
}

/// Handlers are Java classes; those of Kafka itself have their counterparts here.
pub(super) fn no_handler(settings: &ListenerSettings<'_>, mechanism: &str) -> Result<(), Error> {
    const KEY: &str = "sasl.server.callback.handler.class";
    match settings.find_for(mechanism, KEY) {
        Some((key, class)) if !class.trim().is_empty() && !is_known_handler(class.trim()) => {
            Err(Error::setting(key, format!("Java class {class} cannot be loaded: remove the setting")))
        }
        _ => Ok(()),
    }
}

fn is_known_handler(class: &str) -> bool {
    matches!(
        class.rsplit('.').next(),
        Some(
            "OAuthBearerValidatorCallbackHandler"
                | "OAuthBearerUnsecuredValidatorCallbackHandler"
                | "PlainServerCallbackHandler"
                | "ScramServerCallbackHandler"
        )
    )
}
