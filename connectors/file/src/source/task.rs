//! The task of the file source.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aqueduct_connect_api::{
    Config, Error, OffsetMap, Record, Result, Schema, SchemaAndValue, SchemaRef, SourceRecord, SourceTask,
    SourceTaskContext, Type, Value,
};
use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::follow::{Cause, Follower, LONGEST_LINE, Look};
use super::lines::Lines;
use super::{BATCH_SIZE, FILENAME_FIELD, POSITION_FIELD, TOPIC, file_of, not_regular, stdin};

/// A poll that finds nothing answers after this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks at a quiet file follow each other after this time at first, then after twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// Reads lines. One record a line: a string without key, with the byte position after the line as offset.
#[derive(Default)]
pub struct FileStreamSourceTask {
    running: Option<Running>,
}

struct Running {
    input: Input,
    lines: Lines,
    topic: ByteString,
    batch_size: usize,
    schema: SchemaRef,
    partition: Arc<OffsetMap>,
    /// Bytes of all lines that were given out; `None` for standard input.
    position: Option<u64>,
    /// What `file` says.
    path: String,
    missing_told: bool,
}

enum Input {
    /// `None` while a look is under way.
    File(Option<Follower>),
    Stdin(stdin::Chunks),
}

#[async_trait]
impl SourceTask for FileStreamSourceTask {
    async fn start(&mut self, context: SourceTaskContext, config: &Config) -> Result<()> {
        let file = file_of(config.originals()).map(str::to_owned);
        let partition = OffsetMap::from_iter([(FILENAME_FIELD.to_owned(), file.clone().into())]);
        let (input, position) = match &file {
            None => (Input::Stdin(stdin::chunks()), None),
            Some(path) => {
                let stored = context.offsets.read(std::slice::from_ref(&partition)).await?;
                let position = stored_position(stored.into_iter().flatten().next())?;
                (Input::File(Some(Follower::new(path, position))), Some(position))
            }
        };
        self.running = Some(Running {
            input,
            lines: Lines::default(),
            topic: config.text(TOPIC).into(),
            batch_size: config.count(BATCH_SIZE)?,
            schema: Schema::of(Type::String),
            partition: Arc::new(partition),
            position,
            path: file.unwrap_or_else(|| "standard input".to_owned()),
            missing_told: false,
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        match &mut self.running {
            Some(running) => running.poll().await,
            None => Err(Error::connect("the file source task was polled before it was started")),
        }
    }

    async fn stop(&mut self) {
        self.running = None;
    }
}

fn stored_position(offset: Option<OffsetMap>) -> Result<u64> {
    match offset.as_ref().and_then(|o| o.get(POSITION_FIELD)) {
        None | Some(serde_json::Value::Null) => Ok(0),
        Some(position) => position.as_u64().ok_or_else(|| {
            Error::connect(format!(
                "the stored offset {position} is not a byte position; reset the connector's offsets to read from the start"
            ))
        }),
    }
}

impl Running {
    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        let mut records = Vec::new();
        loop {
            self.take_lines(&mut records);
            if records.len() == self.batch_size {
                return Ok(records);
            }
            let found = match &mut self.input {
                Input::File(_) => self.look().await?,
                Input::Stdin(chunks) => {
                    // With lines in hand only what is there already is waited for.
                    let until = if records.is_empty() { deadline } else { Instant::now() };
                    let chunks = Arc::clone(chunks);
                    self.hear(&chunks, until).await?
                }
            };
            if found {
                continue;
            }
            let now = Instant::now();
            if !records.is_empty() || now >= deadline {
                return Ok(records);
            }
            tokio::time::sleep_until(deadline.min(now + pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Turns whole lines into records, up to a full batch.
    fn take_lines(&mut self, records: &mut Vec<SourceRecord>) {
        if self.lines.needs_more() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        while records.len() < self.batch_size {
            let Some(line) = self.lines.next() else { return };
            let position = self.position.as_mut().map(|position| {
                *position += line.taken as u64;
                *position
            });
            records.push(SourceRecord {
                record: Record {
                    topic: self.topic.clone(),
                    value: SchemaAndValue::new(
                        Some(Arc::clone(&self.schema)),
                        Value::String(text(line.text)),
                    ),
                    timestamp: Some(now),
                    ..Record::default()
                },
                source_partition: Arc::clone(&self.partition),
                source_offset: Arc::new(OffsetMap::from_iter([(
                    POSITION_FIELD.to_owned(),
                    position.map_or(serde_json::Value::Null, Into::into),
                )])),
            });
        }
    }

    /// Reads on in the file; says whether there is something new.
    async fn look(&mut self) -> Result<bool> {
        let Input::File(slot) = &mut self.input else { return Ok(false) };
        let Some(mut follower) = slot.take() else {
            return Err(Error::connect(format!("reading {} was broken off; restart the task", self.path)));
        };
        let unfinished = self.lines.unfinished().clone();
        let (follower, look) = tokio::task::spawn_blocking(move || {
            let look = follower.look(&unfinished);
            (follower, look)
        })
        .await
        .map_err(|e| Error::connect("the file reader ended early").caused_by(e))?;
        *slot = Some(follower);
        let look = look.map_err(|e| {
            Error::connect(format!(
                "cannot read {}: {e}; check that the worker may read it, then restart the task",
                self.path
            ))
            .caused_by(e)
        })?;
        match look {
            Look::Read(mut bytes) => {
                if bytes.len() < bytes.capacity() / 4 {
                    bytes.shrink_to_fit();
                }
                self.missing_told = false;
                self.lines.refill(bytes);
                Ok(true)
            }
            Look::Quiet => Ok(false),
            Look::Missing => {
                if !self.missing_told {
                    tracing::warn!(file = self.path, "the file is not there; waiting until it is");
                    self.missing_told = true;
                }
                Ok(false)
            }
            Look::StartedAgain(cause) => {
                self.start_again(cause);
                Ok(true)
            }
            Look::NotRegular => Err(not_regular(&self.path)),
            Look::LineTooLong => Err(Error::connect(format!(
                "{}: the line that starts at byte {} has no end within {LONGEST_LINE} bytes; \
                 is this a text file? Remove the line, or alter the connector's offset to skip it",
                self.path,
                self.position.unwrap_or_default()
            ))),
        }
    }

    fn start_again(&mut self, cause: Cause) {
        let position = self.position.unwrap_or_default();
        let unfinished = self.lines.unfinished().len();
        match cause {
            Cause::Truncated { length } => tracing::warn!(
                file = self.path,
                position,
                length,
                "the file is shorter than what was read of it before, so it was cut or written anew; \
                 reading it from its first byte. Lines that were cut off before they were read are lost, \
                 lines that are still there come again"
            ),
            Cause::Replaced => tracing::warn!(
                file = self.path,
                position,
                unfinished_bytes = unfinished,
                "another file has taken this one's place; the old one has been read to its end, \
                 and the new one is read from its first byte. A last line without an end was left out"
            ),
        }
        self.lines.clear();
        self.position = Some(0);
    }

    /// Takes the next chunk of standard input; says whether there was one.
    async fn hear(&mut self, chunks: &stdin::Chunks, until: Instant) -> Result<bool> {
        let mut receiver = chunks.lock().await;
        let Ok(Some(chunk)) = tokio::time::timeout_at(until, receiver.recv()).await else {
            return Ok(false);
        };
        let unfinished = self.lines.unfinished();
        if unfinished.len() > LONGEST_LINE {
            return Err(Error::connect(format!(
                "standard input has a line of more than {LONGEST_LINE} bytes; is this text?"
            )));
        }
        let bytes = if unfinished.is_empty() { chunk } else { [&**unfinished, &*chunk].concat().into() };
        self.lines.refill(bytes);
        Ok(true)
    }
}

/// The line as text. What is not UTF-8 becomes U+FFFD, as Java's readers do it.
fn text(line: Bytes) -> ByteString {
    ByteString::try_from(line.clone()).unwrap_or_else(|_| String::from_utf8_lossy(&line).into_owned().into())
}
