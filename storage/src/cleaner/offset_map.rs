use std::hash::{BuildHasher, RandomState};

use aqueduct_protocol::ids::Offset;

/// The newest offset of each key, in bounded memory: of a key only 128 bits of a hash are kept.
///
/// The hash is keyed anew for each map, so that no keys can be made up that collide.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    /// How many keys may be in the map.
    limit: usize,
    latest: Offset,
    hashes: (RandomState, RandomState),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: (u64, u64),
    /// -1 where the slot is free.
    offset: i64,
}

const SLOT_BYTES: u64 = 24;
const FREE: Slot = Slot { hash: (0, 0), offset: -1 };

impl OffsetMap {
    /// A map for at most `records` records that takes at most `bytes` and is filled up to `load_factor`.
    pub(crate) fn new(bytes: u64, load_factor: f64, records: u64) -> Self {
        let load_factor = if load_factor.is_finite() { load_factor.clamp(0.01, 1.0) } else { 0.9 };
        let most = bytes / SLOT_BYTES;
        let limit = (most as f64 * load_factor) as u64;
        // One slot stays free in any case, so that a search for an unknown key ends.
        let needed = ((records as f64 / load_factor.min(0.9)).ceil() as u64).saturating_add(1);
        let slots = if limit < most { most.min(needed) } else { (most + 1).min(needed) };
        Self {
            slots: vec![FREE; slots.max(2) as usize],
            len: 0,
            limit: limit.max(1) as usize,
            latest: Offset(-1),
            hashes: (RandomState::new(), RandomState::new()),
        }
    }

    /// Notes that `key` is at `offset`; `false`, and no change, where the map is full.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        if self.len >= self.limit {
            return false;
        }
        let hash = self.hash(key);
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        self.len += usize::from(slot.offset < 0);
        *slot = Slot { hash, offset: offset.0 };
        true
    }

    /// Where the newest record of `key` is, if it is in the map.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        if self.len == 0 {
            return None;
        }
        let offset = self.slots[self.find(self.hash(key))].offset;
        (offset >= 0).then_some(Offset(offset))
    }

    /// Notes that everything up to `offset` is in the map.
    pub(crate) fn cover(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// The last offset that the map covers; -1 for none.
    pub(crate) fn latest(&self) -> Offset {
        self.latest
    }

    /// How many keys may be in the map.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How full the map is, of all that it might have taken.
    pub(crate) fn utilization(&self) -> f64 {
        self.len as f64 / self.limit as f64
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashes.0.hash_one(key), self.hashes.1.hash_one(key))
    }

    /// The slot of `hash`, or the free one where it belongs.
    fn find(&self, hash: (u64, u64)) -> usize {
        let mut at = ((hash.0 as u128 * self.slots.len() as u128) >> 64) as usize;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_found() {
        let mut map = OffsetMap::new(24 * 3000, 0.9, 5000);
        let mut model = HashMap::new();
        for i in 0..5000i64 {
            let key = (i * i % 2503).to_be_bytes();
            assert!(map.put(&key, Offset(i)));
            model.insert(key, Offset(i));
        }
        for n in 0..2600i64 {
            assert_eq!(map.get(&n.to_be_bytes()), model.get(&n.to_be_bytes()).copied());
        }
        assert_eq!(map.get(b""), None);
        assert!(map.put(b"", Offset(9999)));
        assert_eq!(map.get(b""), Some(Offset(9999)));
    }

    #[test]
    fn a_full_map_takes_no_more_and_says_so() {
        let mut map = OffsetMap::new(24 * 100, 0.5, u64::MAX);
        let taken = (0..200i64).take_while(|i| map.put(&i.to_be_bytes(), Offset(*i))).count();
        assert_eq!((taken, map.utilization()), (50, 1.0));
        assert_eq!(map.get(&49i64.to_be_bytes()), Some(Offset(49)));
        assert_eq!(map.get(&50i64.to_be_bytes()), None);
    }

    #[test]
    fn a_map_filled_to_the_last_slot_still_answers() {
        for (bytes, load_factor, records) in
            [(24 * 10, 1.0, 10), (24 * 10, 1.0, 1000), (0, 0.9, 0), (24, 7.5, 9)]
        {
            let mut map = OffsetMap::new(bytes, load_factor, records);
            let mut i = 0i64;
            while i < records as i64 && map.put(&i.to_be_bytes(), Offset(i)) {
                i += 1;
            }
            assert_eq!(map.get(b"unknown"), None);
            assert!((0..i).all(|n| map.get(&n.to_be_bytes()) == Some(Offset(n))));
        }
    }

    #[test]
    fn little_memory_is_taken_for_few_records() {
        assert!(OffsetMap::new(128 << 20, 0.9, 1000).slots.len() < 2000);
    }
}
