//! Java's tools, kcat and kafka-python on our listeners.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use aqueduct_tests::install;
use aqueduct_tests::kafka::{java, text_of, tool};
use aqueduct_tests::server::Kind;

use crate::Secured;

const CONFIGS: &str = "kafka.admin.ConfigCommand";
/// Seconds in which kcat has to hear why it is refused.
const REFUSED: &str = "10";

#[test]
fn stock_clients_come_in_by_every_door_and_only_with_the_right_key() -> Result<()> {
    let secured = Secured::start(Kind::Aqueduct, &[])?;
    create_bob(&secured)?;
    java_over_sasl_ssl(&secured)?;
    java_over_mutual_tls(&secured)?;
    kcat_by_every_door(&secured)?;
    kafka_python(&secured)?;
    keys_change_by_configuration(&secured)
}

fn create_bob(secured: &Secured) -> Result<()> {
    let bootstrap = secured.server.bootstrap();
    let user = ["--entity-type", "users", "--entity-name", "bob"];
    // Kafka takes one change of a user in a request.
    for add in ["SCRAM-SHA-512=[iterations=8192,password=bob-secret]", "SCRAM-SHA-256=[password=bob-secret]"]
    {
        let alter = ["--bootstrap-server", &bootstrap, "--alter", "--add-config", add];
        tool(CONFIGS, &[&alter[..], &user[..]].concat())?;
    }
    let told = tool(CONFIGS, &[&["--bootstrap-server", &bootstrap, "--describe"], &user[..]].concat())?;
    assert!(told.contains("SCRAM-SHA-512=iterations=8192"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    let few = ["--add-config", "SCRAM-SHA-512=[iterations=100,password=x]"];
    let refused =
        tool(CONFIGS, &[&["--bootstrap-server", &bootstrap, "--alter"], &few[..], &user[..]].concat());
    assert!(refused.is_err());
    Ok(())
}

/// Writes a `--command-config` file.
fn config(secured: &Secured, name: &str, lines: &[String]) -> Result<String> {
    let trust = secured.pki.file("trust.jks");
    let common = format!("ssl.truststore.location={trust}\nssl.truststore.password=secret\n");
    std::fs::write(secured.pki.path(name), common + &lines.join("\n"))?;
    Ok(secured.pki.file(name))
}

fn sasl(mechanism: &str, module: &str, user: &str, password: &str) -> Vec<String> {
    let module = format!("org.apache.kafka.common.security.{module}");
    vec![
        format!("sasl.mechanism={mechanism}"),
        format!("sasl.jaas.config={module} required username=\"{user}\" password=\"{password}\";"),
        "security.protocol=SASL_SSL".into(),
    ]
}

fn java_over_sasl_ssl(secured: &Secured) -> Result<()> {
    let at = secured.at(secured.sasl_ssl);
    let good = config(
        secured,
        "bob.properties",
        &sasl("SCRAM-SHA-512", "scram.ScramLoginModule", "bob", "bob-secret"),
    )?;
    tool(
        "org.apache.kafka.tools.TopicCommand",
        &["--bootstrap-server", &at, "--command-config", &good, "--create", "--topic", "java"],
    )?;
    std::fs::write(secured.pki.path("lines"), "one\ntwo\nthree\n")?;
    let mut producer = java("256m", "org.apache.kafka.tools.ConsoleProducer")?;
    producer.args(["--bootstrap-server", &at, "--command-config", &good, "--topic", "java"]);
    text_of("producer", &producer.stdin(std::fs::File::open(secured.pki.path("lines"))?).output()?)?;
    let plain = config(
        secured,
        "alice.properties",
        &sasl("PLAIN", "plain.PlainLoginModule", "alice", "alice-secret"),
    )?;
    let read = tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        &[
            "--bootstrap-server",
            &at,
            "--command-config",
            &plain,
            "--topic",
            "java",
            "--from-beginning",
            "--max-messages",
            "3",
            "--timeout-ms",
            "60000",
        ],
    )?;
    assert_eq!(read.lines().collect::<Vec<_>>(), ["one", "two", "three"]);
    let wrong = config(
        secured,
        "wrong.properties",
        &sasl("SCRAM-SHA-512", "scram.ScramLoginModule", "bob", "guess"),
    )?;
    let refused = tool(
        "org.apache.kafka.tools.TopicCommand",
        &["--bootstrap-server", &at, "--command-config", &wrong, "--list"],
    );
    let text = format!("{:#}", refused.expect_err("a wrong password"));
    let said = "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512";
    assert!(text.contains(said), "{text}");
    Ok(())
}

fn java_over_mutual_tls(secured: &Secured) -> Result<()> {
    let store = secured.pki.file("user.p12");
    let lines = [
        "security.protocol=SSL".to_owned(),
        format!("ssl.keystore.location={store}"),
        "ssl.keystore.type=PKCS12".into(),
        "ssl.keystore.password=secret".into(),
        "ssl.key.password=secret".into(),
    ];
    let config = config(secured, "mutual.properties", &lines)?;
    let at = secured.at(secured.mutual);
    let listed = tool(
        "org.apache.kafka.tools.TopicCommand",
        &["--bootstrap-server", &at, "--command-config", &config, "--list"],
    )?;
    assert!(listed.contains("java"), "{listed}");
    Ok(())
}

/// `kcat -L` over a listener, with librdkafka's settings; where it is refused it tries until the limit.
fn listing(secured: &Secured, port: u16, settings: &[String], limit: &str) -> Result<String> {
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &secured.at(port), "-L", "-m", limit]);
    let ca = format!("ssl.ca.location={}", secured.pki.file("ca.pem"));
    for setting in settings.iter().chain([&ca]) {
        kcat.args(["-X", setting]);
    }
    let output = kcat.stdin(Stdio::null()).output().context("kcat")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn kcat_by_every_door(secured: &Secured) -> Result<()> {
    let set = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    let in_by = |port: u16, settings: &[String]| -> Result<()> {
        let told = listing(secured, port, settings, "60")?;
        // Whoever asks is told the address of the listener that it came in by.
        assert!(told.contains(&format!("broker 1 at localhost:{port}")), "{told}");
        Ok(())
    };
    in_by(secured.ssl, &set(&[("security.protocol", "ssl")]))?;
    let (key, certificate) = (secured.pki.file("user.key"), secured.pki.file("user.crt"));
    let mutual = [
        ("security.protocol", "ssl"),
        ("ssl.key.location", &*key),
        ("ssl.certificate.location", &*certificate),
    ];
    in_by(secured.mutual, &set(&mutual))?;
    let told = listing(secured, secured.mutual, &set(&mutual[..1]), REFUSED)?;
    assert!(told.contains("certificate required"), "{told}");
    for (mechanism, user) in [("PLAIN", "alice"), ("SCRAM-SHA-256", "bob"), ("SCRAM-SHA-512", "bob")] {
        for (port, protocol) in [(secured.sasl_plaintext, "sasl_plaintext"), (secured.sasl_ssl, "sasl_ssl")] {
            let password = format!("{user}-secret");
            let login = |password: &str| {
                set(&[
                    ("security.protocol", protocol),
                    ("sasl.mechanism", mechanism),
                    ("sasl.username", user),
                    ("sasl.password", password),
                ])
            };
            in_by(port, &login(&password))?;
            if port == secured.sasl_plaintext {
                let told = listing(secured, port, &login("guess"), REFUSED)?;
                assert!(told.contains("Authentication failed"), "{told}");
            }
        }
    }
    let unknown = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "a"),
        ("sasl.password", "b"),
    ];
    let told = listing(secured, secured.oauth, &set(&unknown), REFUSED)?;
    assert!(told.contains("OAUTHBEARER"), "the broker says what it offers: {told}");
    Ok(())
}

fn kafka_python(secured: &Secured) -> Result<()> {
    let program = format!(
        "import kafka, sys\n\
         common = dict(bootstrap_servers='{at}', security_protocol='SASL_SSL', ssl_cafile='{ca}',\n\
         \x20             sasl_mechanism='SCRAM-SHA-256', sasl_plain_username='bob', sasl_plain_password='bob-secret')\n\
         producer = kafka.KafkaProducer(**common)\n\
         print(producer.send('java', b'four').get(timeout=60).offset)\n\
         consumer = kafka.KafkaConsumer('java', auto_offset_reset='earliest', consumer_timeout_ms=60000, **common)\n\
         for record in consumer:\n\
         \x20   print(record.value.decode())\n\
         \x20   if record.value == b'four': break\n",
        at = secured.at(secured.sasl_ssl),
        ca = secured.pki.file("ca.pem"),
    );
    let python = install::find("AQUEDUCT_PYTHON", "python", "bin/python")?.join("bin/python");
    let output = Command::new(python).args(["-c", &program]).output()?;
    let told = text_of("kafka-python", &output)?;
    assert_eq!(told.lines().collect::<Vec<_>>(), ["3", "one", "two", "three", "four"]);
    Ok(())
}

/// The key store of a listener is a dynamic setting: one that cannot be read is refused.
fn keys_change_by_configuration(secured: &Secured) -> Result<()> {
    secured.pki.issue("second", "/CN=second", 1)?;
    let bootstrap = secured.server.bootstrap();
    let alter = |location: &str| {
        let setting = format!("listener.name.ssl.ssl.keystore.location={location}");
        let of = ["--bootstrap-server", &bootstrap, "--entity-type", "brokers", "--entity-name", "1"];
        tool(CONFIGS, &[&of[..], &["--alter", "--add-config", &setting]].concat())
    };
    let before = secured.serial()?;
    let refused = format!("{:#}", alter("/no/such/store.p12").expect_err("no such file"));
    assert!(refused.contains("/no/such/store.p12"), "{refused}");
    assert_eq!(secured.serial()?, before);
    alter(&secured.pki.file("second.p12"))?;
    let began = std::time::Instant::now();
    while secured.serial()? == before {
        anyhow::ensure!(began.elapsed().as_secs() < 60, "the new key store is not taken");
    }
    Ok(())
}
