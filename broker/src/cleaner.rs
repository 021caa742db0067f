//! The log cleaner: keeps compacted logs short, in the background, a few at a time.
//!
//! What is due is decided by [`schedule`] and the storage; this only has it done. Reads and appends go on meanwhile.

mod checkpoints;
mod closed;
mod metrics;
mod schedule;
mod throttle;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_protocol::ids::Offset;
use aqueduct_storage::{Cleanable, Cleaned, CleanerLimits, Error};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::config::{CleanerSettings, ConfigError, LiveSettings, Reconfigurable, Settings};
use crate::node::Node;
use crate::partition::Partition;

use checkpoints::Checkpoints;
pub(crate) use metrics::CleanerMetrics;
use schedule::{Candidate, Key, Quarantined, Schedule};
pub(crate) use throttle::Throttle;

/// A cleaning that waits for its turn to move bytes looks this often whether it is still wanted.
const NAP: Duration = Duration::from_millis(100);

/// Between two looks at logs that are not open.
const CLOSED_EVERY: Duration = Duration::from_secs(300);

/// Begins to clean, unless `log.cleaner.enable` says no; ends with the node.
pub(crate) fn start(node: &Arc<Node>) {
    if !node.settings.cleaner.enabled {
        tracing::warn!("log.cleaner.enable=false: compacted topics grow without limit");
        return;
    }
    node.live.register(Arc::new(ThreadsRule { live: Arc::downgrade(&node.live) }));
    let node = node.clone();
    node.tasks.clone().spawn(async move {
        let partitions = node.partitions.clone();
        let load = move || Checkpoints::load(partitions.directories());
        let Ok(checkpoints) = aqueduct_quorum::blocking::spawn(load).await else { return };
        let cleaner = Cleaner {
            node,
            schedule: Arc::default(),
            checkpoints: Arc::new(Mutex::new(checkpoints)),
            throttle: Arc::default(),
        };
        cleaner.run().await;
    });
}

/// Clones share one state.
#[derive(Clone)]
struct Cleaner {
    node: Arc<Node>,
    schedule: Arc<Mutex<Schedule>>,
    checkpoints: Arc<Mutex<Checkpoints>>,
    throttle: Arc<Mutex<Throttle>>,
}

/// A log that has been taken to be cleaned.
struct Job {
    key: Key,
    partition: Arc<Partition>,
    cleanable: Cleanable,
}

impl Cleaner {
    async fn run(self) {
        let mut jobs = JoinSet::new();
        let mut settings = self.node.live.watch();
        let mut closed_at = None::<Instant>;
        loop {
            if closed_at.is_none_or(|at| at.elapsed() >= CLOSED_EVERY) {
                self.open_due().await;
                closed_at = Some(Instant::now());
            }
            let limits = settings.borrow_and_update().cleaner.clone();
            while jobs.len() < limits.threads {
                let this = self.clone();
                let taken = aqueduct_quorum::blocking::spawn(move || this.take()).await;
                let Ok(Some(job)) = taken else { break };
                let (this, limits) = (self.clone(), limits.clone());
                jobs.spawn_blocking(move || this.clean(job, &limits));
            }
            tokio::select! {
                Some(ended) = jobs.join_next() => self.after(ended),
                () = tokio::time::sleep(limits.backoff) => {}
                changed = settings.changed() => if changed.is_err() { break },
                () = self.node.tasks.stopping() => break,
            }
        }
        while jobs.join_next().await.is_some() {}
    }

    fn after(&self, ended: Result<(), tokio::task::JoinError>) {
        if ended.is_err_and(|error| error.is_panic()) {
            // What it was about stays marked as busy, and so is left alone.
            self.node.metrics.cleaner.dead_threads.inc();
            tracing::error!("a log cleaning ended in a panic; its log is not cleaned any more");
        }
    }

    /// What stands behind the cut was not cleaned, whatever stood there before.
    fn lower(&self, partition: &Partition, end: Offset) {
        let (directory, name, topic) = (partition.directory(), partition.name(), partition.topic_id);
        let mut checkpoints = self.checkpoints.lock();
        let Some(known) = checkpoints.get(directory, name, topic).filter(|known| *known > end) else {
            return;
        };
        let written = checkpoints.set(self.node.partitions.directories(), directory, name, topic, end);
        if let Err(error) = written {
            tracing::warn!(partition = %name, %error, from = %known, "cleaner checkpoint is not written");
        }
    }

    /// Looks at all open compacted logs: applies retention, and takes the one to clean next. Blocks.
    fn take(&self) -> Option<Job> {
        let now_ms = self.node.clock.now_ms();
        self.node.metrics.cleaner.ran(now_ms);
        let (mut jobs, mut candidates) = (Vec::new(), Vec::new());
        let mut delay_ms = 0;
        for partition in self.node.partitions.all_open() {
            let config = partition.log().config();
            let key = (partition.topic_id, partition.name().partition.0);
            if !config.compact
                || self.node.partitions.moves().is_moving(&key)
                || partition.is_deleted()
                || partition.is_offline()
                || !self.schedule.lock().is_free(&key)
            {
                continue;
            }
            if let Err(error) = partition.log().apply_retention(now_ms)
                && !partition.is_deleted()
            {
                tracing::warn!(partition = %partition.name(), %error, "retention failed");
            }
            let name = partition.name();
            if let Some(end) = partition.take_truncation() {
                self.lower(&partition, end);
            }
            let clean_to = self.checkpoints.lock().get(partition.directory(), name, partition.topic_id);
            let cleanable = match partition.log().cleanable(clean_to, now_ms) {
                Ok(cleanable) => cleanable,
                Err(error) => {
                    self.give_up(key, &partition, 0, &error);
                    continue;
                }
            };
            delay_ms = delay_ms.max(cleanable.delay_ms);
            candidates.push(Candidate { key, ratio: cleanable.ratio(), is_due: cleanable.is_due(&config) });
            jobs.push(Job { key, partition, cleanable });
        }
        let metrics = &self.node.metrics.cleaner;
        let dirtiest = candidates.iter().map(|candidate| candidate.ratio).fold(0.0, f64::max);
        metrics.max_dirty_percent.set((dirtiest * 100.0) as i64);
        metrics.max_compaction_delay_secs.set(delay_ms / 1000);
        let taken = {
            let mut schedule = self.schedule.lock();
            let image = self.node.metadata.image();
            schedule.retain(|(topic, _)| image.topic_by_id(*topic).is_some());
            schedule.take(&candidates)
        };
        self.show_uncleanable();
        jobs.into_iter().find(|job| Some(job.key) == taken)
    }

    /// Cleans one log. Blocks for as long as it takes.
    fn clean(&self, job: Job, settings: &CleanerSettings) {
        let Job { key, partition, cleanable } = job;
        let limits = CleanerLimits {
            dedupe_bytes: settings.dedupe_bytes_by_thread(),
            load_factor: settings.load_factor,
            io_bytes: settings.io_bytes_by_thread(),
        };
        let started = Instant::now();
        let mut pace = |bytes| self.pace(&partition, bytes);
        match partition.log().clean(&cleanable, &limits, self.node.clock.now_ms(), &mut pace) {
            Ok(cleaned) => self.cleaned(&partition, &cleanable, &cleaned, started.elapsed()),
            Err(Error::CleaningAborted { .. } | Error::Closed { .. }) => {}
            Err(_) if partition.is_deleted() => {}
            // A disk that is full, or fails for a moment: the next round tries again.
            Err(error @ Error::Io { .. }) => {
                tracing::warn!(partition = %partition.name(), %error, "log is not cleaned");
                partition.judge(&error);
                self.wait(settings.backoff);
            }
            Err(error) => self.give_up(key, &partition, cleanable.cleanable_bytes, &error),
        }
        self.schedule.lock().done(&key);
    }

    fn cleaned(&self, partition: &Partition, was: &Cleanable, cleaned: &Cleaned, took: Duration) {
        let name = partition.name();
        let noted = self.checkpoints.lock().set(
            self.node.partitions.directories(),
            partition.directory(),
            name,
            partition.topic_id,
            cleaned.end,
        );
        if let Err(error) = noted {
            tracing::error!(partition = %name, %error, "the end of the clean part is not written down");
        }
        self.node.metrics.cleaner.cleaned(cleaned, took);
        tracing::info!(
            partition = %name,
            from = was.first_dirty.0,
            to = cleaned.end.0,
            bytes_before = cleaned.bytes_read,
            bytes_after = cleaned.bytes_written,
            records_before = cleaned.records_read,
            records_after = cleaned.records_written,
            segments_before = cleaned.segments_before,
            segments_after = cleaned.segments_after,
            millis = took.as_millis() as u64,
            "log is cleaned"
        );
        if cleaned.keyless > 0 {
            tracing::warn!(partition = %name, records = cleaned.keyless, "records without a key are removed");
        }
    }

    /// Waits for the turn of `bytes`; `false` where the cleaning is not wanted any more.
    fn pace(&self, partition: &Partition, bytes: u64) -> bool {
        let rate = self.node.live.current().cleaner.max_bytes_per_second;
        let wait = self.throttle.lock().grant(Instant::now(), bytes, rate);
        let key = (partition.topic_id, partition.name().partition.0);
        let is_wanted = || {
            !self.node.tasks.is_stopping()
                && !partition.is_deleted()
                && !partition.is_offline()
                && !self.node.partitions.moves().is_moving(&key)
        };
        let until = Instant::now() + wait;
        while is_wanted() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(NAP));
        }
        false
    }

    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.node.tasks.is_stopping() && Instant::now() < until {
            std::thread::sleep(NAP.min(time));
        }
    }

    fn give_up(&self, key: Key, partition: &Partition, bytes: u64, error: &Error) {
        tracing::error!(
            partition = %partition.name(), %error,
            "log cannot be cleaned and is left alone until the broker starts again"
        );
        let quarantined = Quarantined { directory: partition.directory(), bytes };
        self.schedule.lock().quarantine(key, quarantined);
        self.show_uncleanable();
    }

    fn show_uncleanable(&self) {
        let schedule = self.schedule.lock();
        for (index, health) in self.node.partitions.directories().health().enumerate() {
            let here: Vec<_> =
                schedule.uncleanable().filter(|(_, quarantined)| quarantined.directory == index).collect();
            let bytes = here.iter().map(|(_, quarantined)| quarantined.bytes).sum();
            self.node.metrics.cleaner.uncleanable(&health.path().display().to_string(), here.len(), bytes);
        }
    }
}

/// As in Kafka, the number of threads changes by at most a factor of two at a time.
struct ThreadsRule {
    live: std::sync::Weak<LiveSettings>,
}

impl Reconfigurable for ThreadsRule {
    fn validate(&self, next: &Settings) -> Result<(), ConfigError> {
        let Some(live) = self.live.upgrade() else { return Ok(()) };
        let (now, next) = (live.current().cleaner.threads, next.cleaner.threads);
        let refuse = |how: &str| {
            Err(ConfigError::Conflict(format!("Log cleaner threads cannot be {how} the current value {now}")))
        };
        if next < now / 2 {
            return refuse("reduced to less than half");
        }
        if next > now * 2 {
            return refuse("increased to more than double");
        }
        Ok(())
    }
}
