//! Connections that mean no good, and keys that change under load.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use aqueduct_client::{Client, ClientConfig, Producer, ProducerRecord};
use aqueduct_tests::server::Kind;

use crate::Secured;

/// What a listener answers to raw bytes, until it closes.
fn answer(port: u16, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    socket.write_all(bytes)?;
    let mut out = Vec::new();
    // A reset is a close as well; a time limit is not.
    match socket.read_to_end(&mut out) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            anyhow::bail!("is not closed: {out:?}")
        }
        _ => Ok(out),
    }
}

fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut inner = Vec::new();
    inner.extend(key.to_be_bytes());
    inner.extend(version.to_be_bytes());
    inner.extend(7i32.to_be_bytes());
    inner.extend((-1i16).to_be_bytes());
    inner.extend(body);
    [&(inner.len() as i32).to_be_bytes()[..], &inner].concat()
}

fn handshake(mechanism: &str) -> Vec<u8> {
    frame(17, 1, &[&(mechanism.len() as i16).to_be_bytes()[..], mechanism.as_bytes()].concat())
}

fn authenticate(token: &[u8]) -> Vec<u8> {
    frame(36, 0, &[&(token.len() as i32).to_be_bytes()[..], token].concat())
}

/// What anybody may send before authentication is answered alike by ours and by Apache Kafka's.
#[test]
fn unauthenticated_peers_get_what_kafka_gives_them() -> Result<()> {
    let metadata = frame(3, 1, &[0, 0, 0, 0]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a request before authentication", metadata),
        ("an unknown mechanism", handshake("NTLM")),
        ("a wrong password", [handshake("PLAIN"), authenticate(b"\0alice\0guess")].concat()),
        ("an unknown user", [handshake("SCRAM-SHA-256"), authenticate(b"n,,n=nobody,r=abc")].concat()),
        ("a malformed message", [handshake("PLAIN"), authenticate(b"garbage")].concat()),
        ("a frame that is too large", [&(600_000i32).to_be_bytes()[..], &[0; 64]].concat()),
        ("a negative size", (-1i32).to_be_bytes().to_vec()),
        ("an unknown version of the handshake", frame(17, 9, &[0, 0])),
    ];
    let ours = Secured::start(Kind::Aqueduct, &[])?;
    let theirs = Secured::start(Kind::ApacheKafka, &[])?;
    let mut differing = Vec::new();
    for (what, bytes) in cases {
        let (own, reference) = (answer(ours.sasl_plaintext, &bytes)?, answer(theirs.sasl_plaintext, &bytes)?);
        if text(&own) != text(&reference) {
            differing.push(format!("{what}: {} instead of {}", text(&own), text(&reference)));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    Ok(())
}

/// The mechanisms that are enabled come in no order.
fn text(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    text.replace("SCRAM-SHA-512\\x00\\rSCRAM-SHA-256", "SCRAM-SHA-256\\x00\\rSCRAM-SHA-512")
}

#[test]
fn half_open_and_garbled_handshakes_hold_up_nobody() -> Result<()> {
    let secured = Secured::start(Kind::Aqueduct, &[("max.connections.per.ip", "400")])?;
    let mut half_open = Vec::new();
    for port in [secured.ssl, secured.sasl_ssl, secured.sasl_plaintext] {
        for begun in [&b""[..], b"\x16\x03\x01", b"\0\0\x10\0"] {
            for _ in 0..20 {
                let mut socket = TcpStream::connect(("127.0.0.1", port))?;
                socket.write_all(begun)?;
                half_open.push(socket);
            }
        }
    }
    for port in [secured.ssl, secured.mutual, secured.sasl_ssl] {
        assert!(answer(port, b"GET / HTTP/1.1\r\n\r\n")?.len() < 100);
        // Kafka's protocol in the clear, where TLS is spoken.
        assert!(answer(port, &handshake("PLAIN"))?.len() < 100);
    }
    let began = Instant::now();
    tokio::runtime::Runtime::new()?.block_on(async {
        client(&secured)?.all_metadata().await?;
        anyhow::Ok(())
    })?;
    // Half a handshake may take 30 s.
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(half_open);
    Ok(())
}

fn client(secured: &Secured) -> Result<Client> {
    let trust = secured.pki.file("trust.jks");
    let (config, _) = ClientConfig::from_properties([
        ("bootstrap.servers", secured.at(secured.ssl).as_str()),
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", &trust),
        ("ssl.truststore.password", "secret"),
        ("default.api.timeout.ms", "8000"),
        ("metadata.max.age.ms", "600000"),
    ])?;
    Ok(Client::new(config))
}

/// A renewed key store is used by new connections; those that are there go on as if nothing were.
#[tokio::test]
async fn a_renewed_certificate_is_taken_without_a_dropped_connection() -> Result<()> {
    let mut secured = Secured::start(Kind::Aqueduct, &[])?;
    let busy = client(&secured)?;
    let producer = Producer::new(busy.clone());
    let send = async |count: i64| -> Result<()> {
        for _ in 0..count {
            let record = ProducerRecord::keyed("reload", "k", Some("v".into()));
            producer.send_all(vec![record]).await?.all().await?;
        }
        Ok(())
    };
    send(20).await?;
    let before = secured.serial()?;
    secured.pki.issue("broker", "/CN=broker", 1)?;
    let began = Instant::now();
    while secured.serial()? == before {
        send(5).await?;
        assert!(began.elapsed() < Duration::from_secs(60), "the new certificate is not taken");
    }
    client(&secured)?.all_metadata().await?;
    send(20).await?;
    // A store that cannot be read changes nothing.
    std::fs::write(secured.pki.path("broker.p12"), b"garbage")?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client(&secured)?.all_metadata().await?;
    // One whose time is over is said to be so.
    secured.pki.issue("broker", "/CN=broker", -1)?;
    let began = Instant::now();
    let told = loop {
        if let Err(error) = client(&secured)?.all_metadata().await {
            break error.to_string();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the expired certificate is not taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(told.contains("has expired"), "{told}");
    send(20).await?;
    producer.close().await;
    let log = secured.server.log_tail();
    assert!(!log.contains("secret"), "{log}");
    Ok(())
}
