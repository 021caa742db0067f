//! The command line tools of `aqueduct`, on our broker and on Apache Kafka's; `dump-log` beside the stock tool on the
//! directories of both.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::binary;
use aqueduct_tests::kafka::tool;
use aqueduct_tests::on_both;
use aqueduct_tests::server::{Kind, Server};
use aqueduct_tests::settle::settle;
use serde_json::Value;

on_both!(
    topics_from_creation_to_deletion,
    configs_are_set_and_shown,
    lines_go_in_and_records_come_out,
    groups_and_their_offsets,
    log_directories_and_speed,
);

fn run(args: &[&str], input: Option<&str>) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("aqueduct")?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(input.unwrap_or_default().as_bytes())?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a tool on a server and gives what it printed.
fn on(server: &Server, args: &[&str], input: Option<&str>) -> Result<String> {
    let output = run(&[args, &["--bootstrap-server", &server.bootstrap()]].concat(), input)?;
    ensure!(output.status.success(), "{args:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    settle(server)?;
    Ok(text(&output.stdout))
}

fn json(server: &Server, args: &[&str]) -> Result<Value> {
    let printed = on(server, &[args, &["--json"]].concat(), None)?;
    serde_json::from_str(&printed).with_context(|| printed)
}

/// What a tool says where it fails, which it must with exit code 1.
fn refused(server: &Server, args: &[&str]) -> Result<String> {
    let output = run(&[args, &["--bootstrap-server", &server.bootstrap()]].concat(), None)?;
    ensure!(output.status.code() == Some(1), "{args:?}: {:?} {}", output.status, text(&output.stdout));
    Ok(text(&output.stderr))
}

fn topics_from_creation_to_deletion(server: &Server) -> Result<()> {
    let create = ["topics", "create", "tools.a", "--partitions", "2", "--config", "retention.ms=360000"];
    assert_eq!(on(server, &create, None)?, "Created topic tools.a.\n");
    assert!(refused(server, &create)?.contains("TOPIC_ALREADY_EXISTS"));
    on(server, &[&create[..], &["--if-not-exists"]].concat(), None)?;
    on(server, &["topics", "alter", "tools.a", "--partitions", "3"], None)?;
    let described = json(server, &["topics", "describe", "tools.a"])?;
    assert_eq!(described[0]["partitions"].as_array().map(Vec::len), Some(3), "{described}");
    assert_eq!(described[0]["configs"]["retention.ms"], "360000");
    assert_eq!(described[0]["partitions"][2]["leader"], 1);
    assert!(on(server, &["topics", "list"], None)?.lines().any(|name| name == "tools.a"));
    on(server, &["topics", "delete", "tools.a"], None)?;
    assert!(refused(server, &["topics", "delete", "tools.a"])?.contains("UNKNOWN_TOPIC_OR_PARTITION"));
    on(server, &["topics", "delete", "tools.a", "--if-exists"], None)?;
    assert!(refused(server, &["topics", "describe", "tools.a"])?.contains("does not exist"));
    Ok(())
}

fn configs_are_set_and_shown(server: &Server) -> Result<()> {
    on(server, &["topics", "create", "tools.c"], None)?;
    let topic = ["configs", "alter", "--topic", "tools.c"];
    let alter = |args: &[&str]| on(server, &[&topic, args].concat(), None);
    alter(&["--add-config", "cleanup.policy=[compact,delete]", "--set", "retention.ms=5000"])?;
    alter(&["--unset", "retention.ms", "--subtract", "cleanup.policy=delete"])?;
    let set = json(server, &["configs", "describe", "--topic", "tools.c"])?;
    // Apache Kafka sets min.insync.replicas for all brokers when it is formatted.
    let own: Vec<_> =
        set.as_array().into_iter().flatten().filter(|entry| entry["source"] == "topic").collect();
    assert_eq!(own.len(), 1, "{set}");
    assert_eq!((&own[0]["name"], &own[0]["value"]), (&"cleanup.policy".into(), &"compact".into()), "{set}");
    let said = refused(server, &[&topic[..], &["--set", "no.such.key=1"]].concat())?;
    assert!(said.contains("INVALID_CONFIG"), "{said}");

    let broker = ["configs", "alter", "--broker", "1"];
    on(server, &[&broker[..], &["--set", "log.retention.bytes=123456789"]].concat(), None)?;
    let set = json(server, &["configs", "describe", "--broker", "1"])?;
    let found = set.as_array().into_iter().flatten().find(|entry| entry["name"] == "log.retention.bytes");
    assert_eq!(found.map(|entry| &entry["source"]), Some(&"broker".into()), "{set}");
    on(server, &[&broker[..], &["--unset", "log.retention.bytes"]].concat(), None)?;
    let said = refused(server, &[&broker[..], &["--set", "log.dirs=/elsewhere"]].concat())?;
    assert!(said.contains("Cannot update these configs dynamically"), "{said}");
    let all = json(server, &["configs", "describe", "--broker", "1", "--all"])?;
    assert!(all.as_array().is_some_and(|all| all.len() > 200), "{all}");

    let root = ["configs", "alter", "--broker-logger", "1", "--set"];
    on(server, &[&root[..], &["root=INFO"]].concat(), None)?;
    assert!(refused(server, &[&root[..], &["root=LOUD"]].concat())?.contains("not a supported log level"));
    let group = ["configs", "alter", "--group", "tools-g", "--set"];
    on(server, &[&group[..], &["consumer.session.timeout.ms=50000"]].concat(), None)?;
    assert!(
        refused(server, &[&group[..], &["consumer.session.timeout.ms=5"]].concat())?
            .contains("INVALID_CONFIG")
    );
    on(server, &["configs", "alter", "--client-metrics", "tools-m", "--set", "interval.ms=5000"], None)?;

    let user = ["configs", "alter", "--user", "tools-u"];
    on(server, &[&user[..], &["--set", "producer_byte_rate=1000000"]].concat(), None)?;
    on(server, &[&user[..], &["--scram", "SCRAM-SHA-256"]].concat(), Some("secret\n"))?;
    let shown = on(server, &["configs", "describe", "--user", "tools-u"], None)?;
    assert!(shown.contains("producer_byte_rate") && shown.contains("iterations=8192"), "{shown}");
    assert!(!shown.contains("secret"));
    Ok(())
}

fn lines_go_in_and_records_come_out(server: &Server) -> Result<()> {
    on(server, &["topics", "create", "tools.p", "--partitions", "2"], None)?;
    let produce = ["produce", "tools.p", "--partition", "1", "--key-separator", ":", "--header", "h=v"];
    let with = ["--null-marker", "NULL", "--compression", "lz4", "--show-offsets"];
    let printed = on(server, &[&produce[..], &with].concat(), Some("a:1\nb:\nc:NULL\n"))?;
    assert_eq!(printed, "tools.p-1@0\ntools.p-1@1\ntools.p-1@2\n");
    let read = ["consume", "tools.p", "--exit-at-end", "--print-key", "--print-offset", "--print-headers"];
    let printed = on(server, &read, None)?;
    assert_eq!(printed, "Offset:0\th:v\ta\t1\nOffset:1\th:v\tb\t\nOffset:2\th:v\tc\tnull\n");
    for (args, expected) in [
        (&["--offset", "1", "-n", "1"][..], "\n"),
        (&["--offset", "-1", "-e"], "null\n"),
        (&["--to-offset", "1"], "1\n"),
        (&["--from-time", "0", "-e"], "1\n\nnull\n"),
        (&["--partition", "0", "-e"], ""),
    ] {
        assert_eq!(on(server, &[&["consume", "tools.p"], args].concat(), None)?, expected, "{args:?}");
    }
    let printed = on(server, &["consume", "tools.p:1", "-e", "--json"], None)?;
    let record: Value = serde_json::from_str(printed.lines().nth(2).unwrap_or_default())?;
    assert_eq!((&record["key"], &record["value"], &record["offset"]), (&"c".into(), &Value::Null, &2.into()));
    let ends = json(server, &["topics", "offsets", "tools.p"])?;
    assert_eq!((&ends[0]["offset"], &ends[1]["offset"]), (&0.into(), &3.into()), "{ends}");
    on(server, &["topics", "delete-records", "tools.p:1:2"], None)?;
    let starts = json(server, &["topics", "offsets", "tools.p:1", "--time", "earliest"])?;
    assert_eq!(starts[0]["offset"], 2, "{starts}");
    Ok(())
}

fn groups_and_their_offsets(server: &Server) -> Result<()> {
    on(server, &["topics", "create", "tools.g"], None)?;
    on(server, &["produce", "tools.g"], Some("1\n2\n3\n4\n"))?;
    let read = ["consume", "tools.g", "--group", "tools.group", "--from-beginning", "--timeout-ms", "60000"];
    assert_eq!(on(server, &[&read[..], &["-n", "3"]].concat(), None)?, "1\n2\n3\n");
    assert!(on(server, &["groups", "list"], None)?.contains("tools.group"));
    let lag = |expected: i64| -> Result<()> {
        let described = json(server, &["groups", "describe", "tools.group"])?;
        assert_eq!(
            (&described[0]["log_end"], &described[0]["lag"]),
            (&4.into(), &expected.into()),
            "{described}"
        );
        Ok(())
    };
    lag(1)?;
    let state = json(server, &["groups", "describe", "tools.group", "--state"])?;
    assert_eq!((&state[0]["state"], &state[0]["members"]), (&"Empty".into(), &0.into()), "{state}");
    let reset = ["groups", "reset-offsets", "tools.group", "--topic", "tools.g"];
    on(server, &[&reset[..], &["--to-earliest"]].concat(), None)?;
    lag(1)?;
    on(server, &[&reset[..], &["--shift-by", "-2", "--execute"]].concat(), None)?;
    lag(3)?;
    on(server, &[&reset[..], &["--to-latest", "--execute"]].concat(), None)?;
    lag(0)?;
    on(server, &["groups", "delete-offsets", "tools.group", "--topic", "tools.g"], None)?;
    on(server, &["groups", "delete", "tools.group"], None).or_else(|error| {
        // A group without members and offsets may be gone by itself.
        let gone = error.to_string().contains("GROUP_ID_NOT_FOUND");
        if gone { Ok(String::new()) } else { Err(error) }
    })?;
    assert!(refused(server, &["groups", "describe", "tools.none"])?.contains("GROUP_ID_NOT_FOUND"));
    Ok(())
}

fn log_directories_and_speed(server: &Server) -> Result<()> {
    on(server, &["topics", "create", "tools.d"], None)?;
    let perf = ["perf", "produce", "tools.d", "--num-records", "2000", "--record-size", "100"];
    let sent = json(server, &perf)?;
    assert_eq!((&sent["records"], &sent["bytes"]), (&2000.into(), &200_000.into()), "{sent}");
    assert!(sent["latency_ms"]["p99"].as_f64().is_some_and(|p99| p99 > 0.0), "{sent}");
    let read = json(server, &["perf", "consume", "tools.d"])?;
    assert_eq!(read["records"], 2000, "{read}");
    let dirs = json(server, &["log-dirs", "describe"])?;
    assert_eq!(dirs[0]["directory"].as_str(), server.data().to_str(), "{dirs}");
    assert!(dirs[0]["usable"].as_u64().is_some_and(|usable| usable > 0), "{dirs}");
    let replicas = json(server, &["log-dirs", "describe", "--topic", "tools.d"])?;
    assert!(replicas[0]["bytes"].as_u64().is_some_and(|bytes| bytes > 200_000), "{replicas}");
    // Neither server has an authorizer.
    assert!(refused(server, &["acls", "list"])?.contains("SECURITY_DISABLED"));
    Ok(())
}

fn files(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Both tools on the same files must print the same lines.
fn same_dump(paths: &[PathBuf], options: &[&str]) -> Result<String> {
    let list = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(",");
    let theirs = tool("org.apache.kafka.tools.DumpLogSegments", &[&["--files", &list], options].concat())?;
    let ours = run(&[&["dump-log", "--files", &list], options].concat(), None)?;
    ensure!(ours.status.success(), "{}", text(&ours.stderr));
    let ours = text(&ours.stdout);
    let differ = theirs.lines().zip(ours.lines()).find(|(their, our)| their != our);
    ensure!(differ.is_none(), "{options:?}: {differ:#?}");
    assert_eq!(theirs.lines().count(), ours.lines().count(), "{options:?}");
    Ok(ours)
}

fn dumps(kind: Kind) -> Result<()> {
    let mut server = Server::start_with(kind, &[("log.segment.bytes", "1048576")])?;
    on(&server, &["topics", "create", "dumped"], None)?;
    on(&server, &["produce", "dumped", "--key-separator", ":", "--header", "h=v"], Some("k:v\nl:\n"))?;
    on(&server, &["perf", "produce", "dumped", "--num-records", "12000", "--record-size", "100"], None)?;
    on(&server, &["consume", "dumped", "--group", "dump-group", "--from-beginning", "-n", "2"], None)?;
    server.stop()?;
    let dir = server.data().join("dumped-0");
    let dump = same_dump(&files(&dir, &[".log"])?, &["--print-data-log"])?;
    assert_eq!(dump.matches("\n| offset: ").count(), 12_002);
    assert!(dump.contains("headerKeys: [h] key: k payload: v"), "{dump:.2000}");
    same_dump(&files(&dir, &[".index", ".timeindex"])?, &[])?;
    let snapshots = files(&dir, &[".snapshot"])?;
    assert!(same_dump(&snapshots, &[])?.contains("producerId: "));
    for partition in 0..5 {
        let dir = server.data().join(format!("__consumer_offsets-{partition}"));
        let logs = if dir.exists() { files(&dir, &[".log"])? } else { Vec::new() };
        if logs.iter().any(|log| log.metadata().is_ok_and(|metadata| metadata.len() > 0)) {
            assert!(same_dump(&logs, &["--offsets-decoder"])?.contains("dump-group"));
        }
    }
    let dir = dir.to_string_lossy().into_owned();
    let checked = run(&["dump-log", &dir, "--index-sanity-check"], None)?;
    ensure!(checked.status.success(), "{}", text(&checked.stderr));
    let indexes = files(Path::new(&dir), &[".index", ".timeindex"])?;
    assert_eq!(text(&checked.stdout).matches("passed sanity check").count(), indexes.len());
    // A damaged index is found, and said of which file.
    let mut bytes = std::fs::read(&indexes[0])?;
    ensure!(bytes.len() >= 8, "an index with entries");
    bytes[7] ^= 1;
    std::fs::write(&indexes[0], bytes)?;
    let checked = run(&["dump-log", &dir, "--index-sanity-check"], None)?;
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stderr).contains(&*indexes[0].to_string_lossy()), "{}", text(&checked.stderr));
    Ok(())
}

#[test]
fn dump_log_prints_what_the_stock_tool_prints_of_an_aqueduct() -> Result<()> {
    dumps(Kind::Aqueduct)
}

#[test]
fn dump_log_prints_what_the_stock_tool_prints_of_an_apache_kafka() -> Result<()> {
    dumps(Kind::ApacheKafka)
}

#[test]
fn the_doctor_says_what_to_change() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_string_lossy().into_owned();
    let output = run(&["doctor", "--json", "--data-dir", &path], None)?;
    let findings: Value = serde_json::from_str(&text(&output.stdout))?;
    let findings = findings.as_array().context("an array")?;
    let change = findings.iter().filter(|finding| finding["verdict"] == "change").count();
    assert_eq!(output.status.code(), Some(if change > 0 { 1 } else { 0 }));
    for finding in findings {
        assert_eq!(finding["remedy"].is_null(), finding["verdict"] == "ok", "{finding}");
    }
    let has = |part: &str| findings.iter().any(|f| f["check"].as_str().is_some_and(|c| c.contains(part)));
    assert!(has("file handles") && has("swap") && has("clock") && has(&path), "{findings:?}");
    // A place where nothing can be written must change.
    let output = run(&["doctor", "--data-dir", "/proc/aqueduct"], None)?;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    Ok(())
}
