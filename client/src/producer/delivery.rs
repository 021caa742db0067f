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
    runs: Vec<Run>,
    timestamps: Vec<i64>,
    results: Vec<Result<RecordMetadata>>,
    /// Runs whose results are there.
    done: usize,
}

/// Records that follow each other in one batch.
#[derive(Debug)]
struct Run {
    outcome: Arc<Outcome>,
    /// Position of the first in the batch.
    first: u32,
    count: u32,
}

impl Deliveries {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self { timestamps: Vec::with_capacity(records), ..Self::default() }
    }

    pub(super) fn push(&mut self, delivery: Delivery) {
        let Delivery { outcome, index, timestamp } = delivery;
        self.timestamps.push(timestamp);
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.outcome, &outcome) && run.first + run.count == index => {
                run.count += 1;
            }
            _ => self.runs.push(Run { outcome, first: index, count: 1 }),
        }
    }

    /// Waits for all; the first failure, if there is one.
    pub async fn all(self) -> Result<Vec<RecordMetadata>> {
        self.await.into_iter().collect()
    }

    /// For those who do not ask where each record is: cheaper.
    pub fn settled(self) -> Settled {
        Settled { runs: self.runs, done: 0, failures: Vec::new() }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }
}

impl Future for Deliveries {
    type Output = Vec<Result<RecordMetadata>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.results.reserve(this.timestamps.len() - this.results.len());
        while let Some(run) = this.runs.get(this.done) {
            let result = ready!(run.outcome.poll(cx));
            for index in run.first..run.first + run.count {
                let timestamp = this.timestamps[this.results.len()];
                this.results.push(result.clone().map(|written| metadata(written, index, timestamp)));
            }
            this.done += 1;
        }
        Poll::Ready(std::mem::take(&mut this.results))
    }
}

/// The end of many records: the errors, each with how many records one after the other it has met.
#[must_use = "dropped deliveries hide whether the records were written"]
#[derive(Debug)]
pub struct Settled {
    runs: Vec<Run>,
    done: usize,
    failures: Vec<(Error, usize)>,
}

impl Future for Settled {
    type Output = Vec<(Error, usize)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        while let Some(run) = this.runs.get(this.done) {
            if let Err(error) = ready!(run.outcome.poll(cx)) {
                this.failures.push((error, run.count as usize));
            }
            this.done += 1;
        }
        Poll::Ready(std::mem::take(&mut this.failures))
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
        [0, 1].into_iter().for_each(|index| all.push(delivery(index)));
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

    #[tokio::test]
    async fn who_asks_for_failures_alone_gets_them_with_their_counts() {
        let (good, bad) = (Outcome::new(), Outcome::new());
        let mut all = Deliveries::with_capacity(4);
        for (outcome, index) in [(&good, 5), (&good, 6), (&bad, 0), (&bad, 1)] {
            all.push(Delivery { outcome: outcome.clone(), index, timestamp: 0 });
        }
        assert_eq!((all.len(), all.runs.len()), (4, 2));
        let settled = tokio::spawn(all.settled());
        bad.set(Err(Error::Closed("producer")));
        good.set(Ok(WRITTEN));
        let failures = settled.await.expect("no panic");
        assert!(matches!(failures[..], [(Error::Closed("producer"), 2)]), "{failures:?}");
    }
}
