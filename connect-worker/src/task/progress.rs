//! What a task does at the moment, and whether it gets on.
//!
//! [`Progress`] is told what the task begins and what it has got, with the time; it says for how long the task has been at
//! it, and whether it is stuck: it has input, or was asked for some, and nothing has moved for longer than the limit.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use aqueduct_connect_api::TopicPartition;

use super::window::{Rates, Window};

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
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

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no progress for {:?}: it waits for {}", rounded(self.lasts), self.waits_for)
    }
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
    pub rates: Rates,
    pub batch_sizes: Window,
    /// Milliseconds of `poll` or `put`.
    pub batch_times: Window,
    /// Milliseconds of commits of offsets.
    pub commit_times: Window,
}

impl Progress {
    pub fn new(now: Instant) -> Self {
        let mut rates = Rates::default();
        rates.note(now, [0; 2]);
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
            rates,
            batch_sizes: Window::new(now),
            batch_times: Window::new(now),
            commit_times: Window::new(now),
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
            }
            _ => {}
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

    /// The oldest batch is in the cluster.
    pub fn acknowledged(&mut self, now: Instant) {
        self.sent.pop_front();
        self.moved = now;
        // Acknowledgements come in order: the next one is waited for from now on.
        if let Some((since, _)) = self.sent.front_mut() {
            *since = now;
        }
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

    /// Whether the task has not got on for `limit`, and what it waits for.
    pub fn stuck(&self, now: Instant, limit: Duration) -> Option<Stuck> {
        let late = |since: Instant, waits_for: &dyn Fn() -> String| {
            let lasts = now.saturating_duration_since(since);
            (lasts >= limit).then(|| Stuck { lasts, waits_for: waits_for() })
        };
        if matches!(self.activity, Activity::Paused | Activity::Stopping) {
            return None;
        }
        if let Some(retry) = &self.retry
            && let Some(stuck) = late(retry.since, &|| {
                format!(
                    "an operation that has failed {} times, the last time with: {}",
                    retry.failures, retry.error
                )
            })
        {
            return Some(stuck);
        }
        let current = match self.activity {
            Activity::Starting => late(self.since, &|| "start() of the connector's task to return".to_owned()),
            Activity::Polling => late(self.since, &|| {
                "poll() of the source to return, which answers once a second even without records".to_owned()
            }),
            Activity::Converting(records) => {
                late(self.since, &|| format!("transforms and converters to be done with {records} records"))
            }
            Activity::Putting(records) => {
                late(self.since, &|| format!("put() of the sink to return, which was given {records} records"))
            }
            Activity::Sending(0) => late(self.since, &|| "the cluster to acknowledge what was sent".to_owned()),
            Activity::Sending(records) => {
                late(self.since, &|| format!("the cluster to take {records} records"))
            }
            Activity::Committing => {
                late(self.since, &|| "offsets to be committed, or the sink to make sure of its records".to_owned())
            }
            Activity::WaitingForRecords => self.lag.iter().max_by_key(|one| one.behind()).filter(|one| one.behind() > 0).and_then(|one| {
                late(self.moved, &|| {
                    format!(
                        "the record {}@{}, though the partition goes on to {}; the broker does not send it",
                        shown(&one.partition),
                        one.position,
                        one.end.unwrap_or_default()
                    )
                })
            }),
            Activity::Paused | Activity::Stopping | Activity::BackingOff => None,
        };
        current.or_else(|| {
            let (since, _) = self.sent.front()?;
            late(*since, &|| format!("the cluster to acknowledge {} records", self.in_flight()))
        })
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

    /// What the task does, in words.
    pub fn describe(&self, now: Instant) -> String {
        let lasts = rounded(self.lasts(now));
        let mut text = match self.activity {
            Activity::Starting => format!("start() of the connector's task has been running for {lasts:?}"),
            Activity::Paused => format!("paused for {lasts:?}"),
            Activity::Polling => format!("poll() of the source has been running for {lasts:?}"),
            Activity::WaitingForRecords => match self.behind() {
                0 => format!("waiting for new records for {lasts:?}; everything there is has been read"),
                behind => format!("waiting for records; {behind} are not read yet"),
            },
            Activity::Converting(records) => {
                format!("transforming and converting {records} records for {lasts:?}")
            }
            Activity::Putting(records) => {
                format!("put() of the sink has been running for {lasts:?} with {records} records")
            }
            Activity::Sending(0) => {
                format!("waiting for the cluster to acknowledge what was sent for {lasts:?}")
            }
            Activity::Sending(records) => format!("sending {records} records to the cluster for {lasts:?}"),
            Activity::Committing => {
                format!("making sure of what was taken and storing offsets for {lasts:?}")
            }
            Activity::BackingOff => "waiting before it tries again".to_owned(),
            Activity::Stopping => format!("stopping for {lasts:?}"),
        };
        if let Some(retry) = &self.retry {
            let left = rounded(retry.due.saturating_duration_since(now));
            text.push_str(&format!(
                "; failed {} times, next try in {left:?}, last error: {}",
                retry.failures, retry.error
            ));
        }
        match self.in_flight() {
            0 => {}
            waiting => text.push_str(&format!("; {waiting} records wait for their acknowledgement")),
        }
        text
    }

    /// Records that a sink has not got, over all of its partitions.
    pub fn behind(&self) -> i64 {
        self.lag.iter().map(PartitionLag::behind).sum()
    }
}

fn shown(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic, partition.partition)
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// For people: no more than tenths of seconds where there are seconds.
fn rounded(span: Duration) -> Duration {
    let step = if span >= Duration::from_secs(1) { 100 } else { 1 };
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX) / step * step)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR_LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    fn start() -> (Clock, Progress) {
        let now = Instant::now();
        (Clock(now), Progress::new(now))
    }

    fn lag(position: i64, end: i64) -> Vec<PartitionLag> {
        vec![PartitionLag {
            partition: TopicPartition { topic: "t".into(), partition: 3 },
            position,
            end: Some(end),
        }]
    }

    fn waits_for(progress: &Progress, now: Instant) -> Option<String> {
        progress.stuck(now, LIMIT).map(|stuck| stuck.waits_for)
    }

    #[test]
    fn calls_that_do_not_return_are_stuck() {
        for (activity, words) in [
            (Activity::Starting, "start()"),
            (Activity::Polling, "poll()"),
            (Activity::Converting(5), "done with 5 records"),
            (Activity::Putting(7), "given 7 records"),
            (Activity::Sending(2), "take 2 records"),
            (Activity::Committing, "offsets to be committed"),
        ] {
            let (clock, mut progress) = start();
            progress.enter(clock.at(10), activity);
            assert_eq!(waits_for(&progress, clock.at(69)), None, "{activity:?}");
            let found = waits_for(&progress, clock.at(70)).expect("stuck");
            assert!(found.contains(words), "{found}");
        }
    }

    #[test]
    fn a_source_that_polls_again_and_again_is_not_stuck() {
        let (clock, mut progress) = start();
        for second in 0..200 {
            progress.enter(clock.at(second), Activity::Polling);
            progress.polled(clock.at(second), 0);
            assert_eq!(waits_for(&progress, clock.at(second)), None);
        }
    }

    #[test]
    fn records_that_are_not_acknowledged_make_a_source_stuck_though_it_polls() {
        let (clock, mut progress) = start();
        progress.sent(clock.at(0), 3);
        progress.sent(clock.at(50), 4);
        for second in 1..60 {
            progress.enter(clock.at(second), Activity::Polling);
        }
        assert_eq!(waits_for(&progress, clock.at(59)), None);
        assert!(waits_for(&progress, clock.at(60)).expect("stuck").contains("acknowledge 7 records"));
        progress.acknowledged(clock.at(61));
        assert_eq!((waits_for(&progress, clock.at(62)), progress.in_flight()), (None, 4));
        progress.acknowledged(clock.at(63));
        progress.enter(clock.at(500), Activity::Polling);
        assert_eq!(waits_for(&progress, clock.at(501)), None);
    }

    #[test]
    fn lag_that_does_not_move_makes_a_sink_stuck() {
        let (clock, mut progress) = start();
        progress.enter(clock.at(0), Activity::WaitingForRecords);
        progress.note_lag(clock.at(0), lag(5, 5));
        assert_eq!(waits_for(&progress, clock.at(1000)), None);
        progress.note_lag(clock.at(1000), lag(5, 9));
        progress.note_lag(clock.at(1001), lag(6, 9));
        for second in 1002..1061 {
            progress.enter(clock.at(second), Activity::WaitingForRecords);
            progress.note_lag(clock.at(second), lag(6, 10));
            assert_eq!(waits_for(&progress, clock.at(second)), None);
        }
        assert!(waits_for(&progress, clock.at(1061)).expect("stuck").contains("t-3@6"));
        progress.note_lag(clock.at(1062), lag(7, 10));
        assert_eq!(waits_for(&progress, clock.at(1062)), None);
        assert_eq!(progress.behind(), 3);
    }

    #[test]
    fn failing_for_long_is_being_stuck_and_a_pause_never_is() {
        let (clock, mut progress) = start();
        progress.failed(clock.at(0), "no route", Duration::from_secs(1));
        progress.enter(clock.at(30), Activity::Putting(1));
        progress.failed(clock.at(31), "no route to host", Duration::from_secs(2));
        assert_eq!(waits_for(&progress, clock.at(59)), None);
        let found = waits_for(&progress, clock.at(60)).expect("stuck");
        assert!(found.contains("failed 2 times") && found.contains("no route to host"), "{found}");
        let told = progress.describe(clock.at(32));
        assert!(told.contains("next try in 1s"), "{told}");
        progress.enter(clock.at(61), Activity::Paused);
        assert_eq!(waits_for(&progress, clock.at(500)), None);
        progress.succeeded();
        progress.enter(clock.at(500), Activity::WaitingForRecords);
        assert_eq!(waits_for(&progress, clock.at(501)), None);
        assert!((progress.pause_ratio(clock.at(500)) - 439.0 / 500.0).abs() < 0.01);
    }

    #[test]
    fn it_is_told_once_that_it_began_and_once_that_it_ended() {
        let (clock, mut progress) = start();
        progress.enter(clock.at(0), Activity::Putting(1));
        assert_eq!(progress.observe(clock.at(59), LIMIT), None);
        assert!(matches!(progress.observe(clock.at(65), LIMIT), Some(Change::Began(_))));
        assert_eq!(progress.observe(clock.at(70), LIMIT), None);
        progress.enter(clock.at(80), Activity::WaitingForRecords);
        assert_eq!(progress.observe(clock.at(80), LIMIT), Some(Change::Ended(Duration::from_secs(80))));
        assert_eq!(progress.observe(clock.at(81), LIMIT), None);
    }

    #[test]
    fn times_and_sizes_of_batches_are_kept_and_long_errors_are_cut() {
        let (clock, mut progress) = start();
        progress.enter(clock.at(1), Activity::Putting(10));
        progress.enter(clock.at(3), Activity::Committing);
        progress.enter(clock.at(4), Activity::WaitingForRecords);
        let now = clock.at(5);
        assert_eq!(progress.batch_sizes.average(now), Some(10.0));
        assert_eq!(progress.batch_times.max(now), Some(2000.0));
        assert_eq!(progress.commit_times.max(now), Some(1000.0));
        progress.note_error(7, &"é".repeat(5000));
        assert_eq!(progress.last_error().expect("an error").text.chars().count(), ERROR_LIMIT + 3);
    }
}
