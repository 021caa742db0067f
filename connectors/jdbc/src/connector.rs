//! The connector: finds the tables, and divides them between tasks.

use std::sync::Arc;

use aqueduct_connect_api::config::ConfigValueInfo;
use aqueduct_connect_api::inventory;
use aqueduct_connect_api::{
    Config, ConfigMap, Connector, ConnectorContext, Error, ExactlyOnceSupport, Factory, OffsetMap, Plugin,
    Result,
};
use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{CONNECTION_URL, MODE, Settings, TABLES, check_table, config_def};
use crate::dialect::{Dialect, Session};
use crate::error::DbError;
use crate::plan::Source;
use crate::table::TableId;
use crate::task::JdbcSourceTask;

/// How long validation waits for the database.
const VALIDATION_PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

inventory::submit! {
    Plugin {
        class: "io.confluent.connect.jdbc.JdbcSourceConnector",
        aliases: &["io.aiven.connect.jdbc.JdbcSourceConnector"],
        version: env!("CARGO_PKG_VERSION"),
        config: &config_def,
        factory: Factory::Source {
            connector: &|| Box::<JdbcSource>::default(),
            task: &|| Box::<JdbcSourceTask>::default(),
        },
    }
}

/// Reads tables, or one query, and watches for tables that come and go.
#[derive(Default)]
pub struct JdbcSource {
    running: Option<Running>,
}

struct Running {
    originals: ConfigMap,
    settings: Arc<Settings>,
    dialect: Arc<dyn Dialect>,
    /// What the last list of tables was; the monitor compares with it.
    tables: Arc<parking_lot::Mutex<Option<Vec<TableId>>>>,
    monitor: Option<JoinHandle<()>>,
}

#[async_trait]
impl Connector for JdbcSource {
    async fn validate(&self, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
        if infos.iter().any(|info| !info.errors.is_empty()) {
            return;
        }
        let checked = match config_def().parse(config).and_then(|parsed| Settings::read(&parsed)) {
            Ok(settings) => match timeout(VALIDATION_PATIENCE, check(&settings)).await {
                Ok(checked) => checked,
                Err(_) => Err(Error::config(CONNECTION_URL, "[hidden]", "the database does not answer")),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            ConfigValueInfo::report(infos, &error, CONNECTION_URL);
        }
    }

    async fn start(&mut self, context: ConnectorContext, config: &Config) -> Result<()> {
        let settings = Arc::new(Settings::read(config)?);
        let dialect: Arc<dyn Dialect> = settings.dialect()?.into();
        let tables = Arc::default();
        let monitor = settings.query.is_none().then(|| {
            tokio::spawn(watch(context, Arc::clone(&settings), Arc::clone(&dialect), Arc::clone(&tables)))
        });
        self.running =
            Some(Running { originals: config.originals().clone(), settings, dialect, tables, monitor });
        Ok(())
    }

    async fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<ConfigMap>> {
        let Some(running) = &self.running else {
            return Err(Error::connect(
                "the JDBC source connector was asked for tasks before it was started",
            ));
        };
        if running.settings.query.is_some() {
            return Ok(vec![running.originals.clone()]);
        }
        let limit = running.settings.startup_limit.max(std::time::Duration::from_secs(1));
        let tables = match timeout(limit, list(&running.settings, &running.dialect)).await {
            Ok(tables) => tables?,
            Err(_) => {
                return Err(Error::retriable(format!(
                    "{} gave no list of tables within {} ms (table.monitoring.startup.polling.limit.ms)",
                    running.dialect.place(),
                    limit.as_millis()
                )));
            }
        };
        *running.tables.lock() = Some(tables.clone());
        if tables.is_empty() {
            tracing::warn!(place = running.dialect.place(), "no table to read; waiting until there is one");
        }
        refuse_same_topics(&tables)?;
        let quote = running.dialect.quote();
        Ok(groups(&tables, max_tasks)
            .map(|group| {
                let names: Vec<String> = group.iter().map(|table| table.quoted(quote)).collect();
                let mut config = running.originals.clone();
                config.insert(TABLES.to_owned(), names.join(","));
                config
            })
            .collect())
    }

    async fn stop(&mut self) {
        if let Some(Running { monitor: Some(monitor), .. }) = self.running.take() {
            monitor.abort();
            // Aborted or done: either way it holds nothing any more.
            let _ = monitor.await;
        }
    }

    fn exactly_once_support(&self, config: &ConfigMap) -> ExactlyOnceSupport {
        // Without a column that numbers the rows, those that share a timestamp share their offset; bulk has none at all.
        match config.get("mode").map(|mode| mode.trim()) {
            Some("incrementing" | "timestamp+incrementing") => ExactlyOnceSupport::Supported,
            _ => ExactlyOnceSupport::Unsupported,
        }
    }

    async fn alter_offsets(
        &self,
        _config: &ConfigMap,
        offsets: &[(OffsetMap, Option<OffsetMap>)],
    ) -> Result<bool> {
        for (partition, offset) in offsets {
            if !partition.contains_key("table") && !partition.contains_key("query") {
                return Err(Error::connect(
                    "a partition must hold the key 'table' (and 'protocol': \"1\") or the key 'query'",
                ));
            }
            for (key, value) in offset.iter().flatten() {
                if !["incrementing", "timestamp", "timestamp_nanos"].contains(&key.as_str())
                    || !value.is_i64()
                {
                    return Err(Error::connect(format!(
                        "{key}={value} is not part of an offset; it holds the whole numbers 'incrementing', 'timestamp' \
                         (milliseconds) and 'timestamp_nanos'"
                    )));
                }
            }
        }
        Ok(true)
    }
}

/// Connects, and looks at each table's columns.
async fn check(settings: &Settings) -> Result<()> {
    let dialect = settings.dialect()?;
    let at_url = |e: DbError| Error::config(CONNECTION_URL, "[hidden]", e.message);
    let mut session = dialect.connect().await.map_err(at_url)?;
    if let Some(query) = &settings.query {
        let columns =
            session.describe(query).await.map_err(|e| Error::config("query", "[set]", e.message))?;
        return settings
            .criteria(&Source::Query(query.clone()), &columns)
            .map(drop)
            .map_err(|e| Error::config(MODE, "[set]", e.message));
    }
    for table in taken(settings, &*dialect, &mut *session).await.map_err(at_url)? {
        let columns = session.columns(&table).await.map_err(at_url)?;
        check_table(settings, &table, &columns).map_err(|e| Error::config(MODE, "[set]", e.message))?;
    }
    Ok(())
}

async fn list(settings: &Settings, dialect: &Arc<dyn Dialect>) -> Result<Vec<TableId>> {
    let mut session = dialect.connect().await?;
    Ok(taken(settings, &**dialect, &mut *session).await?)
}

async fn taken(
    settings: &Settings,
    dialect: &dyn Dialect,
    session: &mut dyn Session,
) -> Result<Vec<TableId>, DbError> {
    let mut tables = session
        .tables(&settings.scope)
        .await
        .map_err(|e| e.during(format_args!("listing the tables of {}", dialect.place())))?;
    tables.retain(|table| settings.filter.takes(table, dialect.quote()));
    Ok(tables)
}

/// Looks at the tables every so often, and asks for other tasks when they have changed.
async fn watch(
    context: ConnectorContext,
    settings: Arc<Settings>,
    dialect: Arc<dyn Dialect>,
    known: Arc<parking_lot::Mutex<Option<Vec<TableId>>>>,
) {
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(settings.table_poll_interval) => {}
        }
        match list(&settings, &dialect).await {
            Ok(tables) => {
                let changed = known.lock().as_ref().is_some_and(|known| *known != tables);
                if changed {
                    tracing::info!(connector = %context.name, tables = tables.len(), "the tables have changed");
                    context.events.request_task_reconfiguration();
                }
            }
            Err(error) => tracing::warn!(connector = %context.name, %error, "cannot look for new tables"),
        }
    }
}

/// Two tables of one name would share a topic.
fn refuse_same_topics(tables: &[TableId]) -> Result<()> {
    for (i, table) in tables.iter().enumerate() {
        if let Some(other) = tables[..i].iter().find(|other| other.name == table.name) {
            return Err(Error::connect(format!(
                "the tables {other} and {table} would share a topic, which is named after the table alone; leave one out with \
                 table.include.list, schema.pattern or catalog.pattern, and read it with a connector of its own"
            )));
        }
    }
    Ok(())
}

/// At most `most` groups of neighbours, sizes as equal as can be.
fn groups(tables: &[TableId], most: usize) -> impl Iterator<Item = &[TableId]> {
    let count = most.clamp(1, tables.len().max(1));
    let (size, longer) = (tables.len() / count, tables.len() % count);
    let mut rest = tables;
    (0..count).map_while(move |i| {
        let (group, behind) = rest.split_at(size + usize::from(i < longer));
        rest = behind;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(count: usize) -> Vec<TableId> {
        (0..count).map(|i| TableId { catalog: None, schema: None, name: format!("t{i}") }).collect()
    }

    #[test]
    fn tables_are_divided_evenly() {
        for (count, most, sizes) in [(5, 2, vec![3, 2]), (2, 5, vec![1, 1]), (0, 3, vec![]), (3, 1, vec![3])]
        {
            let tables = tables(count);
            let got: Vec<usize> = groups(&tables, most).map(<[_]>::len).collect();
            assert_eq!(got, sizes);
        }
    }

    #[test]
    fn tables_that_would_share_a_topic_are_refused() {
        let mut tables = tables(2);
        assert!(refuse_same_topics(&tables).is_ok());
        tables.push(TableId { catalog: None, schema: Some("other".into()), name: "t0".into() });
        assert!(refuse_same_topics(&tables).is_err());
    }
}
