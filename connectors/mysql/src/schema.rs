//! The schemas of a table's records, and rows put into them.

use std::sync::Arc;

use aqueduct_connect_api::{Error, Result, Schema, SchemaAndValue, SchemaRef, Struct, Type, Value};
use bytestring::ByteString;

use crate::config::{OnFailure, Settings};
use crate::envelope::SourceSchemas;
use crate::table::{Kind, Table};
use crate::value::Raw;
use crate::value::charset::Charset;
use crate::value::convert::Codec;

/// A table with all that its records need.
#[derive(Debug)]
pub struct TableSchema {
    pub table: Table,
    pub topic: ByteString,
    pub envelope: SchemaRef,
    key: Option<SchemaRef>,
    key_columns: Vec<usize>,
    value: SchemaRef,
    value_columns: Vec<usize>,
    /// One for each column; `None` where it is in neither key nor value.
    codecs: Vec<Option<Codec>>,
    on_failure: OnFailure,
}

/// A row's values, one for each column of the table; those that are not captured are null.
pub type Row = Vec<Value>;

impl TableSchema {
    /// # Errors
    /// A captured column of a type that has no form.
    pub fn new(table: Table, settings: &Settings, shared: &SourceSchemas) -> Result<Self> {
        let topic = topic_name(&format!("{}.{}", settings.prefix, table.id));
        let key_columns = settings.filters.key_of(&table);
        let value_columns: Vec<usize> = (0..table.columns.len())
            .filter(|i| settings.filters.captures_column(&table.id, &table.columns[*i].name))
            .collect();
        let mut codecs = Vec::with_capacity(table.columns.len());
        for (index, column) in table.columns.iter().enumerate() {
            if !value_columns.contains(&index) && !key_columns.contains(&index) {
                codecs.push(None);
                continue;
            }
            let codec = Codec::new(column, settings.modes).ok_or_else(|| {
                Error::connect(format!(
                    "column {}.{} has type {}, which this connector cannot read: leave it out with column.exclude.list",
                    table.id, column.name, column.type_name
                ))
            })?;
            codecs.push(Some(codec));
        }
        let build = |columns: &[usize], suffix: &str| {
            let start = Schema::builder(Type::Struct).name(format!("{topic}.{suffix}"));
            columns.iter().fold(start, |b, i| match &codecs[*i] {
                Some(codec) => b.field(table.columns[*i].name.clone(), codec.schema().clone()),
                None => b,
            })
        };
        let value = build(&value_columns, "Value").optional().build();
        let key = (!key_columns.is_empty()).then(|| build(&key_columns, "Key").build());
        let optional = |kind| Schema::builder(kind).optional().build();
        let envelope = Schema::builder(Type::Struct)
            .name(format!("{topic}.Envelope"))
            .version(2)
            .field("before", value.clone())
            .field("after", value.clone())
            .field("source", shared.source.clone())
            .field("transaction", shared.transaction.clone())
            .field("op", Schema::builder(Type::String).build())
            .field("ts_ms", optional(Type::Int64))
            .field("ts_us", optional(Type::Int64))
            .field("ts_ns", optional(Type::Int64))
            .build();
        let on_failure = settings.on_converting_failure;
        Ok(Self { table, topic, envelope, key, key_columns, value, value_columns, codecs, on_failure })
    }

    /// Converts a row.
    ///
    /// # Errors
    /// A value that its column cannot hold, where the settings say to fail.
    pub fn convert(&self, raws: &[Raw<'_>]) -> Result<Row> {
        let mut row = Vec::with_capacity(self.codecs.len());
        for (index, codec) in self.codecs.iter().enumerate() {
            let raw = raws.get(index).unwrap_or(&Raw::Null);
            row.push(match codec {
                None => Value::Null,
                Some(codec) => match codec.convert(raw) {
                    Ok(value) => value,
                    Err(why) => self.failed(index, &why)?,
                },
            });
        }
        Ok(row)
    }

    fn failed(&self, index: usize, why: &str) -> Result<Value> {
        let column = &self.table.columns[index];
        let place = format!("{}.{}", self.table.id, column.name);
        // Text must not become null because of its encoding.
        let unreadable = matches!(&column.kind, Kind::Text(Charset::Other(_)));
        match self.on_failure {
            _ if unreadable => {
                return Err(Error::data(format!(
                    "column {place} ({}): {why}; convert it to utf8mb4, or leave it out with column.exclude.list",
                    column.type_name
                )));
            }
            OnFailure::Fail => {
                return Err(Error::data(format!(
                    "column {place} ({}): {why}; leave the column out with column.exclude.list, or set \
                     event.converting.failure.handling.mode=warn to send null",
                    column.type_name
                )));
            }
            OnFailure::Warn => tracing::warn!(column = place, why, "value cannot be converted: null is sent"),
            OnFailure::Skip => {}
        }
        if column.optional {
            return Ok(Value::Null);
        }
        Err(Error::data(format!("column {place} ({}): {why}; null is not allowed in it", column.type_name)))
    }

    pub fn key(&self, row: &Row) -> SchemaAndValue {
        match &self.key {
            None => SchemaAndValue::NULL,
            Some(schema) => {
                let values = self.key_columns.iter().map(|i| row[*i].clone()).collect();
                SchemaAndValue::new(
                    Some(Arc::clone(schema)),
                    Struct::from_values(Arc::clone(schema), values).into(),
                )
            }
        }
    }

    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Whether both rows have the same key.
    pub fn same_key(&self, a: &Row, b: &Row) -> bool {
        self.key_columns.iter().all(|i| a[*i] == b[*i])
    }

    /// Whether both rows are equal in all that is captured.
    pub fn same_value(&self, a: &Row, b: &Row) -> bool {
        self.value_columns.iter().all(|i| a[*i] == b[*i])
    }

    pub fn value(&self, mut row: Row) -> Value {
        let values = if self.value_columns.len() == row.len() {
            row
        } else {
            self.value_columns.iter().map(|i| std::mem::take(&mut row[*i])).collect()
        };
        Struct::from_values(Arc::clone(&self.value), values).into()
    }
}

/// A topic's name: what may not stand in one becomes an underscore.
pub fn topic_name(text: &str) -> ByteString {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().map(|c| if legal(c) { c } else { '_' }).collect::<String>().into()
}
