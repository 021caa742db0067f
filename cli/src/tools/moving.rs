//! Moving replicas between brokers: a plan is checked, limited in its speed, carried out and waited for.

pub mod plan;
pub mod progress;
pub mod throttle;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct_client::{Admin, Reassignment, TopicDescription, TopicPartition};
use aqueduct_protocol::ids::BrokerId;
use bytestring::ByteString;

use super::output::{Failures, print_lines};
use plan::{Brokers, Replicas};
use progress::{Copies, sizes};
use throttle::Moves;

/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two lines about it.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// The brokers that run, with their racks.
pub async fn live_brokers(admin: &Admin) -> Result<Brokers> {
    let cluster = admin.describe_cluster().await?;
    Ok(cluster.brokers.into_iter().map(|one| (one.id, one.rack.map(|rack| rack.to_string()))).collect())
}

/// Describes topics; of all of them where none is named.
pub async fn describe(admin: &Admin, names: &[ByteString]) -> Result<Vec<TopicDescription>> {
    let names = match names.is_empty() {
        true => admin.list_topics().await?.into_iter().collect(),
        false => names.to_vec(),
    };
    let mut failures = Failures::default();
    let described: BTreeMap<_, _> = admin.describe_topics(&names).await?.into_iter().collect();
    let topics = described.into_values().filter_map(|topic| failures.check(topic)).collect();
    failures.finish()?;
    Ok(topics)
}

pub fn topics_of<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> BTreeSet<ByteString> {
    partitions.into_iter().map(|at| at.topic.clone()).collect()
}

/// How a plan is carried out.
pub struct Mover<'a> {
    pub admin: &'a Admin,
    /// Bytes a second of each broker, in and out.
    pub throttle: Option<i64>,
    /// What the user may type to see to it later, such as `aqueduct reassign verify plan.json`.
    pub later: String,
    /// What takes it back.
    pub cancel: String,
}

impl Mover<'_> {
    /// Checks a plan, and begins to carry it out; returns the replicas as they were.
    pub async fn begin(&self, plan: &Replicas, additional: bool) -> Result<Replicas> {
        let names: Vec<_> = topics_of(plan.keys()).into_iter().collect();
        let before = plan::present(&describe(self.admin, &names).await?);
        let live: BTreeSet<_> = live_brokers(self.admin).await?.into_keys().collect();
        for (at, replicas) in plan {
            let Some(has) = before.get(at) else {
                bail!(
                    "the topic {} has no partition {}: the plan is for another cluster, or too old",
                    at.topic,
                    at.partition
                );
            };
            let mut strangers = replicas.iter().filter(|id| !live.contains(id) && !has.contains(id));
            if let Some(id) = strangers.next() {
                bail!(
                    "{at} is to have a replica on broker {id}, which does not run: start it, or use the brokers {}",
                    list(live.iter())
                );
            }
        }
        let ongoing = self.admin.list_partition_reassignments().await?;
        if !additional && !ongoing.is_empty() {
            bail!(
                "{} partitions are being reassigned already, such as {}: wait (aqueduct reassign list), cancel (aqueduct reassign cancel --all) or add to them with --additional",
                ongoing.len(),
                ongoing.keys().next().map(ToString::to_string).unwrap_or_default()
            );
        }
        let names = topics_of(plan.keys());
        if let Some(rate) = self.throttle {
            let moves = Moves::new(plan, &before, &ongoing);
            if let Err(error) = throttle::set(self.admin, &moves, &live, rate).await {
                self.clear(&names).await?;
                return Err(error.context("the throttle could not be set; nothing was moved"));
            }
        }
        let wanted = plan.iter().map(|(at, ids)| (at.clone(), Some(ids.clone()))).collect();
        let mut failures = Failures::default();
        // After a failure it may have been begun all the same.
        let answered = self.admin.alter_partition_reassignments(&wanted).await;
        let results = answered.with_context(|| self.what_stays())?;
        let results: BTreeMap<_, _> = results.into_iter().collect();
        let mut begun = 0;
        for result in results.into_values() {
            begun += usize::from(failures.check(result).is_some());
        }
        if begun == 0 && self.throttle.is_some() {
            self.clear(&names).await?;
        }
        failures.finish()?;
        Ok(before)
    }

    /// Waits until all of a plan is done, tells how far it is, and takes the throttle away.
    pub async fn finish(&self, plan: &Replicas, before: &Replicas) -> Result<()> {
        let done = tokio::select! {
            done = self.wait(plan, before) => done,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        done.with_context(|| self.what_stays())?;
        if self.throttle.is_some() {
            self.clear(&topics_of(plan.keys())).await?;
        }
        Ok(())
    }

    fn what_stays(&self) -> String {
        let throttle = match self.throttle {
            Some(rate) => format!(", and so does the throttle of {rate} bytes/s"),
            None => String::new(),
        };
        format!(
            "the reassignment goes on without this command{throttle}: see to it with {}, or take it back with {}",
            self.later, self.cancel
        )
    }

    async fn wait(&self, plan: &Replicas, before: &Replicas) -> Result<()> {
        let (all, topics) = (plan.keys().cloned().collect::<BTreeSet<_>>(), topics_of(plan.keys()));
        let mut copies = Copies::default();
        // Sizes are told for interest: that they cannot be had ends nothing.
        let mut known = sizes(self.admin, &topics).await.unwrap_or_default();
        for (at, replicas) in plan {
            let has = before.get(at).map(Vec::as_slice).unwrap_or_default();
            copies.expect(at, replicas.iter().filter(|id| !has.contains(id)), &known);
        }
        let (began, mut told) = (Instant::now(), None::<Instant>);
        let mut first = None;
        loop {
            let mut ongoing = self.admin.list_partition_reassignments().await?;
            ongoing.retain(|at, _| all.contains(at));
            let is_done = ongoing.is_empty();
            if is_done || told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                known = sizes(self.admin, &topics).await.unwrap_or(known);
                let progress = copies.progress(&ongoing, &known, &all);
                let from = *first.get_or_insert(progress.copied);
                let rate =
                    progress.copied.saturating_sub(from) as f64 / began.elapsed().as_secs_f64().max(0.1);
                eprintln!("{}", progress.line(told.map(|_| rate)));
                told = Some(Instant::now());
            }
            if is_done {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Takes limits away, unless replicas are still being copied under those of brokers.
    pub async fn clear(&self, topics: &BTreeSet<ByteString>) -> Result<()> {
        clear_throttle(self.admin, topics).await
    }
}

/// Takes limits away: of these topics, and of brokers where nothing else is moved.
pub async fn clear_throttle(admin: &Admin, topics: &BTreeSet<ByteString>) -> Result<()> {
    let ongoing = admin.list_partition_reassignments().await?;
    let live: BTreeSet<_> = match ongoing.is_empty() {
        true => live_brokers(admin).await?.into_keys().collect(),
        false => {
            eprintln!(
                "aqueduct: {} other partitions are being moved, so that the throttle of brokers stays",
                ongoing.len()
            );
            BTreeSet::new()
        }
    };
    let cleared = throttle::clear(admin, topics, &live).await;
    cleared.context(
        "some of the throttle stays: look with aqueduct configs for leader. and follower.replication.throttled.* of topics and brokers",
    )
}

/// Calls reassignments off.
pub async fn cancel(admin: &Admin, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<usize> {
    let wanted: BTreeMap<_, _> = partitions.into_iter().map(|at| (at, None)).collect();
    let mut failures = Failures::default();
    let mut count = 0;
    if !wanted.is_empty() {
        let results: BTreeMap<_, _> =
            admin.alter_partition_reassignments(&wanted).await?.into_iter().collect();
        for (at, result) in results {
            if failures.check(result).is_some() {
                print_lines([format!("Called off the reassignment of {at}.")])?;
                count += 1;
            }
        }
    }
    failures.finish()?;
    Ok(count)
}

/// Ids with commas between them.
pub fn list<'a>(ids: impl IntoIterator<Item = &'a BrokerId>) -> String {
    ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Partitions of a plan, as a cluster has them.
pub enum State {
    Done,
    Moving(Reassignment),
    /// Nothing goes on, and the replicas are others.
    Otherwise(Vec<BrokerId>),
    Missing,
}

/// How far each partition of a plan is.
pub fn states(
    plan: &Replicas,
    present: &Replicas,
    ongoing: &BTreeMap<TopicPartition, Reassignment>,
) -> BTreeMap<TopicPartition, State> {
    let state = |(at, wanted): (&TopicPartition, &Vec<BrokerId>)| {
        let state = match (ongoing.get(at), present.get(at)) {
            (Some(under_way), _) => State::Moving(under_way.clone()),
            (None, None) => State::Missing,
            (None, Some(has)) if has == wanted => State::Done,
            (None, Some(has)) => State::Otherwise(has.clone()),
        };
        (at.clone(), state)
    };
    plan.iter().map(state).collect()
}
