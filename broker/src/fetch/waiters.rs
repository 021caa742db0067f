//! Fetches that wait for records: each partition knows who waits for it, and its appends wake them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One fetch that waits, on any number of partitions.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// Bytes that it still lacks.
    missing: AtomicI64,
    woken: Notify,
}

impl Waiter {
    /// Waits for at least `missing` bytes over all of its partitions.
    pub fn new(missing: i64) -> Arc<Self> {
        Arc::new(Self { missing: AtomicI64::new(missing), woken: Notify::new() })
    }

    /// Resolves once enough has been appended, or a partition changed so that the fetch must look again.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    fn appended(&self, bytes: i64) {
        let before = self.missing.fetch_sub(bytes, Ordering::Relaxed);
        if before > 0 && before <= bytes {
            self.woken.notify_one();
        }
    }
}

/// The fetches that wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Vec<Arc<Waiter>>>);

impl Waiters {
    /// Adds a waiter. The caller must look at the partition's end once more afterwards: an append that came just before
    /// wakes nobody.
    pub fn add(&self, waiter: &Arc<Waiter>) {
        self.0.lock().push(waiter.clone());
    }

    /// Takes a waiter out again.
    pub fn remove(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.0.lock();
        if let Some(at) = waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            waiters.swap_remove(at);
        }
        if waiters.is_empty() && waiters.capacity() > 64 {
            waiters.shrink_to_fit();
        }
    }

    /// Tells of appended bytes.
    pub fn appended(&self, bytes: usize) {
        for waiter in self.0.lock().iter() {
            waiter.appended(bytes as i64);
        }
    }

    /// Wakes all: something other than an append happened.
    pub fn wake(&self) {
        for waiter in self.0.lock().iter() {
            waiter.woken.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_waiter_is_woken_once_enough_came_from_all_its_partitions() {
        let (one, two) = (Waiters::default(), Waiters::default());
        let waiter = Waiter::new(100);
        one.add(&waiter);
        two.add(&waiter);
        let early = timeout(Duration::from_millis(5), waiter.woken());
        one.appended(60);
        assert!(early.await.is_err());
        two.appended(39);
        assert!(timeout(Duration::from_millis(5), waiter.woken()).await.is_err());
        one.appended(1);
        assert!(timeout(Duration::from_secs(1), waiter.woken()).await.is_ok());
        one.remove(&waiter);
        two.remove(&waiter);
        assert!(one.0.lock().is_empty() && two.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_change_wakes_whatever_is_missing() {
        let waiters = Waiters::default();
        let waiter = Waiter::new(i64::MAX);
        waiters.add(&waiter);
        waiters.wake();
        assert!(timeout(Duration::from_secs(1), waiter.woken()).await.is_ok());
    }
}
