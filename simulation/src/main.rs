//! Whole nodes and clients in one thread, with the network, the disk, the clocks and chance injected: see
//! `docs/simulation.md`.
//!
//! `aqueduct-simulation --seed N` plays one history and prints its trace; `--seeds N [--from M]` plays many, each in a
//! process of its own, and prints those that went wrong.

mod calls;
mod disk;
mod faults;
mod history;
#[path = "../../tests/tests/cluster_faults/ledger.rs"]
mod ledger;
mod load;
mod machine;
mod net;
mod random;
#[path = "../../tests/tests/cluster_faults/reading.rs"]
mod reading;
mod world;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
#[derive(Debug, Default)]
struct Wanted {
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    jobs: u64,
    /// No trace.
    quiet: bool,
}

fn wanted() -> Result<Wanted> {
    let mut wanted = Wanted { from: 1, jobs: 2, ..Wanted::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64> {
            let text = arguments.next().with_context(|| format!("{argument} needs a number"))?;
            text.parse().with_context(|| format!("{argument} {text}: not a number"))
        };
        match &*argument {
            "--seed" => wanted.seed = Some(number()?),
            "--seeds" => wanted.seeds = number()?,
            "--from" => wanted.from = number()?,
            "--jobs" => wanted.jobs = number()?,
            "--quiet" => wanted.quiet = true,
            _ => bail!("{argument}: --seed N [--quiet], or --seeds N [--from N] [--jobs N]"),
        }
    }
    Ok(wanted)
}

fn run() -> Result<bool> {
    let wanted = wanted()?;
    match wanted.seed {
        Some(seed) => one(seed, wanted.quiet),
        None => many(&wanted),
    }
}

/// Plays one history in this process.
fn one(seed: u64, quiet: bool) -> Result<bool> {
    if let Ok(filter) = std::env::var("AQUEDUCT_LOG") {
        let filter = tracing_subscriber::EnvFilter::try_new(filter)?;
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory)?,
        false => tempfile::tempdir()?,
    };
    let before = std::env::current_dir()?;
    // Paths are the same in each run.
    std::env::set_current_dir(dir.path())?;
    // What was looked at before, such as how to log, has drawn from the chance of this thread, not of that one.
    let played = std::thread::spawn(move || {
        calls::seed(seed);
        history::play(seed)
    });
    let outcome =
        played.join().map_err(|_| anyhow::anyhow!("seed {seed}: the simulation itself has failed"))?;
    std::env::set_current_dir(before)?;
    if !quiet || !outcome.wrong.is_empty() {
        outcome.trace.iter().for_each(|line| println!("{line}"));
    }
    println!("seed {seed}: {}", outcome.summary);
    if !outcome.wrong.is_empty() {
        print!("what is wrong:\n{}", ledger::listed(&outcome.wrong));
    }
    Ok(outcome.wrong.is_empty())
}

/// Plays many histories, each in a process of its own.
fn many(wanted: &Wanted) -> Result<bool> {
    let program = std::env::current_exe()?;
    let next = AtomicU64::new(wanted.from);
    let end = wanted.from + wanted.seeds;
    let failed = Mutex::new(Vec::new());
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..wanted.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let played =
                        Command::new(&program).args(["--seed", &seed.to_string(), "--quiet"]).output();
                    let text = match played {
                        Ok(played) if played.status.success() => continue,
                        Ok(played) => format!(
                            "{}{}{}\n",
                            String::from_utf8_lossy(&played.stdout),
                            String::from_utf8_lossy(&played.stderr),
                            played.status
                        ),
                        Err(error) => error.to_string(),
                    };
                    println!("{text}again: cargo xtask simulate --seed {seed}\n");
                    failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(seed);
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failed.sort_unstable();
    println!(
        "{} seeds from {} in {:.1} s, {} went wrong: {failed:?}",
        wanted.seeds,
        wanted.from,
        began.elapsed().as_secs_f64(),
        failed.len()
    );
    Ok(failed.is_empty())
}
