//! What is known of a task at one moment, as plain numbers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::TaskCounters;
use crate::task::progress::Activity;

/// Numbers of a task. Averages, maxima and rates are of the last minute; NaN where nothing has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TaskSample {
    pub records_in: f64,
    pub records_out: f64,
    pub in_rate: f64,
    pub out_rate: f64,
    pub commit_rate: f64,
    pub records_skipped: f64,
    pub record_failures: f64,
    pub retries: f64,
    pub errors_logged: f64,
    pub dead_letters: f64,
    pub dead_letter_failures: f64,
    /// Milliseconds since 1970; 0 for never.
    pub last_error: f64,
    pub commits: f64,
    pub commit_failures: f64,
    pub commit_avg_ms: f64,
    pub commit_max_ms: f64,
    pub batch_avg: f64,
    pub batch_max: f64,
    pub batch_avg_ms: f64,
    pub batch_max_ms: f64,
    /// Part of the task's life, from 0 to 1.
    pub running_ratio: f64,
    pub pause_ratio: f64,
    /// Records sent and not acknowledged (sources), or read and not taken (sinks).
    pub active: f64,
    pub active_avg: f64,
    pub active_max: f64,
    pub transaction_avg: f64,
    pub transaction_min: f64,
    pub transaction_max: f64,
    pub partitions: f64,
    pub lag_max: f64,
    /// 1 where the task gets nowhere though it has input.
    pub stuck: f64,
}

impl TaskCounters {
    /// The numbers now; `stuck_after` is how long a task may get nowhere.
    pub fn sample(&self, stuck_after: Duration) -> TaskSample {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let totals = self.totals();
        self.look(|progress, now| {
            let [in_rate, out_rate, commit_rate] = progress.rates.per_second(now, totals);
            let nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
            let pause_ratio = progress.pause_ratio(now);
            let putting = match progress.activity() {
                Activity::Putting(records) | Activity::Converting(records) => records,
                _ => 0,
            };
            TaskSample {
                records_in: totals[0] as f64,
                records_out: totals[1] as f64,
                in_rate,
                out_rate,
                commit_rate,
                records_skipped: count(&self.records_skipped),
                record_failures: count(&self.record_failures),
                retries: count(&self.retries),
                errors_logged: count(&self.errors_logged),
                dead_letters: count(&self.dead_letters),
                dead_letter_failures: count(&self.dead_letter_failures),
                last_error: self.last_error.load(Ordering::Relaxed) as f64,
                commits: count(&self.commits),
                commit_failures: count(&self.commit_failures),
                commit_avg_ms: nan(progress.commit_times.average(now)),
                commit_max_ms: nan(progress.commit_times.max(now)),
                batch_avg: nan(progress.batch_sizes.average(now)),
                batch_max: nan(progress.batch_sizes.max(now)),
                batch_avg_ms: nan(progress.batch_times.average(now)),
                batch_max_ms: nan(progress.batch_times.max(now)),
                running_ratio: (1.0 - pause_ratio).max(0.0),
                pause_ratio,
                active: (progress.on_their_way() + putting) as f64,
                active_avg: nan(progress.active.average(now)),
                active_max: nan(progress.active.max(now)),
                transaction_avg: nan(progress.transactions.average(now)),
                transaction_min: nan(progress.transactions.min(now)),
                transaction_max: nan(progress.transactions.max(now)),
                partitions: progress.lag().len() as f64,
                lag_max: progress.lag().iter().map(|one| one.behind()).max().unwrap_or(0) as f64,
                stuck: f64::from(u8::from(progress.stuck(now, stuck_after).is_some())),
            }
        })
    }
}
