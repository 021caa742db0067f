//! How far a reassignment is, in bytes and partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use aqueduct_client::{Admin, Reassignment, TopicPartition};
use aqueduct_protocol::ids::BrokerId;
use bytestring::ByteString;

use crate::tools::output::bytes;

/// The size of each replica, by partition and broker.
pub type Sizes = BTreeMap<(TopicPartition, BrokerId), u64>;

/// Replicas that are copied, with the bytes that each will have.
#[derive(Debug, Default)]
pub struct Copies(BTreeMap<(TopicPartition, BrokerId), u64>);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub copied: u64,
    pub total: u64,
    pub done: usize,
    pub partitions: usize,
}

/// Asks for the sizes of all replicas of these topics.
pub async fn sizes(admin: &Admin, topics: &BTreeSet<ByteString>) -> Result<Sizes> {
    let topics: Vec<_> = topics.iter().cloned().collect();
    let mut sizes = Sizes::new();
    for dir in admin.describe_log_dirs(Some(&topics)).await? {
        for (at, info) in dir.replicas.into_iter().filter(|(_, info)| !info.is_future) {
            sizes.insert((at, dir.broker), u64::try_from(info.size).unwrap_or(0));
        }
    }
    Ok(sizes)
}

impl Copies {
    /// Takes note of replicas that brokers are to get; the largest replica that there is tells how much that is.
    pub fn expect<'a>(
        &mut self,
        at: &TopicPartition,
        to: impl IntoIterator<Item = &'a BrokerId>,
        sizes: &Sizes,
    ) {
        let of_partition = (at.clone(), BrokerId(i32::MIN))..=(at.clone(), BrokerId(i32::MAX));
        let size = sizes.range(of_partition).map(|(_, size)| *size).max().unwrap_or(0);
        for id in to {
            let known = self.0.entry((at.clone(), *id)).or_default();
            *known = size.max(*known);
        }
    }

    /// How far the copies are, while `ongoing` is not done; `partitions` of all that were asked for.
    pub fn progress(
        &mut self,
        ongoing: &BTreeMap<TopicPartition, Reassignment>,
        sizes: &Sizes,
        plan: &BTreeSet<TopicPartition>,
    ) -> Progress {
        // Leaders grow meanwhile.
        for at in ongoing.keys() {
            let to: Vec<_> = self.0.keys().filter(|(known, _)| known == at).map(|(_, id)| *id).collect();
            self.expect(at, &to, sizes);
        }
        let copied = |((at, id), total): (&(TopicPartition, BrokerId), &u64)| match ongoing.contains_key(at) {
            true => sizes.get(&(at.clone(), *id)).copied().unwrap_or(0).min(*total),
            false => *total,
        };
        Progress {
            copied: self.0.iter().map(copied).sum(),
            total: self.0.values().sum(),
            done: plan.iter().filter(|at| !ongoing.contains_key(at)).count(),
            partitions: plan.len(),
        }
    }

    /// Bytes that a partition has and will have, for a listing.
    pub fn of(&self, at: &TopicPartition, sizes: &Sizes) -> (u64, u64) {
        let mine = self.0.iter().filter(|((known, _), _)| known == at);
        mine.fold((0, 0), |(copied, total), ((_, id), size)| {
            let has = sizes.get(&(at.clone(), *id)).copied().unwrap_or(0).min(*size);
            (copied + has, total + size)
        })
    }
}

impl Progress {
    /// One line for people; `rate` in bytes a second where it is known.
    pub fn line(&self, rate: Option<f64>) -> String {
        let share = match self.total {
            0 => 100.0,
            total => self.copied as f64 * 100.0 / total as f64,
        };
        let mut line = format!(
            "copied {} of {} ({share:.1} %), {} of {} partitions done",
            bytes(self.copied),
            bytes(self.total),
            self.done,
            self.partitions
        );
        if let Some(rate) = rate.filter(|rate| *rate >= 1.0 && self.copied < self.total) {
            let left = Duration::from_secs_f64(((self.total - self.copied) as f64 / rate).min(1e8));
            line.push_str(&format!(", {}/s, about {} s left", bytes(rate as u64), left.as_secs() + 1));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_finished_partitions_count_whole() {
        let at = |index| TopicPartition::new("t", index);
        let (one, two) = (BrokerId(1), BrokerId(2));
        let mut sizes = Sizes::from([((at(0), one), 100), ((at(1), one), 300)]);
        let mut copies = Copies::default();
        copies.expect(&at(0), [&two], &sizes);
        copies.expect(&at(1), [&two], &sizes);
        let plan = BTreeSet::from([at(0), at(1)]);
        let under_way = Reassignment { replicas: vec![one, two], adding: vec![two], removing: vec![one] };
        sizes.insert((at(1), two), 100);
        sizes.insert((at(1), one), 400);
        let ongoing = BTreeMap::from([(at(1), under_way)]);
        let progress = copies.progress(&ongoing, &sizes, &plan);
        assert_eq!(progress, Progress { copied: 200, total: 500, done: 1, partitions: 2 });
        assert_eq!(
            progress.line(Some(100.0)),
            "copied 200 B of 500 B (40.0 %), 1 of 2 partitions done, 100 B/s, about 4 s left"
        );
        assert_eq!(copies.of(&at(1), &sizes), (100, 400));
    }
}
