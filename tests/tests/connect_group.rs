//! Three workers of ours in one group: requests to any of them are answered by the one that has to, and what they ask of each
//! other is signed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::{Answer, Broker, Worker};
use aqueduct_tests::console::read_topic;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);
const SETTINGS: &[(&str, &str)] = &[
    // Nobody vanishes: who leads stays the leader.
    ("session.timeout.ms", "60000"),
    ("heartbeat.interval.ms", "500"),
    ("offset.storage.partitions", "2"),
    ("status.storage.partitions", "2"),
    ("inter.worker.key.ttl.ms", "4000"),
];

fn source(dir: &TempDir, name: &str) -> Value {
    json!({
        "connector.class": "FileStreamSource", "file": dir.path().join(name), "topic": format!("t-{name}"),
        "tasks.max": "1",
    })
}

/// Sends a request, again and again while a rebalance is in its way.
fn send(worker: &Worker, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let from = Instant::now();
    loop {
        let answer = worker.rest(method, path, body)?;
        if answer.status != 409 || from.elapsed() > LIMIT {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn expect(worker: &Worker, method: &str, path: &str, body: Option<&Value>, status: u16) -> Result<Value> {
    let answer = send(worker, method, path, body)?;
    ensure!(answer.status == status, "{method} {path} at {}: {answer:?}", worker.url(""));
    Ok(answer.body)
}

/// Waits until the connectors run, one task each, on all of the workers.
fn wait_spread(worker: &Worker, names: &[&str], workers: usize) -> Result<()> {
    let from = Instant::now();
    loop {
        let all = worker.rest("GET", "/connectors?expand=status", None)?.body;
        let mut hosts = std::collections::BTreeSet::new();
        let running = names.iter().all(|name| {
            let status = &all[name]["status"];
            let mut parts = vec![&status["connector"]];
            parts.extend(status["tasks"].as_array().into_iter().flatten());
            hosts.extend(parts.iter().map(|part| part["worker_id"].to_string()));
            parts.len() == 2 && parts.iter().all(|part| part["state"] == "RUNNING")
        });
        if running && hosts.len() == workers {
            return Ok(());
        }
        if from.elapsed() > LIMIT {
            bail!("not all run on {workers} workers: {all:#}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn any_worker_takes_any_request() -> Result<()> {
    let (broker, dir) = (Broker::start()?, TempDir::with_prefix("connect-group-")?);
    let workers: Vec<Worker> =
        (0..3).map(|_| Worker::start(&broker.bootstrap(), SETTINGS)).collect::<Result<_>>()?;
    let names = ["a", "b", "c"];
    for (worker, name) in workers.iter().zip(names) {
        std::fs::write(dir.path().join(name), "one\ntwo\n")?;
        let body = json!({"name": name, "config": source(&dir, name)});
        let created = expect(worker, "POST", "/connectors", Some(&body), 201)?;
        ensure!(created["name"] == name && created["tasks"] == json!([]), "{created}");
    }
    wait_spread(&workers[0], &names, 3)?;

    for (number, worker) in workers.iter().enumerate() {
        for name in names {
            life(worker, &dir, name).with_context(|| format!("connector {name} through worker {number}"))?;
        }
        wait_spread(worker, &names, 3)?;
    }
    let existing = json!({"name": "a", "config": source(&dir, "a")});
    for worker in &workers {
        let answer = worker.rest("POST", "/connectors", Some(&existing))?;
        ensure!(answer.status == 409 && answer.body.to_string().contains("already exists"), "{answer:?}");
        expect(worker, "DELETE", "/connectors/nope", None, 404)?;
        let wrong = json!({"connector.class": "FileStreamSource", "tasks.max": "none"});
        expect(worker, "PUT", "/connectors/wrong/config", Some(&wrong), 400)?;
    }
    hops(&workers)?;
    signatures(&broker, &workers, &dir)?;
    for (worker, name) in workers.iter().zip(["b", "c", "a"]) {
        expect(worker, "DELETE", &format!("/connectors/{name}"), None, 204)?;
    }
    Ok(())
}

/// All that can be done with a connector, through one worker.
fn life(worker: &Worker, dir: &TempDir, name: &str) -> Result<()> {
    let path = |end: &str| format!("/connectors/{name}{end}");
    let mut config = source(dir, name);
    config["errors.log.enable"] = json!("true");
    expect(worker, "PUT", &path("/config"), Some(&config), 200)?;
    let patched = expect(worker, "PATCH", &path("/config"), Some(&json!({"errors.log.enable": null})), 200)?;
    ensure!(patched["config"].get("errors.log.enable").is_none(), "{patched}");
    expect(worker, "POST", &path("/restart"), None, 204)?;
    let state = expect(worker, "POST", &path("/restart?includeTasks=true&onlyFailed=false"), None, 202)?;
    ensure!(state["connector"]["state"] == "RESTARTING", "{state}");
    worker.wait_running(name, LIMIT)?;
    expect(worker, "POST", &path("/tasks/0/restart"), None, 204)?;
    expect(worker, "PUT", &path("/pause"), None, 202)?;
    worker.api().wait_states(name, "PAUSED PAUSED", LIMIT)?;
    expect(worker, "DELETE", &path("/offsets"), None, 400)?;
    expect(worker, "PUT", &path("/stop"), None, 204)?;
    worker.api().wait_states(name, "STOPPED", LIMIT)?;
    let offset = json!({"offsets": [
        {"partition": {"filename": dir.path().join(name)}, "offset": {"position": 4}},
    ]});
    expect(worker, "PATCH", &path("/offsets"), Some(&offset), 200)?;
    expect(worker, "DELETE", &path("/offsets"), None, 200)?;
    expect(worker, "PUT", &path("/resume"), None, 202)?;
    worker.wait_running(name, LIMIT)
}

/// A request that has come too far is refused, and one that has not yet is not.
fn hops(workers: &[Worker]) -> Result<()> {
    let config = json!({"connector.class": "FileStreamSource", "file": "/nowhere", "topic": "t"});
    let mut refused = 0;
    for worker in workers {
        let body = json!({"name": "hop", "config": config});
        let answer = worker.rest("POST", "/connectors?forward=false", Some(&body))?;
        match answer.status {
            201 => expect(worker, "DELETE", "/connectors/hop?forward=false", None, 204).map(drop)?,
            409 if answer.body.to_string().contains("(e.g. worker rebalance)") => refused += 1,
            _ => bail!("{answer:?}"),
        }
    }
    ensure!(refused == 2, "{refused} of three workers refused, all but the leader have to");
    Ok(())
}

/// What is not signed is refused, keys are replaced, and no log shows one.
fn signatures(broker: &Broker, workers: &[Worker], dir: &TempDir) -> Result<()> {
    let tasks = json!([{"file": "/etc/passwd", "topic": "stolen"}]);
    for worker in workers {
        let answer = worker.rest("POST", "/connectors/a/tasks", Some(&tasks))?;
        ensure!(answer.status == 400, "{answer:?}");
        ensure!(answer.body["message"] == "Internal request missing required signature", "{answer:?}");
        for (algorithm, status) in [("HmacSHA256", "403"), ("HmacSHA512", "400"), ("Rot13", "400")] {
            let mut command = std::process::Command::new("curl");
            command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--data-raw", "[]"]);
            command.args(["-H", "X-Connect-Authorization: AAAA", "-H", "Content-Type: application/json"]);
            command.arg("-H").arg(format!("X-Connect-Request-Signature-Algorithm: {algorithm}"));
            let output = command.arg(worker.url("/connectors/a/tasks")).output()?;
            let found = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(found == status, "a request with a wrong {algorithm} signature: {found}");
        }
    }
    let from = Instant::now();
    let keys = loop {
        let keys: Vec<String> = read_topic(&broker.bootstrap(), "connect-configs")?
            .into_iter()
            .filter(|record| record.key == "session-key")
            .map(|record| Ok(record.json()?["key"].as_str().context("a key")?.to_owned()))
            .collect::<Result<_>>()?;
        if keys.len() > 1 {
            break keys;
        }
        ensure!(from.elapsed() < LIMIT, "the session key is not replaced");
    };
    // With the new key, too, any worker's connector gets its tasks.
    for (worker, name) in workers.iter().zip(["a", "b", "c"]) {
        let mut config = source(dir, name);
        config["batch.size"] = json!("17");
        expect(worker, "PUT", &format!("/connectors/{name}/config"), Some(&config), 200)?;
        let from = Instant::now();
        let path = format!("/connectors/{name}/tasks");
        while worker.rest("GET", &path, None)?.body[0]["config"]["batch.size"] != "17" {
            ensure!(from.elapsed() < LIMIT, "the tasks of {name} are not renewed");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    for worker in workers {
        let log = worker.log();
        ensure!(keys.iter().all(|key| !log.contains(key)), "a session key is in the log");
    }
    Ok(())
}
