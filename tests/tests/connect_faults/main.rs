//! Three workers of ours and twenty connectors, while workers and the broker are killed, stopped and cut off at random, and
//! connectors paused, restarted and changed: every line of every file gets into its topic and out again, exactly once into
//! the topic where that was promised; no offset is ever ahead of what it covers; and everything runs again soon after the
//! last fault.
//!
//! `FAULT_SEED` repeats a run, `FAULT_SECONDS` makes it longer, `FAULT_EXACTLY_ONCE` (0 or 1) says how sources deliver;
//! `cargo xtask faults` sets them. What must happen after one certain fault is in [`scenarios`].

mod hanging;
mod ledger;
mod log_files;
mod scenarios;
mod torment;
mod watch;
mod world;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use aqueduct_tests::server::Kind;

use crate::hanging::Mender;
use crate::ledger::{Line, Stored, ends, sources_ahead};
use crate::log_files::LogFile;
use crate::watch::{Watch, lines, stored};
use crate::world::{MARGIN, PAIRS, SESSION, World, written};
use aqueduct_tests::random::{Random, number, seed};

/// Writes lines to all files until it is told to stop; gives their number.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Writer {
    fn start(paths: Vec<PathBuf>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let open = |path: &PathBuf| File::options().append(true).open(path);
            let mut files = paths.iter().map(open).collect::<std::io::Result<Vec<_>>>()?;
            let mut line = 0;
            while !told.load(Ordering::Relaxed) {
                for file in &mut files {
                    writeln!(file, "<{line}>")?;
                }
                line += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(line)
        });
        Self { stop, thread }
    }

    fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the writer of the files panicked"))?
    }
}

fn missing(found: &BTreeSet<u64>, lines: u64) -> Vec<u64> {
    (0..lines).filter(|line| !found.contains(line)).take(10).collect()
}

/// What is wrong with the lines in the topic of a pair.
fn check_topic(pair: usize, found: &[Line], lines: u64, exactly_once: bool) -> Result<()> {
    let lost = missing(&found.iter().map(|line| line.number).collect(), lines);
    ensure!(lost.is_empty(), "lines {lost:?} are not in topic {pair}: its offset was ahead");
    if exactly_once {
        let wrong = (0..).zip(found).find(|(expected, line)| line.number != *expected);
        ensure!(
            wrong.is_none() && found.len() as u64 == lines,
            "topic {pair} has {} lines of {lines}; expected and found: {wrong:?}",
            found.len()
        );
    }
    Ok(())
}

/// Waits until every source has stored that it has read its file to the end; gives all that they ever stored.
fn wait_stored(data: &Path, end: u64) -> Result<Vec<Vec<Stored>>> {
    let from = Instant::now();
    loop {
        let all = stored(data, PAIRS)?;
        let is_late = |stored: &&Vec<Stored>| stored.iter().all(|offset| offset.position != end);
        let Some(late) = all.iter().find(is_late) else { return Ok(all) };
        let last = late.last();
        ensure!(from.elapsed() < MARGIN, "a source has not stored offset {end}; its last is {last:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn run(kind: Kind, exactly_once: bool) -> Result<()> {
    let (seed, seconds) = (seed(), number("FAULT_SECONDS").unwrap_or(30));
    let exactly_once = number("FAULT_EXACTLY_ONCE").map_or(exactly_once, |set| set > 0);
    println!(
        "{kind:?}: FAULT_SEED={seed} FAULT_SECONDS={seconds} FAULT_EXACTLY_ONCE={}",
        u8::from(exactly_once)
    );
    let mut world = World::start(kind, exactly_once)?;
    world.create()?;
    world.wait_running(Duration::from_secs(120)).with_context(|| world.logs())?;
    let writer = Writer::start((0..PAIRS).map(|pair| world.input(pair)).collect());
    let watch = Watch::start(&world.server.data(), (0..PAIRS).map(|pair| world.output(pair)).collect());
    let mender = (kind == Kind::ApacheKafka && exactly_once).then(|| Mender::start(world.server.bootstrap()));
    let tormented = world.torment(&mut Random::new(seed), Duration::from_secs(seconds));
    let count = writer.end()?;
    let (counts, healed) = tormented?;
    let told = |what: &str| format!("{kind:?}, FAULT_SEED={seed}: {what}\n{counts:?}\n{}", world.logs());
    world.resume().with_context(|| told("connectors cannot be resumed"))?;
    world.wait_running(SESSION + MARGIN).with_context(|| told("tasks do not run"))?;
    let running = healed.elapsed();
    let left = (SESSION + MARGIN).saturating_sub(healed.elapsed()).max(MARGIN);
    world.wait_line(count - 1, left).with_context(|| told("lines are missing"))?;
    let flowing = healed.elapsed();
    let aborted = mender.map(Mender::end).transpose()?.unwrap_or_default();

    let seen = watch.end()?;
    ensure!(seen.wrong.is_empty(), told(&format!("commits were ahead:\n{}", seen.wrong.join("\n"))));
    let (data, ends) = (world.server.data(), ends(count));
    let stored = wait_stored(&data, *ends.last().context("no line")?).with_context(|| told("no offsets"))?;
    let (mut records, mut delivered, mut offsets) = (0, 0, 0);
    for (pair, stored) in stored.iter().enumerate() {
        let found = lines(&mut LogFile::new(&data, &format!("lines-{pair}"), 0))?;
        check_topic(pair, &found, count, exactly_once).with_context(|| told("a topic is wrong"))?;
        let ahead = sources_ahead(pair, &ends, &found, stored);
        ensure!(ahead.is_empty(), told(&format!("offsets were ahead:\n{}", ahead.join("\n"))));
        let lost = missing(&written(&world.output(pair)), count);
        ensure!(lost.is_empty(), told(&format!("lines {lost:?} did not come out of pair {pair}")));
        records += found.len();
        offsets += stored.len();
        delivered += fs::read_to_string(world.output(pair))?.matches('>').count();
    }
    println!(
        "{kind:?}: FAULT_SEED={seed}: {counts:?}; {PAIRS} files of {count} lines, {records} records, {delivered} delivered; \
         {offsets} source offsets and {} commits of sinks, none ahead; running {running:?} and flowing {flowing:?} after the \
         last fault; {aborted} transactions that the broker left hanging were aborted",
        seen.commits
    );
    Ok(())
}

#[test]
fn on_ours() -> Result<()> {
    run(Kind::Aqueduct, true)
}

#[test]
fn on_apache_kafka() -> Result<()> {
    run(Kind::ApacheKafka, false)
}
