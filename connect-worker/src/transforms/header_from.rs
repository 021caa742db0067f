//! `HeaderFrom`: fields as headers.

use aqueduct_connect_api::config::{ConfigType, Importance, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Header, Record, Result, SchemaAndValue, SchemaRef, Struct,
    Transformation, Type, Value,
};

use super::{
    Last, REPLACE_NULL, Side, basics, both_sides, or_default, replace_null_key, require_map, require_struct,
};

/// Copies or moves fields into headers.
#[derive(Debug)]
pub struct HeaderFrom {
    side: Side,
    /// Fields, and the headers that they become.
    pairs: Vec<(String, String)>,
    moves: bool,
    use_default: bool,
    schemas: Last<SchemaRef>,
}

impl HeaderFrom {
    fn new(side: Side) -> Self {
        Self { side, pairs: Vec::new(), moves: false, use_default: true, schemas: Last::NONE }
    }

    fn purpose(&self) -> &'static str {
        if self.moves { "header move" } else { "header copy" }
    }

    fn is_moved(&self, name: &str) -> bool {
        self.moves && self.pairs.iter().any(|(field, _)| field == name)
    }

    fn without_schema(&self, value: Value, headers: &mut Vec<Header>) -> Result<Value> {
        let mut entries = require_map(value, self.purpose())?;
        for (field, header) in &self.pairs {
            let found = entries.iter().find(|(key, _)| key.as_str() == Some(field));
            let value = found.map(|(_, value)| value.clone()).unwrap_or_default();
            headers.push(Header { key: header.as_str().into(), value: SchemaAndValue::schemaless(value) });
        }
        entries.retain(|(key, _)| !key.as_str().is_some_and(|name| self.is_moved(name)));
        Ok(Value::Map(entries))
    }

    fn with_schema(
        &mut self,
        schema: &SchemaRef,
        value: Value,
        headers: &mut Vec<Header>,
    ) -> Result<SchemaAndValue> {
        let members = require_struct(value, self.purpose())?;
        for (name, header) in &self.pairs {
            let Some((index, field)) = schema.field(name) else {
                return Err(Error::data(format!(
                    "Field {name}, which is to become the header {header}, is not in the record; remove it from 'fields'"
                )));
            };
            let value = or_default(members.values()[index].clone(), &field.schema, self.use_default);
            let value = SchemaAndValue::new(Some(field.schema.clone()), value);
            headers.push(Header { key: header.as_str().into(), value });
        }
        if !self.moves {
            return Ok(SchemaAndValue::new(Some(schema.clone()), members.into()));
        }
        let pairs = &self.pairs;
        let stays = |name: &str| !pairs.iter().any(|(field, _)| field == name);
        let updated = self.schemas.get(schema, |schema| {
            let fields = schema.fields().iter().filter(|field| stays(&field.name));
            let basics = basics(schema, Type::Struct);
            Ok(fields.fold(basics, |b, field| b.field(field.name.clone(), field.schema.clone())).build())
        })?;
        let values = members.into_values().into_iter().zip(schema.fields());
        let values = values.filter(|(_, field)| stays(&field.name));
        let values =
            values.map(|(value, field)| or_default(value, &field.schema, self.use_default)).collect();
        Ok(SchemaAndValue::new(Some(updated.clone()), Struct::from_values(updated.clone(), values).into()))
    }
}

impl Transformation for HeaderFrom {
    fn configure(&mut self, config: &Config) -> Result<()> {
        let (fields, headers) = (config.list("fields"), config.list("headers"));
        if fields.len() != headers.len() {
            return Err(Error::config(
                "headers",
                headers.join(","),
                "'fields' config must have the same number of elements as 'headers' config.",
            ));
        }
        self.pairs = fields.iter().cloned().zip(headers.iter().cloned()).collect();
        self.moves = config.text("operation") == "move";
        self.use_default = config.boolean(REPLACE_NULL);
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let half = std::mem::take(self.side.of(&mut record));
        let mut headers = std::mem::take(&mut record.headers);
        *self.side.of(&mut record) = match &half.schema {
            None => SchemaAndValue::schemaless(self.without_schema(half.value, &mut headers)?),
            Some(schema) => self.with_schema(schema, half.value, &mut headers)?,
        };
        record.headers = headers;
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    let list = |name, doc| {
        ConfigKey::required(name, ConfigType::List, doc)
            .importance(Importance::High)
            .validator(Validator::NonEmpty)
    };
    ConfigDef::new()
        .key(list("fields", "Fields that become headers."))
        .key(list("headers", "Names of the headers, in the order of the fields."))
        .key(
            ConfigKey::required(
                "operation",
                ConfigType::String,
                "move takes the fields away from the record, copy leaves them there.",
            )
            .importance(Importance::High)
            .validator(Validator::OneOf(&["move", "copy"])),
        )
        .key(replace_null_key())
}

both_sides!("HeaderFrom", HeaderFrom);
