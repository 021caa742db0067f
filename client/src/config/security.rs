//! `security.protocol`, `ssl.*` and `sasl.*`: kept as they were written, read once all are there.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use aqueduct_security::jaas::Jaas;
use aqueduct_security::tls::TlsOptions;
use aqueduct_security::{Secret, SecurityProtocol, scram};

use crate::error::{Error, Result};
use crate::net::Tokens;

/// Keys that are read here, and those of Java that change nothing here.
pub(super) const KEYS: &[&str] = &[
    "sasl.client.callback.handler.class",
    "sasl.jaas.config",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.header.urlencode",
    "sasl.oauthbearer.jwt.retriever.class",
    "sasl.oauthbearer.jwt.validator.class",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.scope.claim.name",
    "sasl.oauthbearer.sub.claim.name",
    "sasl.oauthbearer.token.endpoint.url",
    "security.providers",
    "ssl.cipher.suites",
    "ssl.enabled.protocols",
    "ssl.endpoint.identification.algorithm",
    "ssl.engine.factory.class",
    "ssl.key.password",
    "ssl.keymanager.algorithm",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// How connections are secured. Clones share what was read from files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    protocol: Option<SecurityProtocol>,
    values: BTreeMap<String, Secret>,
    tls: Option<Arc<Tls>>,
    sasl: Option<Arc<Sasl>>,
}

#[derive(Debug)]
struct Tls {
    options: TlsOptions,
    read: OnceLock<Result<Arc<rustls::ClientConfig>>>,
}

/// How to say who one is.
#[derive(Debug)]
pub(crate) struct Sasl {
    pub mechanism: SaslMechanism,
}

#[derive(Debug)]
pub(crate) enum SaslMechanism {
    Plain { username: String, password: Secret },
    Scram { mechanism: scram::Mechanism, username: String, password: Secret },
    Oauth(Tokens),
}

impl SaslMechanism {
    /// Its SASL name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { mechanism, .. } => mechanism.name(),
            Self::Oauth(_) => "OAUTHBEARER",
        }
    }
}

impl Security {
    /// Whether a key belongs here.
    pub fn knows(key: &str) -> bool {
        KEYS.contains(&key)
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.values.insert(key.to_owned(), Secret::new(value));
    }

    pub fn set_protocol(&mut self, text: &str) -> Result<(), String> {
        let protocol = SecurityProtocol::parse(text)
            .ok_or_else(|| "must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL".to_owned())?;
        // As it is where nothing is set, so that both are the same configuration.
        self.protocol = Some(protocol).filter(|protocol| *protocol != SecurityProtocol::Plaintext);
        Ok(())
    }

    /// Reads what the protocol needs; files are read with the first connection.
    pub fn check(&mut self) -> Result<()> {
        let Some(protocol) = self.protocol else { return Ok(()) };
        let get = |key: &str| self.values.get(key).map(|value| value.expose().to_owned());
        let tls = match protocol.is_tls() {
            true => Some(Arc::new(Tls { options: TlsOptions::read(&get)?, read: OnceLock::new() })),
            false => None,
        };
        let sasl = match protocol.is_sasl() {
            true => Some(Arc::new(Sasl { mechanism: self.mechanism()? })),
            false => None,
        };
        (self.tls, self.sasl) = (tls, sasl);
        Ok(())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(Secret::expose).filter(|value| !value.is_empty())
    }

    fn mechanism(&self) -> Result<SaslMechanism> {
        const KEY: &str = "sasl.mechanism";
        const ALLOWED: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
        let wrong = |why: String| Err(aqueduct_security::Error::setting(KEY, why).into());
        let name = match self.text(KEY) {
            Some(name) => name,
            None => return wrong(format!("must be set to {ALLOWED}: GSSAPI, the default, is not supported")),
        };
        if name == "OAUTHBEARER" {
            return Ok(SaslMechanism::Oauth(Tokens::read(self.jaas()?.as_ref(), &|key| self.text(key))?));
        }
        let Some(mechanism) = scram::Mechanism::parse(name) else {
            if name == "PLAIN" {
                let (username, password) = self.login("PlainLoginModule")?;
                return Ok(SaslMechanism::Plain { username, password });
            }
            return wrong(format!("{name} is not supported: use {ALLOWED}"));
        };
        let (username, password) = self.login("ScramLoginModule")?;
        Ok(SaslMechanism::Scram { mechanism, username, password })
    }

    fn jaas(&self) -> Result<Option<Jaas>> {
        const KEY: &str = "sasl.jaas.config";
        Ok(self.text(KEY).map(|text| Jaas::parse(KEY, text)).transpose()?)
    }

    fn login(&self, module: &str) -> Result<(String, Secret)> {
        const KEY: &str = "sasl.jaas.config";
        let wrong = |why: String| Error::from(aqueduct_security::Error::setting(KEY, why));
        let jaas = self.jaas()?.ok_or_else(|| {
            wrong(format!("must be set: ...{module} required username=\"NAME\" password=\"PASSWORD\";"))
        })?;
        if jaas.module_name() != module {
            return Err(wrong(format!("names {} where sasl.mechanism asks for {module}", jaas.module)));
        }
        let option = |name: &str| {
            jaas.option(name).cloned().ok_or_else(|| wrong(format!("has no option {name}=\"...\"")))
        };
        Ok((option("username")?.expose().to_owned(), option("password")?))
    }

    /// How to encrypt, where that is to be done. Reads files the first time.
    pub fn tls(&self) -> Result<Option<Arc<rustls::ClientConfig>>> {
        let Some(tls) = &self.tls else { return Ok(None) };
        tls.read.get_or_init(|| tls.options.client().map_err(Error::from)).clone().map(Some)
    }

    /// How to authenticate, where that is to be done.
    pub fn sasl(&self) -> Option<&Arc<Sasl>> {
        self.sasl.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use crate::ClientConfig;

    fn read(pairs: &[(&str, &str)]) -> Result<(), String> {
        let all = pairs.iter().copied().chain([("bootstrap.servers", "h:1")]);
        match ClientConfig::from_properties(all) {
            Ok((config, unknown)) => {
                assert_eq!(unknown, [""; 0]);
                assert!(!format!("{config:?}").contains("geheim"));
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn files_of_java_clients_are_read() {
        let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"u\" password=\"geheim\";";
        read(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.jaas.config", jaas),
            ("ssl.truststore.location", "/t.jks"),
            ("ssl.truststore.password", "geheim"),
        ])
        .unwrap();
        read(&[("ssl.truststore.location", "/t.jks"), ("sasl.mechanism", "GSSAPI")]).unwrap();
    }

    #[test]
    fn mistakes_say_what_to_change() {
        let plain = ("sasl.mechanism", "PLAIN");
        let sasl = ("security.protocol", "SASL_PLAINTEXT");
        for (pairs, part) in [
            (vec![sasl], "GSSAPI"),
            (vec![sasl, ("sasl.mechanism", "NTLM")], "NTLM is not supported"),
            (vec![sasl, plain], "sasl.jaas.config"),
            (vec![sasl, plain, ("sasl.jaas.config", "a.ScramLoginModule required;")], "PlainLoginModule"),
            (
                vec![sasl, plain, ("sasl.jaas.config", "a.PlainLoginModule required password=\"geheim\";")],
                "username",
            ),
            (vec![("security.protocol", "SSL"), ("ssl.truststore.type", "BKS")], "JKS, PKCS12 or PEM"),
            (vec![sasl, ("sasl.mechanism", "OAUTHBEARER")], "sasl.oauthbearer.token.endpoint.url"),
        ] {
            let error = read(&pairs).unwrap_err();
            assert!(error.contains(part) && !error.contains("geheim"), "{error}");
        }
    }
}
