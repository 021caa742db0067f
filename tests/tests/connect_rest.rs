//! The contracts of the Connect REST API, as data in `tests/scenarios/connect`: each runs against our worker and against
//! the JVM's. Where ours must answer differently, the step says so and `docs/compatibility.md` gives the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::connect::Api;
use aqueduct_tests::install::workspace;
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::Kafka;
use aqueduct_tests::openapi::Description;
use aqueduct_tests::scenario::{Peer, Scenario, mismatch, validations_differ};
use serde_json::{Value, json};
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

/// A peer while requests are refused: what was there before the first of them.
#[derive(Default)]
struct Refused(Option<(usize, Value)>);

impl Refused {
    fn begin(&mut self, step: usize, peer: &Peer, watched: &[String]) -> Result<()> {
        if self.0.is_none() {
            self.0 = Some((step, peer.state(watched)?));
        }
        Ok(())
    }

    /// # Errors
    /// Where something is not as it was.
    fn end(&mut self, step: usize, peer: &Peer, watched: &[String]) -> Result<()> {
        let Some((first, before)) = self.0.take() else { return Ok(()) };
        let wrong = mismatch(&before, &peer.state(watched)?, "");
        let name = peer.name;
        ensure!(
            wrong.is_none(),
            "{name}: one of steps {first} to {step} was refused and has changed something: {wrong:?}"
        );
        Ok(())
    }
}

/// Runs the steps of a scenario, on all peers before the next. What is refused must change nothing.
fn run(scenario: &Scenario, peers: &[Peer; 2]) -> Result<()> {
    let [ours, reference] = peers;
    let watched = &scenario.watched;
    let mut refused = [Refused::default(), Refused::default()];
    for (number, step) in (1..).zip(&scenario.steps) {
        for (peer, refused) in peers.iter().zip(&mut refused) {
            if step.is_refused(peer) {
                refused.begin(number, peer, watched)?;
            } else if step.changes() {
                refused.end(number - 1, peer, watched)?;
            }
        }
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
    for (peer, refused) in peers.iter().zip(&mut refused) {
        refused.end(scenario.steps.len(), peer, watched)?;
    }
    Ok(())
}

/// The endpoints of the reference, as its documentation lists them: paths, with `{}` for a name, and their methods.
const ENDPOINTS: [(&str, &[&str]); 23] = [
    ("/", &["GET"]),
    ("/health", &["GET"]),
    ("/connectors", &["GET", "POST"]),
    ("/connectors/{}", &["GET", "DELETE"]),
    ("/connectors/{}/config", &["GET", "PUT", "PATCH"]),
    ("/connectors/{}/status", &["GET"]),
    ("/connectors/{}/tasks", &["GET", "POST"]),
    ("/connectors/{}/tasks/{}/status", &["GET"]),
    ("/connectors/{}/tasks/{}/restart", &["POST"]),
    ("/connectors/{}/restart", &["POST"]),
    ("/connectors/{}/pause", &["PUT"]),
    ("/connectors/{}/resume", &["PUT"]),
    ("/connectors/{}/stop", &["PUT"]),
    ("/connectors/{}/fence", &["PUT"]),
    ("/connectors/{}/topics", &["GET"]),
    ("/connectors/{}/topics/reset", &["PUT"]),
    ("/connectors/{}/offsets", &["GET", "PATCH", "DELETE"]),
    ("/connector-plugins", &["GET"]),
    ("/connector-plugins/{}/config", &["GET"]),
    ("/connector-plugins/{}/config/validate", &["PUT"]),
    ("/admin/loggers", &["GET"]),
    ("/admin/loggers/{}", &["GET", "PUT"]),
    ("/nowhere", &[]),
];
/// Those that only ours has.
const OWN_ENDPOINTS: [&str; 5] =
    ["/connectors/{}/explain", "/health/live", "/health/ready", "/metrics", "/openapi.json"];

/// `/openapi.json` describes what the reference has, and ours beside it; and the reference, which says of each path what may
/// be asked of it, agrees.
fn same_endpoints(description: &Description, ours: &Api, reference: &Api) -> Result<()> {
    let mut described = BTreeMap::new();
    for (path, methods) in description.paths()? {
        let parts: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
        described.insert(parts.join("/"), methods);
    }
    let set =
        |methods: &[&str]| methods.iter().map(|method| (*method).to_owned()).collect::<BTreeSet<String>>();
    let own = OWN_ENDPOINTS.iter().map(|path| (*path, &["GET"][..]));
    let listed = ENDPOINTS.into_iter().filter(|(_, methods)| !methods.is_empty()).chain(own);
    let listed: BTreeMap<String, BTreeSet<String>> =
        listed.map(|(path, methods)| (path.to_owned(), set(methods))).collect();
    ensure!(described == listed, "described are {described:?}, listed {listed:?}");
    let allowed = |api: &Api, path: &str| -> Result<BTreeSet<String>> {
        let answer = api.call("OPTIONS", &path.replace("{}", "1"), None)?;
        let text = answer.body.as_str().unwrap_or_default().to_owned();
        ensure!(
            answer.status == 200 || answer.status == 404,
            "OPTIONS {path}: {} {}",
            answer.status,
            answer.body
        );
        let methods = text.split(',').map(|method| method.trim().to_owned());
        Ok(methods.filter(|method| !matches!(&**method, "" | "OPTIONS" | "HEAD")).collect())
    };
    for (path, methods) in ENDPOINTS {
        let (own, others) = (allowed(ours, path)?, allowed(reference, path)?);
        ensure!(own == set(methods) && others == own, "{path}: ours has {own:?}, the reference {others:?}");
    }
    for path in OWN_ENDPOINTS {
        let (own, others) = (allowed(ours, path)?, allowed(reference, path)?);
        ensure!(
            own == set(&["GET"]) && others.is_empty(),
            "{path}: ours has {own:?}, the reference {others:?}"
        );
    }
    Ok(())
}

/// Every answer of success that is described has been given, but for those that workers give each other.
fn all_described(description: &Description, api: &Api, dir: &str) -> Result<()> {
    api.put("e", &json!({"connector.class": "FileStreamSource", "topic": "described", "file": format!("{dir}/in.txt")}))?;
    api.wait_states("e", "RUNNING RUNNING", Duration::from_secs(60))?;
    for path in OWN_ENDPOINTS {
        let path = path.replace("{}", "e");
        let answer = api.call("GET", &path, None)?;
        ensure!(answer.status == 200, "GET {path}: {}", answer.status);
        let wrong = description.judge("GET", &path, &answer);
        ensure!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    }
    api.done("DELETE", "/connectors/e", None)?;
    let mut unseen = description.unseen()?;
    unseen.retain(|(method, path, _)| {
        !(method == "POST" && path.ends_with("/tasks") || path.ends_with("/fence"))
    });
    ensure!(unseen.is_empty(), "described and never given: {unseen:?}");
    Ok(())
}

#[test]
fn ours_and_the_reference_answer_alike() -> Result<()> {
    // Each on a cluster of its own: connectors of the same name share a consumer group.
    let (broker, kafka) = (Broker::start()?, Kafka::start()?);
    // What has failed is to be seen for a while: the reference starts nothing again.
    let ours = Worker::start(&broker.bootstrap(), &[("aqueduct.task.restart.backoff.ms", "30000")])?;
    let reference = JvmWorker::start(&kafka.bootstrap(), &[])?;
    let dirs = (TempDir::with_prefix("connect-a-")?, TempDir::with_prefix("connect-b-")?);
    let text = |dir: &TempDir| dir.path().to_string_lossy().into_owned();
    for dir in [&dirs.0, &dirs.1] {
        fs::write(dir.path().join("in.txt"), "one\ntwo\nthree\n")?;
    }
    let description = Some(Description::of(&ours.api())?);
    let peers = [
        Peer { name: "ours", port: ours.port(), dir: text(&dirs.0), ours: true, description },
        Peer {
            name: "the reference",
            port: reference.port(),
            dir: text(&dirs.1),
            ours: false,
            description: None,
        },
    ];
    let mut failed = Vec::new();
    for (name, scenario) in scenarios()? {
        let began = Instant::now();
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
        println!("{name}: {:?}", began.elapsed());
    }
    ensure!(failed.is_empty(), "\n{}", failed.join("\n\n"));
    if let Some(description) = &peers[0].description {
        same_endpoints(description, &ours.api(), &reference.api())?;
        if std::env::var("SCENARIO").is_err() {
            all_described(description, &ours.api(), &peers[0].dir)?;
        }
    }
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
