//! The task of the file sink.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use aqueduct_connect_api::{
    Config, Error, Result, SinkRecord, SinkTask, SinkTaskContext, TopicPartition, Value,
};
use async_trait::async_trait;

use super::file_of;

/// Appends values. Each `put` reaches the operating system before it returns; `pre_commit` puts it on the disk, so that
/// an offset is never committed for a line that a power cut could take.
#[derive(Default)]
pub struct FileStreamSinkTask {
    target: Option<Arc<Target>>,
    path: String,
    /// What is left of a write that failed half-way.
    left: Option<Left>,
}

enum Target {
    File(File),
    Stdout,
}

/// The rest of the text of `of`, which will come again.
struct Left {
    of: Batch,
    text: Vec<u8>,
}

/// Which records a `put` was given.
#[derive(PartialEq, Eq)]
struct Batch {
    count: usize,
    first: (TopicPartition, i64),
    last: (TopicPartition, i64),
}

impl Batch {
    fn of(records: &[SinkRecord]) -> Option<Self> {
        let place = |r: &SinkRecord| {
            let partition =
                TopicPartition { topic: r.original_topic.clone(), partition: r.original_partition };
            (partition, r.offset)
        };
        Some(Self { count: records.len(), first: place(records.first()?), last: place(records.last()?) })
    }
}

#[async_trait]
impl SinkTask for FileStreamSinkTask {
    async fn start(&mut self, _context: SinkTaskContext, config: &Config) -> Result<()> {
        let Some(path) = file_of(config.originals()) else {
            self.path = "standard output".to_owned();
            self.target = Some(Arc::new(Target::Stdout));
            return Ok(());
        };
        self.path = path.to_owned();
        let to_open = self.path.clone();
        let file = blocking(move || OpenOptions::new().create(true).append(true).open(to_open)).await?;
        let file = file.map_err(|e| {
            Error::connect(format!(
                "cannot open {path} to append to it: {e}; check the setting 'file', that its directory exists and that \
                 the worker may write there"
            ))
            .caused_by(e)
        })?;
        self.target = Some(Arc::new(Target::File(file)));
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        let Some(batch) = Batch::of(records) else { return Ok(()) };
        let mut text = Vec::new();
        let same = self.left.take().is_some_and(|left| {
            text = left.text;
            left.of == batch
        });
        if !same {
            text.reserve(records.len() * 64);
            records.iter().for_each(|record| append_line(&mut text, &record.record.value.value));
        }
        self.write(batch, text).await
    }

    async fn pre_commit(&mut self, taken: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        if let Some(target) = self.target.clone() {
            let flushed = blocking(move || target.flush()).await?;
            flushed.map_err(|e| self.failure(e))?;
        }
        Ok(taken.to_vec())
    }

    async fn stop(&mut self) {
        self.target = None;
    }
}

impl FileStreamSinkTask {
    async fn write(&mut self, of: Batch, text: Vec<u8>) -> Result<()> {
        let Some(target) = self.target.clone() else {
            return Err(Error::connect("the file sink task was given records before it was started"));
        };
        let (written, result, mut text) = blocking(move || {
            let (written, result) = target.append(&text);
            (written, result, text)
        })
        .await?;
        result.map_err(|e| {
            text.drain(..written);
            self.left = Some(Left { of, text });
            self.failure(e)
        })
    }

    fn failure(&self, error: io::Error) -> Error {
        let path = &self.path;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::retriable(format!(
                "cannot write to {path}: {error}; make room on its disk, nothing else is needed: writing is tried again"
            )),
            _ => Error::connect(format!(
                "cannot write to {path}: {error}; mend the cause, then restart the task: it goes on after the last \
                 committed offset"
            )),
        }
        .caused_by(error)
    }
}

impl Target {
    /// Writes all of `text`; says how much was written when that fails.
    fn append(&self, text: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < text.len() {
            let step = match self {
                Self::File(file) => (&*file).write(&text[written..]),
                Self::Stdout => io::stdout().write(&text[written..]),
            };
            match step {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return (written, Err(e)),
            }
        }
        let flushed = match self {
            Self::File(_) => Ok(()),
            Self::Stdout => io::stdout().flush(),
        };
        (written, flushed)
    }

    fn flush(&self) -> io::Result<()> {
        match self {
            // Pipes and devices cannot be synchronised and say so.
            Self::File(file) => match file.sync_data() {
                Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(()),
                done => done,
            },
            Self::Stdout => io::stdout().flush(),
        }
    }
}

/// One value and a line end. Bytes are written as they are; the reference writes the address of the array.
fn append_line(text: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(s) => text.extend_from_slice(s.as_bytes()),
        Value::Bytes(b) => text.extend_from_slice(b),
        other => {
            let mut shown = String::new();
            write!(shown, "{other}").expect("writing to a string cannot fail");
            text.extend_from_slice(shown.as_bytes());
        }
    }
    text.push(b'\n');
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::connect("the file writer ended early").caused_by(e))
}
