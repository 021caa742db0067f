//! Clients in other languages, on our broker and on Apache Kafka's: each produces, consumes alone and in a group of three
//! with a rebalance, commits, resumes, and administers topics, configs and groups. The checks are programs of their own
//! in `tests/python`, `tests/node` and `tests/go`.

mod kcat;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use aqueduct_tests::install::{find, go, run, workspace};
use aqueduct_tests::on_both;
use aqueduct_tests::server::{Server, run_checks};

on_both!(librdkafka, kafka_python, kafkajs, franz_go, sarama_and_kafka_go);

fn python(program: &str, server: &Server) -> Result<()> {
    let python = find("AQUEDUCT_PYTHON", "python", "bin/python")?.join("bin/python");
    let program = workspace().join("tests/python").join(program);
    run_checks(Command::new(python).arg("-B").arg(program).arg(server.bootstrap())).map(drop)
}

fn librdkafka(server: &Server) -> Result<()> {
    python("librdkafka_checks.py", server)
}

fn kafka_python(server: &Server) -> Result<()> {
    python("kafka_python_checks.py", server)
}

fn kafkajs(server: &Server) -> Result<()> {
    let modules = find("AQUEDUCT_NODE", "node", "node_modules/kafkajs")?.join("node_modules");
    let program = workspace().join("tests/node/kafkajs.mjs");
    run_checks(Command::new("node").arg(program).arg(server.bootstrap()).env("NODE_PATH", modules)).map(drop)
}

fn franz_go(server: &Server) -> Result<()> {
    run_checks(Command::new(go_program(".")?).arg(server.bootstrap())).map(drop)
}

/// With the requests of old versions of Kafka.
fn sarama_and_kafka_go(server: &Server) -> Result<()> {
    run_checks(Command::new(go_program("./old")?).arg(server.bootstrap())).map(drop)
}

/// A Go program, built for both brokers; its modules and most of its code are in Go's caches since `setup`.
fn go_program(package: &str) -> Result<PathBuf> {
    static BUILT: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = if package == "." { "franz-go-checks" } else { "old-go-checks" };
    let program = std::env::current_exe()?.with_file_name(name);
    run(Command::new(go()?)
        .args(["build", "-o"])
        .arg(&program)
        .arg(package)
        .current_dir(workspace().join("tests/go")))?;
    Ok(program)
}
