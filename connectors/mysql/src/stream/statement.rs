//! Statements in the binlog: borders of transactions, and changes of definitions.

use std::sync::Arc;

use super::{Result, Stream};
use crate::binlog::event::Query;
use crate::clock::now_nanos;
use crate::ddl::Ddl;
use crate::envelope::{Change, Stamp};
use crate::schema_change::{ChangeKind, TableChange};
use crate::table::TableId;

impl Stream<'_> {
    pub(super) async fn statement(&mut self, query: &Query) -> Result<()> {
        let sql = query.sql.trim();
        let is = |word: &str| sql.eq_ignore_ascii_case(word);
        let starts = |word: &str| sql.get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word));
        if is("BEGIN") || starts("XA START") {
            if !self.offset.in_transaction() {
                self.begin();
            }
            self.offset.thread = Some(query.thread);
            return Ok(());
        }
        if is("COMMIT") || is("ROLLBACK") {
            self.commit();
            return Ok(());
        }
        if starts("XA END") || starts("SAVEPOINT") || starts("ROLLBACK TO") {
            return Ok(());
        }
        if !self.skip.skips_event() {
            self.definition(query, sql).await?;
        }
        if self.standalone || !self.offset.in_transaction() {
            self.commit();
        }
        Ok(())
    }

    async fn definition(&mut self, query: &Query, sql: &str) -> Result<()> {
        let ddl = Ddl::parse(sql, &query.database);
        if let Ddl::Truncate(id) = &ddl {
            return self.truncate(id).await;
        }
        for id in ddl.tables() {
            self.tables.forget(id);
        }
        let captures = |id: &&TableId| self.settings.filters.captures(id);
        let one = |kind, id: &TableId| vec![(kind, id.clone())];
        let changed: Vec<(ChangeKind, TableId)> = match &ddl {
            Ddl::CreateTable(id) => one(ChangeKind::Create, id),
            Ddl::AlterTable(id) => one(ChangeKind::Alter, id),
            Ddl::RenameTables(pairs) => {
                pairs.iter().map(|(_, new)| (ChangeKind::Alter, new.clone())).collect()
            }
            Ddl::DropTables(ids) => ids.iter().map(|id| (ChangeKind::Drop, id.clone())).collect(),
            Ddl::CreateDatabase(name) | Ddl::AlterDatabase(name) | Ddl::DropDatabase(name) => {
                self.tables.forget_database(name);
                if self.settings.filters.captures_database(name) {
                    self.send_definition(&name.clone(), sql, &[]).await?;
                }
                return Ok(());
            }
            Ddl::Truncate(_) | Ddl::Other => return Ok(()),
        };
        let concerned = ddl.tables().iter().any(captures);
        if !concerned || !self.settings.schema_changes {
            return Ok(());
        }
        let mut changes = Vec::with_capacity(changed.len());
        for (kind, id) in changed.into_iter().filter(|(_, id)| self.settings.filters.captures(id)) {
            let table = if kind == ChangeKind::Drop { None } else { self.tables.declared(&id).await? };
            changes.push(TableChange { kind, id, table });
        }
        let database = changes.first().map_or_else(|| query.database.clone(), |c| c.id.database.to_string());
        self.send_definition(&database, sql, &changes).await
    }

    async fn send_definition(&mut self, database: &str, sql: &str, changes: &[TableChange]) -> Result<()> {
        if !self.settings.schema_changes {
            return Ok(());
        }
        let now = now_nanos();
        self.offset.ts_sec = Some(self.micros.div_euclid(1_000_000));
        let mut info = self.source_info(database, None);
        let names: Vec<&str> = changes.iter().map(|c| &*c.id.table).collect();
        info.table = (!names.is_empty()).then(|| names.join(",").into());
        let (key, value) = self.changes.record(self.envelopes.source(&info), database, sql, changes, now);
        let record = self.envelopes.schema_change(key, value, &Arc::new(self.offset.to_map()));
        self.output.batch().push(record);
        self.output.added(sql.len() + 1024);
        self.last_record = tokio::time::Instant::now();
        Ok(())
    }

    async fn truncate(&mut self, id: &TableId) -> Result<()> {
        if self.settings.skipped.truncate || !self.settings.filters.captures(id) {
            return Ok(());
        }
        let Some(schema) = self.tables.schema(id).await? else { return Ok(()) };
        self.offset.ts_sec = Some(self.micros.div_euclid(1_000_000));
        let info = self.source_info(&id.database, Some(id));
        let map = Arc::new(self.offset.to_map());
        self.envelopes.push(self.output.batch(), &schema, Change::Truncate, &info, Stamp::now(&map));
        self.output.added(1024);
        self.last_record = tokio::time::Instant::now();
        Ok(())
    }
}
