//! Who was heard of when. Nothing of it is in the log: a new controller gives everybody a whole timeout.

use std::collections::BTreeMap;

use aqueduct_protocol::ids::BrokerId;

/// The sessions of brokers.
#[derive(Debug)]
pub(super) struct Sessions {
    timeout_ms: i64,
    now_ms: i64,
    brokers: BTreeMap<BrokerId, Session>,
}

/// One broker's session.
#[derive(Debug, Clone, Copy)]
struct Session {
    heard_ms: i64,
    /// Whether this controller has heard the broker itself, or only knows of it from the one before.
    heard: bool,
    /// Version of the image that the broker said it has.
    applied: u64,
    /// The version that all others must have before the broker may stop.
    leave_at: Option<u64>,
}

impl Session {
    fn from(now_ms: i64) -> Self {
        Self { heard_ms: now_ms, heard: false, applied: 0, leave_at: None }
    }
}

impl Sessions {
    pub(super) fn new(timeout_ms: i64, now_ms: i64) -> Self {
        Self { timeout_ms, now_ms, brokers: BTreeMap::new() }
    }

    /// Moves the time on. Where it leaps, this process stood still or its clock was set: brokers could not be heard.
    pub(super) fn advance(&mut self, now_ms: i64) {
        let leap = now_ms - self.now_ms;
        if leap > self.timeout_ms / 2 {
            self.brokers.values_mut().for_each(|session| session.heard_ms += leap);
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A session from now on, of a broker that speaks.
    pub(super) fn begin(&mut self, id: BrokerId, now_ms: i64) {
        self.brokers.insert(id, Session { heard: true, ..Session::from(now_ms) });
    }

    /// A session of a broker that another controller has heard.
    pub(super) fn take_over(&mut self, id: BrokerId, now_ms: i64) {
        self.brokers.insert(id, Session::from(now_ms));
    }

    pub(super) fn touch(&mut self, id: BrokerId, now_ms: i64, applied: u64) {
        let session = self.brokers.entry(id).or_insert_with(|| Session::from(now_ms));
        (session.heard, session.heard_ms) = (true, now_ms);
        session.applied = session.applied.max(applied);
    }

    /// Whether this controller has heard the broker itself.
    pub(super) fn was_heard(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(|session| session.heard)
    }

    pub(super) fn end(&mut self, id: BrokerId) {
        self.brokers.remove(&id);
    }

    /// Whether the broker was heard of lately.
    pub(super) fn is_valid(&self, id: BrokerId, now_ms: i64) -> bool {
        self.brokers.get(&id).is_some_and(|session| now_ms - session.heard_ms < self.timeout_ms)
    }

    /// Who was not heard of for too long; their sessions end.
    pub(super) fn expired(&mut self, now_ms: i64) -> Vec<BrokerId> {
        let gone: Vec<_> = self.brokers.keys().copied().filter(|id| !self.is_valid(*id, now_ms)).collect();
        gone.iter().for_each(|id| self.end(*id));
        gone
    }

    /// The broker may stop once all others have this version.
    pub(super) fn leave_at(&mut self, id: BrokerId, version: u64) {
        if let Some(session) = self.brokers.get_mut(&id) {
            session.leave_at.get_or_insert(version);
        }
    }

    /// Whether all of `others` have what the broker waits for.
    pub(super) fn may_leave(&self, id: BrokerId, others: impl Iterator<Item = BrokerId>) -> bool {
        let at = self.brokers.get(&id).and_then(|session| session.leave_at).unwrap_or(0);
        let applied = |id: BrokerId| self.brokers.get(&id).map_or(0, |session| session.applied);
        others.filter(|other| *other != id).all(|other| applied(other) >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_nobody_could_be_heard_does_not_count() {
        let mut sessions = Sessions::new(9_000, 0);
        sessions.begin(BrokerId(1), 0);
        sessions.advance(4_000);
        assert!(sessions.expired(4_000).is_empty());
        sessions.advance(604_000);
        assert!(sessions.expired(604_000).is_empty());
        sessions.advance(608_000);
        assert!(sessions.expired(608_000).is_empty());
        sessions.advance(609_000);
        assert_eq!(sessions.expired(609_000), [BrokerId(1)]);
    }

    #[test]
    fn a_broker_leaves_when_all_others_know() {
        let mut sessions = Sessions::new(9_000, 0);
        (1..=3).for_each(|id| sessions.begin(BrokerId(id), 0));
        sessions.leave_at(BrokerId(1), 7);
        let others = || (1..=3).map(BrokerId);
        sessions.touch(BrokerId(2), 1, 7);
        assert!(!sessions.may_leave(BrokerId(1), others()));
        sessions.touch(BrokerId(3), 1, 8);
        assert!(sessions.may_leave(BrokerId(1), others()));
    }
}
