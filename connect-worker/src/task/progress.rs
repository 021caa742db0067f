//! What a task does at the moment, and whether it gets on.
//!
//! [`Progress`] is told what the task begins and what it has got, with the time; it says for how long the task has been at
//! it, and whether it is stuck: it has input, or was asked for some, and nothing has moved for longer than the limit.

mod words;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aqueduct_connect_api::{Told, TopicPartition};

use super::window::{Rates, Window};

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// A task that delivers exactly once makes sure that no other writes in its place; it waits for this.
    TakingOver(&'static str),
    /// `start` of the connector's task runs.
    Starting,
    Paused,
    /// `poll` of a source runs.
    Polling,
    /// A sink waits for records of its topics.
    WaitingForRecords,
    /// Transforms and converters work on so many records.
    Converting(usize),
    /// `put` of a sink runs with so many records.
    Putting(usize),
    /// Records are handed to the producer, which waits for room or for acknowledgements.
    Sending(usize),
    /// The sink makes sure of its records, or offsets are stored.
    Committing,
    /// The next try waits for its time.
    BackingOff,
    Stopping,
}

/// An operation that fails and is tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Tries that have failed.
    pub failures: u32,
    pub error: String,
    since: Instant,
    due: Instant,
}

/// How far a sink is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    pub partition: TopicPartition,
    /// Offset of the next record that the sink gets.
    pub position: i64,
    /// Offset after the partition's last record, where it is known.
    pub end: Option<i64>,
}

impl PartitionLag {
    /// Records that the sink has not got.
    pub fn behind(&self) -> i64 {
        self.end.map_or(0, |end| (end - self.position).max(0))
    }
}

/// A task that does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub lasts: Duration,
    pub waits_for: String,
}

/// What has changed about being stuck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Began(Stuck),
    /// After so long.
    Ended(Duration),
}

/// The last thing that went wrong.
#[derive(Clone, Debug)]
pub struct LastError {
    /// Milliseconds since 1970.
    pub at: i64,
    pub text: String,
}

/// Longest text of an error that is kept.
const ERROR_LIMIT: usize = 1000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Progress {
    activity: Activity,
    since: Instant,
    begun: Instant,
    paused: Duration,
    retry: Option<Retry>,
    /// Batches that were sent and not acknowledged, oldest first: since when, and how many records.
    sent: VecDeque<(Instant, usize)>,
    lag: Vec<PartitionLag>,
    moved: Instant,
    last_error: Option<LastError>,
    stuck_since: Option<Instant>,
    /// When records last came.
    last_records: Option<Instant>,
    /// What the task says itself, and since when.
    told: Option<(Instant, Told)>,
    /// Records of a transaction that has not ended.
    open_records: usize,
    /// Of records in, records out and commits.
    pub rates: Rates<3>,
    pub batch_sizes: Window,
    /// Milliseconds of `poll` or `put`.
    pub batch_times: Window,
    /// Milliseconds of commits of offsets.
    pub commit_times: Window,
    /// Records that were on their way, whenever that changed.
    pub active: Window,
    /// Records in a transaction that was committed.
    pub transactions: Window,
}

impl Progress {
    pub fn new(now: Instant) -> Self {
        let mut rates = Rates::default();
        rates.note(now, [0; 3]);
        Self {
            activity: Activity::Starting,
            since: now,
            begun: now,
            paused: Duration::ZERO,
            retry: None,
            sent: VecDeque::new(),
            lag: Vec::new(),
            moved: now,
            last_error: None,
            stuck_since: None,
            last_records: None,
            told: None,
            open_records: 0,
            rates,
            batch_sizes: Window::new(now),
            batch_times: Window::new(now),
            commit_times: Window::new(now),
            active: Window::new(now),
            transactions: Window::new(now),
        }
    }

    /// The task begins something else, or goes on with what it does.
    pub fn enter(&mut self, now: Instant, activity: Activity) {
        // Waiting for records again is the same waiting.
        let goes_on =
            matches!(activity, Activity::Paused | Activity::WaitingForRecords | Activity::BackingOff)
                && self.activity == activity;
        if goes_on {
            return;
        }
        let took = now.saturating_duration_since(self.since);
        match self.activity {
            Activity::Paused => {
                self.paused += took;
                self.moved = now;
            }
            Activity::Committing => self.commit_times.add(now, millis(took)),
            Activity::Putting(records) if records > 0 => {
                self.batch_times.add(now, millis(took));
                self.batch_sizes.add(now, records as f64);
                self.active.add(now, 0.0);
            }
            _ => {}
        }
        if let Activity::Converting(records) = activity {
            self.last_records = Some(now);
            self.active.add(now, (self.on_their_way() + records) as f64);
        }
        self.activity = activity;
        self.since = now;
    }

    /// A source's `poll` has given so many records.
    pub fn polled(&mut self, now: Instant, records: usize) {
        if records > 0 {
            self.batch_times.add(now, millis(now.saturating_duration_since(self.since)));
            self.batch_sizes.add(now, records as f64);
            self.moved = now;
        }
        self.retry = None;
    }

    /// A batch of a source is on its way.
    pub fn sent(&mut self, now: Instant, records: usize) {
        self.sent.push_back((now, records));
    }

    /// Records are part of the open transaction, which may stay open for long.
    pub fn in_transaction(&mut self, records: usize) {
        self.open_records += records;
    }

    /// The open transaction has been committed, or aborted.
    pub fn transaction_ended(&mut self, now: Instant, committed: bool) {
        let records = std::mem::take(&mut self.open_records);
        if committed && records > 0 {
            self.transactions.add(now, records as f64);
        }
        self.active.add(now, 0.0);
        self.moved = now;
    }

    /// What the task says itself of what keeps it from its work.
    pub fn tell(&mut self, now: Instant, told: Option<Told>) {
        let is_failure = |told: &Told| matches!(told, Told::Fails { .. });
        self.told = told.map(|told| match &self.told {
            Some((since, before)) if is_failure(before) == is_failure(&told) => (*since, told),
            _ => (now, told),
        });
    }

    /// What the task said of itself last.
    pub fn told(&self) -> Option<&Told> {
        self.told.as_ref().map(|(_, told)| told)
    }

    /// The oldest batch is in the cluster.
    pub fn acknowledged(&mut self, now: Instant) {
        self.sent.pop_front();
        self.moved = now;
        // Acknowledgements come in order: the next one is waited for from now on.
        if let Some((since, _)) = self.sent.front_mut() {
            *since = now;
        }
        self.active.add(now, self.on_their_way() as f64);
    }

    /// What the task is doing failed and is tried again after `delay`.
    pub fn failed(&mut self, now: Instant, error: &str, delay: Duration) {
        let since = self.retry.as_ref().map_or(now, |retry| retry.since);
        let failures = self.retry.as_ref().map_or(0, |retry| retry.failures) + 1;
        self.retry = Some(Retry { failures, error: shortened(error), since, due: now + delay });
        self.enter(now, Activity::BackingOff);
    }

    /// What had failed works again.
    pub fn succeeded(&mut self) {
        self.retry = None;
    }

    /// Something went wrong at `at`, milliseconds since 1970.
    pub fn note_error(&mut self, at: i64, text: &str) {
        self.last_error = Some(LastError { at, text: shortened(text) });
    }

    /// Where a sink is in its partitions.
    pub fn note_lag(&mut self, now: Instant, lag: Vec<PartitionLag>) {
        let same = lag.len() == self.lag.len()
            && lag
                .iter()
                .zip(&self.lag)
                .all(|(new, old)| new.partition == old.partition && new.position == old.position);
        if !same || lag.iter().all(|one| one.behind() == 0) {
            self.moved = now;
        }
        self.lag = lag;
    }

    pub fn activity(&self) -> Activity {
        self.activity
    }

    /// For how long the task has been at it.
    pub fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// For how long the task has been there.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// The part of the task's life that it was paused, from 0 to 1.
    pub fn pause_ratio(&self, now: Instant) -> f64 {
        let current = if self.activity == Activity::Paused { self.lasts(now) } else { Duration::ZERO };
        (self.paused + current).as_secs_f64() / self.age(now).as_secs_f64().max(0.001)
    }

    pub fn retry(&self) -> Option<&Retry> {
        self.retry.as_ref()
    }

    pub fn lag(&self) -> &[PartitionLag] {
        &self.lag
    }

    pub fn last_error(&self) -> Option<&LastError> {
        self.last_error.as_ref()
    }

    /// Records that were sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.sent.iter().map(|(_, records)| records).sum()
    }

    /// Records that the cluster does not have for good: sent and not acknowledged, or in an open transaction.
    pub fn on_their_way(&self) -> usize {
        self.in_flight() + self.open_records
    }

    /// Says, once each, that the task has become stuck and that it gets on again.
    pub fn observe(&mut self, now: Instant, limit: Duration) -> Option<Change> {
        match (self.stuck(now, limit), self.stuck_since) {
            (Some(stuck), None) => {
                self.stuck_since = Some(now.checked_sub(stuck.lasts).unwrap_or(now));
                Some(Change::Began(stuck))
            }
            (None, Some(since)) => {
                self.stuck_since = None;
                Some(Change::Ended(now.saturating_duration_since(since)))
            }
            _ => None,
        }
    }

    /// Records that a sink has not got, over all of its partitions.
    pub fn behind(&self) -> i64 {
        self.lag.iter().map(PartitionLag::behind).sum()
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR_LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
