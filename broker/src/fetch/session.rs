//! One incremental fetch session (KIP-227): which partitions a client wants, and what it was last told of each.

use std::collections::{BTreeMap, HashMap};

use aqueduct_protocol::ids::Uuid;
use bytestring::ByteString;

/// A topic as the client names it; one session uses one of the two forms throughout.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Name(ByteString),
    Id(Uuid),
}

/// A partition that a client wants to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    pub topic: TopicKey,
    pub index: i32,
}

/// From where, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    /// Where the log of a follower begins.
    pub log_start_offset: i64,
    /// What a follower knows to be committed (KIP-1166); the largest number where it does not say.
    pub high_watermark: i64,
    pub max_bytes: i32,
}

/// What an answer says about a partition, as far as a session looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub error: bool,
    pub has_records: bool,
    /// A diverging epoch or a preferred replica.
    pub redirected: bool,
    pub high_watermark: i64,
    pub log_start: i64,
}

#[derive(Debug)]
struct Cached {
    position: Position,
    /// -1 until the client has been told, and after an error, so that the next answer holds the partition again.
    high_watermark: i64,
    log_start: i64,
    order: u64,
}

/// The partitions of one session, in the order in which they are served.
#[derive(Debug)]
pub(crate) struct Session {
    by_id: bool,
    /// Epoch that the next request must have.
    next_epoch: i32,
    partitions: HashMap<PartitionKey, Cached>,
    order: BTreeMap<u64, PartitionKey>,
    next_order: u64,
}

impl Session {
    /// A session that has just sent its first answer, with all that it told.
    pub fn new(by_id: bool, partitions: impl IntoIterator<Item = (PartitionKey, Position, Told)>) -> Self {
        let mut session =
            Self { by_id, next_epoch: 1, partitions: HashMap::new(), order: BTreeMap::new(), next_order: 0 };
        for (key, position, told) in partitions {
            session.put(key.clone(), position);
            session.tell(&key, told);
        }
        session
    }

    /// Whether topics go by id.
    pub fn by_id(&self) -> bool {
        self.by_id
    }

    /// Partitions in the session.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Takes up a request's epoch; `false` where it is not the expected one.
    pub fn advance(&mut self, epoch: i32) -> bool {
        if epoch != self.next_epoch {
            return false;
        }
        self.next_epoch = next_epoch(epoch);
        true
    }

    /// Adds partitions, moves others on, forgets some.
    pub fn update(
        &mut self,
        wanted: impl IntoIterator<Item = (PartitionKey, Position)>,
        forgotten: impl IntoIterator<Item = PartitionKey>,
    ) {
        for (key, position) in wanted {
            match self.partitions.get_mut(&key) {
                Some(cached) => cached.position = position,
                None => self.put(key, position),
            }
        }
        for key in forgotten {
            if let Some(cached) = self.partitions.remove(&key) {
                self.order.remove(&cached.order);
            }
        }
    }

    /// The partitions to read, in order.
    pub fn positions(&self) -> Vec<(PartitionKey, Position)> {
        let position =
            |key: &PartitionKey| self.partitions.get(key).map(|cached| (key.clone(), cached.position));
        self.order.values().filter_map(position).collect()
    }

    /// Whether the next answer must hold the partition, given what it would say. Remembers it as said; a partition with
    /// records goes to the end, so that the others come first next time.
    pub fn tell(&mut self, key: &PartitionKey, told: Told) -> bool {
        let Some(cached) = self.partitions.get_mut(key) else { return true };
        let news = told.error
            || told.has_records
            || told.redirected
            || cached.high_watermark != told.high_watermark
            || cached.log_start != told.log_start;
        cached.high_watermark = if told.error { -1 } else { told.high_watermark };
        cached.log_start = told.log_start;
        if told.has_records {
            self.order.remove(&cached.order);
            cached.order = self.next_order;
            self.order.insert(cached.order, key.clone());
            self.next_order += 1;
        }
        news
    }

    fn put(&mut self, key: PartitionKey, position: Position) {
        let order = self.next_order;
        self.next_order += 1;
        self.order.insert(order, key.clone());
        self.partitions.insert(key, Cached { position, high_watermark: -1, log_start: -1, order });
    }
}

/// Epochs run from 1 to the largest number and start again at 1.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: i32) -> PartitionKey {
        PartitionKey { topic: TopicKey::Name("t".into()), index }
    }

    fn at(fetch_offset: i64) -> Position {
        Position {
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            high_watermark: i64::MAX,
            max_bytes: 1,
        }
    }

    fn told(high_watermark: i64, has_records: bool) -> Told {
        Told { error: false, has_records, redirected: false, high_watermark, log_start: 0 }
    }

    fn session() -> Session {
        Session::new(false, (0..3).map(|index| (key(index), at(0), told(0, false))))
    }

    fn order(session: &Session) -> Vec<i32> {
        session.positions().iter().map(|(key, _)| key.index).collect()
    }

    #[test]
    fn only_news_is_told() {
        let mut session = session();
        assert!(!session.tell(&key(0), told(0, false)));
        assert!(session.tell(&key(0), told(5, false)));
        assert!(!session.tell(&key(0), told(5, false)));
        assert!(session.tell(&key(0), told(5, true)));
        assert!(session.tell(&key(0), Told { log_start: 3, ..told(5, false) }));
    }

    #[test]
    fn after_an_error_a_partition_is_told_again() {
        let mut session = session();
        let error =
            Told { error: true, has_records: false, redirected: false, high_watermark: -1, log_start: -1 };
        assert!(session.tell(&key(1), error));
        assert!(session.tell(&key(1), error));
        assert!(session.tell(&key(1), told(0, false)));
        assert!(!session.tell(&key(1), told(0, false)));
    }

    #[test]
    fn served_partitions_go_to_the_end() {
        let mut session = session();
        session.tell(&key(0), told(1, true));
        assert_eq!(order(&session), [1, 2, 0]);
        session.tell(&key(2), told(1, true));
        assert_eq!(order(&session), [1, 0, 2]);
        session.update([(key(1), at(7)), (key(9), at(0))], [key(0)]);
        assert_eq!(order(&session), [1, 2, 9]);
        assert_eq!(session.positions()[0].1.fetch_offset, 7);
        assert_eq!(session.len(), 3);
    }

    #[test]
    fn epochs_follow_each_other_and_wrap() {
        let mut session = session();
        assert!(!session.advance(2));
        assert!(session.advance(1) && session.advance(2) && !session.advance(2));
        session.next_epoch = i32::MAX;
        assert!(session.advance(i32::MAX) && session.advance(1));
    }
}
