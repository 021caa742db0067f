//! `aqueduct drain`: takes all replicas, or only leaders, off a broker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use aqueduct_client::{Admin, ElectionKind, TopicPartition};
use aqueduct_protocol::ids::BrokerId;

use super::connect::Cluster;
use super::moving::plan::{self, Planner, Replicas, without_leader};
use super::moving::{self, Mover, list, topics_of};
use super::output::{Failures, print_lines};

/// Rounds of planning: topics that are created meanwhile may be placed on the broker again.
const ROUNDS: usize = 10;
/// How often and how far apart it is looked whether leaders have gone.
const LOOKS: usize = 120;
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// The broker's number.
    broker: i32,
    /// Bytes a second that each broker may receive and send for it; taken away at the end.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(1..))]
    throttle: Option<i64>,
    /// Only have others lead, which copies nothing. The broker stays a follower, and comes last among the replicas.
    #[arg(long, conflicts_with = "throttle")]
    leaders_only: bool,
    /// Only show the plan, which aqueduct reassign execute takes.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    let broker = BrokerId(args.broker);
    if args.leaders_only {
        return leaders(&admin, broker, args.dry_run).await;
    }
    let mover = Mover {
        admin: &admin,
        throttle: args.throttle,
        later: format!("aqueduct drain {broker} again, or aqueduct reassign list"),
        cancel: "aqueduct reassign cancel --all".to_owned(),
    };
    for round in 0..ROUNDS {
        let (plan, before) = plan_without(&admin, broker).await?;
        if plan.is_empty() {
            check(&admin, broker, &before).await?;
            let all = topics_of(before.keys());
            if round == 0 && args.throttle.is_some() {
                moving::clear_throttle(&admin, &all).await?;
            }
            return print_lines([format!("Broker {broker} has no replicas.")]);
        }
        if args.dry_run {
            return print_lines([plan::to_json(&plan)]);
        }
        eprintln!("{} partitions have a replica on broker {broker} and move", plan.len());
        let before = mover.begin(&plan, true).await?;
        mover.finish(&plan, &before).await?;
    }
    bail!(
        "broker {broker} gets new replicas as fast as it is emptied: topics are being created; stop it, or create them elsewhere"
    )
}

/// Refuses a number that no broker has: none that runs, and none that replicas are on.
async fn check(admin: &Admin, broker: BrokerId, before: &Replicas) -> Result<()> {
    let live = moving::live_brokers(admin).await?;
    if live.contains_key(&broker) || before.values().flatten().any(|id| *id == broker) {
        return Ok(());
    }
    let ids: Vec<String> = live.keys().map(ToString::to_string).collect();
    bail!(
        "there is no broker {broker}: none of that number runs or has replicas; brokers that run: {}",
        ids.join(", ")
    )
}

/// What takes every replica off a broker, and the replicas as they are.
async fn plan_without(admin: &Admin, broker: BrokerId) -> Result<(Replicas, Replicas)> {
    let mut others = moving::live_brokers(admin).await?;
    others.remove(&broker);
    let before = plan::present(&moving::describe(admin, &[]).await?);
    let ongoing = admin.list_partition_reassignments().await?;
    // Where replicas are being replaced, those count that will be there.
    let mut wanted = before.clone();
    for (at, under_way) in &ongoing {
        let stays = |id: &&BrokerId| !under_way.removing.contains(id);
        wanted.insert(at.clone(), under_way.replicas.iter().filter(stays).copied().collect());
    }
    let has = |replicas: &Vec<BrokerId>| replicas.contains(&broker);
    let mut here: Replicas =
        wanted.iter().filter(|(_, ids)| has(ids)).map(|(at, ids)| (at.clone(), ids.clone())).collect();
    if here.is_empty() {
        // What leaves it already is waited for.
        let leaving = ongoing.iter().filter(|(_, under_way)| under_way.removing.contains(&broker));
        let plan = leaving.map(|(at, _)| (at.clone(), wanted.get(at).cloned().unwrap_or_default()));
        return Ok((plan.collect(), before));
    }
    // Brokers that do not run keep what they have.
    for id in here.values().flatten().filter(|id| **id != broker) {
        others.entry(*id).or_insert(None);
    }
    let mut planner = Planner::new(&others, wanted.clone());
    planner.settle(None).map_err(|why| anyhow!(why))?;
    let mut plan = planner.changes(&wanted);
    plan.retain(|at, _| here.remove(at).is_some());
    Ok((plan, before))
}

async fn leaders(admin: &Admin, broker: BrokerId, dry_run: bool) -> Result<()> {
    let topics = moving::describe(admin, &[]).await?;
    check(admin, broker, &plan::present(&topics)).await?;
    let plan: Replicas = topics.iter().flat_map(|topic| without_leader(topic, broker)).collect();
    if dry_run {
        return print_lines([plan::to_json(&plan)]);
    }
    if !plan.is_empty() {
        let mover = Mover {
            admin,
            throttle: None,
            later: format!("aqueduct drain {broker} --leaders-only"),
            cancel: "aqueduct reassign cancel --all".to_owned(),
        };
        let before = mover.begin(&plan, true).await?;
        let partitions: Vec<TopicPartition> = plan.keys().cloned().collect();
        mover.finish(&plan, &before).await?;
        let elected: BTreeMap<_, _> =
            admin.elect_leaders(ElectionKind::Preferred, Some(&partitions)).await?.into_iter().collect();
        let mut failures = Failures::default();
        for result in elected.into_values() {
            let needless = aqueduct_protocol::ErrorCode::ElectionNotNeeded;
            if !result.as_ref().is_err_and(|error| error.code() == Some(needless)) {
                failures.check(result);
            }
        }
        failures.finish()?;
    }
    // Leaders are told with the metadata, a moment later.
    let mut alone = Vec::new();
    for _ in 0..LOOKS {
        let topics = moving::describe(admin, &[]).await?;
        let partitions = topics.iter().flat_map(|topic| topic.partitions.iter().map(move |one| (topic, one)));
        let led: Vec<_> = partitions.filter(|(_, one)| one.leader == Some(broker)).collect();
        let is_movable = |one: &aqueduct_client::PartitionDescription| one.replicas.len() > 1;
        if !led.iter().any(|(_, one)| is_movable(one)) {
            alone = led.iter().map(|(topic, one)| format!("{}-{}", topic.name, one.partition)).collect();
            break;
        }
        alone = led.iter().map(|(topic, one)| format!("{}-{}", topic.name, one.partition)).collect();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let moved = format!("{} partitions are led by others now.", plan.len());
    match alone.first() {
        None => print_lines([moved, format!("Broker {broker} leads nothing.")]),
        Some(first) => bail!(
            "broker {broker} still leads {} partitions that no other in-sync replica can lead, such as {first}; drain it without --leaders-only (brokers that run: {})",
            alone.len(),
            list(moving::live_brokers(admin).await?.keys())
        ),
    }
}
