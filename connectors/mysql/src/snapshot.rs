//! The snapshot: all rows of the captured tables as of one position of the binlog.
//!
//! The position is stored before the first row goes out, and each row's offset says how far the snapshot is. A snapshot
//! that was cut off goes on where it was, in a newer view of the tables, and the binlog is read from the *first*
//! position afterwards: whatever changed in between, deletes included, comes from there.

use std::sync::Arc;

use aqueduct_connect_api::{Error, OffsetStore};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::clock::now_nanos;
use crate::config::{Flavor, LockingMode, Settings};
use crate::envelope::{Change, Envelopes, SnapshotMark, SourceInfo, Stamp};
use crate::fault::{Fault, explain};
use crate::offset::{Offset, SnapshotProgress, Stored};
use crate::output::Output;
use crate::schema::{Row, TableSchema};
use crate::schema_change::{ChangeKind, SchemaChanges, TableChange};
use crate::server::{self, Facts, Position, position, rows, run, text};
use crate::table::{Kind, Table, TableId, quote};
use crate::tables::Tables;
use crate::value::{CivilDate, CivilTime, Raw};

type Result<T> = std::result::Result<T, Fault>;

/// What a snapshot works with.
pub struct Snapshot<'a> {
    pub settings: &'a Arc<Settings>,
    pub facts: &'a Facts,
    pub envelopes: &'a Envelopes,
    pub changes: &'a SchemaChanges,
    pub offsets: &'a dyn OffsetStore,
    pub tables: &'a mut Tables,
    pub output: &'a mut Output,
    /// Whether rows are read, or definitions only.
    pub with_rows: bool,
    /// Whether a row has gone out.
    pub any_row: bool,
}

/// A statement that makes a definition, for the topic of schema changes.
struct Statement<'a> {
    database: String,
    ddl: String,
    change: Option<(ChangeKind, &'a Table)>,
}

/// A row that waits until it is known whether it is the last one.
struct Held {
    schema: Arc<TableSchema>,
    row: Row,
    info: SourceInfo,
    progress: SnapshotProgress,
    bytes: usize,
}

impl Snapshot<'_> {
    /// Runs to the end, or goes on with `offset` where that is of an unfinished snapshot. Afterwards `offset` is where
    /// the binlog has to be read from.
    pub async fn run(&mut self, offset: &mut Option<Offset>) -> Result<()> {
        let mut reader = server::connect(self.settings).await?;
        let mut locker = server::connect(self.settings).await?;
        let captured = server::captured_tables(&mut reader, self.settings).await?;
        let (position, locked) = self.open(&mut reader, &mut locker, &captured).await?;
        let resumed = offset.as_ref().and_then(|o| o.snapshot.clone());
        let now = now_nanos() / 1000;
        let seconds = rows(&mut reader, self.settings, "SELECT UNIX_TIMESTAMP()").await?;
        let seconds =
            seconds.first().and_then(|r| text(r, 0)).and_then(|t| t.parse().ok()).unwrap_or(now / 1_000_000);
        if resumed.is_none() {
            let stored = Stored {
                file: position.file.clone(),
                position: position.position,
                ts_sec: Some(seconds),
                snapshot: Some(SnapshotProgress::default()),
                ..Stored::default()
            };
            *offset = Some(Offset::new(&stored, position.gtids.clone()));
        }
        let at =
            offset.as_mut().ok_or_else(|| Fault::Fatal(Error::connect("snapshot without a position")))?;
        tracing::info!(
            server = self.settings.address(),
            file = position.file,
            position = position.position,
            tables = captured.len(),
            resumed = resumed.is_some(),
            "snapshot started"
        );
        let mut definitions = Vec::with_capacity(captured.len());
        for id in &captured {
            if let Some(table) = server::table(&mut reader, self.settings, self.facts, id).await? {
                definitions.push(table);
            }
        }
        let statements = if self.settings.schema_changes && resumed.as_ref().is_none_or(|p| p.table.is_none())
        {
            self.statements(&mut reader, &definitions).await?
        } else {
            Vec::new()
        };
        // Nothing below may wait for the worker while writers wait for the lock.
        if locked && self.settings.locking != LockingMode::Extended {
            run(&mut locker, self.settings, "UNLOCK TABLES").await?;
        }
        if resumed.is_none() {
            self.offsets.store(&self.envelopes.partition, &at.to_map()).await?;
        }
        for statement in &statements {
            self.send_statement(statement, at).await?;
        }
        let progress = resumed.filter(|p| p.filters == self.settings.filters.fingerprint);
        let held = if self.with_rows {
            self.read_tables(&mut reader, definitions.clone(), at, progress.unwrap_or_default(), seconds)
                .await?
        } else {
            None
        };
        for table in definitions {
            self.tables.learn(table);
        }
        self.finish(held, at).await?;
        run(&mut reader, self.settings, "ROLLBACK").await?;
        if locked && self.settings.locking == LockingMode::Extended {
            run(&mut locker, self.settings, "UNLOCK TABLES").await?;
        }
        tracing::info!(server = self.settings.address(), "snapshot finished");
        Ok(())
    }

    /// Opens a consistent view on `reader` and finds its position. Tells whether `locker` holds locks.
    async fn open(
        &self,
        reader: &mut Conn,
        locker: &mut Conn,
        tables: &[TableId],
    ) -> Result<(Position, bool)> {
        let settings = self.settings;
        run(reader, settings, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        let limits = match self.settings.flavor {
            Flavor::MySql if !self.facts.mariadb => "SET SESSION max_execution_time = 0",
            _ => "SET SESSION max_statement_time = 0",
        };
        // Old servers have no limit to lift.
        let _ = reader.query_drop(limits).await;
        const VIEW: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
        if settings.locking == LockingMode::None {
            // The position first: what is committed between the two comes twice, but nothing is missed.
            let position = position(reader, settings, self.facts).await?;
            run(reader, settings, VIEW).await?;
            return Ok((position, false));
        }
        let seconds = settings.lock_timeout.as_secs().max(1);
        run(locker, settings, &format!("SET SESSION lock_wait_timeout = {seconds}")).await?;
        match locker.query_drop("FLUSH TABLES WITH READ LOCK").await {
            Ok(()) => {}
            Err(mysql_async::Error::Server(e)) if matches!(e.code, 1044 | 1045 | 1227) => {
                tracing::info!(error = e.message, "no global read lock: locking each table");
                if !tables.is_empty() {
                    let list: Vec<String> = tables.iter().map(|t| format!("{} READ", t.quoted())).collect();
                    run(locker, settings, &format!("LOCK TABLES {}", list.join(", "))).await?;
                }
            }
            Err(mysql_async::Error::Server(e)) if e.code == 1205 => {
                return Err(Fault::Lost(Error::retriable(format!(
                    "the read lock for the snapshot was not granted within snapshot.lock.timeout.ms={}: a long \
                     statement or transaction holds it up; let it finish, or set snapshot.locking.mode=none",
                    settings.lock_timeout.as_millis()
                ))));
            }
            Err(e) => return Err(explain(settings, "FLUSH TABLES WITH READ LOCK", e)),
        }
        run(reader, settings, VIEW).await?;
        Ok((position(locker, settings, self.facts).await?, true))
    }

    /// The statements that would make all tables.
    async fn statements<'t>(&self, conn: &mut Conn, tables: &'t [Table]) -> Result<Vec<Statement<'t>>> {
        let settings = self.settings;
        let variable = |name| self.facts.variable(name);
        let set = format!(
            "SET character_set_server={}, collation_server={}",
            variable("character_set_server"),
            variable("collation_server")
        );
        let mut statements = vec![Statement { database: String::new(), ddl: set, change: None }];
        for table in tables {
            let ddl = format!("DROP TABLE IF EXISTS {}", table.id.quoted());
            let database = table.id.database.to_string();
            statements.push(Statement { database, ddl, change: Some((ChangeKind::Drop, table)) });
        }
        let mut last = None;
        for table in tables {
            let name = &table.id.database;
            if last != Some(name) {
                last = Some(name);
                let quoted = quote(name);
                let sql = format!(
                    "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA \
                     WHERE SCHEMA_NAME = '{}'",
                    name.replace('\\', "\\\\").replace('\'', "''")
                );
                let found = rows(conn, settings, &sql).await?;
                let locale = found.first().and_then(|r| Some((text(r, 0)?, text(r, 1)?)));
                let create = match locale {
                    Some((charset, collation)) => {
                        format!("CREATE DATABASE {quoted} CHARSET {charset} COLLATE {collation}")
                    }
                    None => format!("CREATE DATABASE {quoted}"),
                };
                for ddl in [format!("DROP DATABASE IF EXISTS {quoted}"), create, format!("USE {quoted}")] {
                    statements.push(Statement { database: name.to_string(), ddl, change: None });
                }
            }
            let what = format!("TABLE {}", table.id.quoted());
            if let Some(ddl) = server::show_create(conn, settings, &what).await? {
                let database = name.to_string();
                statements.push(Statement { database, ddl, change: Some((ChangeKind::Create, table)) });
            }
        }
        Ok(statements)
    }

    async fn send_statement(&mut self, statement: &Statement<'_>, offset: &Offset) -> Result<()> {
        let now = now_nanos();
        let Statement { database, ddl, change } = statement;
        let info = SourceInfo {
            table: change.map(|(_, t)| t.id.table.clone()),
            ..source_info(offset, SnapshotMark::True, database, now / 1000)
        };
        let changes: Vec<TableChange> = change
            .map(|(kind, t)| TableChange { kind, id: t.id.clone(), table: Some(t.clone()) })
            .into_iter()
            .collect();
        let (key, value) = self.changes.record(self.envelopes.source(&info), database, ddl, &changes, now);
        let record = self.envelopes.schema_change(key, value, &Arc::new(offset.to_map()));
        self.output.batch().push(record);
        self.output.added(ddl.len() + 1024);
        if self.output.is_full() {
            self.output.flush().await?;
        }
        Ok(())
    }

    /// Reads the rows of all tables from `progress` on; gives back the last row, which has not been sent.
    async fn read_tables(
        &mut self,
        conn: &mut Conn,
        tables: Vec<Table>,
        offset: &mut Offset,
        progress: SnapshotProgress,
        seconds: i64,
    ) -> Result<Option<Held>> {
        let mut held: Option<Held> = None;
        for table in tables {
            let name = table.id.to_string();
            if !self.settings.filters.snapshots(&table.id)
                || progress.table.as_ref().is_some_and(|t| name < *t)
            {
                continue;
            }
            let from = progress.key.clone().filter(|_| progress.table.as_ref() == Some(&name));
            let schema = Arc::new(TableSchema::new(table, self.settings, &self.envelopes.schemas)?);
            self.read_table(conn, &schema, offset, from, seconds, &mut held).await?;
        }
        Ok(held)
    }

    async fn read_table(
        &mut self,
        conn: &mut Conn,
        schema: &Arc<TableSchema>,
        offset: &mut Offset,
        from: Option<String>,
        seconds: i64,
        held: &mut Option<Held>,
    ) -> Result<()> {
        let settings = Arc::clone(self.settings);
        let table = &schema.table;
        let resume = resume_column(table);
        let sql = select(table, resume, from.as_deref());
        let doing = format!("reading table {}", table.id);
        let fault = |e| explain(&settings, &doing, e);
        let mut result = conn.exec_iter(sql, ()).await.map_err(fault)?;
        let mut progress = SnapshotProgress {
            table: Some(table.id.to_string()),
            key: from,
            filters: settings.filters.fingerprint,
        };
        let mut first = true;
        while let Some(row) = result.next().await.map_err(fault)? {
            let raws: Vec<Raw<'_>> =
                table.columns.iter().enumerate().map(|(i, c)| raw(row.as_ref(i), &c.kind)).collect();
            if let Some(column) = resume {
                progress.key = match &raws[column] {
                    Raw::Int(n) => Some(n.to_string()),
                    Raw::UInt(n) => Some(n.to_string()),
                    _ => None,
                };
            }
            let bytes = raws.iter().map(weight).sum();
            let values = schema.convert(&raws)?;
            let mark = match first {
                true if !self.any_row => SnapshotMark::First,
                true => SnapshotMark::FirstInTable,
                false => SnapshotMark::True,
            };
            self.any_row = true;
            if let Some(mut before) = held.take() {
                if first && before.info.snapshot != SnapshotMark::First {
                    before.info.snapshot = SnapshotMark::LastInTable;
                }
                self.send(before, offset).await?;
            }
            let info = SourceInfo {
                table: Some(table.id.table.clone()),
                ..source_info(offset, mark, &table.id.database, seconds * 1_000_000)
            };
            *held = Some(Held {
                schema: Arc::clone(schema),
                row: values,
                info,
                progress: progress.clone(),
                bytes,
            });
            first = false;
        }
        result.drop_result().await.map_err(fault)
    }

    async fn send(&mut self, held: Held, offset: &mut Offset) -> Result<()> {
        offset.snapshot = Some(held.progress);
        let map = Arc::new(offset.to_map());
        let out = self.output.batch();
        self.envelopes.push(out, &held.schema, Change::Read(held.row), &held.info, Stamp::now(&map));
        self.output.added(held.bytes);
        if self.output.is_full() {
            self.output.flush().await?;
        }
        Ok(())
    }

    /// Sends the last row with the offset of a finished snapshot.
    async fn finish(&mut self, held: Option<Held>, offset: &mut Offset) -> Result<()> {
        offset.snapshot = None;
        let map = Arc::new(offset.to_map());
        if let Some(mut held) = held {
            held.info.snapshot = SnapshotMark::Last;
            let out = self.output.batch();
            self.envelopes.push(out, &held.schema, Change::Read(held.row), &held.info, Stamp::now(&map));
        } else if let Some(record) = self.output.batch().last_mut() {
            record.source_offset = map.into();
        } else if !self.output.sent_any {
            // No record carries the end: nothing can be in flight that it would overtake.
            self.offsets.store(&self.envelopes.partition, &map).await?;
        }
        Ok(self.output.flush().await?)
    }
}

fn source_info(offset: &Offset, snapshot: SnapshotMark, database: &str, micros: i64) -> SourceInfo {
    SourceInfo {
        micros,
        snapshot,
        database: database.into(),
        table: None,
        server_id: 0,
        gtid: None,
        file: offset.file.as_str().into(),
        position: offset.position,
        row: 0,
        thread: None,
    }
}

/// The column by which reading a table can be resumed: a key that is one integer.
fn resume_column(table: &Table) -> Option<usize> {
    let &[column] = &table.primary_key[..] else { return None };
    let kind = &table.columns[column].kind;
    matches!(kind, Kind::TinyInt | Kind::SmallInt | Kind::MediumInt | Kind::Int | Kind::BigInt)
        .then_some(column)
}

fn select(table: &Table, resume: Option<usize>, from: Option<&str>) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| if c.kind == Kind::Unsupported { "NULL".to_owned() } else { quote(&c.name) })
        .collect();
    let mut sql = format!("SELECT {} FROM {}", columns.join(", "), table.id.quoted());
    if let Some(column) = resume {
        let key = quote(&table.columns[column].name);
        if let Some(from) = from.filter(|f| f.parse::<i128>().is_ok()) {
            sql.push_str(&format!(" WHERE {key} > {from}"));
        }
        sql.push_str(&format!(" ORDER BY {key}"));
    }
    sql
}

/// A value of a result set.
fn raw<'a>(value: Option<&'a mysql_async::Value>, kind: &Kind) -> Raw<'a> {
    use mysql_async::Value;
    match value {
        None | Some(Value::NULL) => Raw::Null,
        Some(Value::Bytes(bytes)) => match kind {
            Kind::Bit(_) | Kind::Binary { .. } | Kind::Point | Kind::Geometry | Kind::Vector => {
                Raw::Bytes(bytes)
            }
            _ => Raw::Utf8(bytes),
        },
        Some(Value::Int(n)) => Raw::Int(*n),
        Some(Value::UInt(n)) => Raw::UInt(*n),
        Some(Value::Float(v)) => Raw::Float(*v),
        Some(Value::Double(v)) => Raw::Double(*v),
        Some(&Value::Date(year, month, day, hour, minute, second, micros)) => {
            let date = CivilDate { year: year.into(), month, day };
            match kind {
                Kind::Date => Raw::Date(date),
                _ => Raw::DateTime(date, CivilTime { hour, minute, second, micros }),
            }
        }
        Some(&Value::Time(negative, days, hours, minutes, seconds, micros)) => {
            let hours = i64::from(days) * 24 + i64::from(hours);
            let all =
                (hours * 3600 + i64::from(minutes) * 60 + i64::from(seconds)) * 1_000_000 + i64::from(micros);
            Raw::Time(if negative { -all } else { all })
        }
    }
}

/// About what a value takes.
fn weight(raw: &Raw<'_>) -> usize {
    match raw {
        Raw::Bytes(b) | Raw::Utf8(b) | Raw::Json(b) => b.len() + 32,
        _ => 32,
    }
}
