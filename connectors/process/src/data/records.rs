//! Records in both directions. Schemas stand once in a message and records name them by their place in its list.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_connect_api::{
    Error, Header, OffsetMap, Record, Result, SchemaAndValue, SchemaRef, SinkRecord, SourceRecord,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode::{tagged, typed};
use super::encode::{write_tagged, write_text, write_typed};
use super::schema::{read_schema, write_schema};

/// Schemas that are remembered from message to message.
const REMEMBERED: usize = 1000;

/// Records for a sink, in pieces that fit a message.
#[derive(Default)]
pub struct RecordWriter {
    /// Text of schemas, by address; the reference beside it keeps the address theirs.
    known: HashMap<usize, (SchemaRef, Arc<[u8]>)>,
}

/// A message's worth of records.
#[derive(Debug)]
pub struct SinkChunk {
    /// How many records.
    pub count: usize,
    /// Members `schemas` and `records` of the message, without braces around them.
    pub members: Vec<u8>,
}

/// The schemas of one message.
#[derive(Default)]
struct Listed {
    places: HashMap<usize, usize>,
    text: Vec<u8>,
}

impl RecordWriter {
    /// As many records from the front of `records` as fit `limit` bytes, but one at least.
    ///
    /// # Errors
    /// `Error::Data` that names the record which cannot be written, or is larger than `most` bytes.
    pub fn chunk(&mut self, records: &[SinkRecord], limit: usize, most: usize) -> Result<SinkChunk> {
        let mut listed = Listed::default();
        let mut text = Vec::new();
        let mut count = 0;
        for record in records {
            let before = text.len();
            if count > 0 {
                text.push(b',');
            }
            self.write(&mut text, &mut listed, record).map_err(|e| at(record, e))?;
            let size = text.len() + listed.text.len();
            if size > limit && count > 0 {
                // The record goes into the next message; a schema too many in this one's list does no harm.
                text.truncate(before);
                break;
            }
            if size > most {
                let why = format!(
                    "takes {size} bytes in a message to the plugin, the limit is {most}; raise aqueduct.plugin.frame.max.bytes"
                );
                return Err(at(record, Error::data(why)));
            }
            count += 1;
        }
        let mut members = Vec::with_capacity(text.len() + listed.text.len() + 32);
        members.extend_from_slice(b"\"schemas\":[");
        members.append(&mut listed.text);
        members.extend_from_slice(b"],\"records\":[");
        members.append(&mut text);
        members.push(b']');
        Ok(SinkChunk { count, members })
    }

    fn place(&mut self, listed: &mut Listed, schema: &SchemaRef) -> Result<usize> {
        let address = Arc::as_ptr(schema) as usize;
        if let Some(place) = listed.places.get(&address) {
            return Ok(*place);
        }
        let text = match self.known.get(&address) {
            Some((_, text)) => text.clone(),
            None => {
                let mut text = Vec::new();
                write_schema(&mut text, schema)?;
                let text: Arc<[u8]> = text.into();
                if self.known.len() >= REMEMBERED {
                    self.known.clear();
                }
                self.known.insert(address, (schema.clone(), text.clone()));
                text
            }
        };
        let place = listed.places.len();
        if place > 0 {
            listed.text.push(b',');
        }
        listed.text.extend_from_slice(&text);
        listed.places.insert(address, place);
        Ok(place)
    }

    fn data(
        &mut self,
        out: &mut Vec<u8>,
        listed: &mut Listed,
        name: &str,
        data: &SchemaAndValue,
    ) -> Result<()> {
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
        let Some(schema) = &data.schema else { return write_tagged(out, &data.value) };
        write_typed(out, schema, &data.value)?;
        let place = self.place(listed, schema)?;
        let separator = if name == "value" { "value_schema" } else { "key_schema" };
        out.extend_from_slice(format!(",\"{separator}\":{place}").as_bytes());
        Ok(())
    }

    fn write(&mut self, out: &mut Vec<u8>, listed: &mut Listed, sink: &SinkRecord) -> Result<()> {
        let record = &sink.record;
        out.extend_from_slice(b"{\"topic\":");
        write_text(out, &record.topic);
        if let Some(partition) = record.partition {
            out.extend_from_slice(format!(",\"partition\":{partition}").as_bytes());
        }
        out.extend_from_slice(format!(",\"offset\":{}", sink.offset).as_bytes());
        if let Some(timestamp) = record.timestamp {
            let kind = sink.timestamp_type.name();
            out.extend_from_slice(
                format!(",\"timestamp\":{timestamp},\"timestamp_type\":\"{kind}\"").as_bytes(),
            );
        }
        out.extend_from_slice(b",\"original_topic\":");
        write_text(out, &sink.original_topic);
        out.extend_from_slice(format!(",\"original_partition\":{},", sink.original_partition).as_bytes());
        self.data(out, listed, "key", &record.key)?;
        out.push(b',');
        self.data(out, listed, "value", &record.value)?;
        if !record.headers.is_empty() {
            out.extend_from_slice(b",\"headers\":[");
            for (index, header) in record.headers.iter().enumerate() {
                out.extend_from_slice(if index == 0 { b"{\"key\":" } else { b",{\"key\":" });
                write_text(out, &header.key);
                out.push(b',');
                self.data(out, listed, "value", &header.value)?;
                out.push(b'}');
            }
            out.push(b']');
        }
        out.push(b'}');
        Ok(())
    }
}

fn at(record: &SinkRecord, error: Error) -> Error {
    let SinkRecord { original_topic, original_partition, offset, .. } = record;
    Error::data(format!("record {original_topic}-{original_partition}@{offset} {error}"))
}

/// Records of a source.
#[derive(Default)]
pub struct RecordReader {
    known: HashMap<Box<str>, SchemaRef>,
    /// The partition and the offset of the record before, which the next one mostly shares.
    last: Option<(Box<str>, Arc<OffsetMap>)>,
}

#[derive(Deserialize)]
struct Polled<'a> {
    #[serde(borrow, default)]
    schemas: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    records: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Written<'a> {
    topic: String,
    partition: Option<i32>,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    key_schema: Option<usize>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    value_schema: Option<usize>,
    #[serde(borrow, default)]
    headers: Vec<WrittenHeader<'a>>,
    timestamp: Option<i64>,
    #[serde(borrow)]
    source_partition: &'a RawValue,
    #[serde(borrow)]
    source_offset: &'a RawValue,
}

#[derive(Deserialize)]
struct WrittenHeader<'a> {
    key: String,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    value_schema: Option<usize>,
}

impl RecordReader {
    /// Records out of the answer to a poll: its members `schemas` and `records`.
    ///
    /// # Errors
    /// `Error::Data` that names the record by its place in the list.
    pub fn read(&mut self, text: &str, most: usize) -> Result<Vec<SourceRecord>> {
        let polled: Polled<'_> =
            serde_json::from_str(text).map_err(|e| Error::data(format!("the answer is wrong: {e}")))?;
        if polled.records.len() > most {
            return Err(Error::data(format!(
                "{} records came in one answer, the limit is {most}",
                polled.records.len()
            )));
        }
        let mut schemas = Vec::with_capacity(polled.schemas.len());
        for (place, text) in polled.schemas.iter().enumerate() {
            let schema = self.schema(text.get());
            schemas.push(schema.map_err(|e| Error::data(format!("schemas[{place}]: {e}")))?);
        }
        let mut records = Vec::with_capacity(polled.records.len());
        for (place, text) in polled.records.iter().enumerate() {
            let record = self.record(&schemas, text.get());
            records.push(record.map_err(|e| Error::data(format!("records[{place}]: {e}")))?);
        }
        Ok(records)
    }

    fn schema(&mut self, text: &str) -> Result<SchemaRef> {
        if let Some(schema) = self.known.get(text) {
            return Ok(schema.clone());
        }
        let schema = read_schema(text)?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(text.into(), schema.clone());
        Ok(schema)
    }

    fn record(&mut self, schemas: &[SchemaRef], text: &str) -> Result<SourceRecord> {
        let written: Written<'_> = serde_json::from_str(text).map_err(|e| Error::data(e.to_string()))?;
        if written.topic.is_empty() {
            return Err(Error::data("the topic is empty"));
        }
        let mut headers = Vec::with_capacity(written.headers.len());
        for header in &written.headers {
            let value = data(schemas, header.value, header.value_schema)
                .map_err(|e| Error::data(format!("header {}: {e}", header.key)))?;
            headers.push(Header { key: header.key.as_str().into(), value });
        }
        let side = |name: &str, value, schema| {
            data(schemas, value, schema).map_err(|e| Error::data(format!("{name}: {e}")))
        };
        Ok(SourceRecord {
            record: Record {
                topic: written.topic.into(),
                partition: written.partition,
                key: side("key", written.key, written.key_schema)?,
                value: side("value", written.value, written.value_schema)?,
                headers,
                timestamp: written.timestamp,
                offset: None,
            },
            source_partition: self.partition(written.source_partition)?,
            source_offset: offset_map("source_offset", written.source_offset.get())?.into(),
        })
    }

    fn partition(&mut self, text: &RawValue) -> Result<Arc<OffsetMap>> {
        if let Some((_, partition)) = self.last.as_ref().filter(|(known, _)| **known == *text.get()) {
            return Ok(partition.clone());
        }
        let partition = Arc::new(offset_map("source_partition", text.get())?);
        self.last = Some((text.get().into(), partition.clone()));
        Ok(partition)
    }
}

fn data(schemas: &[SchemaRef], text: Option<&RawValue>, place: Option<usize>) -> Result<SchemaAndValue> {
    let text = text.map_or("null", RawValue::get);
    let Some(place) = place else { return Ok(SchemaAndValue::schemaless(tagged(text)?)) };
    let schema = schemas.get(place).ok_or_else(|| {
        Error::data(format!("schema {place} is named, the list \"schemas\" has {}", schemas.len()))
    })?;
    Ok(SchemaAndValue::new(Some(schema.clone()), typed(schema, text)?))
}

/// A source partition or offset: an object of primitive values.
///
/// # Errors
/// `Error::Data` where it is something else.
pub(crate) fn offset_map(name: &str, text: &str) -> Result<OffsetMap> {
    let map: OffsetMap = serde_json::from_str(text)
        .map_err(|e| Error::data(format!("{name} is not an object of primitive values: {e}")))?;
    match map.iter().find(|(_, value)| value.is_array() || value.is_object()) {
        Some((key, _)) => Err(Error::data(format!("{name}: the member \"{key}\" is not a primitive value"))),
        None => Ok(map),
    }
}
