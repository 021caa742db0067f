//! Kafka's own classes read our bytes and write the same ones, in every version of every message.
//!
//! Needs `java` (17 or later, with its compiler) and the jars of the release that the facts are of: kafka-clients,
//! kafka-group-coordinator and slf4j-api, which `cargo xtask protocol --jars`, a part of `setup`, brings to `target/peers/kafka-schemas`;
//! `AQUEDUCT_KAFKA_SCHEMA_LIB` names another folder.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{cases, facts};

/// The folder of the jars; fails where they are missing or of another release.
fn jars() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/kafka-schemas");
    let dir = env::var_os("AQUEDUCT_KAFKA_SCHEMA_LIB").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let release = facts::release();
    for jar in [format!("kafka-clients-{release}.jar"), format!("kafka-group-coordinator-{release}.jar")] {
        assert!(dir.join(&jar).is_file(), "no {jar} in {}: run `cargo xtask protocol --jars`", dir.display());
    }
    dir
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn reencode(jars: &Path, lines: String) -> Vec<String> {
    let classpath = fs::read_dir(jars).expect("the folder was looked at").flatten().map(|e| e.path());
    let mut child = Command::new("java")
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(env::join_paths(classpath).expect("paths without the separator"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/Reencode.java"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot start java: install a JDK, 17 or later");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let feeder = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("java ends");
    feeder.join().expect("the feeder does not panic").expect("java reads all lines");
    assert!(output.status.success(), "java failed");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn the_java_classes_write_the_same_bytes() {
    let jars = jars();
    let cases = cases(12);
    let mut lines = String::new();
    for case in &cases {
        let _ = writeln!(lines, "{} {} {}", case.codec.name, case.version, hex(&case.bytes));
    }
    let answers = reencode(&jars, lines);
    assert_eq!(answers.len(), cases.len());
    let mut wrong = Vec::new();
    for (case, answer) in cases.iter().zip(&answers) {
        if *answer != hex(&case.bytes) {
            wrong.push(format!("{case}\n  ours  {}\n  Java  {answer}", hex(&case.bytes)));
        }
    }
    println!("{} messages equal", cases.len() - wrong.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}
