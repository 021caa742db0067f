//! `InsertField`: fields from the record's metadata, or a fixed one.

use aqueduct_connect_api::config::{ConfigType, Importance};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Record, Result, Schema, SchemaAndValue, SchemaRef, Struct,
    Transformation, Type, Value,
};

use super::{
    Last, REPLACE_NULL, Side, basics, both_sides, or_default, put, replace_null_key, require_map,
    require_struct, unambiguous,
};

const PURPOSE: &str = "field insertion";

/// Where an inserted value comes from. The order is that of the inserted fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Static,
}

const SOURCES: [(Source, &str); 5] = [
    (Source::Topic, "topic.field"),
    (Source::Partition, "partition.field"),
    (Source::Offset, "offset.field"),
    (Source::Timestamp, "timestamp.field"),
    (Source::Static, "static.field"),
];

#[derive(Debug)]
struct Insertion {
    source: Source,
    name: String,
    optional: bool,
}

/// Adds fields.
#[derive(Debug)]
pub struct InsertField {
    side: Side,
    insertions: Vec<Insertion>,
    fixed: String,
    use_default: bool,
    schemas: Last<SchemaRef>,
}

impl InsertField {
    fn new(side: Side) -> Self {
        Self { side, insertions: Vec::new(), fixed: String::new(), use_default: true, schemas: Last::NONE }
    }

    /// The value to insert; null where the record has none.
    fn value(&self, source: Source, record: &Record) -> Result<Value> {
        Ok(match source {
            Source::Topic => Value::String(record.topic.clone()),
            Source::Partition => record.partition.into(),
            Source::Offset => record
                .offset
                .ok_or_else(|| {
                    Error::data(format!(
                        "Only SinkRecord supported for [{PURPOSE}], found: org.apache.kafka.connect.source.SourceRecord"
                    ))
                })?
                .into(),
            Source::Timestamp => record.timestamp.map_or(Value::Null, Value::Timestamp),
            Source::Static => self.fixed.as_str().into(),
        })
    }

    fn without_schema(&self, value: Value, inserted: Vec<Value>) -> Result<Value> {
        let mut entries = require_map(value, PURPOSE)?;
        for (insertion, value) in self.insertions.iter().zip(inserted) {
            // Without a schema a timestamp is its number.
            match value {
                Value::Null => {}
                Value::Timestamp(millis) => put(&mut entries, &insertion.name, millis.into()),
                value => put(&mut entries, &insertion.name, value),
            }
        }
        Ok(Value::Map(entries))
    }

    fn with_schema(
        &mut self,
        schema: &SchemaRef,
        value: Value,
        inserted: Vec<Value>,
    ) -> Result<SchemaAndValue> {
        let members = require_struct(value, PURPOSE)?.into_values();
        let insertions = &self.insertions;
        let updated = self.schemas.get(schema, |schema| unambiguous(updated(schema, insertions)))?.clone();
        let members = members
            .into_iter()
            .zip(schema.fields())
            .map(|(value, field)| or_default(value, &field.schema, self.use_default));
        let value = Struct::from_values(updated.clone(), members.chain(inserted).collect());
        value.validate()?;
        Ok(SchemaAndValue::new(Some(updated), value.into()))
    }
}

fn updated(schema: &Schema, insertions: &[Insertion]) -> SchemaRef {
    let builder = schema
        .fields()
        .iter()
        .fold(basics(schema, Type::Struct), |b, field| b.field(field.name.clone(), field.schema.clone()));
    let with = insertions.iter().fold(builder, |builder, insertion| {
        let of = match insertion.source {
            Source::Topic | Source::Static => Schema::builder(Type::String),
            Source::Partition => Schema::builder(Type::Int32),
            Source::Offset => Schema::builder(Type::Int64),
            Source::Timestamp => Schema::timestamp_builder(),
        };
        let of = if insertion.optional { of.optional() } else { of };
        builder.field(insertion.name.as_str(), of.build())
    });
    with.build()
}

impl Transformation for InsertField {
    fn configure(&mut self, config: &Config) -> Result<()> {
        for (source, key) in SOURCES {
            let Some(text) = config.string(key) else { continue };
            let (name, optional) = match (text.strip_suffix('!'), text.strip_suffix('?')) {
                (Some(name), _) => (name, false),
                (_, Some(name)) => (name, true),
                _ => (text, true),
            };
            self.insertions.push(Insertion { source, name: name.to_owned(), optional });
        }
        if self.insertions.is_empty() {
            return Err(Error::connect("No field insertion configured"));
        }
        match (config.string("static.field"), config.string("static.value")) {
            (Some(field), None) => {
                return Err(Error::config(
                    "static.value",
                    "null",
                    format!("No value specified for static field: {field}"),
                ));
            }
            (_, value) => value.unwrap_or_default().clone_into(&mut self.fixed),
        }
        self.use_default = config.boolean(REPLACE_NULL);
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if self.side.of(&mut record).value.is_null() {
            return Ok(Some(record));
        }
        let inserted: Vec<Value> = self
            .insertions
            .iter()
            .map(|insertion| self.value(insertion.source, &record))
            .collect::<Result<_>>()?;
        let half = std::mem::take(self.side.of(&mut record));
        *self.side.of(&mut record) = match &half.schema {
            None => SchemaAndValue::schemaless(self.without_schema(half.value, inserted)?),
            Some(schema) => self.with_schema(schema, half.value, inserted)?,
        };
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    let key = |name, doc| ConfigKey::optional(name, ConfigType::String, doc).importance(Importance::Medium);
    ConfigDef::new()
        .key(key("topic.field", "Field for the record's topic. A name that ends in ! is required, in ? optional, which is the default."))
        .key(key("partition.field", "Field for the record's partition; ! and ? as with topic.field."))
        .key(key("offset.field", "Field for the record's offset, of sink connectors only; ! and ? as with topic.field."))
        .key(key("timestamp.field", "Field for the record's timestamp; ! and ? as with topic.field."))
        .key(key("static.field", "Field for a fixed value; ! and ? as with topic.field."))
        .key(key("static.value", "The fixed value."))
        .key(replace_null_key())
}

both_sides!("InsertField", InsertField);
