//! How long it takes until what was asked for runs, and what many connectors cost that do nothing.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::kafka::text_of;
use serde_json::{Value, json};

use super::Run;
use super::worker::{PEERS, Worker, until};
use crate::measure::memory_mib;
use crate::report::{Demand, OURS};

pub const START: &str = "worker start";
pub const POST: &str = "POST -> RUNNING";
pub const CHANGE: &str = "config change, 3 workers";
pub const MANY: &str = "connectors created by a script";

/// Connectors that are created one after the other to be timed.
const POSTS: usize = 5;
/// Changes that are timed.
const CHANGES: usize = 3;
/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(2);

/// The source of `file`, a line a record.
pub fn source(file: &str, topic: &str) -> Value {
    json!({
        "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "file": file, "topic": topic,
    })
}

/// A worker that starts, rests, and is given its first connectors.
pub fn start_and_post(run: &mut Run<'_>) -> Result<()> {
    run.report.demand(START, "REST ready, ms", Demand::Below(300.0));
    run.report.demand(START, "idle, resident MiB", Demand::Below(40.0));
    run.report.demand(POST, "ms", Demand::Below(200.0));
    for peer in PEERS {
        let group = run.group(peer, "start");
        let worker = Worker::start(peer, &group, run.broker, run.dir)?;
        run.report.add(START, "REST ready, ms", peer, worker.ready_ms);
        run.report.add(START, "member of its group, ms", peer, worker.healthy_ms);
        std::thread::sleep(Duration::from_secs(5));
        run.report.add(START, "idle, resident MiB", peer, memory_mib(worker.id())?.0);
        if run.wants(POST) {
            let file = run.dir.join("empty.txt");
            fs::write(&file, "")?;
            for number in 0..POSTS {
                let (name, from) = (format!("one-{number}"), Instant::now());
                let body = json!({ "name": name, "config": source(&file.to_string_lossy(), "nothing") });
                worker.rest.done("POST", "/connectors", Some(&body))?;
                until(POST, LOOK, || worker.rest.is_running(&name, 1))?;
                run.report.add(POST, "ms", peer, from.elapsed().as_secs_f64() * 1000.0);
            }
        }
        worker.stop()?;
    }
    Ok(())
}

/// A change of a connector's file, until the first line of the new one is in the topic.
pub fn change(run: &mut Run<'_>) -> Result<()> {
    let measure = "to the new task's first record, ms";
    run.report.demand(CHANGE, measure, Demand::Below(1000.0));
    for peer in PEERS {
        let group = run.group(peer, "three");
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(Worker::start(peer, &group, run.broker, run.dir)?);
        }
        let topic = format!("{group}-lines");
        run.create(&topic, 1)?;
        let mut file = |number: usize| -> Result<String> {
            let path = run.dir.join(format!("{group}-{number}.txt"));
            fs::write(&path, "line\n")?;
            Ok(path.to_string_lossy().into_owned())
        };
        let files = (0..=CHANGES).map(&mut file).collect::<Result<Vec<_>>>()?;
        for (number, file) in files.iter().enumerate() {
            let from = Instant::now();
            // Asked of a worker that need not be the leader, nor run the task.
            let path = "/connectors/changed/config";
            workers[number % 3].rest.done("PUT", path, Some(&source(file, &topic)))?;
            until(CHANGE, LOOK, || Ok(run.end(&topic, 1)? > number as i64))?;
            if number > 0 {
                run.report.add(CHANGE, measure, peer, from.elapsed().as_secs_f64() * 1000.0);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        workers.into_iter().try_for_each(Worker::stop)?;
    }
    Ok(())
}

/// Many connectors out of a script, each of which reads a line and then has nothing to do.
pub fn many(run: &mut Run<'_>) -> Result<()> {
    let idle = "idle tasks in one worker";
    run.report.demand(MANY, "s", Demand::Below(30.0));
    run.report.demand(idle, "resident MiB", Demand::Below(300.0));
    for peer in PEERS {
        let count = if peer == OURS { run.args.connectors() } else { run.args.peer_connectors() };
        let group = run.group(peer, "many");
        let worker = Worker::start(peer, &group, run.broker, run.dir)?;
        let topic = format!("{group}-lines");
        run.create(&topic, 1)?;
        let file = run.dir.join("line.txt");
        fs::write(&file, "line\n")?;
        let from = Instant::now();
        for number in 0..count {
            let body = json!({ "name": format!("many-{number}"), "config": source(&file.to_string_lossy(), &topic) });
            curl(worker.rest.port, &body)?;
        }
        let seconds = from.elapsed().as_secs_f64();
        run.report.add(MANY, "s", peer, seconds);
        run.report.add(MANY, "ms a connector", peer, seconds * 1000.0 / count as f64);
        until(MANY, Duration::from_millis(50), || Ok(worker.rest.running()? >= count))?;
        run.report.add(MANY, "s until all RUNNING", peer, from.elapsed().as_secs_f64());
        run.report.add(MANY, "CPU s of the worker", peer, worker.cpu()?);
        until(MANY, Duration::from_millis(50), || Ok(run.end(&topic, 1)? >= count as i64))?;
        std::thread::sleep(Duration::from_secs(10));
        let before = worker.cpu()?;
        std::thread::sleep(Duration::from_secs(10));
        run.report.add(idle, "tasks", peer, count as f64);
        run.report.add(idle, "resident MiB", peer, memory_mib(worker.id())?.0);
        run.report.add(idle, "CPU %", peer, (worker.cpu()? - before) * 10.0);
        worker.stop()?;
    }
    Ok(())
}

/// What a script does: one `curl` after the other.
fn curl(port: u16, body: &Value) -> Result<()> {
    loop {
        let mut command = Command::new("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST"]);
        command.args(["-H", "Content-Type: application/json", "--data-binary"]).arg(body.to_string());
        let output = command.arg(format!("http://127.0.0.1:{port}/connectors")).output().context("curl")?;
        let status = text_of("curl", &output)?;
        // A rebalance is in the way.
        if status == "409" {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        ensure!(status == "201", "POST of {}: {status}", body["name"]);
        return Ok(());
    }
}
