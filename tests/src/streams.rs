//! The Kafka Streams application of the tests, what feeds it, and what its results have to be.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use crate::java::program;
use crate::kafka::text_of;
use crate::process::Process;

/// Each click is in each result once, of so many hundreds of sevens: every count goes up by one from one record of its key to
/// the next.
///
/// # Errors
/// With what is wrong.
pub fn results_are_exact(bootstrap: &str, clicks: u32) -> Result<()> {
    let joined = call(1, &["read", bootstrap, "joined"])?;
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
    ensure!(pages == (0..clicks).collect::<Vec<_>>(), "{} of {clicks} pages are joined", pages.len());

    let regions = counts(&call(1, &["read", bootstrap, "regions"])?)?;
    let each = u64::from(clicks / 7);
    let expected = [("region0", 3 * each), ("region1", 2 * each), ("region2", 2 * each)];
    ensure!(regions == expected.map(|(k, v)| (k.to_owned(), v)).into(), "{regions:?}");

    let windows = counts(&call(1, &["read", bootstrap, "windows"])?)?;
    // A click every ten seconds.
    let in_window = |window: u64| (each - 6 * window).min(6);
    let expected: BTreeMap<String, u64> = (0..7)
        .flat_map(|user| {
            (0..each.div_ceil(6)).map(move |window| (format!("user{user}/{window}"), in_window(window)))
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

/// The running application.
pub struct App {
    pub process: Process,
}

impl App {
    /// Starts it with its state in `dir` and topics of so many replicas.
    ///
    /// # Errors
    /// Where there is no Java.
    pub fn start(bootstrap: &str, dir: &Path, replicas: u32) -> Result<Self> {
        let mut command = streams_app("256m", replicas)?;
        command.args(["run", bootstrap]).arg(dir.join("state"));
        std::fs::create_dir_all(dir)?;
        // A log of its own for each run.
        let runs = std::fs::read_dir(dir)?.count();
        Ok(Self { process: Process::start("streams", &mut command, &dir.join(format!("log{runs}")))? })
    }

    /// Waits until a topic has this many records.
    ///
    /// # Errors
    /// With what is there instead, after three minutes, and the end of the application's log.
    pub fn wait(&mut self, bootstrap: &str, topic: &str, records: usize) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(180);
        loop {
            let seen: usize = call(1, &["await", bootstrap, topic, &records.to_string()])?.trim().parse()?;
            if seen == records {
                return Ok(());
            }
            if seen > records || Instant::now() > end || self.process.exit_code().is_some() {
                let others: Vec<_> = ["clicks", "joined", "streams-app-regions-repartition", "windows"]
                    .into_iter()
                    .map(|name| {
                        Ok(format!("{name}: {}", call(1, &["read", bootstrap, name])?.lines().count()))
                    })
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
    #[must_use]
    pub fn restored(&self) -> BTreeMap<String, u64> {
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
fn streams_app(heap: &str, replicas: u32) -> Result<Command> {
    static START: OnceLock<u128> = OnceLock::new();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let start = START.get_or_init(|| now() / 60_000 * 60_000 - 7_200_000);
    let mut command = program(heap, "StreamsApp")?;
    command.env("STREAMS_START", start.to_string()).env("STREAMS_REPLICAS", replicas.to_string());
    Ok(command)
}

/// Creates, feeds or reads topics: see `tests/java/programs/StreamsApp.java`.
///
/// # Errors
/// With what the program said.
pub fn call(replicas: u32, args: &[&str]) -> Result<String> {
    let output = streams_app("128m", replicas)?.args(args).output().context("java")?;
    text_of(&args.join(" "), &output)
}
