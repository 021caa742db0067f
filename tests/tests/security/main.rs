//! Listeners with TLS and SASL, with stock clients and with ours; and our client against Apache Kafka's.

mod hostile;
mod own_client;
mod stock;
mod worker;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::pki::Pki;
use aqueduct_tests::process::{accepts, free_port};
use aqueduct_tests::server::{Kind, Server};

/// A broker with a listener of each kind. `alice` may come by PLAIN, `bob` by SCRAM once he is created.
pub struct Secured {
    pub pki: Pki,
    pub server: Server,
    pub ssl: u16,
    /// Wants client certificates.
    pub mutual: u16,
    pub sasl_plaintext: u16,
    pub sasl_ssl: u16,
    /// OAUTHBEARER.
    pub oauth: u16,
}

impl Secured {
    pub fn start(kind: Kind, more: &[(&str, &str)]) -> Result<Self> {
        let pki = Pki::new()?;
        pki.token("nobody", 60)?;
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?, free_port()?];
        let [ssl, mutual, sasl_plaintext, sasl_ssl, oauth] = ports;
        let names = ["SSL", "MUTUAL", "SASL_PLAINTEXT", "SASL_SSL", "OAUTH"];
        let entries: Vec<String> =
            names.iter().zip(ports).map(|(name, port)| format!("{name}://localhost:{port}")).collect();
        let advertised = format!("PLAINTEXT://127.0.0.1:{{port}},{}", entries.join(","));
        let listeners = format!("{advertised},CONTROLLER://127.0.0.1:{{controller}}");
        let login =
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"alice-secret\";";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;";
        let validator = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler";
        let keys = format!("file://{}", pki.file("jwks.json"));
        let (broker, trust) = (pki.file("broker.p12"), pki.file("trust.jks"));
        let mut settings = vec![
            ("listeners", listeners.as_str()),
            ("advertised.listeners", &advertised),
            (
                "listener.security.protocol.map",
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,MUTUAL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,\
                 SASL_SSL:SASL_SSL,OAUTH:SASL_PLAINTEXT",
            ),
            ("inter.broker.listener.name", "PLAINTEXT"),
            ("ssl.keystore.type", "PKCS12"),
            ("ssl.keystore.location", &broker),
            ("ssl.keystore.password", "secret"),
            ("ssl.key.password", "secret"),
            ("ssl.truststore.location", &trust),
            ("ssl.truststore.password", "secret"),
            ("listener.name.mutual.ssl.client.auth", "required"),
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
            ("listener.name.oauth.sasl.enabled.mechanisms", "OAUTHBEARER"),
            ("listener.name.oauth.oauthbearer.sasl.jaas.config", bearer),
            ("listener.name.oauth.oauthbearer.sasl.server.callback.handler.class", validator),
            ("listener.name.oauth.sasl.oauthbearer.jwks.endpoint.url", &keys),
            ("listener.name.oauth.sasl.oauthbearer.expected.audience", "kafka"),
            ("listener.name.oauth.sasl.oauthbearer.expected.issuer", "https://issuer"),
        ];
        let named: Vec<(String, &str)> = ["sasl_plaintext", "sasl_ssl"]
            .iter()
            .flat_map(|listener| {
                let key = |mechanism: &str| format!("listener.name.{listener}.{mechanism}.sasl.jaas.config");
                [(key("plain"), login), (key("scram-sha-256"), scram), (key("scram-sha-512"), scram)]
            })
            .collect();
        settings.extend(named.iter().map(|(key, value)| (key.as_str(), *value)));
        settings.extend(more);
        let server = Server::start_with(kind, &settings)?;
        // The listeners open one after the other.
        let began = Instant::now();
        while !ports.iter().all(|port| accepts(*port)) {
            ensure!(began.elapsed() < Duration::from_secs(60), "not all listeners open");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { pki, server, ssl, mutual, sasl_plaintext, sasl_ssl, oauth })
    }

    /// `localhost:PORT`.
    pub fn at(&self, port: u16) -> String {
        format!("localhost:{port}")
    }

    /// Serial number of the certificate that the TLS listener shows.
    pub fn serial(&self) -> Result<String> {
        let at = self.at(self.ssl);
        let line =
            format!("openssl s_client -connect {at} </dev/null 2>/dev/null | openssl x509 -noout -serial");
        let output = Command::new("sh").args(["-c", &line]).output()?;
        ensure!(!output.stdout.is_empty(), "no certificate at {at}");
        Ok(String::from_utf8(output.stdout)?)
    }
}
