//! Which partition is fetched from which broker: a feed for each leader's broker, or several, as `num.replica.fetchers` says,
//! and as many for partitions that this node has to catch up with: what they copy does not keep the others waiting.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::fetcher;
use super::role::{RoleChange, RoleObserver};
use super::session::Key;
use crate::node::Node;
use crate::partition::Partition;

/// What a feed is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    InSync,
    CatchUp,
}

/// A feed's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct At {
    leader: BrokerId,
    number: u64,
    lane: Lane,
}

/// Feeds of all leaders.
pub(super) struct Fetchers {
    node: Weak<Node>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    feeds: HashMap<At, Arc<Feed>>,
    /// Where each followed partition is fetched.
    by_key: HashMap<Key, At>,
}

/// A partition that this node follows.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub partition: Arc<Partition>,
    pub epoch: LeaderEpoch,
}

/// The partitions that are fetched over one connection.
#[derive(Debug)]
pub(super) struct Feed {
    at: At,
    wanted: Mutex<HashMap<Key, Wanted>>,
    pub news: Notify,
}

impl Feed {
    pub fn leader(&self) -> BrokerId {
        self.at.leader
    }

    pub fn lane(&self) -> Lane {
        self.at.lane
    }

    /// The partitions as they are wanted now.
    pub fn wanted(&self) -> HashMap<Key, Wanted> {
        self.wanted.lock().clone()
    }

    /// Whether a partition is wanted that was not before, or in another epoch.
    pub fn wants_more_than(&self, before: &HashMap<Key, Wanted>) -> bool {
        let wanted = self.wanted.lock();
        wanted.iter().any(|(key, now)| before.get(key).is_none_or(|before| before.epoch != now.epoch))
    }
}

impl Fetchers {
    pub fn new(node: &Arc<Node>) -> Arc<Self> {
        Arc::new(Self { node: Arc::downgrade(node), state: Mutex::default() })
    }

    /// Gives up a feed that nothing is wanted from; `false` where something is by now.
    pub fn retire(&self, feed: &Feed) -> bool {
        let mut state = self.state.lock();
        let is_idle = feed.wanted.lock().is_empty();
        if is_idle {
            state.feeds.remove(&feed.at);
        }
        is_idle
    }

    fn follow(self: &Arc<Self>, node: &Arc<Node>, partition: &Arc<Partition>, change: RoleChange) {
        let key = (partition.topic_id, partition.name().partition.0);
        let mut state = self.state.lock();
        if let Some(feed) = state.by_key.remove(&key).and_then(|at| state.feeds.get(&at)) {
            feed.wanted.lock().remove(&key);
        }
        let RoleChange::Follows(leader, epoch) = change else { return };
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let number = hasher.finish() % node.settings.replication.fetchers.max(1) as u64;
        let at = At { leader, number, lane: Lane::InSync };
        self.add(&mut state, node, at, key, Wanted { partition: partition.clone(), epoch });
    }

    /// Has a partition fetched over the other lane from now on, if `feed` is what fetches it; to be called between two
    /// fetches of that one.
    pub fn shift(self: &Arc<Self>, node: &Arc<Node>, feed: &Feed, key: Key) {
        let mut state = self.state.lock();
        let Some(wanted) = feed.wanted.lock().remove(&key) else { return };
        let lane = match feed.at.lane {
            Lane::InSync => Lane::CatchUp,
            Lane::CatchUp => Lane::InSync,
        };
        self.add(&mut state, node, At { lane, ..feed.at }, key, wanted);
    }

    fn add(self: &Arc<Self>, state: &mut State, node: &Arc<Node>, at: At, key: Key, wanted: Wanted) {
        let mut is_new = false;
        let feed = state.feeds.entry(at).or_insert_with(|| {
            is_new = true;
            Arc::new(Feed { at, wanted: Mutex::default(), news: Notify::new() })
        });
        feed.wanted.lock().insert(key, wanted);
        feed.news.notify_one();
        let feed = feed.clone();
        state.by_key.insert(key, at);
        if is_new && !node.tasks.is_stopping() {
            let node = node.clone();
            node.tasks.clone().spawn(fetcher::run(node, self.clone(), feed));
        }
    }
}

/// Kept by the node's partitions, told of every role.
pub(super) struct Follow(pub Arc<Fetchers>);

impl RoleObserver for Follow {
    fn role_changed(&self, partition: &Arc<Partition>, change: RoleChange) {
        if let Some(node) = self.0.node.upgrade() {
            self.0.follow(&node, partition, change);
        }
    }
}
