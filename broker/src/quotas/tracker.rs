//! What each client has used, for no more clients than memory allows.

use std::collections::HashMap;
use std::hash::Hash;

/// Whoever is quiet for so long is forgotten.
const QUIET_MS: i64 = 3_600_000;
/// No more than this are kept: those that were quiet longest make room, for a client may call itself what it likes.
const MOST: usize = 20_000;

/// Measurements by client.
#[derive(Debug)]
pub struct Tracker<K, M> {
    tracked: HashMap<K, Tracked<M>>,
    most: usize,
}

#[derive(Debug)]
struct Tracked<M> {
    meter: M,
    used_ms: i64,
}

impl<K, M> Default for Tracker<K, M> {
    fn default() -> Self {
        Self { tracked: HashMap::new(), most: MOST }
    }
}

impl<K: Hash + Eq, M: Default> Tracker<K, M> {
    /// The measurement of a client, begun where there is none. `own` is to return a key that may be kept.
    pub fn get(&mut self, now_ms: i64, key: &K, own: impl FnOnce() -> K) -> &mut M {
        if !self.tracked.contains_key(key) {
            if self.tracked.len() >= self.most {
                self.make_room(now_ms);
            }
            self.tracked.insert(own(), Tracked { meter: M::default(), used_ms: now_ms });
        }
        let tracked = self.tracked.get_mut(key).expect("it is there, or has just been put there");
        tracked.used_ms = now_ms;
        &mut tracked.meter
    }

    /// Everybody who is tracked.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut M)> {
        self.tracked.iter_mut().map(|(key, tracked)| (key, &mut tracked.meter))
    }

    /// Forgets who has been quiet for long.
    pub fn expire(&mut self, now_ms: i64) {
        self.tracked.retain(|_, tracked| now_ms - tracked.used_ms < QUIET_MS);
    }

    /// Drops a sixteenth at once, so that a flood of new clients does not look through all of them each time.
    fn make_room(&mut self, now_ms: i64) {
        self.expire(now_ms);
        if self.tracked.len() < self.most {
            return;
        }
        let mut used: Vec<i64> = self.tracked.values().map(|tracked| tracked.used_ms).collect();
        let drop = self.most.div_ceil(16).min(used.len());
        let (_, limit, _) = used.select_nth_unstable(drop - 1);
        let limit = *limit;
        let mut left = drop;
        self.tracked.retain(|_, tracked| {
            let goes = left > 0 && tracked.used_ms <= limit;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_quiet_longest_make_room() {
        let mut tracker: Tracker<i64, i64> = Tracker { most: 32, ..Tracker::default() };
        for key in 0..1000 {
            *tracker.get(key, &key, || key) = key;
            assert!(tracker.tracked.len() <= 32);
        }
        assert!(tracker.tracked.contains_key(&999) && !tracker.tracked.contains_key(&0));
        assert_eq!(*tracker.get(1000, &999, || 999), 999);
        tracker.expire(1000 + QUIET_MS - 1);
        assert_eq!(tracker.tracked.keys().collect::<Vec<_>>(), [&999]);
        tracker.expire(1000 + QUIET_MS);
        assert!(tracker.tracked.is_empty());
        // All of one age: no more than the share goes.
        for key in 0..33 {
            tracker.get(5, &key, || key);
        }
        assert_eq!(tracker.tracked.len(), 31);
    }
}
