//! Apache Kafka's own classes, to check what we write and to write what we read.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory with Kafka's jars.
pub fn kafka_lib() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let lib = std::env::var_os("AQUEDUCT_KAFKA_LIB").map(PathBuf::from);
    let lib = lib.unwrap_or_else(|| workspace.join("target/peers/kafka/lib"));
    assert!(
        lib.is_dir(),
        "{} does not hold Kafka's jars: run `cargo xtask setup`, or set AQUEDUCT_KAFKA_LIB",
        lib.display()
    );
    lib
}

/// A command that runs one of Kafka's main classes.
pub fn kafka_class(class: &str) -> Command {
    let mut java = Command::new("java");
    let class_path = kafka_lib().join("*");
    java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-cp")
        .arg(class_path)
        .arg(class);
    java
}

/// What the stock dump-log says about these files.
pub fn dump_log(files: &[PathBuf], options: &[&str]) -> String {
    let files: Vec<&str> = files.iter().map(|f| f.to_str().unwrap()).collect();
    let mut command = kafka_class("org.apache.kafka.tools.DumpLogSegments");
    let output = command.args(options).args(["--files", &files.join(",")]).output().expect("java can be run");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dump-log failed:\n{text}");
    text
}
