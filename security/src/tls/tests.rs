//! Handshakes in memory, between the configurations that settings make.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

use super::*;

struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().unwrap() };
        authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca");
        authority
    }

    fn openssl(&self, line: &str) {
        let done =
            Command::new("openssl").args(line.split(' ')).current_dir(self.dir.path()).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn issue(&self, name: &str, san: &str) {
        self.openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let extensions = if san.is_empty() { String::new() } else { format!("subjectAltName={san}\n") };
        std::fs::write(self.dir.path().join("ext"), format!("basicConstraints=CA:FALSE\n{extensions}"))
            .unwrap();
        self.openssl(&format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -out {name}.crt -extfile ext"));
        let read = |file: String| std::fs::read_to_string(self.dir.path().join(file)).unwrap();
        let both = read(format!("{name}.key")) + &read(format!("{name}.crt"));
        std::fs::write(self.dir.path().join(format!("{name}.pem")), both).unwrap();
    }

    fn options(&self, settings: &[(&str, &str)]) -> TlsOptions {
        let dir = self.dir.path().display().to_string();
        let settings: BTreeMap<&str, String> =
            settings.iter().map(|(key, value)| (*key, value.replace("DIR", &dir))).collect();
        TlsOptions::read(&|key| settings.get(key).cloned()).unwrap()
    }
}

const TRUST: [(&str, &str); 2] = [("ssl.truststore.type", "PEM"), ("ssl.truststore.location", "DIR/ca.pem")];

fn handshake(server: &TlsOptions, client: &TlsOptions, host: &str) -> Result<Option<Vec<u8>>, String> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.client().unwrap(), name).unwrap();
    let mut server = ServerConnection::new(server.server().unwrap()).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut input = &wire[..];
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut input = &wire[..];
        while !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client.process_new_packets().map_err(|error| format!("client: {error}"))?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(server.peer_certificates().map(|chain| chain[0].to_vec()))
}

fn keystore(name: &str) -> [(&'static str, String); 2] {
    [("ssl.keystore.type", "PEM".into()), ("ssl.keystore.location", format!("DIR/{name}.pem"))]
}

fn with(authority: &Authority, name: Option<&str>, more: &[(&str, &str)]) -> TlsOptions {
    let keys = name.map(keystore).into_iter().flatten().collect::<Vec<_>>();
    let keys = keys.iter().map(|(key, value)| (*key, value.as_str()));
    let all: Vec<(&str, &str)> = keys.chain(TRUST).chain(more.iter().copied()).collect();
    authority.options(&all)
}

#[test]
fn peers_are_trusted_by_chain_and_name() {
    let authority = Authority::new();
    authority.issue("broker", "DNS:broker.example,IP:127.0.0.1");
    authority.issue("old.example", "");
    authority.issue("user", "");
    let server = with(&authority, Some("broker"), &[]);
    let client = with(&authority, None, &[]);
    assert_eq!(handshake(&server, &client, "broker.example").unwrap(), None);
    handshake(&server, &client, "127.0.0.1").unwrap();
    assert!(handshake(&server, &client, "other.example").is_err());
    let anywhere = with(&authority, None, &[("ssl.endpoint.identification.algorithm", "")]);
    handshake(&server, &anywhere, "other.example").unwrap();
    let old = with(&authority, Some("old.example"), &[]);
    handshake(&old, &client, "old.example").unwrap();
    assert!(handshake(&old, &client, "broker.example").is_err());

    let mutual = with(&authority, Some("broker"), &[("ssl.client.auth", "required")]);
    let user = with(&authority, Some("user"), &[]);
    let certificate = handshake(&mutual, &user, "broker.example").unwrap().unwrap();
    assert_eq!(crate::dn::subject(&certificate).unwrap(), "CN=user");
    assert!(handshake(&mutual, &client, "broker.example").unwrap_err().contains("no certificates"));
    let asking = with(&authority, Some("broker"), &[("ssl.client.auth", "requested")]);
    assert_eq!(handshake(&asking, &client, "broker.example").unwrap(), None);
    assert!(handshake(&asking, &user, "broker.example").unwrap().is_some());

    let stranger = Authority::new();
    stranger.issue("user", "");
    let mut foreign = with(&stranger, Some("user"), &[]);
    foreign.truststore = client.truststore.clone();
    assert!(handshake(&mutual, &foreign, "broker.example").is_err());
    assert!(handshake(&server, &with(&stranger, None, &[]), "broker.example").is_err());
}

#[test]
fn a_certificate_in_the_trust_store_is_trusted_as_it_stands() {
    let authority = Authority::new();
    authority.openssl("req -x509 -newkey rsa:2048 -nodes -keyout self.key -out self.crt -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost");
    let read = |file: &str| std::fs::read_to_string(authority.dir.path().join(file)).unwrap();
    let (key, chain) = (read("self.key"), read("self.crt"));
    // As property files hold them: on one line.
    let fold = |text: &str| text.replace('\n', " ");
    let server = authority.options(&[
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.key", &fold(&key)),
        ("ssl.keystore.certificate.chain", &fold(&chain)),
    ]);
    let client =
        authority.options(&[("ssl.truststore.type", "PEM"), ("ssl.truststore.certificates", &fold(&chain))]);
    handshake(&server, &client, "localhost").unwrap();
    assert!(handshake(&server, &client, "other").is_err());
    assert!(!format!("{server:?}").contains("BEGIN"));
}

#[test]
fn versions_and_suites_are_those_of_the_settings() {
    let authority = Authority::new();
    authority.issue("broker", "DNS:b");
    let server = with(&authority, Some("broker"), &[("ssl.enabled.protocols", "TLSv1.2")]);
    handshake(&server, &with(&authority, None, &[]), "b").unwrap();
    assert!(
        handshake(&server, &with(&authority, None, &[("ssl.enabled.protocols", "TLSv1.3")]), "b").is_err()
    );
    let one = with(&authority, Some("broker"), &[("ssl.cipher.suites", "TLS_AES_128_GCM_SHA256")]);
    handshake(&one, &with(&authority, None, &[]), "b").unwrap();
    assert!(handshake(&one, &with(&authority, None, &[("ssl.enabled.protocols", "TLSv1.2")]), "b").is_err());
}

#[test]
fn mistakes_name_the_setting() {
    let read = |pairs: &[(&str, &str)]| {
        let map: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        TlsOptions::read(&|key| map.get(key).map(|value| (*value).to_owned()))
    };
    let text = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().to_string();
    assert!(text(&[("ssl.client.auth", "maybe")]).contains("none, requested or required"));
    assert!(text(&[("ssl.keystore.type", "BKS")]).contains("JKS, PKCS12 or PEM"));
    assert!(text(&[("ssl.keystore.key", "k")]).contains("certificate.chain"));
    assert!(text(&[("ssl.endpoint.identification.algorithm", "ldap")]).contains("https"));
    let missing = read(&[("ssl.keystore.location", "/no/such/file")]).unwrap().server().unwrap_err();
    assert!(missing.to_string().contains("/no/such/file"));
    let none = read(&[]).unwrap().server().unwrap_err();
    assert!(none.to_string().starts_with("ssl.keystore.location"));
    let _ = (Path::new("."), Arc::new(()));
}
