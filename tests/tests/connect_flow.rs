//! Files through topics into files, on our broker and on Apache Kafka: errors, dead letters, kills, and what a stop leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::connect::Api;
use aqueduct_tests::console::{Printed, read_topic};
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::{Kafka, java, tool};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);
const TEXT: &str = "org.apache.kafka.connect.storage.StringConverter";

struct Job {
    bootstrap: String,
    worker: Worker,
    dir: TempDir,
}

impl Job {
    fn start(bootstrap: String) -> Result<Self> {
        // Members that were killed are forgotten soon; those that live stay, however busy the machine is, and end in order:
        // what is to arrive once would arrive again otherwise.
        let settings = [
            ("session.timeout.ms", "15000"),
            ("heartbeat.interval.ms", "1000"),
            ("consumer.session.timeout.ms", "15000"),
            ("consumer.heartbeat.interval.ms", "1000"),
            ("task.shutdown.graceful.timeout.ms", "60000"),
            ("offset.flush.timeout.ms", "60000"),
        ];
        let worker = Worker::start(&bootstrap, &settings)?;
        Ok(Self { bootstrap, worker, dir: TempDir::with_prefix("connect-flow-")? })
    }

    fn api(&self) -> Api {
        self.worker.api()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn append(&self, name: &str, lines: &[String]) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.path(name))?;
        file.write_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())?;
        Ok(())
    }

    fn source(&self, name: &str, topic: &str) -> Result<()> {
        let file = self.path(&format!("{name}.in"));
        let config = json!({"connector.class": "FileStreamSource", "file": file, "topic": topic, "value.converter": TEXT});
        self.api().put(name, &config).map(drop)
    }

    /// A sink of text into `NAME.out`, with more settings.
    fn sink(&self, name: &str, topic: &str, more: Value) -> Result<()> {
        let mut config = json!({
            "connector.class": "FileStreamSink",
            "file": self.path(&format!("{name}.out")),
            "topics": topic,
            "value.converter": TEXT,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.api().put(name, &config).map(drop)
    }

    fn running(&self, name: &str) -> Result<()> {
        self.api().wait_states(name, "RUNNING RUNNING", LIMIT)
    }

    fn wait_lines(&self, name: &str, wanted: &[String]) -> Result<()> {
        self.wait(&format!("{} lines in {name}", wanted.len()), || {
            let lines = self.lines(name);
            Ok((lines != wanted).then(|| format!("{} lines, last {:?}", lines.len(), lines.last())))
        })
    }

    /// Waits until the connector's task has failed; gives its trace.
    fn failed(&self, name: &str) -> Result<String> {
        let mut trace = String::new();
        self.wait("a failure", || {
            // There is none until the connector has started.
            let status = self.api().call("GET", &format!("/connectors/{name}/status"), None)?.body;
            let task = &status["tasks"][0];
            trace = task["trace"].as_str().unwrap_or_default().to_owned();
            let failed = status["connector"]["state"] == "RUNNING" && task["state"] == "FAILED";
            Ok((!failed).then(|| status.to_string()))
        })?;
        Ok(trace)
    }

    /// Waits until `pending` says nothing more.
    fn wait(&self, what: &str, mut pending: impl FnMut() -> Result<Option<String>>) -> Result<()> {
        let from = Instant::now();
        while let Some(state) = pending()? {
            if from.elapsed() > LIMIT {
                let status = self.api().get("/connectors?expand=status")?;
                bail!("{what}: {state}\n{status:#}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix} {n}")).collect()
}

/// Lines flow, also after a pause, a stop and a restart, each once.
fn life(job: &Job) -> Result<()> {
    let api = job.api();
    let mut lines = numbered("line", 1000);
    job.append("life.in", &lines)?;
    job.source("life", "life")?;
    job.sink("life-copy", "life", json!({}))?;
    job.wait_lines("life-copy.out", &lines).context("from the start")?;

    for (state, states) in [("pause", "PAUSED PAUSED"), ("stop", "STOPPED")] {
        for name in ["life", "life-copy"] {
            api.done("PUT", &format!("/connectors/{name}/{state}"), None)?;
            api.wait_states(name, states, LIMIT)?;
        }
        let more = numbered(state, 10);
        job.append("life.in", &more)?;
        std::thread::sleep(Duration::from_millis(1200));
        ensure!(job.lines("life-copy.out") == lines, "lines flow after {state}");
        lines.extend(more);
        // The source alone first: nothing may reach the file.
        api.done("PUT", "/connectors/life/resume", None)?;
        job.running("life")?;
        std::thread::sleep(Duration::from_millis(500));
        ensure!(job.lines("life-copy.out").len() == lines.len() - 10, "the sink works after {state}");
        api.done("PUT", "/connectors/life-copy/resume", None)?;
        job.running("life-copy")?;
        job.wait_lines("life-copy.out", &lines).with_context(|| format!("after {state}"))?;
    }
    for path in ["restart?includeTasks=true", "restart", "tasks/0/restart"] {
        for name in ["life", "life-copy"] {
            api.done("POST", &format!("/connectors/{name}/{path}"), None)?;
        }
        let more = numbered(path, 10);
        job.append("life.in", &more)?;
        lines.extend(more);
        job.wait_lines("life-copy.out", &lines).with_context(|| format!("after {path}"))?;
    }
    // A half line waits for its end.
    write!(File::options().append(true).open(job.path("life.in"))?, "half ")?;
    std::thread::sleep(Duration::from_millis(500));
    writeln!(File::options().append(true).open(job.path("life.in"))?, "and whole")?;
    lines.push("half and whole".to_owned());
    job.wait_lines("life-copy.out", &lines).context("after a half line")?;
    api.done("DELETE", "/connectors/life", None)?;
    api.done("DELETE", "/connectors/life-copy", None).map(drop)
}

/// A worker that is killed in the middle loses nothing, and repeats only what it had not committed.
fn kills(job: &mut Job) -> Result<()> {
    let count = 100_000;
    let lines = numbered("a line that is somewhat longer than a number alone,", count);
    job.append("kills.in", &lines)?;
    job.source("kills", "kills")?;
    job.sink("kills-copy", "kills", json!({}))?;
    for at in [1, 2] {
        let share = count * at / 3;
        job.wait("lines to arrive", || {
            let arrived = job.lines("kills-copy.out").len();
            Ok((arrived < share).then(|| format!("{arrived} of {share}")))
        })?;
        job.worker.process().kill();
        // What the sink has committed is in the file.
        let written = job.lines("kills-copy.out").len();
        let committed = committed(&job.bootstrap, "connect-kills-copy")?;
        ensure!(committed <= written, "committed offset {committed}, and {written} lines are in the file");
        job.worker.restart()?;
    }
    let wanted: BTreeSet<&String> = lines.iter().collect();
    job.wait("every line to arrive", || {
        let arrived = job.lines("kills-copy.out");
        let missing =
            wanted.len() - arrived.iter().filter(|l| wanted.contains(l)).collect::<BTreeSet<_>>().len();
        Ok((missing > 0).then(|| format!("{missing} are missing")))
    })?;
    // In the topic the lines are in order, but for one step back at each kill.
    let in_topic = read_topic(&job.bootstrap, "kills")?;
    let number: BTreeMap<&String, usize> = lines.iter().enumerate().map(|(n, line)| (line, n)).collect();
    let (mut next, mut back) = (0, 0);
    for Printed { value, .. } in &in_topic {
        let n = *number.get(value).with_context(|| format!("a line that was never written: {value}"))?;
        ensure!(n <= next, "line {next} is missing before line {n}");
        back += usize::from(n < next);
        next = n + 1;
    }
    ensure!(next == count, "the topic ends with line {next} of {count}");
    ensure!(back <= 2, "{back} steps back after 2 kills");
    job.api().done("DELETE", "/connectors/kills", None)?;
    job.api().done("DELETE", "/connectors/kills-copy", None).map(drop)
}

/// The offset that a group has committed for its only partition; 0 where there is none.
fn committed(bootstrap: &str, group: &str) -> Result<usize> {
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let text = tool(class, &["--bootstrap-server", bootstrap, "--describe", "--offsets", "--group", group])?;
    let row = text.lines().find(|line| line.starts_with(group));
    Ok(row.and_then(|row| row.split_whitespace().nth(3)?.parse().ok()).unwrap_or(0))
}

/// Writes values into a topic with Kafka's console producer.
fn produce(bootstrap: &str, topic: &str, values: &[&str]) -> Result<()> {
    let mut command = java("256m", "org.apache.kafka.tools.ConsoleProducer")?;
    command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    input.write_all(values.iter().map(|value| format!("{value}\n")).collect::<String>().as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "the console producer failed");
    Ok(())
}

const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";

fn errors(job: &Job) -> Result<()> {
    let api = job.api();
    produce(&job.bootstrap, "mixed", &["{\"a\":1}", "not JSON", "{\"a\":2}"])?;

    // Without tolerance the task fails, and says where.
    let json = |more: Value| {
        let mut all = json!({"value.converter": JSON, "value.converter.schemas.enable": "false"});
        for (key, value) in more.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        all
    };
    job.sink("strict", "mixed", json(json!({})))?;
    let trace = job.failed("strict")?;
    for part in [
        "mixed-0@1",
        "strict-0",
        "VALUE_CONVERTER",
        "errors.tolerance",
        "looks like",
        "the value of mixed-0@1 (",
    ] {
        ensure!(trace.contains(part), "the trace names no {part}:\n{trace}");
    }
    ensure!(job.lines("strict.out").len() <= 1, "records after the bad one were written");
    // A restart alone mends nothing; the settings do, and nothing is missing then.
    api.done("POST", "/connectors/strict/restart?includeTasks=true&onlyFailed=true", None)?;
    std::thread::sleep(Duration::from_millis(500));
    job.failed("strict")?;
    api.done("PATCH", "/connectors/strict/config", Some(&json!({"errors.tolerance": "all"})))?;
    job.running("strict")?;
    job.wait("both good records", || {
        let lines = job.lines("strict.out");
        let found = lines.iter().any(|l| l.contains('1')) && lines.iter().any(|l| l.contains('2'));
        Ok((!found).then(|| format!("{lines:?}")))
    })?;

    // With tolerance and a dead-letter topic the bad record is kept there.
    let letters = |topic: &str| {
        json!({
            "errors.tolerance": "all",
            "errors.deadletterqueue.topic.name": topic,
            "errors.deadletterqueue.topic.replication.factor": "1",
            "errors.deadletterqueue.context.headers.enable": "true",
        })
    };
    job.sink("lenient", "mixed", json(letters("letters")))?;
    job.running("lenient")?;
    job.wait("both good records", || {
        let lines = job.lines("lenient.out");
        Ok((lines.len() != 2).then(|| format!("{lines:?}")))
    })?;
    let headers = dead_letter(&wait_records(&job.bootstrap, "letters")?)?;
    for (name, value) in [
        ("topic", "mixed"),
        ("partition", "0"),
        ("offset", "1"),
        ("connector.name", "lenient"),
        ("task.id", "0"),
        ("stage", "VALUE_CONVERTER"),
        ("class.name", JSON),
        ("exception.class.name", "org.apache.kafka.connect.errors.DataException"),
    ] {
        ensure!(headers.get(name).map(String::as_str) == Some(value), "{name} is not {value}: {headers:#?}");
    }

    // A task that failed because of its surroundings goes on after a restart when they are mended.
    let folder = job.path("later");
    fs::create_dir(&folder)?;
    job.sink("later", "mixed", json!({"file": folder.join("out.txt")}))?;
    job.running("later")?;
    api.done("PUT", "/connectors/later/stop", None)?;
    api.wait_states("later", "STOPPED", LIMIT)?;
    fs::remove_dir_all(&folder)?;
    fs::write(&folder, "in the way")?;
    api.done("PUT", "/connectors/later/resume", None)?;
    job.wait("a failure", || {
        let states = api.states("later")?;
        Ok((!states.contains("FAILED")).then_some(states))
    })?;
    fs::remove_file(&folder)?;
    fs::create_dir(&folder)?;
    api.done("POST", "/connectors/later/restart?includeTasks=true&onlyFailed=true", None)?;
    job.running("later")?;
    produce(&job.bootstrap, "mixed", &["{\"a\":3}"])?;
    job.wait("a line after the restart", || {
        let text = fs::read_to_string(folder.join("out.txt")).unwrap_or_default();
        Ok((!text.contains("{\"a\":3}")).then_some(text))
    })?;
    for name in ["strict", "lenient", "later"] {
        api.done("DELETE", &format!("/connectors/{name}"), None)?;
    }
    Ok(())
}

/// Records of a topic, once there are some.
fn wait_records(bootstrap: &str, topic: &str) -> Result<Vec<Printed>> {
    let from = Instant::now();
    loop {
        let records = read_topic(bootstrap, topic)?;
        if !records.is_empty() || from.elapsed() > LIMIT {
            return Ok(records);
        }
    }
}

/// Headers of the only dead letter, without their common prefix.
fn dead_letter(records: &[Printed]) -> Result<BTreeMap<String, String>> {
    let [record] = records else { bail!("{} dead letters: {records:#?}", records.len()) };
    ensure!(record.value == "not JSON" && record.key == "null", "{record:#?}");
    record
        .headers
        .split('\u{1e}')
        .map(|header| {
            let (name, value) = header.split_once(':').with_context(|| header.to_owned())?;
            let name = name.strip_prefix("__connect.errors.").with_context(|| header.to_owned())?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The JVM's worker says the same of the same record.
fn same_dead_letter(job: &Job) -> Result<()> {
    let settings = [
        ("group.id", "jvm"),
        ("config.storage.topic", "jvm-configs"),
        ("status.storage.topic", "jvm-status"),
    ];
    let mut jvm = JvmWorker::start(&job.bootstrap, &settings)?;
    let config = json!({
        "connector.class": "FileStreamSink",
        "file": job.path("jvm.out"),
        "topics": "mixed",
        "value.converter": JSON,
        "value.converter.schemas.enable": "false",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": "jvm-letters",
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    });
    jvm.api().put("lenient-jvm", &config)?;
    jvm.api().wait_states("lenient-jvm", "RUNNING RUNNING", LIMIT)?;
    job.wait("the good records", || Ok((job.lines("jvm.out").len() < 2).then(|| "too few".to_owned())))?;
    let read = |topic: &str| dead_letter(&wait_records(&job.bootstrap, topic)?);
    let (theirs, ours) = (read("jvm-letters")?, read("letters")?);
    jvm.stop()?;
    ensure!(ours.keys().eq(theirs.keys()), "headers: ours {ours:#?}, the JVM's {theirs:#?}");
    let own = ["connector.name", "exception.stacktrace"];
    for (name, value) in &theirs {
        // Java has no more to say there.
        let value = value.trim_end_matches(": ");
        ensure!(
            own.contains(&name.as_str()) || ours[name] == value,
            "{name}: ours {}, the JVM's {value}",
            ours[name]
        );
    }
    ensure!(ours["exception.stacktrace"].contains("looks like"), "{}", ours["exception.stacktrace"]);
    Ok(())
}

/// Secrets of connectors show up in no log line, even where everything is logged and everything fails.
fn secrets(job: &Job) -> Result<()> {
    let api = job.api();
    // It stays so: the log is searched at the end.
    api.done("PUT", "/admin/loggers/root", Some(&json!({"level": "TRACE"})))?;
    let config = json!({
        "connector.class": "io.debezium.connector.mysql.MySqlConnector",
        "database.hostname": "127.0.0.1",
        "database.port": "1",
        "database.user": "somebody",
        "database.password": "hunter2-of-mysql",
        "database.server.id": "1",
        "topic.prefix": "secrets",
        "producer.override.sasl.jaas.config": "hunter2-of-jaas",
    });
    // Whether it is refused or fails later, it is not reachable.
    let answer = api.call("PUT", "/connectors/secrets/config", Some(&config))?;
    let refused = answer.body.to_string();
    ensure!(answer.status == 201 || !refused.contains("hunter2"), "{refused}");
    let jdbc = json!({
        "connector.class": "JdbcSource",
        "connection.url": "jdbc:mysql://127.0.0.1:1/shop?user=somebody&password=hunter2-of-url",
        "connection.password": "hunter2-of-jdbc",
        "mode": "bulk",
        "topic.prefix": "secrets-",
        "tasks.max": "none",
    });
    let answer = api.call("PUT", "/connectors/secrets-2/config", Some(&jdbc))?;
    ensure!(answer.status == 400 && !answer.body.to_string().contains("hunter2"), "{answer:?}");
    let mut jdbc = jdbc;
    jdbc["tasks.max"] = json!("1");
    api.call("PUT", "/connectors/secrets-2/config", Some(&jdbc))?;
    std::thread::sleep(Duration::from_secs(3));
    for name in ["secrets", "secrets-2"] {
        let status = api.call("GET", &format!("/connectors/{name}/status"), None)?.body.to_string();
        ensure!(!status.contains("hunter2"), "{status}");
        api.call("DELETE", &format!("/connectors/{name}"), None)?;
    }
    Ok(())
}

fn no_secret_in(log: &str) -> Result<()> {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("hunter2")).take(3).collect();
    ensure!(lines.is_empty(), "the log holds a secret: {lines:#?}");
    ensure!(log.contains("DEBUG"), "the log holds no DEBUG line");
    Ok(())
}

/// SIGTERM: stopped soon, everything written and committed, every status UNASSIGNED.
fn clean_stop(job: &mut Job) -> Result<()> {
    let lines = numbered("stop", 50_000);
    job.append("stop.in", &lines)?;
    job.source("stop", "stop")?;
    job.sink("stop-copy", "stop", json!({}))?;
    job.running("stop")?;
    job.running("stop-copy")?;
    job.wait("some lines", || Ok(job.lines("stop-copy.out").is_empty().then(|| "none".to_owned())))?;
    job.worker.process().terminate(LIMIT)?;
    ensure!(job.worker.process().exit_code() == Some(0), "exit code {:?}", job.worker.process().exit_code());
    no_secret_in(&job.worker.process().log())?;
    let mut last = BTreeMap::new();
    for record in read_topic(&job.bootstrap, "connect-status")? {
        let state = record.json()?["state"].as_str().map(str::to_owned);
        last.insert(record.key, state);
    }
    for key in [
        "status-connector-stop",
        "status-task-stop-0",
        "status-connector-stop-copy",
        "status-task-stop-copy-0",
    ] {
        ensure!(last.get(key) == Some(&Some("UNASSIGNED".to_owned())), "{key}: {last:#?}");
    }
    // What was written is committed: after a clean stop nothing is repeated.
    ensure!(committed(&job.bootstrap, "connect-stop-copy")? == job.lines("stop-copy.out").len());
    job.worker.restart()?;
    job.wait_lines("stop-copy.out", &lines)?;
    job.worker.process().terminate(LIMIT)
}

#[test]
fn files_flow_through_our_broker() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut job = Job::start(broker.bootstrap())?;
    life(&job)?;
    kills(&mut job).context("kills of the worker")?;
    errors(&job).context("errors")?;
    secrets(&job).context("secrets")?;
    broker_kill(&mut broker, &job).context("a kill of the broker")?;
    clean_stop(&mut job).context("a clean stop")
}

/// A broker that is killed while lines flow is waited for, and nothing is lost.
fn broker_kill(broker: &mut Broker, job: &Job) -> Result<()> {
    let lines = numbered("broker", 100_000);
    job.append("broker.in", &lines)?;
    job.source("broker", "broker")?;
    job.sink("broker-copy", "broker", json!({}))?;
    job.wait("some lines", || Ok(job.lines("broker-copy.out").is_empty().then(|| "none".to_owned())))?;
    broker.process().kill();
    std::thread::sleep(Duration::from_secs(1));
    broker.restart()?;
    let wanted: BTreeSet<&String> = lines.iter().collect();
    job.wait("every line", || {
        let arrived = job.lines("broker-copy.out");
        let found: BTreeSet<&String> = arrived.iter().collect();
        let missing = wanted.difference(&found).count();
        Ok((missing > 0).then(|| format!("{missing} of {} are missing", lines.len())))
    })?;
    job.running("broker")?;
    job.running("broker-copy")?;
    job.api().done("DELETE", "/connectors/broker", None)?;
    job.api().done("DELETE", "/connectors/broker-copy", None).map(drop)
}

#[test]
fn files_flow_through_apache_kafka() -> Result<()> {
    let kafka = Kafka::start()?;
    let mut job = Job::start(kafka.bootstrap())?;
    life(&job)?;
    kills(&mut job).context("kills of the worker")?;
    errors(&job).context("errors")?;
    same_dead_letter(&job).context("the dead letter of the JVM's worker")?;
    secrets(&job).context("secrets")?;
    clean_stop(&mut job).context("a clean stop")
}
