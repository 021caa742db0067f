//! What dashboards read of the JVM worker is in our `/metrics`, or in the list of docs/metrics.md with a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::connect::Api;
use aqueduct_tests::install::workspace;
use aqueduct_tests::java::program;
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::text_of;
use serde_json::json;

const LINES: &str = "one\ntwo\nthree\n";

/// A source with a transform and a predicate, and a sink, both of which have moved something.
fn busy(api: &Api, name: &str, dir: &Path) -> Result<()> {
    let (input, output) = (dir.join(format!("{name}.in")), dir.join(format!("{name}.out")));
    fs::write(&input, LINES)?;
    let topic = format!("{name}-lines");
    let source = json!({
        "connector.class": "FileStreamSource", "file": input, "topic": topic,
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "transforms": "route", "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.route.regex": "x", "transforms.route.replacement": "y", "transforms.route.predicate": "some",
        "predicates": "some", "predicates.some.pattern": ".*",
        "predicates.some.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
    });
    let sink = json!({
        "connector.class": "FileStreamSink", "file": output, "topics": topic,
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
    });
    api.put(&format!("{name}-source"), &source)?;
    api.put(&format!("{name}-sink"), &sink)?;
    let from = Instant::now();
    while fs::read_to_string(&output).unwrap_or_default() != LINES {
        ensure!(from.elapsed() < Duration::from_secs(120), "{name}: nothing arrives");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Settings of the workers that keep the two groups apart.
fn settings(name: &str) -> Vec<(String, String)> {
    let mut settings = vec![("exactly.once.source.support".to_owned(), "enabled".to_owned())];
    settings.push(("group.id".to_owned(), name.to_owned()));
    for part in ["config", "offset", "status"] {
        settings.push((format!("{part}.storage.topic"), format!("{name}-{part}")));
    }
    settings
}

fn pairs(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// Type and attribute of what the docs leave out; `all` attributes of a type.
fn left_out() -> Result<BTreeSet<(String, String)>> {
    let path = workspace().join("docs/metrics.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (_, table) = text.split_once("## Left out").context("no section about what is left out")?;
    let (table, _) = table.split_once("\n## ").unwrap_or((table, ""));
    let cells = |line: &str| -> Option<(String, Vec<String>, String)> {
        let mut cells = line.strip_prefix('|')?.split('|').map(|cell| cell.trim().to_owned());
        let name = |text: &str| text.trim().trim_matches('`').to_owned();
        let (kind, attributes, reason) = (cells.next()?, cells.next()?, cells.next()?);
        let attributes = attributes.split(',').map(name).collect();
        (kind.starts_with('`')).then(|| (name(&kind), attributes, reason))
    };
    let mut found = BTreeSet::new();
    for (kind, attributes, reason) in table.lines().filter_map(cells) {
        ensure!(!reason.is_empty(), "{kind}: no reason");
        found.extend(attributes.into_iter().map(|attribute| (kind.clone(), attribute)));
    }
    Ok(found)
}

/// Whether our metrics have an attribute, as a number or as a label.
fn has(metrics: &str, kind: &str, attribute: &str) -> bool {
    let under = |text: &str| text.replace('-', "_");
    let of = kind.strip_prefix("connect-").unwrap_or(kind);
    let of = under(of.strip_suffix("-metrics").unwrap_or(of));
    let name = format!("kafka_connect_{of}_{}", under(attribute));
    let info = match of.ends_with("_info") {
        true => format!("kafka_connect_{of}{{"),
        false => format!("kafka_connect_{of}_info{{"),
    };
    let label = format!("{}=\"", under(attribute));
    metrics.lines().any(|line| {
        line.strip_prefix(&name).is_some_and(|rest| rest.starts_with([' ', '{']))
            || line.strip_prefix(&info).is_some_and(|labels| labels.contains(&label))
    })
}

#[test]
fn every_metric_of_the_jvm_worker_is_in_ours_or_left_out_for_a_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = Broker::start_with(&[("offsets.topic.num.partitions", "5")])?;
    let (ours, theirs) = (settings("ours"), settings("theirs"));
    let worker = Worker::start(&broker.bootstrap(), &pairs(&ours))?;
    let (mut jvm, jmx) = JvmWorker::start_with_jmx(&broker.bootstrap(), &pairs(&theirs))?;
    busy(&worker.api(), "ours", dir.path())?;
    busy(&jvm.api(), "theirs", dir.path())?;
    let listed = program("128m", "ListMetrics")?.args([&jmx.to_string(), "kafka.connect"]).output()?;
    let listed = text_of("ListMetrics", &listed)?;
    jvm.process().kill();
    let metrics = worker.rest("GET", "/metrics", None)?.body;
    let metrics = metrics.as_str().context("metrics are text")?;
    let left_out = left_out()?;
    let (mut missing, mut needless, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for line in listed.lines() {
        let (kind, attribute) = line.split_once('\t').context("type and attribute")?;
        let told = |attribute: &str| left_out.contains(&(kind.to_owned(), attribute.to_owned()));
        seen.insert(kind);
        match (has(metrics, kind, attribute), told(attribute) || told("all")) {
            (false, false) => missing.push(line),
            (true, true) => needless.push(line),
            _ => {}
        }
    }
    for kind in ["connector-task-metrics", "connector-transform-metrics", "connector-predicate-metrics"] {
        ensure!(seen.contains(kind), "the JVM worker shows no {kind}:\n{listed}");
    }
    ensure!(missing.is_empty(), "missing in ours and in docs/metrics.md: {missing:#?}");
    ensure!(needless.is_empty(), "left out by docs/metrics.md, but there: {needless:#?}");
    let unknown: Vec<_> = left_out.iter().filter(|(kind, _)| !seen.contains(kind.as_str())).collect();
    ensure!(unknown.is_empty(), "docs/metrics.md leaves out what the JVM worker does not have: {unknown:?}");
    Ok(())
}
