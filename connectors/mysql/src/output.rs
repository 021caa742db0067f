//! The bounded way from the reader to `poll`.

use aqueduct_connect_api::{Error, Notice, Result, SourceRecord};
use tokio::sync::mpsc;

use crate::config::Settings;

/// What records may weigh together where the user does not say.
const DEFAULT_BYTES: usize = 64 << 20;

/// Batches that may wait: one more is being made, and one is with the worker.
fn waiting(settings: &Settings) -> usize {
    (settings.max_queue / settings.max_batch).saturating_sub(2).max(1)
}

/// Gathers records into batches and hands them over; a full queue makes it wait.
#[derive(Debug)]
pub struct Output {
    sender: mpsc::Sender<Result<Vec<SourceRecord>>>,
    batch: Vec<SourceRecord>,
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
    /// Whether any record has gone out.
    pub sent_any: bool,
    /// Where it is said that the server is out of reach.
    pub notice: Notice,
}

impl Output {
    pub fn new(settings: &Settings, notice: Notice) -> (Self, mpsc::Receiver<Result<Vec<SourceRecord>>>) {
        let waiting = waiting(settings);
        let (sender, receiver) = mpsc::channel(waiting);
        let all = if settings.max_queue_bytes == 0 { DEFAULT_BYTES } else { settings.max_queue_bytes };
        let output = Self {
            sender,
            batch: Vec::new(),
            bytes: 0,
            max_records: settings.max_batch,
            max_bytes: (all / (waiting + 2)).max(1),
            sent_any: false,
            notice,
        };
        (output, receiver)
    }

    /// The batch being made; call [`Output::added`] afterwards.
    pub fn batch(&mut self) -> &mut Vec<SourceRecord> {
        &mut self.batch
    }

    /// About `bytes` of records were added to the batch.
    pub fn added(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    pub fn is_full(&self) -> bool {
        self.batch.len() >= self.max_records || self.bytes >= self.max_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Hands the batch over, if there is anything in it.
    ///
    /// # Errors
    /// Where nobody takes records any more.
    pub async fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.sent_any = true;
        self.notice.clear();
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.sender.send(Ok(batch)).await.map_err(|_| Error::connect("the task has stopped"))
    }

    /// Hands over what ended the reader.
    pub async fn fail(&mut self, error: Error) {
        // Nobody is left to tell where the task has stopped.
        let _ = self.sender.send(Err(error)).await;
    }
}
