//! The REST contract, as scenarios that both our worker and the JVM's have to pass.
//!
//! A scenario is a text file: a request (`METHOD PATH [JSON]`), then what has to come back (`STATUS [JSON]`). A request after
//! `eventually` is repeated until it fits. `${dir}` is a temporary directory. How answers are compared: `common::fits`.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct_tests::kafka::Kafka;
use serde_json::Value;

use common::{Jvm, Ours, fits, request};

struct Step {
    line: usize,
    eventually: bool,
    method: String,
    path: String,
    body: String,
    status: u16,
    wanted: Option<Value>,
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line_number = number + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            let step = steps.last_mut().context("an answer without a request")?;
            let (status, wanted) = line.split_once(' ').unwrap_or((line, ""));
            step.status = status.parse()?;
            step.wanted = match wanted {
                "" => None,
                json => Some(serde_json::from_str(json).with_context(|| format!("line {line_number}"))?),
            };
            continue;
        }
        let (eventually, rest) = line.strip_prefix("eventually ").map_or((false, line), |rest| (true, rest));
        let mut parts = rest.splitn(3, ' ');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (method, path, body) = (next(), next(), next());
        steps.push(Step { line: line_number, eventually, method, path, body, status: 0, wanted: None });
    }
    Ok(steps)
}

async fn run(port: u16, file: &Path, dir: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file)?.replace("${dir}", &dir.to_string_lossy());
    for step in parse(&text)? {
        let from = Instant::now();
        loop {
            let answer = request(port, &step.method, &step.path, &step.body).await?;
            let good = answer.status == step.status
                && step.wanted.as_ref().is_none_or(|wanted| fits(wanted, &answer.body));
            if good {
                break;
            }
            if !step.eventually || from.elapsed() > Duration::from_secs(30) {
                let Step { line, method, path, body, status, wanted, .. } = &step;
                bail!(
                    "{}:{line}: {method} {path} {body}\n wanted: {status} {}\n found:  {} {}",
                    file.display(),
                    wanted.as_ref().map(Value::to_string).unwrap_or_default(),
                    answer.status,
                    answer.body
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

fn files() -> Result<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort_unstable();
    Ok(files)
}

async fn run_all(port: u16, dir: &Path) -> Result<()> {
    for file in files()? {
        let name = file.file_stem().context("a file has a name")?;
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("in.txt"), "a\nb\nc\n")?;
        run(port, &file, &dir).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_worker_passes_every_scenario() -> Result<()> {
    let (kafka, dir) = (Kafka::start()?, tempfile::tempdir()?);
    let worker = Ours::start(&kafka.bootstrap(), "scenarios").await?;
    run_all(worker.port, dir.path()).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jvm_worker_passes_every_scenario() -> Result<()> {
    let (kafka, dir) = (Kafka::start()?, tempfile::tempdir()?);
    let worker = Jvm::start(&kafka.bootstrap(), "scenarios", dir.path()).await?;
    run_all(worker.port, dir.path()).await?;
    worker.stop()
}
