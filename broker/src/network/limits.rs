//! What one node grants its connections: how many there may be, and how much memory their requests may take.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::entrance::{Pace, UNLIMITED};

/// Requests up to this size are not counted: every connection may hold one.
const SMALL: usize = 64 << 10;
/// Up to this many connections may each keep the buffer of their last request for the next one.
const ROOMY: usize = 50;
/// One permit of the memory semaphore.
const UNIT: usize = 1 << 10;

/// Counts connections by address, and bytes of large requests.
#[derive(Debug)]
pub(crate) struct Limits {
    per_ip: AtomicUsize,
    /// Addresses that may have more or fewer.
    overrides: Mutex<Arc<BTreeMap<IpAddr, usize>>>,
    pace: Mutex<Pace>,
    /// How many there may be, and how many more there are than that since the number was lowered.
    most: Mutex<(usize, usize)>,
    open: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    connections: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

/// Keeps a connection's place; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limits: Arc<Limits>,
    ip: IpAddr,
    total: Option<OwnedSemaphorePermit>,
}

impl Limits {
    pub fn new(connections: usize, per_ip: usize, request_bytes: usize) -> Self {
        Self {
            per_ip: AtomicUsize::new(per_ip),
            overrides: Mutex::default(),
            pace: Mutex::new(Pace::new(UNLIMITED, Instant::now())),
            most: Mutex::new((connections.min(Semaphore::MAX_PERMITS), 0)),
            open: AtomicUsize::new(0),
            by_ip: Mutex::default(),
            connections: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            memory: Arc::new(Semaphore::new(request_bytes.div_ceil(UNIT).min(u32::MAX as usize))),
        }
    }

    /// Changes how many connections there may be, in all and from one address. Those that are there stay.
    pub fn set(&self, connections: usize, per_ip: usize) {
        self.per_ip.store(per_ip, Ordering::Relaxed);
        let next = connections.min(Semaphore::MAX_PERMITS);
        let mut most = self.most.lock();
        let (now, owed) = *most;
        *most = if next >= now {
            let more = next - now;
            self.connections.add_permits(more.saturating_sub(owed));
            (next, owed.saturating_sub(more))
        } else {
            let fewer = now - next;
            (next, owed + fewer - self.connections.forget_permits(fewer))
        };
    }

    /// Changes which addresses have limits of their own, and how many connections may come each second.
    pub fn set_more(&self, overrides: Arc<BTreeMap<IpAddr, usize>>, creation_rate: u32) {
        *self.overrides.lock() = overrides;
        self.pace.lock().set(creation_rate);
    }

    /// How long the connection that comes now has to wait.
    pub fn pace(&self, now: Instant) -> Duration {
        self.pace.lock().take(now)
    }

    /// Waits until there may be one more connection.
    pub async fn free(&self) -> OwnedSemaphorePermit {
        self.connections.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Takes a place for a connection from `ip`, beside the others where it has no permit of [`Limits::free`]; `None`
    /// where that address has as many as it may have.
    pub fn admit(self: &Arc<Self>, ip: IpAddr, total: Option<OwnedSemaphorePermit>) -> Option<Place> {
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        let most = self.overrides.lock().get(&ip).copied();
        if *count >= most.unwrap_or_else(|| self.per_ip.load(Ordering::Relaxed)) {
            return None;
        }
        *count += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Place { limits: self.clone(), ip, total })
    }

    /// Waits for memory for a request of `size` bytes, to be given back with the permit. Small ones need none.
    pub async fn memory(&self, size: usize) -> Option<OwnedSemaphorePermit> {
        if size <= SMALL {
            return None;
        }
        let units = size.div_ceil(UNIT) as u32;
        self.memory.clone().acquire_many_owned(units).await.ok()
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether there are so many connections that none should keep a buffer that it does not need at the moment.
    pub fn is_crowded(&self) -> bool {
        self.open() > ROOMY
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
        let mut most = self.limits.most.lock();
        if most.1 > 0
            && let Some(total) = self.total.take()
        {
            total.forget();
            most.1 -= 1;
        }
        drop(most);
        let mut by_ip = self.limits.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_so_many_places_and_gets_them_back() {
        let limits = Arc::new(Limits::new(10, 2, 1 << 20));
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = limits.admit(ip, Some(limits.free().await)).unwrap();
        let _second = limits.admit(ip, Some(limits.free().await)).unwrap();
        assert!(limits.admit(ip, Some(limits.free().await)).is_none());
        assert!(limits.admit(IpAddr::from([127, 0, 0, 2]), Some(limits.free().await)).is_some());
        drop(first);
        assert!(limits.admit(ip, Some(limits.free().await)).is_some());
        assert_eq!(limits.open(), 1);
    }

    #[tokio::test]
    async fn an_address_may_have_a_limit_of_its_own() {
        let limits = Arc::new(Limits::new(10, 1, 1 << 20));
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        limits.set_more(Arc::new(BTreeMap::from([(one, 2), (other, 0)])), UNLIMITED);
        let _first = limits.admit(one, None).unwrap();
        let _second = limits.admit(one, None).unwrap();
        assert!(limits.admit(one, None).is_none());
        assert!(limits.admit(other, None).is_none());
    }

    #[tokio::test]
    async fn limits_change_while_connections_are_open() {
        let limits = Arc::new(Limits::new(3, 10, 1 << 20));
        let ip = IpAddr::from([127, 0, 0, 1]);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(limits.admit(ip, Some(limits.free().await)).unwrap());
        }
        limits.set(1, 10);
        places.truncate(1);
        assert_eq!(limits.connections.available_permits(), 0);
        limits.set(2, 1);
        assert!(limits.admit(ip, Some(limits.free().await)).is_none());
        limits.set(5, 10);
        assert_eq!(limits.connections.available_permits(), 4);
        places.clear();
        assert_eq!(limits.connections.available_permits(), 5);
    }

    #[tokio::test]
    async fn large_requests_wait_for_memory() {
        let limits = Limits::new(10, 2, 1 << 20);
        assert!(limits.memory(1000).await.is_none());
        let held = limits.memory(1 << 20).await.unwrap();
        let waiting =
            tokio::time::timeout(std::time::Duration::from_millis(20), limits.memory(1 << 19)).await;
        assert!(waiting.is_err());
        drop(held);
        assert!(limits.memory(1 << 19).await.is_some());
    }
}
