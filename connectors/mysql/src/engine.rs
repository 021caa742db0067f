//! One task's work from start to end: the snapshot where one is due, then the binlog, through every lost connection.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{Error, OffsetStore};

use crate::config::{Settings, SnapshotMode};
use crate::envelope::Envelopes;
use crate::fault::Fault;
use crate::gtid::GtidSet;
use crate::offset::{Offset, SnapshotProgress, Stored};
use crate::output::Output;
use crate::schema_change::SchemaChanges;
use crate::server::{self, Facts};
use crate::snapshot::Snapshot;
use crate::stream::Stream;
use crate::tables::Tables;

type Result<T> = std::result::Result<T, Fault>;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Read the tables, with their rows or without.
    Snapshot {
        with_rows: bool,
    },
    Stream,
    /// Nothing is left to do.
    Done,
}

/// The first step for a task that finds this stored.
fn first_step(mode: SnapshotMode, stored: Option<&Stored>) -> Step {
    let with_rows = mode != SnapshotMode::NoData;
    match stored {
        None => Step::Snapshot { with_rows },
        Some(stored) if stored.snapshot.is_some() => Step::Snapshot { with_rows },
        Some(_) => match mode {
            SnapshotMode::Always => Step::Snapshot { with_rows },
            SnapshotMode::InitialOnly => Step::Done,
            _ => Step::Stream,
        },
    }
}

/// Waits between tries, longer each time.
struct Retries {
    failed: u32,
    most: Option<u32>,
    longest: Duration,
}

impl Retries {
    /// How long to wait before the next try; `None` where there have been enough.
    fn next(&mut self) -> Option<Duration> {
        self.failed += 1;
        if self.most.is_some_and(|most| self.failed > most) {
            return None;
        }
        let wait = Duration::from_millis(250) * 2u32.pow(self.failed.min(10) - 1);
        Some(wait.min(self.longest.max(Duration::from_millis(1))))
    }

    fn reset(&mut self) {
        self.failed = 0;
    }
}

/// Everything between the server and the queue.
pub struct Engine {
    settings: Arc<Settings>,
    envelopes: Envelopes,
    changes: SchemaChanges,
    offsets: Arc<dyn OffsetStore>,
    output: Output,
    offset: Option<Offset>,
    tables: Option<Tables>,
    any_row: bool,
    retries: Retries,
}

impl Engine {
    pub fn new(settings: Arc<Settings>, task: u32, offsets: Arc<dyn OffsetStore>, output: Output) -> Self {
        let envelopes = Envelopes::new(&settings, task);
        let changes = SchemaChanges::new(&settings, &envelopes.schemas.source);
        let retries = Retries { failed: 0, most: settings.max_retries, longest: settings.retry_wait };
        Self {
            settings,
            envelopes,
            changes,
            offsets,
            output,
            offset: None,
            tables: None,
            any_row: false,
            retries,
        }
    }

    /// Works until something is wrong for good, which goes down the queue.
    pub async fn run(mut self) {
        match self.work().await {
            // The queue stays open, so that the task goes on being polled.
            Ok(()) => std::future::pending().await,
            Err(fault) => self.output.fail(fault.into_error()).await,
        }
    }

    async fn work(&mut self) -> Result<()> {
        let partition = (*self.envelopes.partition).clone();
        let found = self.offsets.read(&[partition]).await?.into_iter().next().flatten();
        let stored = found.as_ref().map(Stored::read).transpose()?;
        let mut step = first_step(self.settings.snapshot_mode, stored.as_ref());
        if let Some(mut stored) = stored {
            if matches!(step, Step::Snapshot { .. }) {
                // Also where the stored one was finished: what changed since then still comes from the binlog.
                stored.snapshot.get_or_insert_with(SnapshotProgress::default);
            }
            let gtids = stored.gtids.as_deref().map(GtidSet::parse).transpose().map_err(|bad| {
                Fault::Fatal(Error::connect(format!(
                    "the stored offset has gtids with \"{}\", which is no transaction id: reset the connector's offsets",
                    bad.0
                )))
            })?;
            self.offset = Some(Offset::new(&stored, gtids));
        }
        if matches!(step, Step::Snapshot { .. }) && !self.settings.snapshot_delay.is_zero() {
            tokio::time::sleep(self.settings.snapshot_delay).await;
        }
        loop {
            let fault = match self.step(step).await {
                Ok(Step::Done) => return Ok(()),
                Ok(next) => {
                    self.retries.reset();
                    step = next;
                    continue;
                }
                Err(fault) => fault,
            };
            match fault {
                Fault::Lost(error) => {
                    let Some(wait) = self.retries.next() else {
                        return Err(Fault::Fatal(Error::connect(format!(
                            "{error}; given up after errors.max.retries={}",
                            self.retries.failed - 1
                        ))));
                    };
                    self.output.notice.failed(&error);
                    tracing::warn!(error = %error, wait_ms = wait.as_millis() as u64, "trying again");
                    tokio::time::sleep(wait).await;
                }
                Fault::Purged(error) if self.settings.snapshot_mode == SnapshotMode::WhenNeeded => {
                    tracing::warn!(error = %error, "taking a new snapshot: deletes since the stored offset are lost");
                    self.offset = None;
                    step = Step::Snapshot { with_rows: true };
                }
                fault => return Err(fault),
            }
        }
    }

    async fn step(&mut self, step: Step) -> Result<Step> {
        if self.tables.is_none() {
            self.tables = Some(self.open().await?);
        }
        let Some(tables) = &mut self.tables else { return Ok(step) };
        match (step, &mut self.offset) {
            (Step::Done, _) => Ok(Step::Done),
            (Step::Stream, Some(offset)) => {
                let mut stream = Stream::new(
                    &self.settings,
                    &self.envelopes,
                    &self.changes,
                    tables,
                    &mut self.output,
                    offset,
                );
                let fault = stream.run().await;
                if stream.progressed {
                    self.retries.reset();
                }
                Err(fault)
            }
            (Step::Stream, None) => Ok(Step::Snapshot { with_rows: false }),
            (Step::Snapshot { with_rows }, offset) => {
                let facts = tables.facts().clone();
                let mut snapshot = Snapshot {
                    settings: &self.settings,
                    facts: &facts,
                    envelopes: &self.envelopes,
                    changes: &self.changes,
                    offsets: &*self.offsets,
                    tables,
                    output: &mut self.output,
                    with_rows,
                    any_row: self.any_row,
                };
                let done = snapshot.run(offset).await;
                self.any_row = snapshot.any_row;
                done?;
                Ok(match self.settings.snapshot_mode {
                    SnapshotMode::InitialOnly => Step::Done,
                    _ => Step::Stream,
                })
            }
        }
    }

    /// Looks at the server: whether its binlog can be read at all.
    async fn open(&self) -> Result<Tables> {
        let mut conn = server::connect(&self.settings).await?;
        let facts = Facts::read(&mut conn, &self.settings).await?;
        let problems = facts.problems();
        if !problems.is_empty() {
            return Err(Fault::Fatal(Error::connect(format!(
                "the binlog of {} cannot be used: {}",
                self.settings.address(),
                problems.join("; ")
            ))));
        }
        let collations = server::collations(&mut conn, &self.settings, &facts).await?;
        // Said politely where it works; a server that is gone is met again soon.
        let _ = conn.disconnect().await;
        Ok(Tables::new(self.settings.clone(), self.envelopes.schemas.clone(), facts, collations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_decides_what_comes_first() {
        use SnapshotMode::{Always, Initial, InitialOnly, NoData, WhenNeeded};
        let done = Stored::default();
        let unfinished = Stored { snapshot: Some(SnapshotProgress::default()), ..Stored::default() };
        let rows = Step::Snapshot { with_rows: true };
        let no_rows = Step::Snapshot { with_rows: false };
        for (mode, nothing, cut_off, complete) in [
            (Initial, rows, rows, Step::Stream),
            (WhenNeeded, rows, rows, Step::Stream),
            (InitialOnly, rows, rows, Step::Done),
            (Always, rows, rows, rows),
            (NoData, no_rows, no_rows, Step::Stream),
        ] {
            assert_eq!(first_step(mode, None), nothing, "{mode:?}");
            assert_eq!(first_step(mode, Some(&unfinished)), cut_off, "{mode:?}");
            assert_eq!(first_step(mode, Some(&done)), complete, "{mode:?}");
        }
    }

    #[test]
    fn waits_grow_and_end() {
        let mut retries = Retries { failed: 0, most: Some(3), longest: Duration::from_millis(600) };
        let waits: Vec<_> = std::iter::from_fn(|| retries.next()).collect();
        assert_eq!(waits, [250, 500, 600].map(Duration::from_millis));
    }
}
