//! What became of records: one shared outcome a batch, and cheap handles to it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use aqueduct_protocol::ids::{Offset, PartitionIndex};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::types::RecordMetadata;

/// Where a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) partition: PartitionIndex,
    /// Offset of its first record; `None` where the broker did not tell.
    pub(super) base_offset: Option<Offset>,
    /// The timestamp of all its records, if the broker set it.
    pub(super) log_append_time: Option<i64>,
}

/// What became of one batch; set once.
#[derive(Debug)]
pub(super) struct Outcome(Mutex<State>);

#[derive(Debug)]
enum State {
    Open(Vec<Waker>),
    Set(Result<Written>),
}

impl Outcome {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Open(Vec::new()))))
    }

    /// Sets it, unless it is set.
    pub(super) fn set(&self, result: Result<Written>) {
        let wakers = {
            let mut state = self.0.lock();
            match &mut *state {
                State::Set(_) => return,
                State::Open(wakers) => {
                    let wakers = std::mem::take(wakers);
                    *state = State::Set(result);
                    wakers
                }
            }
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn get(&self) -> Option<Result<Written>> {
        match &*self.0.lock() {
            State::Open(_) => None,
            State::Set(result) => Some(result.clone()),
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Result<Written>> {
        match &mut *self.0.lock() {
            State::Set(result) => Poll::Ready(result.clone()),
            State::Open(wakers) => {
                if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Waits until it is set.
    pub(super) async fn settled(&self) -> Result<Written> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }
}

/// One record's place in a batch.
fn metadata(written: Written, index: u32, timestamp: i64) -> RecordMetadata {
    RecordMetadata {
        partition: written.partition,
        offset: written.base_offset.map_or(Offset(-1), |base| base.plus(i64::from(index))),
        timestamp: written.log_append_time.unwrap_or(timestamp),
    }
}

/// The fate of one record: a future of where it is, or of why it failed for good.
#[must_use = "a dropped delivery hides whether the record was written"]
#[derive(Debug)]
pub struct Delivery {
    pub(super) outcome: Arc<Outcome>,
    /// The record's position in its batch.
    pub(super) index: u32,
    pub(super) timestamp: i64,
}

impl Delivery {
    /// The result, if it is there already.
    pub fn try_result(&self) -> Option<Result<RecordMetadata>> {
        let result = self.outcome.get()?;
        Some(result.map(|written| metadata(written, self.index, self.timestamp)))
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.outcome.poll(cx));
        Poll::Ready(result.map(|written| metadata(written, self.index, self.timestamp)))
    }
}

/// The fates of many records, in the order in which they were sent.
#[must_use = "dropped deliveries hide whether the records were written"]
#[derive(Debug, Default)]
pub struct Deliveries {
    pub(super) pending: Vec<Delivery>,
    results: Vec<Result<RecordMetadata>>,
}

impl Deliveries {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self { pending: Vec::with_capacity(records), results: Vec::new() }
    }

    /// Waits for all; the first failure, if there is one.
    pub async fn all(self) -> Result<Vec<RecordMetadata>> {
        self.await.into_iter().collect()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

impl Future for Deliveries {
    type Output = Vec<Result<RecordMetadata>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.results.reserve(this.pending.len() - this.results.len());
        while let Some(next) = this.pending.get(this.results.len()) {
            let result = ready!(next.outcome.poll(cx));
            this.results.push(result.map(|written| metadata(written, next.index, next.timestamp)));
        }
        Poll::Ready(std::mem::take(&mut this.results))
    }
}

/// Fails a batch that is dropped before its fate is known, so that nobody waits for ever.
pub(super) fn abandon(outcome: &Outcome) {
    outcome.set(Err(Error::Closed("producer")));
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: Written =
        Written { partition: PartitionIndex(2), base_offset: Some(Offset(100)), log_append_time: None };

    #[tokio::test]
    async fn deliveries_count_from_the_base_offset() {
        let outcome = Outcome::new();
        let delivery = |index| Delivery { outcome: outcome.clone(), index, timestamp: 7 };
        let mut all = Deliveries::with_capacity(2);
        all.pending = vec![delivery(0), delivery(1)];
        assert!(delivery(0).try_result().is_none());
        let waiting = tokio::spawn(all);
        tokio::task::yield_now().await;
        outcome.set(Ok(WRITTEN));
        outcome.set(Err(Error::Closed("producer")));
        let results: Result<Vec<_>> = waiting.await.expect("no panic").into_iter().collect();
        let offsets: Vec<i64> = results.expect("written").iter().map(|r| r.offset.0).collect();
        assert_eq!(offsets, [100, 101], "what is set stays set");
        assert_eq!(delivery(3).await.expect("written").timestamp, 7);
    }
}
