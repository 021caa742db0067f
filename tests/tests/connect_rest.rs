//! The contracts of the Connect REST API, as data in `tests/scenarios/connect`: each runs against our worker and against
//! the JVM's. Where ours must answer differently, the step says so and `docs/compatibility.md` gives the reason.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::install::workspace;
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::Kafka;
use aqueduct_tests::scenario::{Peer, Scenario, mismatch, validations_differ};
use tempfile::TempDir;

fn scenarios() -> Result<Vec<(String, Scenario)>> {
    let only = std::env::var("SCENARIO").unwrap_or_default();
    let dir = workspace().join("tests/scenarios/connect");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&dir).with_context(|| dir.display().to_string())?.flatten().map(|e| e.path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains(&only) {
            let text = fs::read_to_string(&path)?;
            all.push((name, serde_json::from_str(&text).with_context(|| path.display().to_string())?));
        }
    }
    ensure!(!all.is_empty(), "no scenario in {}", dir.display());
    Ok(all)
}

/// Runs the steps of a scenario, on all peers before the next.
fn run(scenario: &Scenario, peers: &[Peer; 2]) -> Result<()> {
    for (number, step) in (1..).zip(&scenario.steps) {
        let [ours, reference] = peers;
        let answer = step.run(reference).and_then(|other| Ok((step.run(ours)?, other)));
        let (answer, other) = answer.with_context(|| format!("step {number}"))?;
        if let Some(except) = &step.except {
            let differ = validations_differ(&other.body, &answer.body, except);
            ensure!(differ.is_empty(), "step {number}: {} {:?}\n{}", step.call, step.body, differ.join("\n"));
        } else if step.answer.is_none()
            && step.ours.is_none()
            && let Some(wrong) = mismatch(&other.body, &answer.body, "")
        {
            bail!("step {number}: {}: ours differs from the reference: {wrong}", step.call);
        }
    }
    Ok(())
}

#[test]
fn ours_and_the_reference_answer_alike() -> Result<()> {
    // Each on a cluster of its own: connectors of the same name share a consumer group.
    let (broker, kafka) = (Broker::start()?, Kafka::start()?);
    let ours = Worker::start(&broker.bootstrap(), &[])?;
    let reference = JvmWorker::start(&kafka.bootstrap(), &[])?;
    let dirs = (TempDir::with_prefix("connect-a-")?, TempDir::with_prefix("connect-b-")?);
    let text = |dir: &TempDir| dir.path().to_string_lossy().into_owned();
    for dir in [&dirs.0, &dirs.1] {
        fs::write(dir.path().join("in.txt"), "one\ntwo\nthree\n")?;
    }
    let peers = [
        Peer { name: "ours", port: ours.port(), dir: text(&dirs.0), ours: true },
        Peer { name: "the reference", port: reference.port(), dir: text(&dirs.1), ours: false },
    ];
    let mut failed = Vec::new();
    for (name, scenario) in scenarios()? {
        if let Err(error) = run(&scenario, &peers) {
            failed.push(format!("{name}: {error:#}"));
            for api in [ours.api(), reference.api()] {
                for connector in api.get("/connectors")?.as_array().into_iter().flatten() {
                    api.done(
                        "DELETE",
                        &format!("/connectors/{}", connector.as_str().unwrap_or_default()),
                        None,
                    )?;
                }
            }
        }
    }
    ensure!(failed.is_empty(), "\n{}", failed.join("\n\n"));
    Ok(())
}

#[test]
fn every_difference_has_its_reason() -> Result<()> {
    let text =
        fs::read_to_string(workspace().join("docs/compatibility.md")).context("docs/compatibility.md")?;
    for (name, scenario) in scenarios()? {
        for step in &scenario.steps {
            let differs = step.ours.is_some() || step.except.as_ref().is_some_and(|all| !all.is_empty());
            ensure!(
                differs == step.difference.is_some(),
                "{name}: {}: a difference needs a reason",
                step.call
            );
            if let Some(heading) = &step.difference {
                ensure!(
                    text.contains(&format!("**{heading}**")),
                    "{name}: {}: docs/compatibility.md has no **{heading}**",
                    step.call
                );
            }
        }
    }
    Ok(())
}
