//! Which schema the rows of an event have.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_connect_api::Error;
use mysql_async::Conn;

use crate::binlog::table_map::TableMap;
use crate::config::{OnFailure, Settings};
use crate::envelope::SourceSchemas;
use crate::fault::Fault;
use crate::schema::TableSchema;
use crate::server::{self, Facts};
use crate::table::{Table, TableId, mapped};
use crate::value::charset::Collations;

type Result<T> = std::result::Result<T, Fault>;

/// Definitions of the captured tables, as of the place in the binlog that is being read.
pub struct Tables {
    settings: Arc<Settings>,
    schemas: SourceSchemas,
    facts: Facts,
    collations: Collations,
    known: HashMap<TableId, Known>,
    conn: Option<Conn>,
}

/// What an event of a table looked like, and the schema that was made of it; `None` where its rows are left out.
type Seen = (Arc<[u8]>, Option<Arc<TableSchema>>);

#[derive(Default)]
struct Known {
    /// From the catalogue; `None` where it has not been asked since the last change.
    declared: Option<Table>,
    /// The last event.
    current: Option<Seen>,
}

impl Tables {
    pub fn new(
        settings: Arc<Settings>,
        schemas: SourceSchemas,
        facts: Facts,
        collations: Collations,
    ) -> Self {
        Self { settings, schemas, facts, collations, known: HashMap::new(), conn: None }
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes over what a snapshot has read of the catalogue.
    pub fn learn(&mut self, table: Table) {
        self.known.insert(table.id.clone(), Known { declared: Some(table), current: None });
    }

    /// The definition of a table has changed, or may have.
    pub fn forget(&mut self, id: &TableId) {
        self.known.remove(id);
    }

    pub fn forget_database(&mut self, database: &str) {
        self.known.retain(|id, _| id.database != *database);
    }

    /// The table as the catalogue has it now.
    pub async fn declared(&mut self, id: &TableId) -> Result<Option<Table>> {
        if let Some(table) = self.known.get(id).and_then(|k| k.declared.clone()) {
            return Ok(Some(table));
        }
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => server::connect(&self.settings).await?,
        };
        // Given back only when the question was answered: a broken connection is dropped.
        let table = server::table(&mut conn, &self.settings, &self.facts, id).await?;
        self.conn = Some(conn);
        self.known.entry(id.clone()).or_default().declared.clone_from(&table);
        Ok(table)
    }

    /// A schema made of the catalogue alone, for changes that come without rows.
    pub async fn schema(&mut self, id: &TableId) -> Result<Option<Arc<TableSchema>>> {
        if let Some((_, Some(schema))) = self.known.get(id).and_then(|k| k.current.as_ref()) {
            return Ok(Some(Arc::clone(schema)));
        }
        Ok(match self.declared(id).await? {
            Some(table) => Some(Arc::new(TableSchema::new(table, &self.settings, &self.schemas)?)),
            None => None,
        })
    }

    /// The schema for rows of `map`, which was met at `place`; `None` where its rows are to be left out.
    pub async fn resolve(&mut self, map: &TableMap, place: &str) -> Result<Option<Arc<TableSchema>>> {
        let id = TableId::new(&map.database, &map.table);
        let current = self.known.get(&id).and_then(|k| k.current.as_ref());
        if let Some((_, schema)) = current.filter(|(seen, _)| *seen == map.fingerprint) {
            return Ok(schema.clone());
        }
        let changed = current.is_some();
        if changed {
            self.forget(&id);
        }
        let mut declared = self.declared(&id).await?;
        if declared.as_ref().is_some_and(|t| !mapped::fits(t, map)) && !changed {
            // what is known may be older than the event
            self.forget(&id);
            declared = self.declared(&id).await?;
        }
        let table = match declared {
            Some(table) if mapped::fits(&table, map) => Some(table),
            other => mapped::table_of(map, &self.collations, other.as_ref()),
        };
        let schema = match table {
            Some(table) => Some(Arc::new(TableSchema::new(table, &self.settings, &self.schemas)?)),
            None => self.unknown(&id, map, place)?,
        };
        self.known.entry(id).or_default().current = Some((Arc::clone(&map.fingerprint), schema.clone()));
        Ok(schema)
    }

    fn unknown(&self, id: &TableId, map: &TableMap, place: &str) -> Result<Option<Arc<TableSchema>>> {
        let now = match self.known.get(id).and_then(|k| k.declared.as_ref()) {
            Some(table) => format!("now has {} columns or other types", table.columns.len()),
            None => "no longer exists".to_owned(),
        };
        let why = format!(
            "table {id} had {} columns when the event at {place} was written and {now}: its definition of then is not \
             known. Set binlog_row_metadata=FULL on the server, so that events carry it; to go on behind this event, \
             set inconsistent.schema.handling.mode=warn, or reset the offsets for a new snapshot",
            map.columns.len()
        );
        match self.settings.on_schema_failure {
            OnFailure::Fail => Err(Fault::Fatal(Error::connect(why))),
            OnFailure::Warn => {
                tracing::warn!(table = %id, place, why, "rows are left out");
                Ok(None)
            }
            OnFailure::Skip => Ok(None),
        }
    }
}
