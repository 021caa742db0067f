//! The binlog, event by event, turned into records.

mod connection;
mod statement;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::Error;
use futures_util::{FutureExt as _, StreamExt as _};
use mysql_async::BinlogStream;
use tokio::time::Instant;

use crate::binlog::event::{self, Gtid, MariaDbGtid, Query, Rotate, RowsKind, rows_kind};
use crate::binlog::reader::Malformed;
use crate::binlog::row::{RowsHeader, is_full_image, read_row};
use crate::binlog::table_map::TableMap;
use crate::clock::now_nanos;
use crate::config::{OnFailure, Settings};
use crate::envelope::{Change, Envelopes, SnapshotMark, SourceInfo, Stamp};
use crate::fault::{Fault, explain, malformed};
use crate::offset::{Offset, Skip};
use crate::output::Output;
use crate::schema::TableSchema;
use crate::schema_change::SchemaChanges;
use crate::table::TableId;
use crate::tables::Tables;
use crate::value::Raw;

type Result<T> = std::result::Result<T, Fault>;

/// The server sends a sign of life this often when it has nothing to say.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// A connection that has been silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Reads the binlog from `offset` on.
pub struct Stream<'a> {
    pub settings: &'a Arc<Settings>,
    pub envelopes: &'a Envelopes,
    pub changes: &'a SchemaChanges,
    pub tables: &'a mut Tables,
    pub output: &'a mut Output,
    pub offset: &'a mut Offset,
    skip: Skip,
    maps: HashMap<u64, Mapped>,
    /// Microseconds since 1970 at which the current transaction was committed.
    micros: i64,
    /// The statement to come is a transaction of its own.
    standalone: bool,
    last_record: Instant,
    /// Whether this connection has brought anything.
    pub progressed: bool,
}

/// A table map that rows may refer to.
struct Mapped {
    map: TableMap,
    /// `None` where the rows are left out.
    schema: Option<Arc<TableSchema>>,
}

/// An event out of the stream.
struct Event<'e> {
    kind: u8,
    seconds: u32,
    server_id: u32,
    size: u32,
    /// Where the next event starts; 0 within a compressed transaction and for what the server makes up.
    next: u32,
    body: &'e [u8],
}

/// An event's header as it came.
fn header_bytes(header: &mysql_async::binlog::events::BinlogEventHeader) -> [u8; 19] {
    let mut bytes = [0; 19];
    bytes[..4].copy_from_slice(&header.timestamp().to_le_bytes());
    bytes[4] = header.event_type_raw();
    bytes[5..9].copy_from_slice(&header.server_id().to_le_bytes());
    bytes[9..13].copy_from_slice(&header.event_size().to_le_bytes());
    bytes[13..17].copy_from_slice(&header.log_pos().to_le_bytes());
    bytes[17..].copy_from_slice(&header.flags_raw().to_le_bytes());
    bytes
}

impl<'a> Stream<'a> {
    pub fn new(
        settings: &'a Arc<Settings>,
        envelopes: &'a Envelopes,
        changes: &'a SchemaChanges,
        tables: &'a mut Tables,
        output: &'a mut Output,
        offset: &'a mut Offset,
    ) -> Self {
        Self {
            settings,
            envelopes,
            changes,
            tables,
            output,
            offset,
            skip: Skip::default(),
            maps: HashMap::new(),
            micros: 0,
            standalone: false,
            last_record: Instant::now(),
            progressed: false,
        }
    }

    /// Reads until the connection is lost or something else is wrong; it ends in no other way.
    pub async fn run(&mut self) -> Fault {
        let Err(fault) = self.read().await;
        // What is complete goes out, so that a new connection need not bring it again.
        if let Err(e) = self.output.flush().await {
            return e.into();
        }
        fault
    }

    async fn read(&mut self) -> Result<std::convert::Infallible> {
        let restart = self.offset.restart();
        let mut binlog = connection::open(self.settings, self.tables.facts(), &restart, SIGN_OF_LIFE).await?;
        tracing::info!(
            server = self.settings.address(),
            file = restart.file,
            position = restart.position,
            gtids = restart.gtids,
            "reading the binlog"
        );
        self.output.notice.clear();
        self.skip = Skip::new(&restart);
        self.offset.restarted();
        self.last_record = Instant::now();
        let mut described = false;
        loop {
            let event = self.next(&mut binlog).await?;
            let header = event.header();
            let mut body = event.data();
            if header.event_type_raw() == event::FORMAT_DESCRIPTION {
                described = true;
            } else if !described {
                // Until the format is described, nobody has taken the checksum off.
                body = event::without_checksum(&header_bytes(&header), body);
            }
            let parts = Event {
                kind: header.event_type_raw(),
                seconds: header.timestamp(),
                server_id: header.server_id(),
                size: header.event_size(),
                next: header.log_pos(),
                body,
            };
            self.handle(&parts).await?;
            self.heartbeat().await?;
        }
    }

    /// The next event; while there is none, what has been made goes out.
    async fn next(&mut self, binlog: &mut BinlogStream) -> Result<mysql_async::binlog::events::Event> {
        let ended = || {
            Fault::Lost(Error::retriable(format!("{} has ended the binlog stream", self.settings.address())))
        };
        let settings = Arc::clone(self.settings);
        let fault = |e| explain(&settings, "reading the binlog", e);
        if self.output.is_full() {
            self.output.flush().await?;
        }
        if let Some(ready) = binlog.next().now_or_never() {
            return ready.ok_or_else(ended)?.map_err(fault);
        }
        if !self.output.is_empty() {
            self.output.flush().await?;
        }
        let silent = Instant::now() + SILENCE;
        loop {
            let wake = match self.settings.heartbeat {
                Some(interval) => silent.min(self.last_record + interval),
                None => silent,
            };
            match tokio::time::timeout_at(wake, binlog.next()).await {
                Ok(Some(event)) => return event.map_err(fault),
                Ok(None) => {
                    return Err(Fault::Lost(Error::retriable(format!(
                        "{} has ended the binlog stream",
                        self.settings.address()
                    ))));
                }
                Err(_) if Instant::now() >= silent => {
                    return Err(Fault::Lost(Error::retriable(format!(
                        "{} has been silent for {} s",
                        self.settings.address(),
                        SILENCE.as_secs()
                    ))));
                }
                Err(_) => {
                    self.heartbeat().await?;
                    self.output.flush().await?;
                }
            }
        }
    }

    /// Sends the current offset, where it is time.
    async fn heartbeat(&mut self) -> Result<()> {
        let Some(interval) = self.settings.heartbeat else { return Ok(()) };
        // Amid a restart the offset is behind what is stored already.
        if self.last_record.elapsed() < interval || self.skip.is_pending() {
            return Ok(());
        }
        let record = self.envelopes.heartbeat(&Arc::new(self.offset.to_map()), now_nanos());
        self.output.batch().push(record);
        self.output.added(256);
        self.last_record = Instant::now();
        if self.output.is_full() {
            self.output.flush().await?;
        }
        Ok(())
    }

    async fn handle(&mut self, event: &Event<'_>) -> Result<()> {
        if event.server_id != 0 {
            self.offset.server_id = event.server_id;
        }
        if event.seconds != 0 && !self.has_commit_time() {
            self.micros = i64::from(event.seconds) * 1_000_000;
        }
        if event.next > event.size && event.kind != event::ROTATE {
            let start = u64::from(event.next - event.size);
            self.offset.start_event(start, event.size.into(), self.skip.is_pending());
        }
        match self.dispatch(event).await {
            Err(Fault::Fatal(error)) if self.settings.on_processing_failure != OnFailure::Fail => {
                if self.settings.on_processing_failure == OnFailure::Warn {
                    tracing::warn!(place = self.place(), error = %error, "event is left out");
                }
            }
            other => other?,
        }
        self.offset.end_event();
        self.skip.end_event();
        Ok(())
    }

    /// Whether the transaction's id carries the time of its commit, which is finer than that of its events.
    fn has_commit_time(&self) -> bool {
        !self.tables.facts().mariadb && self.micros % 1_000_000 != 0 && self.offset.gtid.is_some()
    }

    fn place(&self) -> String {
        format!("{}:{}", self.offset.file, self.offset.position)
    }

    fn malformed(&self, what: &str) -> impl Fn(Malformed) -> Fault + use<> {
        let place = self.place();
        let what = what.to_owned();
        move |e| malformed(&what, &place, &e)
    }

    async fn dispatch(&mut self, event: &Event<'_>) -> Result<()> {
        match event.kind {
            event::HEARTBEAT | event::HEARTBEAT_V2 => {}
            event::ROTATE => {
                let rotate = Rotate::parse(event.body).map_err(self.malformed("ROTATE event"))?;
                self.offset.rotate(&rotate.file, rotate.position, self.skip.is_pending());
                if event.next != 0 {
                    self.maps.clear();
                }
            }
            event::QUERY => {
                self.progressed = true;
                let query = Query::parse(event.body).map_err(self.malformed("QUERY event"))?;
                self.statement(&query).await?;
            }
            event::GTID => {
                let gtid = Gtid::parse(event.body).map_err(self.malformed("GTID event"))?;
                self.micros = if gtid.committed_micros == 0 {
                    i64::from(event.seconds) * 1_000_000
                } else {
                    gtid.committed_micros as i64
                };
                let text = format!("{}:{}", gtid.source, gtid.number);
                self.offset.start_gtid(text, |set| set.add_mysql(&gtid.source, gtid.number));
            }
            event::TAGGED_GTID => {
                // Such sets cannot be asked for: file and position do from here on.
                self.offset.start_gtid(String::new(), |_| false);
                self.offset.gtid = None;
            }
            event::ANONYMOUS_GTID => self.offset.gtid = None,
            event::MARIADB_GTID => {
                let gtid = MariaDbGtid::parse(event.body).map_err(self.malformed("GTID event"))?;
                let server = event.server_id;
                let text = format!("{}-{server}-{}", gtid.domain, gtid.number);
                self.offset.start_gtid(text, |set| set.add_mariadb(gtid.domain, server, gtid.number));
                self.standalone = gtid.standalone;
                self.begin();
            }
            event::XID | event::XA_PREPARE => self.commit(),
            event::TABLE_MAP => {
                let map = TableMap::parse(event.body, self.tables.facts().mariadb)
                    .map_err(self.malformed("TABLE_MAP event"))?;
                let id = TableId::new(&map.database, &map.table);
                let schema = if self.settings.filters.captures(&id) {
                    self.tables.resolve(&map, &self.place()).await?
                } else {
                    None
                };
                self.maps.insert(map.table_id, Mapped { map, schema });
            }
            event::INCIDENT => {
                return Err(Fault::Fatal(Error::connect(format!(
                    "the server reports lost events at {}: its binlog has a gap; reset the offsets for a new snapshot",
                    self.place()
                ))));
            }
            event::PARTIAL_UPDATE_ROWS => {
                return Err(Fault::Fatal(Error::connect(format!(
                    "the event at {} carries JSON in part only: SET GLOBAL binlog_row_value_options=''",
                    self.place()
                ))));
            }
            event::MARIADB_QUERY_COMPRESSED => return Err(self.compressed()),
            kind => {
                if let Some((rows, has_extra, compressed)) = rows_kind(kind) {
                    self.progressed = true;
                    if compressed {
                        return Err(self.compressed());
                    }
                    if !self.skip.skips_event() {
                        self.rows(rows, has_extra, event.body).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn compressed(&self) -> Fault {
        Fault::Fatal(Error::connect(format!(
            "the event at {} is compressed, which cannot be read: SET GLOBAL log_bin_compress=OFF",
            self.place()
        )))
    }

    fn begin(&mut self) {
        self.offset.begin();
        self.skip.begin();
    }

    fn commit(&mut self) {
        self.offset.commit();
        self.skip.commit();
        self.standalone = false;
    }

    async fn rows(&mut self, kind: RowsKind, has_extra: bool, body: &[u8]) -> Result<()> {
        let fault = self.malformed("rows event");
        let header = RowsHeader::parse(kind, has_extra, body).map_err(&fault)?;
        let done = self.skip.take_rows();
        let Some(Mapped { map, schema }) = self.maps.get(&header.table_id) else {
            return Err(fault(Malformed(format!("no table map for table {}", header.table_id))));
        };
        let skipped = self.settings.skipped;
        let skips = match kind {
            RowsKind::Write => skipped.create,
            RowsKind::Update => skipped.update,
            RowsKind::Delete => skipped.delete,
        };
        let Some(schema) = schema.as_ref().filter(|_| !skips).map(Arc::clone) else { return Ok(()) };
        if header.columns != map.columns.len()
            || !is_full_image(header.first, header.columns)
            || !is_full_image(header.second, header.columns)
        {
            return Err(Fault::Fatal(Error::connect(format!(
                "rows of table {} at {} are not whole: SET GLOBAL binlog_row_image=FULL, and set it in the server's \
                 configuration; sessions that were open before keep what they had",
                schema.table.id,
                self.place()
            ))));
        }
        let columns = map.columns.clone();
        let unsigned = |i: usize| schema.table.columns[i].unsigned;
        self.offset.ts_sec = Some(self.micros.div_euclid(1_000_000));
        let mut info = self.source_info(&schema.table.id.database, Some(&schema.table.id));
        let mut rows = header.rows;
        let mut row: Vec<Raw<'_>> = Vec::with_capacity(columns.len());
        let mut index = 0;
        while !rows.is_empty() {
            let before_len = rows.0.len();
            read_row(&mut rows, &columns, unsigned, &mut row).map_err(&fault)?;
            let wanted = index as u64 >= done;
            let first = if wanted { Some(schema.convert(&row)?) } else { None };
            let second = if kind == RowsKind::Update {
                read_row(&mut rows, &columns, unsigned, &mut row).map_err(&fault)?;
                if wanted { Some(schema.convert(&row)?) } else { None }
            } else {
                None
            };
            if rows.0.len() == before_len {
                return Err(fault(Malformed("a row of no bytes".to_owned())));
            }
            let change = match (kind, first, second) {
                (_, None, _) => None,
                (RowsKind::Write, Some(row), _) => Some(Change::Create(row)),
                (RowsKind::Delete, Some(row), _) => Some(Change::Delete(row)),
                (RowsKind::Update, Some(before), Some(after)) => Some(Change::Update(before, after)),
                (RowsKind::Update, Some(_), None) => None,
            };
            index += 1;
            let Some(change) = change else {
                self.offset.row(index - 1);
                continue;
            };
            let several = self.envelopes.is_several(&schema, &change);
            let previous = several.then(|| Arc::new(self.offset.to_map()));
            self.offset.row(index - 1);
            info.row = index as i32 - 1;
            let map = Arc::new(self.offset.to_map());
            let stamp = Stamp { previous: previous.as_ref().unwrap_or(&map), offset: &map, now: now_nanos() };
            self.envelopes.push(self.output.batch(), &schema, change, &info, stamp);
            self.output.added(2 * (before_len - rows.0.len()) + 512);
            self.last_record = Instant::now();
            if self.output.is_full() {
                self.output.flush().await?;
            }
        }
        self.offset.rows_done();
        Ok(())
    }

    fn source_info(&self, database: &str, table: Option<&TableId>) -> SourceInfo {
        SourceInfo {
            micros: self.micros,
            snapshot: SnapshotMark::False,
            database: database.into(),
            table: table.map(|t| t.table.clone()),
            server_id: self.offset.server_id,
            gtid: self.offset.gtid.as_deref().map(Into::into),
            file: self.offset.file.as_str().into(),
            position: self.offset.position,
            row: 0,
            thread: self.offset.thread,
        }
    }
}
