//! Which partition is fetched from which broker: a feed for each leader's broker, or several, as `num.replica.fetchers` says.

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

/// Feeds of all leaders.
pub(super) struct Fetchers {
    node: Weak<Node>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    feeds: HashMap<(BrokerId, u64), Arc<Feed>>,
    /// Where each followed partition is fetched.
    by_key: HashMap<Key, (BrokerId, u64)>,
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
    pub leader: BrokerId,
    number: u64,
    wanted: Mutex<HashMap<Key, Wanted>>,
    pub news: Notify,
}

impl Feed {
    /// The partitions as they are wanted now.
    pub fn wanted(&self) -> HashMap<Key, Wanted> {
        self.wanted.lock().clone()
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
            state.feeds.remove(&(feed.leader, feed.number));
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
        let at = (leader, hasher.finish() % node.settings.replication.fetchers.max(1) as u64);
        let mut is_new = false;
        let feed = state.feeds.entry(at).or_insert_with(|| {
            is_new = true;
            let (wanted, news) = (Mutex::default(), Notify::new());
            Arc::new(Feed { leader, number: at.1, wanted, news })
        });
        feed.wanted.lock().insert(key, Wanted { partition: partition.clone(), epoch });
        feed.news.notify_one();
        let feed = feed.clone();
        state.by_key.insert(key, at);
        drop(state);
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
