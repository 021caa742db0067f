//! Which replicas each partition is to have, in the JSON of Kafka's tools, and how such plans are made. Pure.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_client::{TopicDescription, TopicPartition};
use aqueduct_protocol::ids::BrokerId;
use serde::{Deserialize, Serialize};

/// The replicas of partitions, the preferred leader first.
pub type Replicas = BTreeMap<TopicPartition, Vec<BrokerId>>;

#[derive(Serialize, Deserialize)]
struct File {
    version: i32,
    partitions: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    log_dirs: Vec<String>,
}

/// Reads a plan as `kafka-reassign-partitions` takes it.
///
/// # Errors
/// What is wrong, and where.
pub fn parse(text: &str) -> Result<Replicas, String> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        format!("{error}; expected {{\"version\":1,\"partitions\":[{{\"topic\":\"orders\",\"partition\":0,\"replicas\":[1,2,3]}}]}}")
    })?;
    if file.version != 1 {
        return Err(format!("version {} of the format is not known, 1 is", file.version));
    }
    let mut plan = Replicas::new();
    for Entry { topic, partition, replicas, log_dirs } in file.partitions {
        let at = format!("{topic}-{partition}");
        if topic.is_empty() || partition < 0 {
            return Err(format!("{at}: a topic's name and a partition from 0 on are wanted"));
        }
        let different: BTreeSet<_> = replicas.iter().collect();
        if replicas.is_empty() || different.len() < replicas.len() {
            return Err(format!("{at}: replicas {replicas:?} must be different brokers, at least one"));
        }
        if log_dirs.iter().any(|dir| dir != "any") {
            return Err(format!(
                "{at}: log_dirs other than \"any\" are not set here; leave them out, and move replicas with aqueduct log-dirs move afterwards"
            ));
        }
        let replicas = replicas.into_iter().map(BrokerId).collect();
        if plan.insert(TopicPartition::new(topic, partition), replicas).is_some() {
            return Err(format!("{at} is there twice"));
        }
    }
    match plan.is_empty() {
        true => Err("it has no partitions".to_owned()),
        false => Ok(plan),
    }
}

/// The plan as Kafka's tools take it.
pub fn to_json(plan: &Replicas) -> String {
    let entry = |(at, replicas): (&TopicPartition, &Vec<BrokerId>)| Entry {
        topic: at.topic.to_string(),
        partition: at.partition.0,
        replicas: replicas.iter().map(|id| id.0).collect(),
        log_dirs: Vec::new(),
    };
    let file = File { version: 1, partitions: plan.iter().map(entry).collect() };
    serde_json::to_string(&file).unwrap_or_default()
}

/// The replicas as they are.
pub fn present<'a>(topics: impl IntoIterator<Item = &'a TopicDescription>) -> Replicas {
    let mut replicas = Replicas::new();
    for topic in topics {
        for partition in &topic.partitions {
            let at = TopicPartition::new(topic.name.clone(), partition.partition.0);
            replicas.insert(at, partition.replicas.clone());
        }
    }
    replicas
}

/// Brokers that may have replicas, with their racks.
pub type Brokers = BTreeMap<BrokerId, Option<String>>;

/// Makes plans that move as little as they can.
pub struct Planner<'a> {
    brokers: &'a Brokers,
    replicas: Replicas,
    /// Replicas on each broker.
    load: BTreeMap<BrokerId, usize>,
}

impl<'a> Planner<'a> {
    /// Begins with the replicas as they are. `brokers` are those that may have some afterwards.
    pub fn new(brokers: &'a Brokers, replicas: Replicas) -> Self {
        let mut load: BTreeMap<_, _> = brokers.keys().map(|id| (*id, 0)).collect();
        for id in replicas.values().flatten() {
            load.entry(*id).and_modify(|count| *count += 1);
        }
        Self { brokers, replicas, load }
    }

    /// The broker for one more replica beside `others`: on a rack that has none where there is one, with the fewest replicas.
    fn pick(&self, others: &[BrokerId]) -> Option<BrokerId> {
        let rack = |id: &BrokerId| self.brokers.get(id).and_then(Option::as_ref);
        let held = |id: &BrokerId| {
            rack(id).map_or(0, |own| others.iter().filter(|other| rack(other) == Some(own)).count())
        };
        let free = self.brokers.keys().filter(|id| !others.contains(id));
        free.min_by_key(|id| (held(id), self.load.get(id).copied().unwrap_or(0), **id)).copied()
    }

    /// Takes replicas off brokers that may have none, and gives each partition `factor` of them where that is said.
    ///
    /// # Errors
    /// Too few brokers.
    pub fn settle(&mut self, factor: Option<usize>) -> Result<(), String> {
        let all: Vec<_> = self.replicas.keys().cloned().collect();
        for at in all {
            let mut replicas = self.replicas.get(&at).cloned().unwrap_or_default();
            let wanted = factor.unwrap_or(replicas.len());
            let too_few = || {
                format!(
                    "{at} is to have {wanted} replicas, and there are {} brokers that may have one: add brokers, or have fewer replicas with aqueduct reassign generate --replication-factor",
                    self.brokers.len()
                )
            };
            while replicas.len() > wanted {
                // Off brokers that may have none first, then off the fullest; the preferred leader stays.
                let fullness = |id: &BrokerId| self.load.get(id).copied().unwrap_or(usize::MAX);
                let last = replicas.iter().enumerate().skip(1).max_by_key(|(at, id)| (fullness(id), *at));
                let Some((gone, id)) = last.map(|(at, id)| (at, *id)) else { break };
                replicas.remove(gone);
                self.load.entry(id).and_modify(|count| *count -= 1);
            }
            for slot in 0..replicas.len() {
                if self.brokers.contains_key(&replicas[slot]) {
                    continue;
                }
                let others: Vec<_> = replicas.iter().copied().filter(|id| *id != replicas[slot]).collect();
                let next = self.pick(&others).ok_or_else(too_few)?;
                replicas[slot] = next;
                self.load.entry(next).and_modify(|count| *count += 1);
            }
            while replicas.len() < wanted {
                let next = self.pick(&replicas).ok_or_else(too_few)?;
                replicas.push(next);
                self.load.entry(next).and_modify(|count| *count += 1);
            }
            self.replicas.insert(at, replicas);
        }
        Ok(())
    }

    /// Moves replicas from full brokers to empty ones, where racks allow it, and then leaders, which copies nothing.
    pub fn balance(&mut self) {
        // Each step makes the difference smaller; the bound is for safety.
        for _ in 0..self.replicas.values().map(Vec::len).sum() {
            if !self.move_one() {
                break;
            }
        }
        for _ in 0..self.replicas.len() {
            if !self.lead_elsewhere() {
                break;
            }
        }
    }

    fn move_one(&mut self) -> bool {
        let mut by_load: Vec<_> = self.load.iter().map(|(id, count)| (*count, *id)).collect();
        by_load.sort_unstable();
        let rack = |id: BrokerId| self.brokers.get(&id).and_then(Option::as_ref);
        for (most, from) in by_load.iter().rev() {
            for (least, to) in by_load.iter().take_while(|(least, _)| least + 1 < *most) {
                debug_assert!(least < most);
                let fits = |replicas: &Vec<BrokerId>| {
                    let others: Vec<_> = replicas.iter().filter(|id| *id != from).collect();
                    let crowd = |id: BrokerId| {
                        rack(id).map_or(0, |own| others.iter().filter(|o| rack(***o) == Some(own)).count())
                    };
                    replicas.contains(from) && !replicas.contains(to) && crowd(*to) <= crowd(*from)
                };
                let found = self.replicas.iter_mut().find(|(_, replicas)| fits(replicas));
                if let Some((_, replicas)) = found {
                    replicas.iter_mut().filter(|id| *id == from).for_each(|id| *id = *to);
                    self.load.entry(*from).and_modify(|count| *count -= 1);
                    self.load.entry(*to).and_modify(|count| *count += 1);
                    return true;
                }
            }
        }
        false
    }

    fn lead_elsewhere(&mut self) -> bool {
        let mut leads: BTreeMap<BrokerId, usize> = self.brokers.keys().map(|id| (*id, 0)).collect();
        for leader in self.replicas.values().filter_map(|replicas| replicas.first()) {
            *leads.entry(*leader).or_default() += 1;
        }
        for replicas in self.replicas.values_mut() {
            let Some(first) = replicas.first().copied() else { continue };
            let count = |id: &BrokerId| leads.get(id).copied().unwrap_or(0);
            let best = replicas.iter().enumerate().min_by_key(|(_, id)| count(id)).map(|(slot, _)| slot);
            if let Some(slot) = best.filter(|slot| count(&replicas[*slot]) + 1 < count(&first)) {
                replicas.swap(0, slot);
                return true;
            }
        }
        false
    }

    /// What is to be different from `before`.
    pub fn changes(self, before: &Replicas) -> Replicas {
        self.replicas.into_iter().filter(|(at, replicas)| before.get(at) != Some(replicas)).collect()
    }
}

/// Replicas in an order in which `broker` leads only where it has the only one: the first in sync of the others comes first.
pub fn without_leader(topic: &TopicDescription, broker: BrokerId) -> Replicas {
    let mut plan = Replicas::new();
    for partition in &topic.partitions {
        let replicas = &partition.replicas;
        if replicas.first() != Some(&broker) && partition.leader != Some(broker) {
            continue;
        }
        let mut others: Vec<_> = replicas.iter().copied().filter(|id| *id != broker).collect();
        if let Some(slot) = others.iter().position(|id| partition.isr.contains(id)) {
            let first = others.remove(slot);
            others.insert(0, first);
        }
        if !others.is_empty() && replicas.contains(&broker) {
            others.push(broker);
            plan.insert(TopicPartition::new(topic.name.clone(), partition.partition.0), others);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[i32]) -> Vec<BrokerId> {
        list.iter().copied().map(BrokerId).collect()
    }

    fn brokers(racks: &[(i32, &str)]) -> Brokers {
        let rack = |rack: &str| (!rack.is_empty()).then(|| rack.to_owned());
        racks.iter().map(|(id, name)| (BrokerId(*id), rack(name))).collect()
    }

    fn replicas(all: &[&[i32]]) -> Replicas {
        (0..).zip(all).map(|(index, list)| (TopicPartition::new("t", index), ids(list))).collect()
    }

    #[test]
    fn plans_of_kafkas_tools_are_read_and_written() {
        let text = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[3,2],"log_dirs":["any","any"]}]}"#;
        let plan = parse(text).unwrap();
        assert_eq!(plan, replicas(&[&[3, 2]]));
        assert_eq!(parse(&to_json(&plan)).unwrap(), plan);
        for (wrong, why) in [
            ("{", "expected {"),
            (r#"{"version":2,"partitions":[]}"#, "version 2"),
            (r#"{"version":1,"partitions":[]}"#, "no partitions"),
            (
                r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,1]}]}"#,
                "different brokers",
            ),
            (
                r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1],"log_dirs":["/x"]}]}"#,
                "log-dirs move",
            ),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_drained_broker_is_replaced_on_a_rack_of_its_own() {
        let before = replicas(&[&[1, 3], &[3, 1], &[2, 3]]);
        let others = brokers(&[(1, "a"), (2, "a"), (4, "b"), (5, "b")]);
        let mut planner = Planner::new(&others, before.clone());
        planner.settle(None).unwrap();
        let plan = planner.changes(&before);
        assert_eq!(plan.len(), 3);
        assert!(plan.values().flatten().all(|id| *id != BrokerId(3)));
        for list in plan.values() {
            assert_ne!(others[&list[0]], others[&list[1]], "{plan:?}");
        }
        assert_eq!(plan[&TopicPartition::new("t", 1)][1], BrokerId(1), "what is not moved stays where it is");
        let few = brokers(&[(1, "a")]);
        let error = Planner::new(&few, before).settle(None).unwrap_err();
        assert!(error.contains("t-0") && error.contains("2 replicas"), "{error}");
    }

    #[test]
    fn new_brokers_get_their_share_and_leaders_are_spread() {
        let before = replicas(&[&[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2]]);
        let all = brokers(&[(1, ""), (2, ""), (3, "")]);
        let mut planner = Planner::new(&all, before.clone());
        planner.settle(None).unwrap();
        planner.balance();
        let plan = planner.replicas;
        for id in all.keys() {
            assert_eq!(plan.values().filter(|list| list.contains(id)).count(), 4, "{plan:?}");
            assert_eq!(plan.values().filter(|list| list[0] == *id).count(), 2, "{plan:?}");
        }
    }

    #[test]
    fn partitions_grow_and_shrink() {
        let all = brokers(&[(1, "a"), (2, "b"), (3, "c")]);
        let before = replicas(&[&[1, 2], &[2, 3]]);
        let mut planner = Planner::new(&all, before.clone());
        planner.settle(Some(3)).unwrap();
        assert_eq!(planner.changes(&before), replicas(&[&[1, 2, 3], &[2, 3, 1]]));
        let mut planner = Planner::new(&all, before.clone());
        planner.settle(Some(1)).unwrap();
        assert_eq!(planner.changes(&before), replicas(&[&[1], &[2]]));
    }
}
