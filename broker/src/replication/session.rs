//! A follower's side of a fetch session (KIP-227): what of its positions the leader has to be told. Pure.

use std::collections::HashMap;

use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

use crate::fetch::session::Position;

/// A partition of a topic that may be deleted and made again under the same name.
pub(super) type Key = (Uuid, i32);

/// What the leader was told, and under which number.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    id: i32,
    /// 0 for a request that tells all.
    epoch: i32,
    told: HashMap<Key, Position>,
}

/// What goes into a request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    pub id: i32,
    pub epoch: i32,
    pub topics: Vec<FetchTopic>,
    pub forgotten: Vec<ForgottenTopic>,
}

impl FetchSession {
    /// The next request, for partitions from these positions on.
    pub fn next(&mut self, positions: &HashMap<Key, Position>) -> Told {
        if self.epoch == 0 {
            self.told.clear();
        }
        let mut told = Told { id: self.id, epoch: self.epoch, ..Told::default() };
        for (key, position) in positions {
            if self.told.get(key) != Some(position) {
                add(&mut told.topics, key, position);
            }
        }
        for (topic_id, index) in self.told.keys().filter(|key| !positions.contains_key(key)) {
            match told.forgotten.iter_mut().find(|topic| topic.topic_id == *topic_id) {
                Some(topic) => topic.partitions.push(*index),
                None => told.forgotten.push(ForgottenTopic {
                    topic_id: *topic_id,
                    partitions: vec![*index],
                    ..Default::default()
                }),
            }
        }
        self.told.clone_from(positions);
        told
    }

    /// Goes on after an answer of the session `id`; 0 where the leader keeps none.
    pub fn answered(&mut self, id: i32) {
        self.id = id;
        if id == 0 {
            return self.reset();
        }
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
    }

    /// Begins anew: the leader is told all, and gives up the session that it keeps.
    pub fn reset(&mut self) {
        *self = Self { id: self.id, ..Self::default() };
    }
}

fn add(topics: &mut Vec<FetchTopic>, (topic_id, index): &Key, position: &Position) {
    let partition = FetchPartition {
        partition: *index,
        current_leader_epoch: position.current_leader_epoch,
        fetch_offset: position.fetch_offset,
        last_fetched_epoch: position.last_fetched_epoch,
        log_start_offset: position.log_start_offset,
        high_watermark: position.high_watermark,
        partition_max_bytes: position.max_bytes,
        ..Default::default()
    };
    match topics.iter_mut().find(|topic| topic.topic_id == *topic_id) {
        Some(topic) => topic.partitions.push(partition),
        None => {
            let partitions = vec![partition];
            topics.push(FetchTopic { topic_id: *topic_id, partitions, ..Default::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Position {
        Position {
            current_leader_epoch: 1,
            fetch_offset: offset,
            last_fetched_epoch: 1,
            log_start_offset: 0,
            high_watermark: 0,
            max_bytes: 9,
        }
    }

    fn asked(told: &Told) -> Vec<(i32, i64)> {
        let partitions = told.topics.iter().flat_map(|topic| &topic.partitions);
        let mut all: Vec<_> = partitions.map(|p| (p.partition, p.fetch_offset)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn only_what_changed_is_told() {
        let topic = Uuid([1; 16]);
        let mut session = FetchSession::default();
        let mut positions = HashMap::from([((topic, 0), at(0)), ((topic, 1), at(5))]);
        let first = session.next(&positions);
        assert_eq!((first.id, first.epoch, asked(&first)), (0, 0, vec![(0, 0), (1, 5)]));
        session.answered(77);
        positions.insert((topic, 0), at(3));
        positions.remove(&(topic, 1));
        positions.insert((topic, 2), at(8));
        let second = session.next(&positions);
        assert_eq!((second.id, second.epoch, asked(&second)), (77, 1, vec![(0, 3), (2, 8)]));
        assert_eq!(second.forgotten[0].partitions, [1]);
        session.answered(77);
        let third = session.next(&positions);
        assert_eq!((third.epoch, third.topics.len(), third.forgotten.len()), (2, 0, 0));
        session.reset();
        let anew = session.next(&positions);
        assert_eq!((anew.id, anew.epoch, asked(&anew).len()), (77, 0, 2), "the old session is given up");
        session.answered(0);
        assert_eq!(asked(&session.next(&positions)).len(), 2, "without a session all is told each time");
    }
}
