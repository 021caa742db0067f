//! Three nodes under idempotent and transactional load with a consumer group, while they are killed, stopped, frozen, cut
//! off from each other, slow, out of room and wrong about the time, and lose or spoil what they had not synced, at random: no
//! acknowledged record is lost, none comes twice or out of order, nobody sees part of a transaction, no end of a partition
//! moves back, no two nodes take records in one epoch, and the group skips nothing.
//!
//! `FAULT_SEED` makes another run, `FAULT_SECONDS` a longer one, `FAULT_BROKER=kafka` torments Apache Kafka, which shows that the
//! checks ask for nothing that cannot be had; `cargo xtask faults --cluster` sets them. With
//! `FAULT_KEEP=1` the files of the nodes are left behind where it fails.

mod clock;
mod damage;
mod disk;
mod ledger;
mod load;
mod nodes;
mod reading;
mod shared;
mod torment;
mod witness;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::random::{Random, number};
use aqueduct_tests::server::Kind;

use crate::ledger::{listed, skipped, wrong_records, wrong_transactions};
use crate::load::{InSync, Load, PARTITIONS, create_topics};
use crate::nodes::{Cluster, NODES};
use crate::torment::torment;
use crate::witness::wrong_leaders;

/// How long all may take to be in order again after the last fault.
const HEALING: Duration = Duration::from_secs(120);

fn run(kind: Kind) -> Result<()> {
    let (seed, seconds) = (number("FAULT_SEED").unwrap_or(9), number("FAULT_SECONDS").unwrap_or(20));
    println!("{kind:?}: FAULT_SEED={seed} FAULT_SECONDS={seconds}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut cluster = Cluster::start(kind, (256 << 10) + seconds * 400)?;
    let bootstrap = cluster.bootstrap();
    let result = runtime.block_on(async {
        create_topics(&bootstrap).await.context("creating the topics")?;
        let nodes = (0..NODES).map(|node| cluster.address(node)).collect();
        let mut load = Load::start(&bootstrap, nodes, seed);
        let replicas = InSync::new(&bootstrap)?;
        let in_sync = || tokio::runtime::Handle::current().block_on(replicas.ask());
        let (counts, healed) = tokio::task::block_in_place(|| {
            let (spares, length) = (kind == Kind::ApacheKafka, Duration::from_secs(seconds));
            torment(&mut cluster, spares, &mut Random::new(seed), length, in_sync)
        })?;
        // What comes afterwards shows that all goes on.
        let before = load.seen.acknowledged.lock().len();
        tokio::time::sleep(Duration::from_secs(1)).await;
        while load.seen.acknowledged.lock().len() <= before {
            ensure!(healed.elapsed() < HEALING, "nothing is acknowledged {HEALING:?} after the last fault");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::timeout(HEALING, load.stop_writing()).await.context("producers do not end")??;
        let records = load.records().await.context("reading the records")?;
        load.drain(&records, HEALING).await?;
        let committed = load.committed().await.context("reading what is committed")?;
        let witnesses = load.witnesses().await.context("reading what nodes took")?;
        check(&load, &Logs { records, committed, witnesses }, kind, seed, &counts)
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    let Err(error) = result else { return Ok(()) };
    let logs = cluster.logs();
    let kept = number("FAULT_KEEP")
        .map(|_| cluster.keep())
        .transpose()?
        .map(|kept| format!("\nthe nodes' files are in {}", kept.display()));
    Err(error.context(format!("{kind:?}, FAULT_SEED={seed}\n{logs}{}", kept.unwrap_or_default())))
}

/// What is in the logs in the end.
struct Logs {
    records: BTreeMap<i32, Vec<ledger::Found>>,
    committed: Vec<(i32, ledger::Transaction, u32)>,
    witnesses: BTreeMap<i32, Vec<witness::Witness>>,
}

fn check(
    load: &Load,
    Logs { records, committed, witnesses }: &Logs,
    kind: Kind,
    seed: u64,
    counts: &torment::Counts,
) -> Result<()> {
    let acknowledged = load.seen.acknowledged.take();
    let delivered = load.seen.delivered.take();
    let transactions = load.seen.transactions.take();
    let ends = load.seen.ends.take();
    let taken = load.seen.taken.take();
    let mut wrong = ends.wrong;
    let nothing = Default::default();
    for partition in 0..PARTITIONS {
        let log = records.get(&partition).map_or(&[][..], |log| &log[..]);
        wrong.extend(wrong_records(partition, log, &acknowledged));
        wrong.extend(wrong_leaders(
            partition,
            witnesses.get(&partition).map_or(&[][..], |log| &log[..]),
            &taken,
        ));
        wrong.extend(skipped(partition, log, delivered.get(&partition).unwrap_or(&nothing)));
    }
    wrong.extend(wrong_transactions(committed, &transactions));
    let sizes = records.values().map(Vec::len).sum::<usize>();
    let of = |wanted| transactions.values().filter(|(outcome, _)| *outcome == wanted).count();
    println!(
        "{kind:?}: FAULT_SEED={seed}: {counts:?}; {} records acknowledged, {sizes} in the logs, {} delivered; {} transactions \
         committed, {} aborted, {} of unknown outcome; {} taken by nodes asked alone; {} looks at ends; longest time without an acknowledgement {:?}",
        acknowledged.len(),
        delivered.values().map(std::collections::BTreeSet::len).sum::<usize>(),
        of(ledger::Outcome::Committed),
        of(ledger::Outcome::Aborted),
        of(ledger::Outcome::Unknown),
        taken.len(),
        ends.looks,
        load.seen.pauses.lock().longest,
    );
    ensure!(wrong.is_empty(), "{}", listed(&wrong));
    Ok(())
}

#[test]
fn three_nodes() -> Result<()> {
    let kafka = std::env::var("FAULT_BROKER").is_ok_and(|broker| broker == "kafka");
    run(if kafka { Kind::ApacheKafka } else { Kind::Aqueduct })
}
