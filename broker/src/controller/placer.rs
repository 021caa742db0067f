//! Where replicas of new partitions go: racks in turn, brokers of a rack in turn, the first replica on a live broker.

use std::collections::BTreeMap;

use aqueduct_protocol::ids::BrokerId;

use crate::metadata::MetadataImage;

/// The brokers of one rack, and who is next.
#[derive(Debug, Default)]
struct Rack {
    live: Vec<BrokerId>,
    fenced: Vec<BrokerId>,
    next_leader: usize,
    next_live: usize,
    next_fenced: usize,
}

impl Rack {
    fn leader(&mut self) -> Option<BrokerId> {
        let leader = *self.live.get(self.next_leader % self.live.len().max(1))?;
        self.next_leader += 1;
        Some(leader)
    }

    fn follower(&mut self, chosen: &[BrokerId]) -> Option<BrokerId> {
        take(&self.live, &mut self.next_live, chosen)
            .or_else(|| take(&self.fenced, &mut self.next_fenced, chosen))
    }
}

/// The next broker of a list that is not chosen yet.
fn take(list: &[BrokerId], next: &mut usize, chosen: &[BrokerId]) -> Option<BrokerId> {
    for step in 0..list.len() {
        let candidate = list[(*next + step) % list.len()];
        if !chosen.contains(&candidate) {
            *next += step + 1;
            return Some(candidate);
        }
    }
    None
}

/// Replicas of `count` partitions; `None` where no broker is live or there are fewer brokers than `factor`.
/// `seed` decides where the turns begin.
pub(super) fn place(
    image: &MetadataImage,
    seed: u64,
    count: usize,
    factor: usize,
) -> Option<Vec<Vec<BrokerId>>> {
    let mut by_name: BTreeMap<_, Rack> = BTreeMap::new();
    for (id, broker) in &image.brokers {
        let rack = by_name.entry(broker.rack.clone()).or_default();
        if image.is_live(*id) { rack.live.push(*id) } else { rack.fenced.push(*id) }
    }
    let mut racks: Vec<Rack> = by_name.into_values().collect();
    let total: usize = racks.iter().map(|rack| rack.live.len() + rack.fenced.len()).sum();
    if factor == 0 || total < factor || racks.iter().all(|rack| rack.live.is_empty()) {
        return None;
    }
    for (at, rack) in racks.iter_mut().enumerate() {
        let start = (seed >> 8) as usize % 1024 + at;
        (rack.next_leader, rack.next_live, rack.next_fenced) = (start, start + 1, start);
    }
    let first = seed as usize % racks.len();
    Some((0..count).map(|partition| replicas(&mut racks, first + partition, factor)).collect())
}

/// Replicas of one partition, beginning with a rack. There are enough brokers, and one of them is live.
fn replicas(racks: &mut [Rack], first: usize, factor: usize) -> Vec<BrokerId> {
    let mut chosen = Vec::with_capacity(factor);
    let count = racks.len();
    let mut turn = first;
    while chosen.len() < factor {
        let rack = &mut racks[turn % count];
        turn += 1;
        chosen.extend(if chosen.is_empty() { rack.leader() } else { rack.follower(&chosen) });
    }
    chosen
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::Uuid;

    use super::*;
    use crate::metadata::{BrokerImage, BrokerState, ClusterRecord, Record};

    fn image(brokers: &[(i32, &'static str, bool)]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (id, rack, fenced) in brokers {
            let id = BrokerId(*id);
            let rack = (!rack.is_empty()).then(|| (*rack).into());
            let broker = BrokerImage { id, incarnation: Uuid::ZERO, endpoints: Vec::new(), rack };
            image.apply(&Record::BrokerRegistered(broker));
            let state = BrokerState { fenced: *fenced, ..Default::default() };
            image.apply(&Record::Cluster(ClusterRecord::Broker { id, state }));
        }
        image
    }

    #[test]
    fn replicas_are_on_different_racks_and_leaders_are_spread() {
        let racks = ["a", "a", "b", "b", "c", "c"];
        let brokers: Vec<_> = racks.iter().enumerate().map(|(id, rack)| (id as i32, *rack, false)).collect();
        let image = image(&brokers);
        for seed in [0, 77, 123_456_789] {
            let placed = place(&image, seed, 60, 3).unwrap();
            let mut leaders = BTreeMap::new();
            let mut held = BTreeMap::new();
            for replicas in &placed {
                let mut of: Vec<_> = replicas.iter().map(|id| racks[id.0 as usize]).collect();
                of.sort_unstable();
                assert_eq!(of, ["a", "b", "c"]);
                *leaders.entry(replicas[0]).or_insert(0) += 1;
                replicas.iter().for_each(|id| *held.entry(*id).or_insert(0) += 1);
            }
            assert!(leaders.values().all(|count| *count == 10), "{leaders:?}");
            assert!(held.values().all(|count| (25..=35).contains(count)), "{held:?}");
        }
    }

    #[test]
    fn fenced_brokers_follow_only_where_there_are_no_others() {
        let image = image(&[(1, "", false), (2, "", false), (3, "", true)]);
        assert!(place(&image, 5, 9, 2).unwrap().iter().flatten().all(|id| id.0 != 3));
        for replicas in place(&image, 5, 9, 3).unwrap() {
            assert_eq!(replicas[2], BrokerId(3));
            assert_ne!(replicas[0], replicas[1]);
        }
        assert_eq!(place(&image, 5, 1, 4), None);
        assert_eq!(place(&self::image(&[(1, "", true)]), 5, 1, 1), None);
    }
}
