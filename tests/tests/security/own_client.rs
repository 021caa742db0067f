//! Our client on secured listeners, of our broker and of Apache Kafka's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_client::{Admin, Client, ClientConfig, NewTopic, Producer, ProducerRecord};
use aqueduct_tests::kafka::tool;
use aqueduct_tests::server::Kind;

use crate::Secured;

/// Sessions are so short that a test sees several.
const SHORT: &[(&str, &str)] = &[
    ("listener.name.sasl_ssl.scram-sha-512.connections.max.reauth.ms", "2500"),
    ("listener.name.sasl_plaintext.plain.connections.max.reauth.ms", "2500"),
];

fn client(secured: &Secured, port: u16, settings: &[(&str, &str)]) -> Result<Client> {
    let (at, trust) = (secured.at(port), secured.pki.file("trust.jks"));
    let all: BTreeMap<&str, &str> = [
        ("bootstrap.servers", &*at),
        ("ssl.truststore.location", &trust),
        ("ssl.truststore.password", "secret"),
        ("default.api.timeout.ms", "60000"),
    ]
    .into_iter()
    .chain(settings.iter().copied())
    .collect();
    let (config, unknown) = ClientConfig::from_properties(all)?;
    ensure!(unknown.is_empty(), "{unknown:?}");
    Ok(Client::new(config))
}

fn login(mechanism: &str, module: &str, user: &str, password: &str) -> [(&'static str, String); 2] {
    let jaas = format!(
        "org.apache.kafka.common.security.{module} required username=\"{user}\" password=\"{password}\";"
    );
    [("sasl.mechanism", mechanism.to_owned()), ("sasl.jaas.config", jaas)]
}

async fn error(secured: &Secured, port: u16, settings: &[(&str, &str)]) -> Result<String> {
    let began = Instant::now();
    let told = client(secured, port, settings)?.all_metadata().await.expect_err("refused").to_string();
    assert!(began.elapsed() < Duration::from_secs(30), "what cannot succeed is not tried for long: {told}");
    Ok(told)
}

#[tokio::test]
async fn our_client_on_our_broker() -> Result<()> {
    on(Kind::Aqueduct).await
}

#[tokio::test]
async fn our_client_on_apache_kafka() -> Result<()> {
    on(Kind::ApacheKafka).await
}

async fn on(kind: Kind) -> Result<()> {
    // Java reads key sets and tokens from files only where a property of its machine allows it.
    let secured = Secured::start(kind, SHORT)?;
    let add = [
        "--alter",
        "--add-config",
        "SCRAM-SHA-512=[password=bob-secret]",
        "--entity-type",
        "users",
        "--entity-name",
        "bob",
    ];
    tool(
        "kafka.admin.ConfigCommand",
        &[&["--bootstrap-server", &secured.server.bootstrap()], &add[..]].concat(),
    )?;
    encrypted(&secured).await?;
    refused(&secured).await?;
    renewed(&secured).await?;
    tokens(&secured).await
}

async fn encrypted(secured: &Secured) -> Result<()> {
    let ssl = ("security.protocol", "SSL");
    let metadata = client(secured, secured.ssl, &[ssl])?.all_metadata().await?;
    assert_eq!(
        metadata.brokers.values().next().map(|broker| broker.address()),
        Some(secured.at(secured.ssl))
    );
    for (kind, name) in [("PKCS12", "user.p12"), ("PEM", "user.pem")] {
        let both = std::fs::read_to_string(secured.pki.path("user.key"))?
            + &std::fs::read_to_string(secured.pki.path("user.crt"))?;
        std::fs::write(secured.pki.path("user.pem"), both)?;
        let mut settings = vec![ssl, ("ssl.keystore.type", kind)];
        let location = secured.pki.file(name);
        settings.push(("ssl.keystore.location", &location));
        if kind == "PKCS12" {
            settings.push(("ssl.keystore.password", "secret"));
        }
        client(secured, secured.mutual, &settings)?.all_metadata().await?;
    }
    Ok(())
}

async fn refused(secured: &Secured) -> Result<()> {
    let ssl = ("security.protocol", "SSL");
    let told = error(secured, secured.mutual, &[ssl]).await?;
    assert!(told.contains("ssl.keystore.location"), "{told}");
    let other = crate::Pki::new()?;
    let foreign = other.file("trust.jks");
    let told = error(secured, secured.ssl, &[ssl, ("ssl.truststore.location", &foreign)]).await?;
    assert!(told.contains("TLS handshake failed") && told.contains("ssl.truststore.location"), "{told}");
    let sasl = ("security.protocol", "SASL_PLAINTEXT");
    let [mechanism, jaas] = login("PLAIN", "plain.PlainLoginModule", "alice", "guess");
    let wrong = [sasl, (mechanism.0, &mechanism.1), (jaas.0, &jaas.1)];
    let told = error(secured, secured.sasl_plaintext, &wrong).await?;
    assert!(told.contains("by PLAIN failed: Authentication failed: Invalid username or password"), "{told}");
    assert!(!told.contains("guess"), "{told}");
    let told = error(secured, secured.oauth, &wrong).await?;
    assert!(told.contains("OAUTHBEARER"), "{told}");
    let told = error(secured, secured.server.port(), &wrong).await?;
    assert!(told.contains("security.protocol"), "{told}");
    Ok(())
}

/// Records go through while sessions end and are renewed, and not one is lost or doubled.
async fn renewed(secured: &Secured) -> Result<()> {
    let topic = "renewed";
    for (port, protocol, login) in [
        (secured.sasl_ssl, "SASL_SSL", login("SCRAM-SHA-512", "scram.ScramLoginModule", "bob", "bob-secret")),
        (
            secured.sasl_plaintext,
            "SASL_PLAINTEXT",
            login("PLAIN", "plain.PlainLoginModule", "alice", "alice-secret"),
        ),
    ] {
        let settings = login.each_ref().map(|(key, value)| (*key, value.as_str()));
        let settings = [&settings[..], &[("security.protocol", protocol)]].concat();
        let client = client(secured, port, &settings)?;
        Admin::new(client.clone()).ensure_topic(&NewTopic::new(topic, 1, 1)).await?;
        let producer = Producer::new(client.clone());
        let (began, mut sent) = (Instant::now(), 0);
        let first = producer.send_all(vec![record(topic)]).await?.all().await?[0].offset.0;
        while began.elapsed() < Duration::from_secs(6) {
            let placed = producer.send_all(vec![record(topic), record(topic)]).await?.all().await?;
            sent += 2;
            assert_eq!(placed[1].offset.0, first + sent);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        producer.close().await;
    }
    Ok(())
}

fn record(topic: &str) -> ProducerRecord {
    ProducerRecord::keyed(topic, "k", Some("v".into()))
}

async fn tokens(secured: &Secured) -> Result<()> {
    let protocol = ("security.protocol", "SASL_PLAINTEXT");
    let mechanism = ("sasl.mechanism", "OAUTHBEARER");
    let file = format!("file://{}", secured.pki.file("token"));
    let settings = [protocol, mechanism, ("sasl.oauthbearer.token.endpoint.url", &*file)];
    std::fs::write(secured.pki.path("token"), secured.pki.token("service", 60)?)?;
    client(secured, secured.oauth, &settings)?.all_metadata().await?;
    for bad in
        [secured.pki.token("service", -600)?, secured.pki.token("service", 60)? + "x", "none".to_owned()]
    {
        std::fs::write(secured.pki.path("token"), bad)?;
        let told = error(secured, secured.oauth, &settings).await?;
        assert!(told.contains("refuses the token") && told.contains("invalid_token"), "{told}");
    }
    Ok(())
}
