//! One history: a cluster forms, works while things go wrong, and has to be whole again afterwards.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::faults::{self, Planned};
use crate::ledger;
use crate::load::{self, PARTITIONS, Shared};
use crate::random::Random;
use crate::world::World;

/// Faults begin within so many milliseconds.
const TORMENT_MS: u64 = 3_000;
/// A cluster whose faults have ended is whole again within this.
const WHOLE_MS: u64 = 30_000;
/// Everything else that is waited for.
const PATIENCE_MS: u64 = 60_000;

/// How a history went.
pub struct Outcome {
    pub trace: Vec<String>,
    pub wrong: Vec<String>,
    /// One line that is the same whenever the seed is.
    pub summary: String,
}

/// Plays the history of a seed.
pub fn play(seed: u64) -> Outcome {
    let mut world = match World::new(seed) {
        Ok(world) => world,
        Err(error) => {
            let (trace, summary) = (Vec::new(), String::new());
            return Outcome { trace, wrong: vec![format!("{error:#}")], summary };
        }
    };
    let seen = Shared::default();
    if let Err(error) = acts(seed, &mut world, &seen) {
        world.wrong.push(format!("{error:#}"));
    }
    let mut seen = seen.lock();
    let mut wrong = std::mem::take(&mut world.wrong);
    wrong.append(&mut seen.wrong);
    wrong.append(&mut seen.ends.wrong);
    if let Some(found) = &seen.found {
        for partition in 0..PARTITIONS {
            let log = found.records.get(&partition).map_or(&[][..], Vec::as_slice);
            wrong.extend(ledger::wrong_records(partition, log, &seen.acknowledged));
            let delivered = seen.delivered.get(&partition).cloned().unwrap_or_default();
            wrong.extend(ledger::skipped(partition, log, &delivered));
        }
        wrong.extend(ledger::wrong_transactions(&found.transactions, &seen.transactions));
    }
    let (digest, carried) = world.fabric.digest();
    let mut summary = format!(
        "digest {digest:08x}, {} ms, {carried} pieces, {} acknowledged, {} transactions, {} delivered, {} looks, {} offsets of the past;",
        world.now_ms,
        seen.acknowledged.len(),
        seen.transactions.len(),
        seen.delivered.values().map(std::collections::BTreeSet::len).sum::<usize>(),
        seen.ends.looks,
        seen.past_offsets,
    );
    for (kind, count) in &world.counts {
        let _ = write!(summary, " {count} {kind},");
    }
    Outcome { trace: std::mem::take(&mut world.trace), wrong, summary }
}

fn acts(seed: u64, world: &mut World, seen: &Shared) -> Result<()> {
    let bootstrap = World::bootstrap();
    world.until("the cluster has formed", PATIENCE_MS, World::is_whole)?;
    world.spawn(load::create_topics(bootstrap.clone(), seen.clone()));
    world.until("there are topics", PATIENCE_MS, |_| seen.lock().has_topics)?;
    world.until("their replicas are in sync", PATIENCE_MS, World::is_whole)?;
    begin_load(seed, world, seen);
    torment(world, faults::plan(&mut Random::new(seed, "faults"), TORMENT_MS))?;
    world.until("the cluster is whole again", WHOLE_MS, World::is_whole)?;
    let before = seen.lock().acknowledged.len();
    world.until("records are acknowledged again", WHOLE_MS, |_| {
        seen.lock().acknowledged.len() > before + 10
    })?;
    seen.lock().writers_stop = true;
    world.until("producers have ended", PATIENCE_MS, |_| seen.lock().writers_left == 0)?;
    world.spawn(load::read_logs(bootstrap, seen.clone()));
    world.until("the logs are read", PATIENCE_MS, |_| seen.lock().found.is_some())?;
    world.until("the group has read all", PATIENCE_MS, |_| is_drained(seen))?;
    seen.lock().readers_stop = true;
    world.until("readers have ended", PATIENCE_MS, |_| seen.lock().readers_left == 0)?;
    Ok(())
}

fn begin_load(seed: u64, world: &mut World, seen: &Shared) {
    let own = || (World::bootstrap(), Arc::clone(seen));
    {
        let mut seen = seen.lock();
        seen.writers_left = load::PRODUCERS + load::TRANSACTIONAL;
        seen.readers_left = load::MEMBERS + 1;
    }
    for producer in 0..load::PRODUCERS {
        let (bootstrap, seen) = own();
        let random = Random::new(seed, &format!("producer {producer}"));
        world.spawn(load::write(bootstrap, producer, random, seen));
    }
    for producer in 0..load::TRANSACTIONAL {
        let (bootstrap, seen) = own();
        let random = Random::new(seed, &format!("transactions {producer}"));
        world.spawn(load::transact(bootstrap, producer, random, seen));
    }
    for _ in 0..load::MEMBERS {
        let (bootstrap, seen) = own();
        world.spawn(load::read(bootstrap, seen));
    }
    let (bootstrap, seen) = own();
    world.spawn(load::watch(bootstrap, seen));
}

/// Begins and ends faults as planned, until all are over.
fn torment(world: &mut World, mut planned: Vec<Planned>) -> Result<()> {
    let began = world.now_ms;
    planned.reverse();
    let mut going: Vec<Planned> = Vec::new();
    loop {
        let now = world.now_ms - began;
        while planned.last().is_some_and(|next| next.at <= now) {
            if let Some(next) = planned.pop()
                && world.begin(&next)?
            {
                going.push(next);
            }
        }
        let (over, left): (Vec<_>, Vec<_>) = going.into_iter().partition(|fault| fault.until <= now);
        going = left;
        over.iter().for_each(|fault| world.end(fault));
        if going.is_empty() && planned.is_empty() && now >= TORMENT_MS {
            return Ok(());
        }
        if now > TORMENT_MS + PATIENCE_MS {
            bail!("faults do not end");
        }
        world.step()?;
    }
}

fn is_drained(seen: &Shared) -> bool {
    let seen = seen.lock();
    let Some(found) = &seen.found else { return false };
    found.records.iter().all(|(partition, log)| {
        let last = seen.delivered.get(partition).and_then(|delivered| delivered.last());
        log.last().is_none_or(|end| last.is_some_and(|last| *last >= end.offset))
    })
}
