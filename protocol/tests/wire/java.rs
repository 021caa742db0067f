//! Kafka's own classes read our bytes and write the same ones, in every version of every message.
//!
//! Needs `java` (17 or later, with its compiler) and the jars of the release that the facts are of: kafka-clients,

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Case, cases, facts};

/// The folder of the jars; fails where they are missing or of another release.
fn jars() -> PathBuf {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers");
    let peers = env::var_os("AQUEDUCT_PEERS").map_or_else(|| PathBuf::from(target), PathBuf::from);
    let dir =
        env::var_os("AQUEDUCT_KAFKA_SCHEMA_LIB").map_or_else(|| peers.join("kafka-schemas"), PathBuf::from);
    let release = facts::release();
    for artifact in ["kafka-clients", "kafka-group-coordinator", "kafka-transaction-coordinator"] {
        let jar = format!("{artifact}-{release}.jar");
        assert!(dir.join(&jar).is_file(), "no {jar} in {}: run `cargo xtask setup`", dir.display());
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

/// Each case written in a version, which may be another than the one it is read in; what differs from ours.
fn compare(cases: &[(Case, i16)]) {
    let mut lines = String::new();
    for (case, version) in cases {
        let _ = writeln!(lines, "{} {} {version} {}", case.codec.name, case.version, hex(&case.bytes));
    }
    let answers = reencode(&jars(), lines);
    assert_eq!(answers.len(), cases.len());
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for ((case, version), java) in cases.iter().zip(&answers) {
        let ours = (case.codec.convert)(case.bytes.clone(), case.version, *version);
        let same = match &ours {
            Ok(bytes) => *java == hex(bytes),
            Err(_) => java.starts_with("error"),
        };
        refused += usize::from(same && ours.is_err());
        if !same {
            let ours = ours.map(|b| hex(&b));
            wrong.push(format!("{case} as {version}\n  ours  {ours:?}\n  Java  {java}"));
        }
    }
    println!("{} messages alike, {refused} of them refused", cases.len() - wrong.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn the_java_classes_write_the_same_bytes() {
    let cases: Vec<_> = cases(12)
        .into_iter()
        .map(|c| {
            let version = c.version;
            (c, version)
        })
        .collect();
    for (case, version) in &cases {
        let ours = (case.codec.convert)(case.bytes.clone(), case.version, *version);
        assert_eq!(ours.as_ref(), Ok(&case.bytes), "{case}");
    }
    compare(&cases);
}

/// What a version cannot carry is dropped or refused as Kafka does it, and nulls likewise.
#[test]
fn the_java_classes_refuse_and_drop_the_same() {
    let mut pairs = Vec::new();
    for (at, case) in cases(6).into_iter().enumerate() {
        let versions: Vec<i16> = case.codec.versions.clone().collect();
        let version = versions[at.wrapping_mul(7919) % versions.len()];
        pairs.push((case, version));
    }
    compare(&pairs);
}
