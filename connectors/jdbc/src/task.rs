//! The task: one connection, and the queriers that take turns on it.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{
    Config, Error, Notice, OffsetStore, Result, SourceRecord, SourceTask, SourceTaskContext,
};
use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::{Settings, TABLES};
use crate::dialect::{Dialect, Session};
use crate::error::DbError;
use crate::offset::{Offset, known_table_partitions, query_partition, table_partition};
use crate::plan::Source;
use crate::querier::{Failure, Progress, Querier};
use crate::table::{TableId, split_list};

/// A poll that finds nothing answers after this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads the tables that it was given, one query at a time.
#[derive(Default)]
pub struct JdbcSourceTask {
    running: Option<Running>,
}

struct Running {
    settings: Arc<Settings>,
    queriers: Vec<Querier>,
    /// The connection, while no query runs on it.
    session: Option<Box<dyn Session>>,
    connected_before: bool,
    /// Queries that failed one after the other.
    failures: i64,
    notice: Notice,
}

#[async_trait]
impl SourceTask for JdbcSourceTask {
    async fn start(&mut self, context: SourceTaskContext, config: &Config) -> Result<()> {
        let settings = Arc::new(Settings::read(config)?);
        let dialect: Arc<dyn Dialect> = settings.dialect()?.into();
        let sources = match &settings.query {
            Some(query) => vec![Source::Query(query.clone())],
            None => tables(config.originals().get(TABLES).map_or("", String::as_str), dialect.quote())?,
        };
        let mut queriers = Vec::with_capacity(sources.len());
        for source in sources {
            let (partition, offset) = stored(&source, &settings, &*context.offsets).await?;
            tracing::info!(%source, ?offset, "reading");
            queriers.push(Querier::new(
                Arc::clone(&settings),
                Arc::clone(&dialect),
                source,
                partition,
                offset,
            ));
        }
        self.running = Some(Running {
            settings,
            queriers,
            session: None,
            connected_before: false,
            failures: 0,
            notice: context.notice,
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        match &mut self.running {
            Some(running) => running.poll().await,
            None => Err(Error::connect("the JDBC source task was polled before it was started")),
        }
    }

    async fn stop(&mut self) {
        for querier in self.running.take().iter_mut().flat_map(|running| &mut running.queriers) {
            querier.stop().await;
        }
    }
}

fn tables(text: &str, quote: char) -> Result<Vec<Source>> {
    split_list(text, quote)
        .iter()
        .map(|name| {
            TableId::parse(name, quote)
                .map(Source::Table)
                .ok_or_else(|| Error::config(TABLES, name, "not the full name of a table"))
        })
        .collect()
}

/// The partition of `source`, and the offset that is stored for it under any of its names.
async fn stored(
    source: &Source,
    settings: &Settings,
    offsets: &dyn OffsetStore,
) -> Result<(aqueduct_connect_api::OffsetMap, Offset)> {
    let known = match source {
        Source::Table(table) => known_table_partitions(table),
        Source::Query(_) => vec![query_partition()],
    };
    let partition = match source {
        Source::Table(table) => table_partition(table),
        Source::Query(_) => query_partition(),
    };
    if settings.is_bulk() {
        return Ok((partition, Offset::default()));
    }
    let found = offsets.read(&known).await?.into_iter().flatten().next();
    Ok((partition, found.as_ref().map(Offset::from_map).unwrap_or_default()))
}

impl Running {
    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let deadline = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        loop {
            let next = match self.queriers.iter().position(Querier::is_running) {
                Some(running) => Some(running),
                None => (0..self.queriers.len()).min_by_key(|i| self.queriers[*i].due),
            };
            let due = next.map_or(deadline, |i| self.queriers[i].due);
            let Some(next) = next.filter(|i| self.queriers[*i].is_running() || due <= Instant::now()) else {
                tokio::time::sleep_until(due.min(deadline)).await;
                if Instant::now() >= deadline {
                    return Ok(records);
                }
                continue;
            };
            let querier = &mut self.queriers[next];
            if !querier.is_running() {
                querier.begin(self.session.take(), self.connected_before);
            }
            match querier.fill(&mut records, self.settings.batch_max_rows, deadline).await {
                Ok(Progress::Running) => {}
                Ok(Progress::Done(session)) => {
                    self.session = Some(session);
                    self.connected_before = true;
                    if std::mem::take(&mut self.failures) > 0 {
                        self.notice.clear();
                    }
                }
                Err(Failure::Database(error)) => self.failed(next, error)?,
                Err(Failure::Fatal(error)) => return Err(error),
            }
            if !records.is_empty() || Instant::now() >= deadline {
                return Ok(records);
            }
        }
    }

    /// After a failure that may pass: asks again after the poll interval, as often as the settings allow.
    fn failed(&mut self, querier: usize, error: DbError) -> Result<()> {
        self.failures += 1;
        self.connected_before = true;
        let allowed = self.settings.query_retry_attempts;
        if allowed >= 0 && self.failures > allowed {
            return Err(Error::connect(format!(
                "{error}; given up after {} attempts (query.retry.attempts={allowed})",
                self.failures
            )));
        }
        let source = self.queriers[querier].source();
        self.notice.failed(&format_args!("{source}: {error}"));
        tracing::warn!(%error, %source, failures = self.failures, "query failed; it is asked again");
        self.queriers[querier].abandon(Instant::now() + self.settings.poll_interval);
        Ok(())
    }
}
