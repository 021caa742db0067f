//! Deadlines of one shard, in order.

use std::collections::{BTreeMap, HashMap};

use super::ids::{GroupId, MemberId};

/// What a deadline is for; one deadline a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TimerKey {
    /// The joining phase of a group ends.
    Join(GroupId),
    /// Members that have not asked for their assignment are dropped.
    Sync(GroupId),
    /// A member has not been heard of.
    Session(GroupId, MemberId),
    /// A member of a consumer group has not given up partitions.
    Rebalance(GroupId, MemberId),
    /// A classic member of a consumer group was told to rejoin and has not.
    ClassicJoin(GroupId, MemberId),
    /// A classic member of a consumer group has joined and not asked for its assignment.
    ClassicSync(GroupId, MemberId),
    /// Old offsets and groups are looked for.
    Expiry,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(i64, u64), TimerKey>,
    set: HashMap<TimerKey, (i64, u64)>,
    next: u64,
}

impl Timers {
    /// Sets the deadline of `key`, in place of the one it may have.
    pub fn set(&mut self, key: TimerKey, at_ms: i64) {
        self.next += 1;
        let slot = (at_ms, self.next);
        if let Some(old) = self.set.insert(key.clone(), slot) {
            self.due.remove(&old);
        }
        self.due.insert(slot, key);
    }

    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some(slot) = self.set.remove(key) {
            self.due.remove(&slot);
        }
    }

    pub fn is_set(&self, key: &TimerKey) -> bool {
        self.set.contains_key(key)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<i64> {
        self.due.keys().next().map(|(at_ms, _)| *at_ms)
    }

    /// Takes the earliest deadline that is not after `now_ms`; in the order of setting where several are equal.
    pub fn pop(&mut self, now_ms: i64) -> Option<TimerKey> {
        let entry = self.due.first_entry()?;
        if entry.key().0 > now_ms {
            return None;
        }
        let key = entry.remove();
        self.set.remove(&key);
        Some(key)
    }

    #[cfg(test)]
    pub fn deadline(&self, key: &TimerKey) -> Option<i64> {
        self.set.get(key).map(|(at_ms, _)| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_deadlines_come_in_order() {
        let mut timers = Timers::default();
        let (a, b) = (TimerKey::Join("a".into()), TimerKey::Join("b".into()));
        timers.set(a.clone(), 10);
        timers.set(b.clone(), 20);
        timers.set(a.clone(), 30);
        assert_eq!(timers.deadline(&a), Some(30));
        assert_eq!(timers.next_deadline(), Some(20));
        assert_eq!(timers.pop(19), None);
        assert_eq!(timers.pop(40), Some(b));
        timers.cancel(&a);
        assert_eq!((timers.pop(40), timers.next_deadline()), (None, None));
    }
}
