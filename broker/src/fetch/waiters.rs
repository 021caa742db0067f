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

/// The fetches that wait for one partition. Adding and removing take the same time however many there are.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Option<Arc<Waiter>>>,
    free: Vec<u32>,
}

/// Where a waiter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat(u32);

impl Waiters {
    /// Adds a waiter. The caller must look at the partition's end once more afterwards: an append that came just before
    /// wakes nobody.
    pub fn add(&self, waiter: &Arc<Waiter>) -> Seat {
        let mut waiters = self.0.lock();
        match waiters.free.pop() {
            Some(seat) => {
                waiters.slots[seat as usize] = Some(waiter.clone());
                Seat(seat)
            }
            None => {
                waiters.slots.push(Some(waiter.clone()));
                Seat(waiters.slots.len() as u32 - 1)
            }
        }
    }

    /// Takes a waiter out again.
    pub fn remove(&self, seat: Seat) {
        let mut waiters = self.0.lock();
        waiters.slots[seat.0 as usize] = None;
        waiters.free.push(seat.0);
        if waiters.free.len() == waiters.slots.len() {
            // Nobody is left: what a crowd took up is given back.
            match waiters.slots.capacity() > 64 {
                true => *waiters = Slots::default(),
                false => {
                    waiters.slots.clear();
                    waiters.free.clear();
                }
            }
        }
    }

    /// Tells of appended bytes.
    pub fn appended(&self, bytes: usize) {
        for waiter in self.0.lock().slots.iter().flatten() {
            waiter.appended(bytes as i64);
        }
    }

    /// Wakes all: something other than an append happened.
    pub fn wake(&self) {
        for waiter in self.0.lock().slots.iter().flatten() {
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
        let seats = (one.add(&waiter), two.add(&waiter));
        let early = timeout(Duration::from_millis(5), waiter.woken());
        one.appended(60);
        assert!(early.await.is_err());
        two.appended(39);
        assert!(timeout(Duration::from_millis(5), waiter.woken()).await.is_err());
        one.appended(1);
        assert!(timeout(Duration::from_secs(1), waiter.woken()).await.is_ok());
        one.remove(seats.0);
        two.remove(seats.1);
        assert!(one.0.lock().slots.is_empty() && two.0.lock().slots.is_empty());
    }

    #[test]
    fn seats_are_taken_again() {
        let waiters = Waiters::default();
        let waiter = Waiter::new(1);
        let (a, b) = (waiters.add(&waiter), waiters.add(&waiter));
        waiters.remove(a);
        assert_eq!(waiters.add(&waiter), a);
        waiters.remove(b);
        waiters.remove(a);
        assert_eq!(waiters.add(&waiter), Seat(0));
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
