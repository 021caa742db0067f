//! Stock clients of the API through a worker that is not the leader, over TLS and with a password.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::install::{find, workspace};
use aqueduct_tests::kafka::text_of;
use aqueduct_tests::pki::Pki;
use aqueduct_tests::server::run_checks;
use serde_json::json;

use crate::curl::{Curl, LIMIT};
use crate::guarded::Doors;

/// `kc` of kafka-connect-py.
pub fn kafka_connect_py(curl: &Curl, pki: &Pki, doors: &Doors) -> Result<()> {
    let kc = find("AQUEDUCT_PYTHON", "python", "bin/kc")?.join("bin/kc");
    let run = |words: &[&str]| -> Result<String> {
        let mut command = Command::new(&kc);
        command.env("KAFKA_CONNECT_URL", &doors.https).env("KAFKA_CONNECT_BASIC_AUTH", "bob:closes-as-well");
        let output = command.env("REQUESTS_CA_BUNDLE", pki.path("ca.pem")).args(words).output()?;
        let told = text_of("kc", &output)?;
        curl.note(&told);
        Ok(told)
    };
    let says = |words: &[&str], part: &str| -> Result<()> {
        let began = Instant::now();
        loop {
            let told = run(words);
            if told.as_ref().is_ok_and(|told| told.contains(part)) {
                return Ok(());
            }
            // A rebalance may be in the way.
            let is_early = told.as_ref().map_or_else(|error| format!("{error:#}").contains("409"), |_| true);
            ensure!(is_early && began.elapsed() < LIMIT, "kc {words:?}: no {part} in {told:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let running = "\"tasks\": [{\"id\": 0, \"state\": \"RUNNING\"";
    says(&["list-plugins"], "org.apache.kafka.connect.file.FileStreamSourceConnector")?;
    let config = json!({"connector.class": "FileStreamSource", "topic": "more", "file": pki.file("in.txt")});
    let whole = json!({"name": "kc", "config": config}).to_string();
    says(&["create", "-d", &whole], "\"name\": \"kc\"")?;
    says(&["status", "kc"], running)?;
    says(&["pause", "kc"], "")?;
    says(&["status", "kc"], "\"tasks\": [{\"id\": 0, \"state\": \"PAUSED\"")?;
    says(&["resume", "kc"], "")?;
    says(&["status", "kc"], running)?;
    says(&["restart", "kc", "--include-tasks"], "\"name\": \"kc\"")?;
    says(&["status", "kc"], running)?;
    says(&["delete", "kc"], "")?;
    says(&["list"], "[\"c0\", \"c1\", \"c2\"]")
}

/// The Java client that AKHQ, a web interface, is built on.
pub fn akhqs(curl: &Curl, pki: &Pki, doors: &Doors) -> Result<()> {
    let lib = find("AQUEDUCT_CONNECT_CLIENT", "connect-client/lib", ".")?;
    let source = workspace().join("tests/java/connect-client/ConnectClient.java");
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(lib.join("*"))
        .arg(source);
    command.args([
        &doors.https,
        &pki.file("trust.jks"),
        "secret",
        "bob",
        "closes-as-well",
        &pki.file("in.txt"),
    ]);
    curl.note(&run_checks(&mut command)?);
    Ok(())
}
