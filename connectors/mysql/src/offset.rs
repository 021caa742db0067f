//! Where reading stands, in the reference's terms: an offset points to the start of a transaction and says how many of
//! its events, and of the rows of the next one, are done.

use std::sync::Arc;

use aqueduct_connect_api::{Error, OffsetMap, Result};
use serde_json::Value;

use crate::gtid::GtidSet;

/// Progress of a snapshot, beside the position at which it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// The table being read, as `database.table`; the ones before it in order are done.
    pub table: Option<String>,
    /// The last key that was read of it, where it can be resumed.
    pub key: Option<String>,
    /// Fingerprint of the filters under which this holds.
    pub filters: u32,
}

/// Keys of this connector in an offset beside the reference's.
const SNAPSHOT_TABLE: &str = "snapshot_table";
const SNAPSHOT_KEY: &str = "snapshot_key";
const SNAPSHOT_FILTERS: &str = "snapshot_filters";

/// A stored offset, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub file: String,
    pub position: u64,
    pub gtids: Option<String>,
    pub events_to_skip: u64,
    pub rows_to_skip: u64,
    pub ts_sec: Option<i64>,
    /// Set while the snapshot that was opened at this position is unfinished.
    pub snapshot: Option<SnapshotProgress>,
}

impl Stored {
    /// # Errors
    /// An offset without `file`, or with one of the wrong type.
    pub fn read(map: &OffsetMap) -> Result<Self> {
        let number = |key: &str| match map.get(key) {
            None | Some(Value::Null) => Ok(0),
            Some(v) => v
                .as_u64()
                .or_else(|| v.as_str()?.parse().ok())
                .ok_or_else(|| Error::connect(format!("stored offset has {key}={v}: a number is expected"))),
        };
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let flag = |key: &str| match map.get(key) {
            Some(Value::Bool(b)) => *b,
            Some(Value::String(s)) => s != "false",
            _ => false,
        };
        let unfinished = flag("snapshot") && !flag("snapshot_completed");
        Ok(Self {
            file: text("file").ok_or_else(|| {
                Error::connect(
                    "stored offset has no \"file\": reset the connector's offsets to take a new snapshot",
                )
            })?,
            position: number("pos")?,
            gtids: text("gtids").filter(|g| !g.trim().is_empty()),
            events_to_skip: number("event")?,
            rows_to_skip: number("row")?,
            ts_sec: map.get("ts_sec").and_then(Value::as_i64),
            snapshot: unfinished.then(|| SnapshotProgress {
                table: text(SNAPSHOT_TABLE),
                key: text(SNAPSHOT_KEY),
                filters: number(SNAPSHOT_FILTERS).unwrap_or(0) as u32,
            }),
        })
    }
}

/// The partition under which the offsets of `prefix` are stored.
pub fn partition(prefix: &str) -> Arc<OffsetMap> {
    let mut map = OffsetMap::new();
    map.insert("server".to_owned(), prefix.into());
    Arc::new(map)
}

/// Follows the binlog event by event.
#[derive(Clone, Debug)]
pub struct Offset {
    /// The event being handled.
    pub file: String,
    pub position: u64,
    pub row: i32,
    pub gtid: Option<String>,
    pub server_id: u32,
    pub thread: Option<u32>,
    pub ts_sec: Option<i64>,
    event_length: u64,
    in_transaction: bool,
    /// Kept only where reading started from a known set: a partial one would bring back the past.
    current_gtids: Option<GtidSet>,
    restart_gtids: Option<String>,
    restart_file: String,
    restart_position: u64,
    restart_events: u64,
    restart_rows: u64,
    /// Set while a snapshot runs.
    pub snapshot: Option<SnapshotProgress>,
}

impl Offset {
    pub fn new(stored: &Stored, gtids: Option<GtidSet>) -> Self {
        Self {
            file: stored.file.clone(),
            position: stored.position,
            row: 0,
            gtid: None,
            server_id: 0,
            thread: None,
            ts_sec: stored.ts_sec,
            event_length: 0,
            in_transaction: false,
            restart_gtids: gtids.as_ref().map(GtidSet::to_string),
            current_gtids: gtids,
            restart_file: stored.file.clone(),
            restart_position: stored.position,
            restart_events: stored.events_to_skip,
            restart_rows: stored.rows_to_skip,
            snapshot: stored.snapshot.clone(),
        }
    }

    /// The offset to store with a record that is sent now.
    pub fn to_map(&self) -> OffsetMap {
        let mut map = OffsetMap::new();
        if let Some(ts) = self.ts_sec {
            map.insert("ts_sec".to_owned(), ts.into());
        }
        map.insert("file".to_owned(), self.restart_file.as_str().into());
        map.insert("pos".to_owned(), self.restart_position.into());
        if let Some(gtids) = self.restart_gtids.as_ref().filter(|g| !g.is_empty()) {
            map.insert("gtids".to_owned(), gtids.as_str().into());
        }
        if self.restart_rows != 0 {
            map.insert("row".to_owned(), self.restart_rows.into());
        }
        if self.server_id != 0 {
            map.insert("server_id".to_owned(), self.server_id.into());
        }
        if self.restart_events != 0 {
            map.insert("event".to_owned(), self.restart_events.into());
        }
        if let Some(progress) = &self.snapshot {
            map.insert("snapshot".to_owned(), "INITIAL".into());
            if let Some(table) = &progress.table {
                map.insert(SNAPSHOT_TABLE.to_owned(), table.as_str().into());
                map.insert(SNAPSHOT_FILTERS.to_owned(), progress.filters.into());
            }
            if let Some(key) = &progress.key {
                map.insert(SNAPSHOT_KEY.to_owned(), key.as_str().into());
            }
        }
        map
    }

    /// Where a new connection has to start.
    pub fn restart(&self) -> Restart {
        Restart {
            file: self.restart_file.clone(),
            position: self.restart_position,
            gtids: self.restart_gtids.clone(),
            events_to_skip: self.restart_events,
            rows_to_skip: self.restart_rows,
        }
    }

    /// A new connection has been asked for [`Offset::restart`]: what was seen of an unfinished transaction is seen again.
    pub fn restarted(&mut self) {
        self.in_transaction = false;
        self.file.clone_from(&self.restart_file);
        self.position = self.restart_position;
        self.event_length = 0;
        self.gtid = None;
        self.thread = None;
        if self.current_gtids.is_some() {
            self.current_gtids = self.restart_gtids.as_deref().and_then(|text| GtidSet::parse(text).ok());
        }
    }

    /// The log goes on in another file. `resuming` as for [`Offset::start_event`].
    pub fn rotate(&mut self, file: &str, position: u64, resuming: bool) {
        self.file = file.to_owned();
        self.position = position;
        if resuming {
            return;
        }
        self.restart_file = file.to_owned();
        self.restart_position = position;
        self.restart_events = 0;
        self.restart_rows = 0;
    }

    /// An event that starts at `position` is being handled. While `resuming`, what was done before a restart has not been
    /// met again yet, and the place to restart from stays.
    pub fn start_event(&mut self, position: u64, length: u64, resuming: bool) {
        self.position = position;
        self.event_length = length;
        if !self.in_transaction && !resuming {
            self.restart_position = position + length;
            self.restart_rows = 0;
            self.restart_events = 0;
        }
    }

    /// The id of the transaction to come.
    pub fn start_gtid(&mut self, gtid: String, add: impl FnOnce(&mut GtidSet) -> bool) {
        if let Some(set) = &mut self.current_gtids {
            self.restart_gtids = Some(set.to_string());
            if !add(set) {
                self.current_gtids = None;
                self.restart_gtids = None;
            }
        }
        self.gtid = Some(gtid);
    }

    /// The event being handled opens a transaction: a restart has to begin with it.
    pub fn begin(&mut self) {
        self.restart_rows = 0;
        self.restart_events = 0;
        self.restart_file.clone_from(&self.file);
        self.restart_position = self.position;
        self.in_transaction = true;
    }

    /// The event being handled ends a transaction, or is a statement that is one by itself.
    pub fn commit(&mut self) {
        self.restart_gtids = self.current_gtids.as_ref().map(GtidSet::to_string);
        self.restart_file.clone_from(&self.file);
        self.restart_position = self.position + self.event_length;
        self.restart_rows = 0;
        self.restart_events = 0;
        self.in_transaction = false;
        self.thread = None;
    }

    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Row `index` of `count` in the event being handled is being sent.
    pub fn row(&mut self, index: usize) {
        self.row = index as i32;
        self.restart_rows = index as u64 + 1;
    }

    /// All rows of the event being handled are sent.
    pub fn rows_done(&mut self) {
        self.restart_rows = 0;
    }

    /// The event has been handled.
    pub fn end_event(&mut self) {
        if self.in_transaction {
            self.restart_events += 1;
        }
    }
}

/// Where to start reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub file: String,
    pub position: u64,
    pub gtids: Option<String>,
    pub events_to_skip: u64,
    pub rows_to_skip: u64,
}

/// Skips what a restart sees again, from the first transaction's start on.
#[derive(Clone, Debug, Default)]
pub struct Skip {
    pending: u64,
    rows: u64,
    active: bool,
}

impl Skip {
    pub fn new(restart: &Restart) -> Self {
        Self { pending: restart.events_to_skip, rows: restart.rows_to_skip, active: false }
    }

    /// A transaction starts.
    pub fn begin(&mut self) {
        self.active = self.pending > 0;
    }

    /// Whether the transaction to resume in has not come yet, or is being skipped.
    pub fn is_pending(&self) -> bool {
        self.pending > 0 || self.rows > 0
    }

    /// Whether the event being handled is done already.
    pub fn skips_event(&self) -> bool {
        self.active
    }

    /// How many rows of the event being handled are done; asked once for each rows event that is not skipped.
    pub fn take_rows(&mut self) -> u64 {
        std::mem::take(&mut self.rows)
    }

    /// The event has been handled or skipped.
    pub fn end_event(&mut self) {
        if self.active {
            self.pending -= 1;
            self.active = self.pending > 0;
        }
    }

    /// A transaction ends: nothing behind it has been seen.
    pub fn commit(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(json: serde_json::Value) -> Result<Stored> {
        let Value::Object(map) = json else { panic!("an object is wanted") };
        Stored::read(&map)
    }

    fn fresh() -> Offset {
        let stored = Stored { file: "binlog.000001".to_owned(), position: 100, ..Stored::default() };
        Offset::new(&stored, GtidSet::parse("0-1-5").ok())
    }

    /// One transaction of MariaDB: id, table map, a rows event of three rows, commit.
    fn transaction(offset: &mut Offset, skip: &mut Skip, seen: &mut Vec<(usize, OffsetMap)>) {
        let mut at = 100;
        for event in ["gtid", "map", "rows", "commit"] {
            offset.start_event(at, 10, skip.is_pending());
            match event {
                "gtid" => {
                    offset.start_gtid("0-1-6".to_owned(), |set| set.add_mariadb(0, 1, 6));
                    offset.begin();
                    skip.begin();
                }
                "rows" if !skip.skips_event() => {
                    for row in skip.take_rows() as usize..3 {
                        offset.row(row);
                        seen.push((row, offset.to_map()));
                    }
                    offset.rows_done();
                }
                "commit" => {
                    offset.commit();
                    skip.commit();
                }
                _ => {}
            }
            offset.end_event();
            skip.end_event();
            at += 10;
        }
    }

    #[test]
    fn a_restart_resumes_behind_any_row() {
        let mut seen = Vec::new();
        transaction(&mut fresh(), &mut Skip::default(), &mut seen);
        assert_eq!(seen.len(), 3);
        assert_eq!(
            serde_json::to_string(&seen[1].1).unwrap(),
            r#"{"file":"binlog.000001","pos":100,"gtids":"0-1-5","row":2,"event":2}"#
        );
        for (row, map) in &seen {
            let stored = Stored::read(map).unwrap();
            let mut offset = Offset::new(&stored, GtidSet::parse(stored.gtids.as_deref().unwrap()).ok());
            let mut skip = Skip::new(&offset.restart());
            let mut again = Vec::new();
            transaction(&mut offset, &mut skip, &mut again);
            let rows: Vec<usize> = again.iter().map(|(row, _)| *row).collect();
            assert_eq!(rows, (row + 1..3).collect::<Vec<_>>());
            assert_eq!(offset.restart().gtids.as_deref(), Some("0-1-6"));
        }
    }

    #[test]
    fn a_lost_connection_forgets_the_unfinished_transaction() {
        let mut offset = fresh();
        offset.start_event(100, 10, false);
        offset.start_gtid("0-1-6".to_owned(), |set| set.add_mariadb(0, 1, 6));
        offset.begin();
        offset.end_event();
        offset.restarted();
        assert!(!offset.in_transaction());
        assert_eq!(offset.restart().gtids.as_deref(), Some("0-1-5"));
        assert_eq!(offset.restart().position, 100);
    }

    #[test]
    fn reads_what_the_reference_stores() {
        let done = stored(
            serde_json::json!({"ts_sec":1,"file":"b.1","pos":8033,"gtids":"0-1-12","server_id":1,"event":2,"row":1}),
        );
        let done = done.unwrap();
        assert_eq!(
            (done.position, done.events_to_skip, done.rows_to_skip, done.snapshot),
            (8033, 2, 1, None)
        );
        let unfinished = stored(serde_json::json!({"file":"b.1","pos":4,"snapshot":"INITIAL"})).unwrap();
        assert_eq!(unfinished.snapshot, Some(SnapshotProgress::default()));
        let old = stored(serde_json::json!({"file":"b.1","pos":4,"snapshot":true})).unwrap();
        assert!(old.snapshot.is_some());
        assert!(stored(serde_json::json!({"pos":4})).is_err());
        assert!(stored(serde_json::json!({"file":"b.1","pos":[]})).is_err());
    }

    #[test]
    fn progress_of_a_snapshot_comes_back() {
        let mut offset = fresh();
        let progress =
            SnapshotProgress { table: Some("a.b".to_owned()), key: Some("7".to_owned()), filters: 9 };
        offset.snapshot = Some(progress.clone());
        assert_eq!(Stored::read(&offset.to_map()).unwrap().snapshot, Some(progress));
    }
}
