//! What a sink task may ask for while it runs. Requests are noted here and carried out by its runner between two calls.

use std::collections::BTreeSet;

use aqueduct_connect_api::{
    Error as PluginError, Result as PluginResult, SinkContext, SinkRecord, TopicPartition,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::{ErrorSettings, Tolerance};

/// A record that the sink refused.
pub struct Reported {
    pub record: SinkRecord,
    pub error: PluginError,
}

#[derive(Default)]
struct Requests {
    paused: BTreeSet<TopicPartition>,
    pauses_changed: bool,
    commit: bool,
    reported: Vec<Reported>,
}

/// Requests of one sink task.
pub struct Context {
    requests: Mutex<Requests>,
    can_report: bool,
    tolerance: Tolerance,
    wake: Notify,
}

impl Context {
    pub fn new(errors: &ErrorSettings) -> Self {
        Self {
            requests: Mutex::default(),
            can_report: errors.dead_letter_topic.is_some() || errors.tolerance == Tolerance::All,
            tolerance: errors.tolerance,
            wake: Notify::new(),
        }
    }

    /// Partitions that the task has paused, if that has changed since the last call.
    pub fn take_pauses(&self) -> Option<Vec<TopicPartition>> {
        let mut requests = self.requests.lock();
        std::mem::take(&mut requests.pauses_changed).then(|| requests.paused.iter().cloned().collect())
    }

    /// Partitions that the task has paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.requests.lock().paused.iter().cloned().collect()
    }

    /// Partitions are no longer the task's.
    pub fn forget(&self, partitions: &[TopicPartition]) {
        let mut requests = self.requests.lock();
        requests.paused.retain(|p| !partitions.contains(p));
    }

    pub fn take_commit(&self) -> bool {
        std::mem::take(&mut self.requests.lock().commit)
    }

    pub fn take_reported(&self) -> Vec<Reported> {
        std::mem::take(&mut self.requests.lock().reported)
    }

    /// Returns when the task has asked for something.
    pub async fn asked(&self) {
        self.wake.notified().await;
    }
}

impl SinkContext for Context {
    fn pause(&self, partitions: &[TopicPartition]) {
        let mut requests = self.requests.lock();
        requests.paused.extend(partitions.iter().cloned());
        requests.pauses_changed = true;
        self.wake.notify_one();
    }

    fn resume(&self, partitions: &[TopicPartition]) {
        let mut requests = self.requests.lock();
        requests.paused.retain(|p| !partitions.contains(p));
        requests.pauses_changed = true;
        self.wake.notify_one();
    }

    fn request_commit(&self) {
        self.requests.lock().commit = true;
        self.wake.notify_one();
    }

    fn can_report(&self) -> bool {
        self.can_report
    }

    fn report(&self, record: &SinkRecord, error: PluginError) -> PluginResult<()> {
        if self.tolerance == Tolerance::None {
            return Err(PluginError::connect(format!(
                "Tolerance exceeded in error handler: stage TASK_PUT, record {}-{}@{}. Correct the record, or set \
                 errors.tolerance=all to skip such records",
                record.original_topic, record.original_partition, record.offset
            ))
            .caused_by(error));
        }
        self.requests.lock().reported.push(Reported { record: record.clone(), error });
        self.wake.notify_one();
        Ok(())
    }
}
