//! Change records.

use std::sync::Arc;

use aqueduct_connect_api::{
    Header, OffsetMap, Record, Schema, SchemaAndValue, SchemaRef, SourceRecord, Struct, Type, Value,
};
use bytestring::ByteString;

use crate::clock::now_nanos;
use crate::config::Settings;
use crate::schema::{Row, TableSchema};

/// Which row of a snapshot a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMark {
    /// None: it is from the binlog.
    False,
    True,
    First,
    FirstInTable,
    LastInTable,
    Last,
}

impl SnapshotMark {
    pub fn text(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::True => "true",
            Self::First => "first",
            Self::FirstInTable => "first_in_data_collection",
            Self::LastInTable => "last_in_data_collection",
            Self::Last => "last",
        }
    }
}

/// Where a change comes from.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// Microseconds since 1970 at which the change was made.
    pub micros: i64,
    pub snapshot: SnapshotMark,
    pub database: ByteString,
    pub table: Option<ByteString>,
    pub server_id: u32,
    pub gtid: Option<ByteString>,
    pub file: ByteString,
    pub position: u64,
    pub row: i32,
    pub thread: Option<u32>,
}

/// Schemas that all tables share.
#[derive(Clone, Debug)]
pub struct SourceSchemas {
    pub source: SchemaRef,
    pub transaction: SchemaRef,
}

impl SourceSchemas {
    pub fn new(settings: &Settings) -> Self {
        let required = |kind| Schema::builder(kind).build();
        let optional = |kind| Schema::builder(kind).optional().build();
        let snapshot = Schema::builder(Type::String)
            .optional()
            .name("io.debezium.data.Enum")
            .version(1)
            .parameter(
                "allowed",
                "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental",
            )
            .default_value("false".into())
            .build();
        let source = Schema::builder(Type::Struct)
            .name(format!("io.debezium.connector.{}.Source", settings.flavor.name()))
            .version(1)
            .field("version", required(Type::String))
            .field("connector", required(Type::String))
            .field("name", required(Type::String))
            .field("ts_ms", required(Type::Int64))
            .field("snapshot", snapshot)
            .field("db", required(Type::String))
            .field("sequence", optional(Type::String))
            .field("ts_us", optional(Type::Int64))
            .field("ts_ns", optional(Type::Int64))
            .field("table", optional(Type::String))
            .field("server_id", required(Type::Int64))
            .field("gtid", optional(Type::String))
            .field("file", required(Type::String))
            .field("pos", required(Type::Int64))
            .field("row", required(Type::Int32))
            .field("thread", optional(Type::Int64))
            .field("query", optional(Type::String))
            .build();
        let transaction = Schema::builder(Type::Struct)
            .optional()
            .name("event.block")
            .version(1)
            .field("id", required(Type::String))
            .field("total_order", required(Type::Int64))
            .field("data_collection_order", required(Type::Int64))
            .build();
        Self { source, transaction }
    }
}

/// What a change did to a row.
#[derive(Clone, Debug)]
pub enum Change {
    Read(Row),
    Create(Row),
    Update(Row, Row),
    Delete(Row),
    Truncate,
}

/// What the records of one change are stamped with.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'s> {
    /// The offset before the change: all records but the last one carry it, so that none is lost where only the first
    /// ones have arrived.
    pub previous: &'s Arc<OffsetMap>,
    /// The offset behind the change.
    pub offset: &'s Arc<OffsetMap>,
    /// Time of processing in nanoseconds since 1970.
    pub now: i64,
}

impl<'s> Stamp<'s> {
    /// For changes of one record.
    pub fn now(offset: &'s Arc<OffsetMap>) -> Self {
        Self { previous: offset, offset, now: now_nanos() }
    }
}

/// Makes records.
#[derive(Clone, Debug)]
pub struct Envelopes {
    pub schemas: SourceSchemas,
    pub partition: Arc<OffsetMap>,
    connector: ByteString,
    name: ByteString,
    version: ByteString,
    tombstones: bool,
    skip_unchanged: bool,
    headers: Vec<Header>,
    heartbeat_topic: ByteString,
    heartbeat_key: SchemaRef,
    heartbeat_value: SchemaRef,
}

impl Envelopes {
    pub fn new(settings: &Settings, task: u32) -> Self {
        let heartbeat = |name: &'static str, field: &'static str, kind| {
            Schema::builder(Type::Struct)
                .name(format!("io.debezium.connector.common.{name}"))
                .version(1)
                .field(field, Schema::builder(kind).build())
                .build()
        };
        let header = |name: &str, value: &str| Header {
            key: format!("__debezium.context.{name}").into(),
            value: SchemaAndValue::new(Some(Schema::builder(Type::String).build()), value.into()),
        };
        let headers = if settings.extended_headers {
            vec![
                header("connectorLogicalName", &settings.prefix),
                header("taskId", &task.to_string()),
                header("connectorName", settings.flavor.name()),
            ]
        } else {
            Vec::new()
        };
        Self {
            schemas: SourceSchemas::new(settings),
            partition: crate::offset::partition(&settings.prefix),
            connector: settings.flavor.name().into(),
            name: settings.prefix.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            tombstones: settings.tombstones,
            skip_unchanged: settings.skip_unchanged,
            headers,
            heartbeat_topic: settings.heartbeat_topic.clone(),
            heartbeat_key: heartbeat("ServerNameKey", "serverName", Type::String),
            heartbeat_value: heartbeat("Heartbeat", "ts_ms", Type::Int64),
        }
    }

    pub fn source(&self, info: &SourceInfo) -> Value {
        let values = vec![
            self.version.clone().into(),
            self.connector.clone().into(),
            self.name.clone().into(),
            info.micros.div_euclid(1000).into(),
            info.snapshot.text().into(),
            info.database.clone().into(),
            Value::Null,
            info.micros.into(),
            info.micros.saturating_mul(1000).into(),
            info.table.clone().into(),
            i64::from(info.server_id).into(),
            info.gtid.clone().into(),
            info.file.clone().into(),
            (info.position as i64).into(),
            info.row.into(),
            info.thread.map(i64::from).into(),
            Value::Null,
        ];
        Struct::from_values(self.schemas.source.clone(), values).into()
    }

    fn record(
        &self,
        topic: &ByteString,
        key: SchemaAndValue,
        value: SchemaAndValue,
        extra: Option<Header>,
        offset: &Arc<OffsetMap>,
    ) -> SourceRecord {
        let headers = extra.into_iter().chain(self.headers.iter().cloned()).collect();
        SourceRecord {
            record: Record { topic: topic.clone(), key, value, headers, ..Record::default() },
            source_partition: self.partition.clone(),
            source_offset: offset.clone().into(),
        }
    }

    fn change(
        &self,
        table: &TableSchema,
        rows: [Option<Row>; 2],
        op: &'static str,
        source: Value,
        now: i64,
    ) -> SchemaAndValue {
        let [before, after] = rows.map(|row| row.map_or(Value::Null, |row| table.value(row)));
        let values = vec![
            before,
            after,
            source,
            Value::Null,
            Value::String(ByteString::from_static(op)),
            (now / 1_000_000).into(),
            (now / 1000).into(),
            now.into(),
        ];
        SchemaAndValue::new(
            Some(table.envelope.clone()),
            Struct::from_values(table.envelope.clone(), values).into(),
        )
    }

    /// Whether [`Envelopes::push`] makes several records of this change.
    pub fn is_several(&self, table: &TableSchema, change: &Change) -> bool {
        match change {
            Change::Delete(_) => self.tombstones && table.has_key(),
            Change::Update(before, after) => !table.same_key(before, after),
            _ => false,
        }
    }

    /// Adds the records of one change to `out`: a delete is followed by its tombstone, an update of the key is a delete
    /// and a create that name each other in headers.
    pub fn push(
        &self,
        out: &mut Vec<SourceRecord>,
        table: &TableSchema,
        change: Change,
        info: &SourceInfo,
        stamp: Stamp<'_>,
    ) {
        let Stamp { previous, offset, now } = stamp;
        let source = self.source(info);
        let topic = &table.topic;
        let one = |rows, op, source| self.change(table, rows, op, source, now);
        match change {
            Change::Read(row) => {
                let key = table.key(&row);
                out.push(self.record(topic, key, one([None, Some(row)], "r", source), None, offset));
            }
            Change::Create(row) => {
                let key = table.key(&row);
                out.push(self.record(topic, key, one([None, Some(row)], "c", source), None, offset));
            }
            Change::Update(before, after) if table.same_key(&before, &after) => {
                if self.skip_unchanged && table.same_value(&before, &after) {
                    return;
                }
                let key = table.key(&after);
                let value = one([Some(before), Some(after)], "u", source);
                out.push(self.record(topic, key, value, None, offset));
            }
            Change::Update(before, after) => {
                let (old, new) = (table.key(&before), table.key(&after));
                let header = |name: &'static str, key: &SchemaAndValue| {
                    Some(Header { key: ByteString::from_static(name), value: key.clone() })
                };
                let value = one([Some(before), None], "d", source.clone());
                out.push(self.record(topic, old.clone(), value, header("__debezium.newkey", &new), previous));
                if self.tombstones {
                    let header = header("__debezium.newkey", &new);
                    out.push(self.record(topic, old.clone(), SchemaAndValue::NULL, header, previous));
                }
                let value = one([None, Some(after)], "c", source);
                let header = header("__debezium.oldkey", &old);
                out.push(self.record(topic, new, value, header, offset));
            }
            Change::Delete(row) => {
                let key = table.key(&row);
                let value = one([Some(row), None], "d", source);
                if self.tombstones && table.has_key() {
                    out.push(self.record(topic, key.clone(), value, None, previous));
                    out.push(self.record(topic, key, SchemaAndValue::NULL, None, offset));
                } else {
                    out.push(self.record(topic, key, value, None, offset));
                }
            }
            Change::Truncate => {
                let value = one([None, None], "t", source);
                out.push(self.record(topic, SchemaAndValue::NULL, value, None, offset));
            }
        }
    }

    /// A record that only carries the offset on.
    pub fn heartbeat(&self, offset: &Arc<OffsetMap>, now: i64) -> SourceRecord {
        let of = |schema: &SchemaRef, value| {
            SchemaAndValue::new(Some(schema.clone()), Struct::from_values(schema.clone(), vec![value]).into())
        };
        let key = of(&self.heartbeat_key, self.name.clone().into());
        let value = of(&self.heartbeat_value, (now / 1_000_000).into());
        self.record(&self.heartbeat_topic, key, value, None, offset)
    }

    /// A record of a change of definitions.
    pub fn schema_change(
        &self,
        key: SchemaAndValue,
        value: SchemaAndValue,
        offset: &Arc<OffsetMap>,
    ) -> SourceRecord {
        self.record(&self.name, key, value, None, offset)
    }
}
