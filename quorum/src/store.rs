//! The log as openraft wants it. Writes leave the async threads; each is on disk before it is reported.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use crate::log_file::LogFile;
use crate::types::{Entry, LogId, NodeId, StorageError, Types, Vote};

/// A handle to the log of this node.
#[derive(Clone)]
pub(crate) struct Store {
    log: Arc<Mutex<LogFile>>,
}

impl Store {
    pub(crate) fn new(log: LogFile) -> Self {
        Self { log: Arc::new(Mutex::new(log)) }
    }

    /// Whether nothing was ever agreed on here.
    pub(crate) fn is_empty(&self) -> bool {
        self.log.lock().last().is_none()
    }

    async fn write(
        &self,
        subject: ErrorSubject<NodeId>,
        act: impl FnOnce(&mut LogFile) -> io::Result<()> + Send + 'static,
    ) -> Result<(), StorageError> {
        let log = self.log.clone();
        blocking(move || act(&mut log.lock()))
            .await
            .map_err(|error| StorageError::from_io_error(subject, ErrorVerb::Write, error))
    }

    #[allow(clippy::result_large_err, reason = "openraft's own error")]
    fn read(&self, from: u64, to: u64, limited: bool) -> Result<Vec<Entry>, StorageError> {
        let failed = |error| StorageError::from_io_error(ErrorSubject::Logs, ErrorVerb::Read, error);
        self.log.lock().read(from, to, limited).map_err(failed)
    }
}

/// Runs what blocks on the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match crate::blocking::spawn(act).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::other("the runtime is shutting down")),
    }
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(at) => at.saturating_add(1),
            Bound::Excluded(at) => *at,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, false)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, true)
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let log = self.log.lock();
        Ok(LogState { last_purged_log_id: log.purged(), last_log_id: log.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.write(ErrorSubject::Vote, move |log| log.save_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.log.lock().vote())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let result = self.write(ErrorSubject::Logs, move |log| log.append(&entries)).await;
        let flushed = match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        callback.log_io_completed(flushed);
        result
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.write(ErrorSubject::Log(log_id), move |log| log.truncate(log_id.index)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.write(ErrorSubject::Log(log_id), move |log| log.purge(log_id)).await
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
