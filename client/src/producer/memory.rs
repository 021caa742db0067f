//! `buffer.memory`: how many bytes may wait for their acknowledgement.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// A budget of bytes.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    free: Semaphore,
    /// Senders that wait for room: batches must go out though they could linger.
    waiting: AtomicUsize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(u32::MAX as usize);
        Self { limit, free: Semaphore::new(limit), waiting: AtomicUsize::new(0) }
    }

    /// All there is.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes `bytes` if they are free.
    pub(super) fn try_take(&self, bytes: usize) -> bool {
        let taken = u32::try_from(bytes).ok().and_then(|bytes| self.free.try_acquire_many(bytes).ok());
        taken.map(|permit| permit.forget()).is_some()
    }

    /// Waits until `bytes` are free and takes them; `on_wait` is called if it has to wait.
    pub(super) async fn take(&self, bytes: usize, limit: Duration, on_wait: impl FnOnce()) -> Result<()> {
        if self.try_take(bytes) {
            return Ok(());
        }
        let _waiting = Waiting::new(&self.waiting);
        on_wait();
        let wanted = self.free.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
        match tokio::time::timeout(limit, wanted).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(())
            }
            Ok(Err(_)) => Err(Error::Closed("producer")),
            Err(_) => Err(Error::Timeout {
                what: format!("room for {bytes} bytes in buffer.memory={} (max.block.ms)", self.limit),
                after: limit,
                last: None,
            }),
        }
    }

    /// Gives bytes back.
    pub(super) fn give(&self, bytes: usize) {
        self.free.add_permits(bytes);
    }

    /// Whether somebody waits for room.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Fails all who wait.
    pub(super) fn close(&self) {
        self.free.close();
    }
}

/// Counts a waiter for as long as it lives, also when its future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
