//! Who is connected to whom: at most one connection for each lane and broker, made once for all who wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aqueduct_protocol::ids::BrokerId;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::Connection;
use crate::config::ClientConfig;
use crate::error::{Error, Result};

/// A set of connections, one to each broker, that its holder shares with nobody.
///
/// A broker answers the requests of a connection one by one, so that long polls (Fetch, JoinGroup) must not stand
/// before other calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane(u64);

impl Lane {
    /// The lane for calls that are answered at once.
    pub const SHARED: Self = Self(0);
}

type Attempt = Shared<BoxFuture<'static, Result<Connection>>>;

/// The latest attempt to connect, and how those before it went.
struct Slot {
    address: String,
    attempt: Attempt,
    failures: u32,
    /// When the attempt failed, if it did.
    failed: Arc<OnceLock<Instant>>,
}

/// What is known of a connection before it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    Live,
    Untried,
    /// The last attempt failed: the next waits for `reconnect.backoff.ms` first.
    Failed,
}

/// All connections of a client.
pub struct Pool {
    config: Arc<ClientConfig>,
    slots: Mutex<HashMap<(Lane, BrokerId), Slot>>,
    lanes: AtomicU64,
    closed: AtomicBool,
}

impl Pool {
    pub fn new(config: Arc<ClientConfig>) -> Self {
        let (lanes, closed) = (AtomicU64::new(1), AtomicBool::new(false));
        Self { config, slots: Mutex::default(), lanes, closed }
    }

    /// A lane that nobody else has.
    pub fn new_lane(&self) -> Lane {
        Lane(self.lanes.fetch_add(1, Ordering::Relaxed))
    }

    /// Forgets the connections of a lane; they close when their last call is over.
    pub fn drop_lane(&self, lane: Lane) {
        self.slots.lock().retain(|(of, _), _| *of != lane);
    }

    /// Forgets one connection.
    pub fn forget(&self, lane: Lane, broker: BrokerId) {
        self.slots.lock().remove(&(lane, broker));
    }

    /// Forgets all connections and makes no more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.slots.lock().clear();
    }

    /// The connection, if there is a live one already.
    pub fn live(&self, lane: Lane, broker: BrokerId) -> Option<Connection> {
        let slots = self.slots.lock();
        let connection = slots.get(&(lane, broker))?.attempt.peek()?.as_ref().ok()?;
        (!connection.is_closed()).then(|| connection.clone())
    }

    /// How soon a call could be made: `Live` ones first.
    pub fn readiness(&self, lane: Lane, broker: BrokerId) -> Readiness {
        let slots = self.slots.lock();
        match slots.get(&(lane, broker)) {
            None => Readiness::Untried,
            Some(slot) => match slot.attempt.peek() {
                Some(Ok(connection)) if !connection.is_closed() => Readiness::Live,
                Some(Err(_)) => Readiness::Failed,
                None if slot.failures > 0 => Readiness::Failed,
                None | Some(Ok(_)) => Readiness::Untried,
            },
        }
    }

    /// The live connection, or a new one. An attempt that follows failures first waits as `reconnect.backoff.ms` says.
    pub async fn connection(&self, lane: Lane, broker: BrokerId, address: &str) -> Result<Connection> {
        let attempt = self.attempt(lane, broker, address)?;
        attempt.await
    }

    fn attempt(&self, lane: Lane, broker: BrokerId, address: &str) -> Result<Attempt> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed("client"));
        }
        let mut slots = self.slots.lock();
        let (mut failures, mut wait) = (0, Duration::ZERO);
        if let Some(slot) = slots.get(&(lane, broker)).filter(|slot| slot.address == address) {
            match slot.attempt.peek() {
                None => return Ok(slot.attempt.clone()),
                Some(Ok(connection)) if !connection.is_closed() => return Ok(slot.attempt.clone()),
                // It worked until now: try again at once.
                Some(Ok(_)) => {}
                Some(Err(_)) => {
                    failures = slot.failures + 1;
                    let since = slot.failed.get().map_or(Duration::ZERO, Instant::elapsed);
                    wait = self.config.reconnect_backoff.jittered(failures).saturating_sub(since);
                }
            }
        }
        let failed = Arc::new(OnceLock::new());
        let attempt = open(address.to_owned(), self.config.clone(), wait, failed.clone());
        let slot = Slot { address: address.to_owned(), attempt: attempt.clone(), failures, failed };
        slots.insert((lane, broker), slot);
        Ok(attempt)
    }
}

fn open(
    address: String,
    config: Arc<ClientConfig>,
    wait: Duration,
    failed: Arc<OnceLock<Instant>>,
) -> Attempt {
    async move {
        tokio::time::sleep(wait).await;
        let opened = Connection::open(address, config).await;
        if opened.is_err() {
            failed.get_or_init(Instant::now);
        }
        opened
    }
    .boxed()
    .shared()
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("connections", &self.slots.lock().len()).finish_non_exhaustive()
    }
}
