//! The stock command line tools: what they add, they list, and what they remove is gone.

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::kafka;

/// Class of a tool, and what it is asked. What it prints is compared line by line, in order of the alphabet.
const CALLS: &[(&str, &str)] = &[
    (ACLS, "--add --allow-principal User:alice --producer --topic orders"),
    (
        ACLS,
        "--add --allow-principal User:bob --allow-host 10.0.0.1 --consumer --topic team- --resource-pattern-type prefixed --group team-",
    ),
    (ACLS, "--add --deny-principal User:eve --operation Read --topic team- --resource-pattern-type prefixed"),
    (ACLS, "--list"),
    (ACLS, "--remove --force --allow-principal User:alice --producer --topic orders"),
    (ACLS, "--list --principal User:bob"),
    (
        CONFIGS,
        "--alter --add-config producer_byte_rate=1024,request_percentage=50 --entity-type users --entity-name alice --entity-type clients --entity-default",
    ),
    (CONFIGS, "--alter --add-config connection_creation_rate=10 --entity-type ips --entity-default"),
    (CONFIGS, "--describe --entity-type users --entity-type clients"),
    (CONFIGS, "--describe --entity-type ips"),
];
const ACLS: &str = "org.apache.kafka.tools.AclCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";

pub fn run(bootstrap: &str) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let properties = dir.path().join("client.properties");
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" \
                 password=\"admin-secret\";";
    let text = format!("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={login}\n");
    std::fs::write(&properties, text)?;
    let properties = properties.to_str().context("a path of text")?;
    let mut printed = Vec::new();
    for (class, call) in CALLS {
        let mut args = vec!["--bootstrap-server", bootstrap, "--command-config", properties];
        args.extend(call.split(' '));
        let text = kafka::tool(class, &args).with_context(|| (*call).to_owned())?;
        let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        // Only what is removed is not listed.
        ensure!(!lines.is_empty() || call.starts_with("--remove"), "{call} printed nothing");
        printed.extend(lines.into_iter().map(|line| format!("{call}: {}", in_order(line))));
    }
    Ok(printed)
}

/// The settings of a line in order of the alphabet: a broker has them in a table without order.
fn in_order(line: &str) -> String {
    let Some((whose, settings)) = line.split_once(" are ") else { return line.to_owned() };
    let mut settings: Vec<&str> = settings.split(", ").collect();
    settings.sort_unstable();
    format!("{whose} are {}", settings.join(", "))
}
