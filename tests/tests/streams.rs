//! A Kafka Streams application, exactly once, with a join, a repartition, a window and stores that are restored after the
//! application and the broker were killed: on our broker and on Apache Kafka's, with the same results.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::java::program;
use aqueduct_tests::kafka::text_of;
use aqueduct_tests::process::Process;
use aqueduct_tests::server::{Kind, Server};
use tempfile::TempDir;

const SETTINGS: &[(&str, &str)] = &[("transaction.state.log.num.partitions", "5")];

const USERS_CHANGELOG: &str = "streams-app-users-STATE-STORE-0000000000-changelog";

#[test]
fn aqueduct() -> Result<()> {
    exactly_once(Kind::Aqueduct)
}

#[test]
fn apache_kafka() -> Result<()> {
    exactly_once(Kind::ApacheKafka)
}

fn exactly_once(kind: Kind) -> Result<()> {
    let mut server = Server::start_with(kind, SETTINGS)?;
    let dir = TempDir::with_prefix("streams-")?;
    let bootstrap = server.bootstrap();
    call(&["create", &bootstrap])?;

    let mut app = App::start(&bootstrap, &dir)?;
    // The table is complete before there is anything to join with it.
    app.wait(&bootstrap, USERS_CHANGELOG, 7)?;
    call(&["feed", &bootstrap, "0", "700"])?;
    app.wait(&bootstrap, "regions", 700)?;

    // Killed while it works: what its open transaction wrote must not be seen.
    call(&["feed", &bootstrap, "700", "2100"])?;
    std::thread::sleep(Duration::from_millis(150));
    app.process.kill();
    let mut app = App::start(&bootstrap, &dir)?;
    app.wait(&bootstrap, "regions", 2800)?;
    let log = app.process.log();
    ensure!(log.contains("restored regions-count"), "no store was restored:\n{log}");

    // Both killed; the state folder is lost, so that all comes from the change logs.
    app.process.kill();
    server.kill();
    std::fs::remove_dir_all(dir.path())?;
    server.restart()?;
    call(&["feed", &bootstrap, "2800", "700"])?;
    let mut app = App::start(&bootstrap, &dir)?;
    app.wait(&bootstrap, "regions", 3500)?;
    let restored = app.restored();
    ensure!(restored.get("windows-count").is_some_and(|count| *count > 0), "{restored:?}");
    ensure!(restored.get("regions-count").is_some_and(|count| *count > 0), "{restored:?}");

    results_are_exact(&bootstrap)
}

/// Each click is in each result once: every count goes up by one from one record of its key to the next.
fn results_are_exact(bootstrap: &str) -> Result<()> {
    let joined = call(&["read", bootstrap, "joined"])?;
    let mut pages: Vec<u32> = joined
        .lines()
        .map(|line| {
            let (page, region) =
                line.rsplit_once(" page").and_then(|(_, v)| v.split_once("@region")).context("a page")?;
            let page: u32 = page.parse()?;
            ensure!(region == (page % 7 % 3).to_string(), "joined with another user: {line}");
            Ok(page)
        })
        .collect::<Result<_>>()?;
    pages.sort_unstable();
    ensure!(pages == (0..3500).collect::<Vec<_>>(), "{} pages are joined", pages.len());

    let regions = counts(&call(&["read", bootstrap, "regions"])?)?;
    let expected = [("region0", 1500), ("region1", 1000), ("region2", 1000)];
    ensure!(regions == expected.map(|(k, v)| (k.to_owned(), v)).into(), "{regions:?}");

    let windows = counts(&call(&["read", bootstrap, "windows"])?)?;
    let expected: BTreeMap<String, u64> = (0..7)
        .flat_map(|user| {
            (0..84).map(move |window| (format!("user{user}/{window}"), if window < 83 { 6 } else { 2 }))
        })
        .collect();
    ensure!(windows == expected, "{windows:?}");
    Ok(())
}

/// The last count of each key.
fn counts(text: &str) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ').skip(1);
        let (key, count) = (words.next().context("a key")?, words.next().context("a count")?.parse()?);
        let last = counts.insert(key.to_owned(), count).unwrap_or(0);
        ensure!(count == last + 1, "{key}: {count} after {last}");
    }
    Ok(counts)
}

struct App {
    process: Process,
}

impl App {
    fn start(bootstrap: &str, dir: &TempDir) -> Result<Self> {
        let mut command = streams_app("256m")?;
        command.args(["run", bootstrap]).arg(dir.path().join("state"));
        std::fs::create_dir_all(dir.path())?;
        // A log of its own for each run.
        let runs = std::fs::read_dir(dir.path())?.count();
        Ok(Self { process: Process::start("streams", &mut command, &dir.path().join(format!("log{runs}")))? })
    }

    /// Waits until a topic has this many records.
    fn wait(&mut self, bootstrap: &str, topic: &str, records: usize) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let seen: usize = call(&["await", bootstrap, topic, &records.to_string()])?.trim().parse()?;
            if seen == records {
                return Ok(());
            }
            if seen > records || Instant::now() > end || self.process.exit_code().is_some() {
                let others: Vec<_> = ["clicks", "joined", "streams-app-regions-repartition", "windows"]
                    .into_iter()
                    .map(|name| Ok(format!("{name}: {}", call(&["read", bootstrap, name])?.lines().count())))
                    .collect::<Result<_>>()?;
                bail!(
                    "{topic} has {seen} of {records} records, {}:\n{}",
                    others.join(", "),
                    self.process.log_tail()
                );
            }
        }
    }

    /// How many records each store was restored from.
    fn restored(&self) -> BTreeMap<String, u64> {
        let mut restored = BTreeMap::new();
        for line in self.process.log().lines().filter_map(|line| line.strip_prefix("restored ")) {
            let words: Vec<&str> = line.split(' ').collect();
            if let [store, _, count] = words[..] {
                *restored.entry(store.to_owned()).or_insert(0) += count.parse::<u64>().unwrap_or(0);
            }
        }
        restored
    }
}

/// The clicks begin two hours ago, at a full minute.
fn streams_app(heap: &str) -> Result<Command> {
    static START: OnceLock<u128> = OnceLock::new();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let start = START.get_or_init(|| now() / 60_000 * 60_000 - 7_200_000);
    let mut command = program(heap, "StreamsApp")?;
    command.env("STREAMS_START", start.to_string());
    Ok(command)
}

fn call(args: &[&str]) -> Result<String> {
    let output = streams_app("128m")?.args(args).output().context("java")?;
    text_of(&args.join(" "), &output)
}
