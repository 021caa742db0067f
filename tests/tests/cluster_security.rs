//! Three nodes that speak TLS and SASL among themselves: PLAIN to controllers, SCRAM to brokers. Certificates, their
//! authority and the passwords of the nodes are replaced one node after another, while a producer writes and a group
//! reads: nobody notices.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::binary;
use aqueduct_tests::cluster::Cluster;
use aqueduct_tests::kafka::text_of;
use aqueduct_tests::pki::Pki;
use aqueduct_tests::rolling::Load;

const LISTENERS: [&str; 2] = ["plaintext", "controller"];
/// What a node has of the old authority, of both, and of the new one.
const OLD: &[&str] = &["ca"];
const BOTH: &[&str] = &["ca", "ca2"];
const NEW: &[&str] = &["ca2"];

/// Who the nodes are to each other.
fn login(user: &str, password: &str) -> String {
    format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{user}\" password=\"{password}\" \
         user_first=\"first-secret\" user_admin=\"admin-secret\""
    )
}

/// Who the nodes are to brokers.
fn scram_login(user: &str, password: &str) -> String {
    format!(
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{user}\" password=\"{password}\""
    )
}

/// `aqueduct configs alter`, as an administrator.
fn alter(cluster: &Cluster, pki: &Pki, args: &[&str]) -> Result<()> {
    let mut command = std::process::Command::new(binary()?);
    command.args(["configs", "alter", "--bootstrap-server", &cluster.bootstrap()]);
    command.args(["--command-config", &pki.file("client.properties")]).args(args);
    text_of("aqueduct configs", &command.output()?).map(drop)
}

/// Gives a user a password for a mechanism of SCRAM.
fn set_password(cluster: &Cluster, pki: &Pki, user: &str, mechanism: &str, password: &str) -> Result<()> {
    fs::write(pki.path("password"), password)?;
    let file = pki.file("password");
    alter(cluster, pki, &["--user", user, "--scram", mechanism, "--password-file", &file])
}

/// Writes the authorities that somebody trusts, at once as whoever replaces them should.
fn trust(pki: &Pki, name: &str, authorities: &[&str]) -> Result<()> {
    let read = |name: &&str| fs::read_to_string(pki.path(&format!("{name}.pem")));
    let text: String = authorities.iter().map(read).collect::<std::io::Result<_>>()?;
    fs::write(pki.path("trust.new"), text)?;
    Ok(fs::rename(pki.path("trust.new"), pki.path(&format!("{name}.trust")))?)
}

/// Has a node read a store again, as administrators of Kafka do: by setting the place where it is.
fn read_again(cluster: &Cluster, pki: &Pki, id: i32, key: &str, file: &str) -> Result<()> {
    let id = id.to_string();
    let set = LISTENERS.map(|listener| format!("listener.name.{listener}.{key}={}", pki.file(file)));
    alter(cluster, pki, &["--broker", &id, "--set", &set[0], "--set", &set[1]])
}

fn settings(pki: &Pki) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = [
        ("listener.security.protocol.map", "PLAINTEXT:SASL_SSL,CONTROLLER:SASL_SSL"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
        ("sasl.mechanism.inter.broker.protocol", "SCRAM-SHA-256"),
        ("sasl.mechanism.controller.protocol", "PLAIN"),
        ("super.users", "User:first;User:second;User:admin"),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        // Nobody is to leave because the machine is busy.
        ("broker.session.timeout.ms", "15000"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    for listener in LISTENERS {
        let mut set = |key: &str, value: &str| {
            settings.push((format!("listener.name.{listener}.{key}"), value.to_owned()))
        };
        set("plain.sasl.jaas.config", &format!("{};", login("first", "first-secret")));
        for mechanism in ["256", "512"] {
            let key = format!("scram-sha-{mechanism}.sasl.jaas.config");
            set(&key, &format!("{};", scram_login("first", "first-secret")));
        }
        set("ssl.keystore.type", "PKCS12");
        set("ssl.keystore.location", &pki.file("node{id}.p12"));
        set("ssl.keystore.password", "secret");
        set("ssl.key.password", "secret");
        set("ssl.truststore.type", "PEM");
        set("ssl.truststore.location", &pki.file("node{id}.trust"));
    }
    // Controllers want a certificate of whoever speaks to them.
    settings.push(("listener.name.controller.ssl.client.auth".to_owned(), "required".to_owned()));
    settings
}

/// Replaces a node's certificate by one that the new authority has signed.
fn renew(pki: &Pki, id: i32) -> Result<()> {
    let name = format!("node{id}");
    pki.openssl(&format!(
        "x509 -req -in {name}.csr -CA ca2.pem -CAkey ca2.key -CAcreateserial -out {name}.crt -extfile ext -days 1"
    ))?;
    pki.openssl(&format!(
        "pkcs12 -export -inkey {name}.key -in {name}.crt -passout pass:secret -out {name}.new"
    ))?;
    Ok(fs::rename(pki.path(&format!("{name}.new")), pki.path(&format!("{name}.p12")))?)
}

/// Rewrites how a node logs in, in its file: to controllers, and to brokers by which mechanism.
fn set_login(cluster: &Cluster, id: i32, login: &str, (mechanism, scram): (&str, &str)) -> Result<()> {
    let path = cluster.properties(id);
    let lines = fs::read_to_string(&path)?;
    let line = |line: &str| match line.split_once('=') {
        Some((key, _)) if key.ends_with(".plain.sasl.jaas.config") => format!("{key}={login};\n"),
        Some((key, _)) if key.contains(".scram-sha-") => format!("{key}={scram};\n"),
        Some((key @ "sasl.mechanism.inter.broker.protocol", _)) => format!("{key}={mechanism}\n"),
        _ => format!("{line}\n"),
    };
    Ok(fs::write(&path, lines.lines().map(line).collect::<String>())?)
}

#[test]
fn certificates_and_passwords_are_replaced_under_load() -> Result<()> {
    let pki = Pki::new()?;
    pki.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca2.key -out ca2.pem -days 2 -subj /CN=ca2")?;
    for id in 1..=3 {
        pki.issue(&format!("node{id}"), &format!("/CN=node{id}"), 1)?;
        trust(&pki, &format!("node{id}"), OLD)?;
    }
    trust(&pki, "client", BOTH)?;
    let admin = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" password=\"admin-secret\";";
    let client = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config={admin}\n\
         ssl.truststore.type=PEM\nssl.truststore.location={}\n",
        pki.file("client.trust")
    );
    fs::write(pki.path("client.properties"), client)?;
    let settings = settings(&pki);
    let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut cluster = Cluster::start(3, &settings)?;
    set_password(&cluster, &pki, "first", "SCRAM-SHA-256", "first-secret")?;
    let load = Load::start(&cluster, "secured", Some(&pki.path("client.properties")))?;

    for authorities in [BOTH, NEW] {
        if authorities == NEW {
            for id in 1..=3 {
                renew(&pki, id)?;
                read_again(&cluster, &pki, id, "ssl.keystore.location", &format!("node{id}.p12"))?;
            }
            load.go_on(&cluster).context("new certificates")?;
        }
        for id in 1..=3 {
            trust(&pki, &format!("node{id}"), authorities)?;
            read_again(&cluster, &pki, id, "ssl.truststore.location", &format!("node{id}.trust"))?;
        }
        load.go_on(&cluster).with_context(|| format!("authorities {authorities:?}"))?;
    }

    // PLAIN: first everybody knows the new password, then it is used. SCRAM: first the other mechanism has the new password of
    // the same user, then another user is used; who used the one before has lost it. Connections made anew rest on the new
    // certificates.
    let steps = [
        ("first", "first-secret", ("first", "SCRAM-SHA-512", "second-secret"), ("first", "SCRAM-SHA-256")),
        ("second", "second-secret", ("second", "SCRAM-SHA-256", "third-secret"), ("first", "SCRAM-SHA-512")),
    ];
    for (user, password, (scram_user, mechanism, scram_password), (old_user, old_mechanism)) in steps {
        set_password(&cluster, &pki, scram_user, mechanism, scram_password)?;
        let login = format!("{} user_second=\"second-secret\"", login(user, password));
        let scram = scram_login(scram_user, scram_password);
        load.roll(&mut cluster, |cluster, id| {
            set_login(cluster, id, &login, (mechanism, &scram))?;
            cluster.restart(id)
        })?;
        alter(&cluster, &pki, &["--user", old_user, "--delete-scram", old_mechanism])?;
    }
    let outcome = load.end(&cluster)?;
    ensure!(outcome.acknowledged > 0, "{outcome:?}");
    Ok(())
}
