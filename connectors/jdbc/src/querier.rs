//! Reads one table, or the query: from rows to records with offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use aqueduct_connect_api::{Error, OffsetMap, Record, Result, SchemaAndValue, SourceRecord, Struct, Value};
use bytestring::ByteString;
use chrono_tz::Tz;
use tokio::time::Instant;

use crate::column::{Cell, Column, Row, SqlType};
use crate::config::Settings;
use crate::convert::{moment, whole};
use crate::criteria::Criteria;
use crate::dialect::{Dialect, Session};
use crate::error::DbError;
use crate::mapping::Mapping;
use crate::offset::Offset;
use crate::plan::{Plan, Source};
use crate::reader::{Message, Reader};
use crate::time::Moment;

/// One table or query, how far it has been read, and the query that runs on it.
pub struct Querier {
    settings: Arc<Settings>,
    dialect: Arc<dyn Dialect>,
    source: Source,
    topic: ByteString,
    partition: Arc<OffsetMap>,
    /// After which rows the next query starts.
    offset: Offset,
    /// When the next query is due.
    pub due: Instant,
    mapping: Option<Mapping>,
    run: Option<Run>,
}

/// A query that runs.
struct Run {
    reader: Reader,
    /// Rows that were read and not yet given out.
    rows: VecDeque<Row>,
    keys: Keys,
    /// The row before, in timestamp mode: its offset depends on the one behind it.
    held: Option<Held>,
    /// Rows that were read.
    count: u64,
    /// What the offset was at the start.
    from: Offset,
}

/// A row whose offset is not known yet.
struct Held {
    value: Struct,
    timestamp: Option<Moment>,
}

/// Where in a row the columns of the criteria are.
#[derive(Default)]
struct Keys {
    incrementing: Option<usize>,
    /// Positions, and the zone of wall clocks there.
    timestamps: Vec<(usize, Tz)>,
}

/// How far a call of [`Querier::fill`] came.
pub enum Progress {
    /// There is more, now or later.
    Running,
    /// The query is done; its connection is free.
    Done(Box<dyn Session>),
}

/// Why a query ended early.
pub enum Failure {
    /// The database's doing: the query can be asked again.
    Database(DbError),
    /// A row that fits no record, or settings that cannot work.
    Fatal(Error),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        if error.transient { Self::Database(error) } else { Self::Fatal(error.into()) }
    }
}

impl Querier {
    pub fn new(
        settings: Arc<Settings>,
        dialect: Arc<dyn Dialect>,
        source: Source,
        partition: OffsetMap,
        offset: Offset,
    ) -> Self {
        let topic = match &source {
            Source::Table(table) => format!("{}{}", settings.topic_prefix, table.name).into(),
            Source::Query(_) => settings.topic_prefix.as_str().into(),
        };
        let due = settings.schedule.first();
        let partition = Arc::new(partition);
        Self { settings, dialect, source, topic, partition, offset, due, mapping: None, run: None }
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Starts the next query.
    pub fn begin(&mut self, session: Option<Box<dyn Session>>, connected_before: bool) {
        let plan = Plan {
            settings: Arc::clone(&self.settings),
            dialect: Arc::clone(&self.dialect),
            source: self.source.clone(),
            offset: self.offset,
        };
        self.run = Some(Run {
            reader: Reader::start(plan, session, connected_before),
            rows: VecDeque::new(),
            keys: Keys::default(),
            held: None,
            count: 0,
            from: self.offset,
        });
    }

    /// Ends the query that runs.
    pub async fn stop(&mut self) {
        if let Some(run) = self.run.take() {
            run.reader.stop().await;
        }
    }

    /// Gives up the query that runs; the next one starts where its records ended.
    pub fn abandon(&mut self, next: Instant) {
        self.run = None;
        self.due = next;
    }

    /// Adds records up to `most`. Waits until `deadline` at most, and hardly at all once it has some.
    pub async fn fill(
        &mut self,
        records: &mut Vec<SourceRecord>,
        most: usize,
        deadline: Instant,
    ) -> Result<Progress, Failure> {
        loop {
            while records.len() < most {
                let Some(row) = self.run.as_mut().and_then(|run| run.rows.pop_front()) else { break };
                self.take(&row, records).map_err(Failure::Fatal)?;
            }
            let Some(run) = &mut self.run else { return Ok(Progress::Running) };
            if records.len() >= most {
                return Ok(Progress::Running);
            }
            let until = if records.is_empty() {
                deadline
            } else {
                deadline.min(Instant::now() + std::time::Duration::from_millis(5))
            };
            match tokio::time::timeout_at(until, run.reader.next()).await {
                Err(_) => return Ok(Progress::Running),
                Ok(Some(Message::Begun(begun))) => {
                    run.keys = keys(&begun.criteria, &begun.columns, self.settings.rules.zone);
                    run.from = begun.offset;
                    self.offset = begun.offset;
                    if !self.mapping.as_ref().is_some_and(|m| m.fits(&begun.columns)) {
                        if !begun.left_out.is_empty() {
                            let columns = begun.left_out.join(", ");
                            tracing::warn!(source = %self.source, columns, "columns left out: no Connect type fits them");
                        }
                        self.mapping = Some(self.map(begun.columns));
                    }
                }
                Ok(Some(Message::Rows(rows))) => {
                    run.count += rows.len() as u64;
                    run.rows.extend(rows);
                }
                Ok(None) => return self.finish(records).await,
            }
        }
    }

    fn map(&self, columns: Vec<Column>) -> Mapping {
        let name = match &self.source {
            Source::Table(table) => Some(&*table.name),
            Source::Query(_) => None,
        };
        Mapping::new(self.source.to_string(), name, columns, self.settings.rules)
    }

    /// Turns a row into a record, or holds it back and gives the one before.
    fn take(&mut self, row: &Row, records: &mut Vec<SourceRecord>) -> Result<()> {
        let (Some(run), Some(mapping)) = (&mut self.run, &mut self.mapping) else { return Ok(()) };
        let value = mapping.row(row)?;
        let timestamp = run
            .keys
            .timestamps
            .iter()
            .find_map(|(at, zone)| moment(&row[*at], *zone))
            .map(|moment| self.dialect.as_compared(moment));
        match (run.keys.incrementing, run.keys.timestamps.is_empty()) {
            (None, true) => {}
            (Some(at), _) => {
                let id = incrementing(&row[at], &self.source, &mapping.columns()[at].name)?;
                self.offset = Offset { incrementing: Some(id), timestamp };
            }
            (None, false) => {
                let before = run.held.replace(Held { value, timestamp });
                if let Some(before) = before {
                    // Only when the time moves on have all rows of the time before been seen.
                    if before.timestamp < timestamp {
                        self.offset.timestamp = before.timestamp;
                    }
                    records.push(self.record(before.value));
                }
                return Ok(());
            }
        }
        records.push(self.record(value));
        Ok(())
    }

    async fn finish(&mut self, records: &mut Vec<SourceRecord>) -> Result<Progress, Failure> {
        let Some(run) = self.run.take() else { return Ok(Progress::Running) };
        let session = run.reader.finish().await?;
        if let Some(held) = run.held {
            let cut = self.settings.suffix_limit.is_some_and(|limit| run.count >= limit);
            if !cut {
                self.offset.timestamp = held.timestamp;
            } else if self.offset == run.from {
                return Err(Failure::Fatal(Error::connect(format!(
                    "{}: the limit in query.suffix gives {} rows, all with the same timestamp, so that the rows behind \
                     them can never be reached; raise the limit, or use mode timestamp+incrementing",
                    self.source, run.count
                ))));
            }
            records.push(self.record(held.value));
        }
        self.due = self.settings.schedule.after(Instant::now());
        Ok(Progress::Done(session))
    }

    fn record(&self, value: Struct) -> SourceRecord {
        SourceRecord {
            record: Record {
                topic: self.topic.clone(),
                value: SchemaAndValue::new(Some(Arc::clone(value.schema())), Value::from(value)),
                ..Record::default()
            },
            source_partition: Arc::clone(&self.partition),
            source_offset: self.offset.to_map().into(),
        }
    }
}

/// Finds the columns of `criteria`; `zone` is that of wall clocks.
fn keys(criteria: &Criteria, columns: &[Column], zone: Tz) -> Keys {
    let position = |name: &String| columns.iter().position(|c| c.name == *name);
    let zone_of = |at: usize| match columns[at].sql_type {
        SqlType::Timestamp { zoned: true } => Tz::UTC,
        _ => zone,
    };
    Keys {
        incrementing: criteria.incrementing.as_ref().and_then(position),
        timestamps: criteria.timestamps.iter().filter_map(position).map(|at| (at, zone_of(at))).collect(),
    }
}

fn incrementing(cell: &Cell, source: &Source, column: &str) -> Result<i64> {
    let number = whole(cell).ok_or_else(|| {
        Error::connect(format!(
            "{source}: the incrementing column {column} holds {cell:?}, which is not a whole number; it must be one and \
             never null"
        ))
    })?;
    i64::try_from(number).map_err(|_| {
        Error::connect(format!(
            "{source}: the incrementing column {column} holds {number}, more than the {} that an offset can",
            i64::MAX
        ))
    })
}
