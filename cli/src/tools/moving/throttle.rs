//! Limits of how fast replicas are copied, set as Kafka's tool sets them, so that either takes them away (KIP-73).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use aqueduct_client::{Admin, ConfigOp, ConfigResource, Reassignment, TopicPartition};
use aqueduct_protocol::ids::BrokerId;
use bytestring::ByteString;

use super::plan::Replicas;
use crate::tools::output::Failures;

const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const LEADERS: &str = "leader.replication.throttled.replicas";
const FOLLOWERS: &str = "follower.replication.throttled.replicas";

/// Who copies what.
#[derive(Debug, Default, PartialEq)]
pub struct Moves {
    /// Of each topic the replicas that are read, and those that are written, as PARTITION:BROKER.
    topics: BTreeMap<ByteString, (BTreeSet<String>, BTreeSet<String>)>,
    brokers: BTreeSet<BrokerId>,
}

impl Moves {
    /// What `plan` has to be copied, and what is being copied in its topics already.
    pub fn new(plan: &Replicas, before: &Replicas, ongoing: &BTreeMap<TopicPartition, Reassignment>) -> Self {
        let mut this = Self::default();
        let topics: BTreeSet<_> = plan.keys().map(|at| &at.topic).collect();
        for (at, under_way) in ongoing.iter().filter(|(at, _)| topics.contains(&at.topic)) {
            let sources = under_way.replicas.iter().filter(|id| !under_way.adding.contains(id));
            this.add(at, sources, under_way.adding.iter());
        }
        for (at, wanted) in plan {
            let has = before.get(at).map(Vec::as_slice).unwrap_or_default();
            let adding: Vec<_> = wanted.iter().filter(|id| !has.contains(id)).collect();
            if !adding.is_empty() {
                this.add(at, has.iter(), adding.into_iter());
            }
        }
        this
    }

    fn add<'a>(
        &mut self,
        at: &TopicPartition,
        from: impl Iterator<Item = &'a BrokerId>,
        to: impl Iterator<Item = &'a BrokerId>,
    ) {
        let (sources, targets) = self.topics.entry(at.topic.clone()).or_default();
        for id in from {
            sources.insert(format!("{}:{id}", at.partition));
            self.brokers.insert(*id);
        }
        for id in to {
            targets.insert(format!("{}:{id}", at.partition));
            self.brokers.insert(*id);
        }
    }
}

/// Limits each broker that takes part to so many bytes a second in either direction.
pub async fn set(admin: &Admin, moves: &Moves, live: &BTreeSet<BrokerId>, rate: i64) -> Result<()> {
    let joined = |replicas: &BTreeSet<String>| {
        ConfigOp::Set(replicas.iter().map(String::as_str).collect::<Vec<_>>().join(","))
    };
    let topics = moves.topics.iter().map(|(name, (sources, targets))| {
        let ops = vec![(LEADERS.to_owned(), joined(sources)), (FOLLOWERS.to_owned(), joined(targets))];
        (ConfigResource::Topic(name.clone()), ops)
    });
    let to_rate = |key: &&str| ((*key).to_owned(), ConfigOp::Set(rate.to_string()));
    let brokers: Vec<_> = moves.brokers.intersection(live).copied().collect();
    change(admin, topics.collect(), &brokers, RATES.iter().map(to_rate).collect()).await
}

/// Takes the limits away: of these topics, and of all brokers.
pub async fn clear(admin: &Admin, topics: &BTreeSet<ByteString>, live: &BTreeSet<BrokerId>) -> Result<()> {
    let gone = |key: &&str| ((*key).to_owned(), ConfigOp::Delete);
    let known = admin.list_topics().await?;
    let topics = topics.intersection(&known).map(|name| {
        (ConfigResource::Topic(name.clone()), [LEADERS, FOLLOWERS].iter().map(gone).collect::<Vec<_>>())
    });
    let brokers: Vec<_> = live.iter().copied().collect();
    change(admin, topics.collect(), &brokers, RATES.iter().map(gone).collect()).await
}

type Ops = Vec<(String, ConfigOp)>;

async fn change(
    admin: &Admin,
    topics: Vec<(ConfigResource, Ops)>,
    brokers: &[BrokerId],
    rates: Ops,
) -> Result<()> {
    let mut failures = Failures::default();
    if !topics.is_empty() {
        for done in admin.incremental_alter_configs(&topics).await?.into_values() {
            failures.check(done);
        }
    }
    for id in brokers {
        let one = [(ConfigResource::Broker(*id), rates.clone())];
        match admin.incremental_alter_configs(&one).await {
            Ok(results) => results.into_values().for_each(|done| {
                failures.check(done);
            }),
            Err(error) => {
                failures.check(Err::<(), _>(error));
            }
        }
    }
    failures.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_targets_are_told_apart() {
        let ids = |list: &[i32]| list.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let at = |index| TopicPartition::new("t", index);
        let before = Replicas::from([(at(0), ids(&[1, 2])), (at(1), ids(&[1, 2]))]);
        let plan = Replicas::from([(at(0), ids(&[3, 2])), (at(1), ids(&[2, 1]))]);
        let under_way = Reassignment { replicas: ids(&[1, 4]), adding: ids(&[4]), removing: ids(&[]) };
        let moves = Moves::new(&plan, &before, &BTreeMap::from([(at(2), under_way)]));
        let (sources, targets) = &moves.topics["t"];
        assert_eq!(sources.iter().map(String::as_str).collect::<Vec<_>>(), ["0:1", "0:2", "2:1"]);
        assert_eq!(targets.iter().map(String::as_str).collect::<Vec<_>>(), ["0:3", "2:4"]);
        assert_eq!(moves.brokers.len(), 4);
    }
}
