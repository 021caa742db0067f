//! What is wrong around a worker: an internal topic that would lose records, another cluster of workers on the same topics,
//! a password that is another one by now. Ours and the JVM's meet the same; where they differ `docs/compatibility.md` says why.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::connect::Api;
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::tool;
use aqueduct_tests::process::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

fn until(what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !ready()? {
        ensure!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What nobody may have changed: settings of all connectors, and offsets of one.
fn state(api: &Api, name: &str) -> Result<Value> {
    let offsets = api.get(&format!("/connectors/{name}/offsets"))?;
    Ok(json!({"infos": api.get("/connectors?expand=info")?, "offsets": offsets}))
}

/// A source that has read its file and was stopped.
fn stopped_source(api: &Api, name: &str, dir: &TempDir) -> Result<Value> {
    let file = dir.path().join(name);
    std::fs::write(&file, "one\ntwo\n")?;
    api.put(name, &json!({"connector.class": "FileStreamSource", "file": file, "topic": name}))?;
    let position = |offsets: &Value| offsets["offsets"][0]["offset"]["position"] == 8;
    until("the offset of the source", || Ok(position(&api.get(&format!("/connectors/{name}/offsets"))?)))?;
    api.done("PUT", &format!("/connectors/{name}/stop"), None)?;
    api.wait_states(name, "STOPPED", LIMIT)?;
    let info = || api.get(&format!("/connectors/{name}"));
    until("a stopped source has no tasks", || Ok(info()?["tasks"] == json!([])))?;
    state(api, name)
}

/// Waits until another worker knows the connector as this one does.
fn agree(api: &Api, name: &str, wanted: &Value) -> Result<()> {
    let mut seen = Ok(Value::Null);
    let agreed = until("two workers know the same", || {
        seen = state(api, name);
        Ok(seen.as_ref().is_ok_and(|seen| seen == wanted))
    });
    agreed.with_context(|| format!("{seen:?} is not {wanted}"))
}

#[test]
fn a_topic_that_would_lose_records_stops_every_worker() -> Result<()> {
    let broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    let topics = |words: &[&str]| {
        tool("org.apache.kafka.tools.TopicCommand", &[&["--bootstrap-server", &bootstrap], words].concat())
    };
    topics(&["--create", "--topic", "deleted", "--partitions", "3", "--config", "cleanup.policy=delete"])?;
    let before = topics(&["--describe", "--topic", "deleted"])?;
    let settings = [("offset.storage.topic", "deleted")];
    let refused = Worker::start(&bootstrap, &settings).err().context("ours takes the topic")?;
    // From the topic's name to the end of the sentence.
    let sentence = |text: &str| {
        let at = text.find("Topic 'deleted' supplied via the 'offset.storage.topic' property")?;
        let line = text[at..].lines().next()?;
        line.find("with 'cleanup.policy=compact'.").map(|_| line.trim_end().to_owned())
    };
    let ours = sentence(&format!("{refused:#}")).with_context(|| format!("{refused:#}"))?;
    let mut jvm = JvmWorker::launch(&bootstrap, &settings)?;
    let mut theirs = None;
    until("the JVM worker refuses the topic", || {
        theirs = sentence(&jvm.process().log());
        Ok(theirs.is_some())
    })?;
    jvm.process().kill();
    ensure!(theirs.as_deref() == Some(&*ours), "ours says {ours:?}, the JVM worker {theirs:?}");
    ensure!(topics(&["--describe", "--topic", "deleted"])? == before, "the topic was changed");
    Ok(())
}

#[test]
fn two_clusters_on_the_same_topics_share_all_that_is_in_them() -> Result<()> {
    let (broker, dir) = (Broker::start()?, TempDir::with_prefix("connect-two-")?);
    let bootstrap = broker.bootstrap();
    let ours = Worker::start(&bootstrap, &[("group.id", "ours")])?;
    let first = stopped_source(&ours.api(), "first", &dir)?;
    let jvm = JvmWorker::start(&bootstrap, &[("group.id", "others")])?;
    jvm.api().wait_states("first", "STOPPED", LIMIT)?;
    agree(&jvm.api(), "first", &first)?;
    ensure!(state(&ours.api(), "first")? == first, "the JVM's arrival changed {first}");
    // What one of them writes both run; neither knows of the other.
    let second = stopped_source(&jvm.api(), "second", &dir)?;
    ours.api().wait_states("second", "STOPPED", LIMIT)?;
    agree(&ours.api(), "second", &second)?;
    for api in [ours.api(), jvm.api()] {
        let exists = api.call(
            "POST",
            "/connectors",
            Some(&json!({"name": "first", "config": first["infos"]["first"]["info"]["config"]})),
        )?;
        ensure!(exists.status == 409, "{exists:?}");
    }
    ours.api().done("DELETE", "/connectors/second", None)?;
    until("the JVM worker sees the deletion", || Ok(jvm.api().get("/connectors")? == json!(["first"])))?;
    let both: Vec<Value> =
        [ours.api(), jvm.api()].iter().map(|api| state(api, "first")).collect::<Result<_>>()?;
    ensure!(both.iter().all(|state| *state == first), "{both:?} are not {first}");
    Ok(())
}

#[test]
fn a_password_that_was_changed_lets_nothing_through() -> Result<()> {
    let (sasl, dir) = (free_port()?, TempDir::with_prefix("connect-password-")?);
    let listeners = format!("PLAINTEXT://127.0.0.1:{{port}},SASL_PLAINTEXT://127.0.0.1:{sasl}");
    let session = Duration::from_secs(2);
    let broker = Broker::start_with(&[
        ("listeners", &listeners),
        ("advertised.listeners", &listeners),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-256"),
        ("connections.max.reauth.ms", &session.as_millis().to_string()),
    ])?;
    let password = |password: &str| {
        let add = format!("SCRAM-SHA-256=[iterations=4096,password={password}]");
        let user = ["--entity-type", "users", "--entity-name", "worker", "--alter", "--add-config", &add];
        tool("kafka.admin.ConfigCommand", &[&["--bootstrap-server", &broker.bootstrap()], &user[..]].concat())
    };
    password("first-word")?;
    let bootstrap = format!("127.0.0.1:{sasl}");
    let login = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"worker\" password=\"first-word\";";
    let settings = |group: &'static str| {
        let mut settings = vec![("group.id".to_owned(), group.to_owned())];
        for store in ["config", "offset", "status"] {
            settings.push((format!("{store}.storage.topic"), format!("{group}-{store}")));
        }
        for prefix in ["", "producer."] {
            settings.push((format!("{prefix}security.protocol"), "SASL_PLAINTEXT".to_owned()));
            settings.push((format!("{prefix}sasl.mechanism"), "SCRAM-SHA-256".to_owned()));
            settings.push((format!("{prefix}sasl.jaas.config"), login.to_owned()));
        }
        settings
    };
    let (own, others) = (settings("ours"), settings("others"));
    fn pairs(settings: &[(String, String)]) -> Vec<(&str, &str)> {
        settings.iter().map(|(key, value)| (&**key, &**value)).collect()
    }
    let ours = Worker::start(&bootstrap, &pairs(&own))?;
    let mut jvm = JvmWorker::start(&bootstrap, &pairs(&others))?;
    let before = [stopped_source(&ours.api(), "kept", &dir)?, stopped_source(&jvm.api(), "kept", &dir)?];

    password("second-word")?;
    // Each connection that was let in before works until its own session ends.
    std::thread::sleep(session + Duration::from_secs(1));
    // Ours waits, and says what it waits for; the JVM's ends.
    let refused = "authentication by SCRAM-SHA-256 failed";
    let offsets = || ours.api().call("GET", "/connectors/kept/offsets", None);
    until("ours is refused", || Ok(offsets()?.body.to_string().contains(refused)))?;
    ensure!(offsets()?.status == 500, "{:?}", offsets()?);
    let config =
        json!({"connector.class": "FileStreamSource", "topic": "more", "file": dir.path().join("kept")});
    let requests = [
        ("PUT", "/connectors/more/config", Some(config.clone())),
        ("POST", "/connectors", Some(json!({"name": "more", "config": config}))),
        ("PATCH", "/connectors/kept/config", Some(json!({"topic": "other"}))),
        ("DELETE", "/connectors/kept", None),
        ("DELETE", "/connectors/kept/offsets", None),
    ];
    for (method, path, body) in &requests {
        let answer = ours.api().call(method, path, body.as_ref())?;
        ensure!(answer.status == 500 || answer.status == 409, "{method} {path}: {answer:?}");
    }
    let told = ours.api().call("PUT", "/connectors/more/config", Some(&config))?.body.to_string();
    ensure!(told.contains(refused) || told.contains("rebalance"), "{told}");
    let infos = ours.api().get("/connectors?expand=info")?;
    ensure!(infos == before[0]["infos"], "{infos} is not {}", before[0]["infos"]);
    let late = Worker::start(&bootstrap, &pairs(&own)).err().context("the old password is taken")?;
    ensure!(format!("{late:#}").contains(refused), "{late:#}");

    until("the JVM worker ends", || Ok(jvm.api().call("GET", "/connectors", None).is_err()))?;

    password("first-word")?;
    until("ours goes on", || Ok(offsets()?.status == 200))?;
    jvm.restart()?;
    for (api, before) in [ours.api(), jvm.api()].iter().zip(&before) {
        api.wait_states("kept", "STOPPED", LIMIT)?;
        agree(api, "kept", before)?;
        // They work as before; nothing comes late of what was refused.
        until("the source resumes", || Ok(api.call("PUT", "/connectors/kept/resume", None)?.status == 202))?;
        api.wait_states("kept", "RUNNING RUNNING", LIMIT)?;
        ensure!(api.get("/connectors")? == json!(["kept"]));
    }
    let log = ours.log();
    let secrets: BTreeSet<&str> =
        ["first-word", "second-word"].into_iter().filter(|word| log.contains(word)).collect();
    ensure!(secrets.is_empty(), "the log holds {secrets:?}");
    Ok(())
}
