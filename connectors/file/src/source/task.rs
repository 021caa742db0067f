//! The task of the file source.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aqueduct_connect_api::{
    Config, Error, Notice, OffsetMap, Record, Result, Schema, SchemaAndValue, SchemaRef, SourceOffset,
    SourceRecord, SourceTask, SourceTaskContext, Type, Value,
};
use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::follow::{Cause, Follower, LONGEST_LINE, Look};
use super::lines::Lines;
use super::{BATCH_SIZE, FILENAME_FIELD, POSITION_FIELD, TOPIC, file_of, not_regular, stdin};

/// A poll that finds nothing answers after this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at a quiet file; it is looked at the less often the longer it has been quiet, so that a thousand
/// files to which nothing is written cost little.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);
/// Part of the time that a file has been quiet which passes until the next look.
const PAUSE_PART: u32 = 16;
/// Looks at files that are under way at once, for each takes a thread for itself.
static LOOKS: Semaphore = Semaphore::const_new(64);

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
    /// The offset in standard input.
    nowhere: Arc<OffsetMap>,
    /// What `file` says.
    path: String,
    missing_told: bool,
    /// Since when nothing new has been found.
    quiet_since: Option<Instant>,
    /// Records of the last poll that gave any.
    usual: usize,
    notice: Notice,
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
            nowhere: Arc::new(OffsetMap::from_iter([(POSITION_FIELD.to_owned(), serde_json::Value::Null)])),
            path: file.unwrap_or_else(|| "standard input".to_owned()),
            missing_told: false,
            quiet_since: None,
            usual: 0,
            notice: context.notice,
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
        let mut records = Vec::new();
        loop {
            self.take_lines(&mut records);
            if records.len() == self.batch_size {
                self.usual = records.len();
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
                self.quiet_since = None;
                continue;
            }
            let now = Instant::now();
            let quiet = now.duration_since(*self.quiet_since.get_or_insert(now));
            if !records.is_empty() || now >= deadline {
                self.usual = records.len();
                return Ok(records);
            }
            tokio::time::sleep_until(deadline.min(now + pause_after(quiet))).await;
        }
    }

    /// Turns whole lines into records, up to a full batch.
    fn take_lines(&mut self, records: &mut Vec<SourceRecord>) {
        if self.lines.needs_more() {
            return;
        }
        if records.is_empty() {
            records.reserve(self.usual);
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
                source_offset: match position {
                    Some(position) => SourceOffset::number(POSITION_FIELD, position),
                    None => self.nowhere.clone().into(),
                },
            });
        }
    }

    /// Reads on in the file; says whether there is something new.
    async fn look(&mut self) -> Result<bool> {
        let Input::File(slot) = &mut self.input else { return Ok(false) };
        let _turn = LOOKS.acquire().await.map_err(|e| Error::connect("no turn to read").caused_by(e))?;
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
                self.found();
                self.lines.refill(bytes);
                Ok(true)
            }
            Look::Quiet => {
                self.found();
                Ok(false)
            }
            Look::Missing => {
                if !self.missing_told {
                    tracing::warn!(file = self.path, "the file is not there; waiting until it is");
                    self.notice.waits_for(format!(
                        "the file {}, which is not there: create it, or correct the connector's setting 'file'",
                        self.path
                    ));
                    self.missing_told = true;
                }
                Ok(false)
            }
            Look::StartedAgain(cause) => {
                self.found();
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

    fn found(&mut self) {
        if std::mem::take(&mut self.missing_told) {
            self.notice.clear();
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

fn pause_after(quiet: Duration) -> Duration {
    (quiet / PAUSE_PART).clamp(*PAUSES.start(), *PAUSES.end())
}

/// The line as text. What is not UTF-8 becomes U+FFFD, as Java's readers do it.
fn text(line: Bytes) -> ByteString {
    ByteString::try_from(line.clone()).unwrap_or_else(|_| String::from_utf8_lossy(&line).into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_at_the_less_often_the_longer_it_is_quiet() {
        let pauses = [0, 160, 1600, 16_000, 60_000].map(|quiet| pause_after(Duration::from_millis(quiet)));
        assert_eq!(pauses, [10, 10, 100, 1000, 1000].map(Duration::from_millis));
    }
}
