//! All fetch sessions of a node: a bounded cache, in shards so that clients do not wait for each other.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::session::Session;

/// A session that is idle for so long makes room for any other.
const EVICTABLE_AFTER_MS: i64 = 120_000;
const SHARDS: usize = 8;

/// Remembers sessions by id.
#[derive(Debug)]
pub(crate) struct Sessions {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    slots: usize,
    sessions: HashMap<i32, Slot>,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    size: usize,
    created_ms: i64,
    used_ms: i64,
}

impl Sessions {
    /// A cache of about so many sessions.
    pub fn new(slots: usize) -> Self {
        let per_shard = slots.div_ceil(SHARDS);
        Self { shards: std::array::from_fn(|_| Mutex::new(Shard { slots: per_shard, ..Shard::default() })) }
    }

    /// The session of an id, marked as used.
    pub fn get(&self, id: i32, now_ms: i64) -> Option<Arc<Mutex<Session>>> {
        let mut shard = self.shard(id).lock();
        let slot = shard.sessions.get_mut(&id)?;
        slot.used_ms = now_ms;
        Some(slot.session.clone())
    }

    /// Keeps a session and gives it an id; `None` where the cache is full of sessions that are worth more.
    pub fn put(&self, session: Session, now_ms: i64) -> Option<i32> {
        let id = rand::random_range(1..i32::MAX);
        self.shard(id).lock().put(id, session, now_ms)
    }

    /// Notes how large a session has become.
    pub fn resized(&self, id: i32, size: usize) {
        if let Some(slot) = self.shard(id).lock().sessions.get_mut(&id) {
            slot.size = size;
        }
    }

    /// Forgets a session.
    pub fn remove(&self, id: i32) {
        self.shard(id).lock().sessions.remove(&id);
    }

    /// Sessions that are remembered.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().sessions.len()).sum()
    }

    fn shard(&self, id: i32) -> &Mutex<Shard> {
        &self.shards[id.unsigned_abs() as usize % SHARDS]
    }
}

impl Shard {
    fn put(&mut self, id: i32, session: Session, now_ms: i64) -> Option<i32> {
        if self.sessions.contains_key(&id) {
            return None;
        }
        if self.sessions.len() >= self.slots {
            let victim = self.victim(session.len(), now_ms)?;
            self.sessions.remove(&victim);
        }
        let size = session.len();
        let slot = Slot { session: Arc::new(Mutex::new(session)), size, created_ms: now_ms, used_ms: now_ms };
        self.sessions.insert(id, slot);
        Some(id)
    }

    /// The session idle the longest, if long enough; else the smallest, if it is smaller than the newcomer and has had
    /// its time.
    fn victim(&self, size: usize, now_ms: i64) -> Option<i32> {
        let (idle, slot) = self.sessions.iter().min_by_key(|(_, slot)| slot.used_ms)?;
        if now_ms - slot.used_ms > EVICTABLE_AFTER_MS {
            return Some(*idle);
        }
        let (smallest, slot) = self.sessions.iter().min_by_key(|(_, slot)| slot.size)?;
        let had_its_time = now_ms - slot.created_ms > EVICTABLE_AFTER_MS;
        (slot.size < size && had_its_time).then_some(*smallest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::{PartitionKey, Position, Told, TopicKey};
    use super::*;

    fn session(partitions: i32) -> Session {
        let position = Position {
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            high_watermark: i64::MAX,
            max_bytes: 1,
        };
        let told =
            Told { error: false, has_records: false, redirected: false, high_watermark: 0, log_start: 0 };
        let key = |index| PartitionKey { topic: TopicKey::Name("t".into()), index };
        Session::new(false, (0..partitions).map(|index| (key(index), position, told)))
    }

    #[test]
    fn a_full_shard_makes_room_for_larger_or_after_idle_sessions() {
        let mut shard = Shard { slots: 2, ..Shard::default() };
        assert_eq!(shard.put(1, session(3), 0), Some(1));
        assert_eq!(shard.put(2, session(5), 0), Some(2));
        assert_eq!(shard.put(3, session(9), 1000), None);
        shard.sessions.get_mut(&1).unwrap().used_ms = 125_000;
        shard.sessions.get_mut(&2).unwrap().used_ms = 125_000;
        assert_eq!(shard.put(3, session(2), 130_000), None);
        assert_eq!(shard.put(3, session(4), 130_000), Some(3));
        assert!(!shard.sessions.contains_key(&1));
        assert_eq!(shard.put(4, session(1), 250_000), Some(4));
        assert!(!shard.sessions.contains_key(&2));
    }

    #[test]
    fn sessions_are_found_until_removed() {
        let sessions = Sessions::new(1000);
        let id = sessions.put(session(1), 0).unwrap();
        assert!(id > 0 && sessions.get(id, 1).is_some());
        assert_eq!(sessions.count(), 1);
        sessions.remove(id);
        assert!(sessions.get(id, 1).is_none());
        assert!(Sessions::new(0).put(session(1), 0).is_none());
    }
}
