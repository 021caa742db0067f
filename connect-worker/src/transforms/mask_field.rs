//! `MaskField`: fields with nothing in them, or with a fixed replacement.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Importance, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Record, Result, SchemaRef, Struct, Transformation, Value,
    data::Decimal,
};

use super::{REPLACE_NULL, Side, both_sides, or_default, put, replace_null_key, require_map, require_struct};

const PURPOSE: &str = "mask fields";

/// Masks fields.
#[derive(Debug)]
pub struct MaskField {
    side: Side,
    fields: Vec<String>,
    replacement: Option<String>,
    use_default: bool,
}

impl MaskField {
    fn new(side: Side) -> Self {
        Self { side, fields: Vec::new(), replacement: None, use_default: true }
    }

    fn is_masked(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field == name)
    }

    fn masked(&self, value: &Value) -> Result<Value> {
        match &self.replacement {
            _ if value.is_null() => Ok(Value::Null),
            None => empty(value),
            Some(replacement) => replaced(value, replacement),
        }
    }

    fn with_schema(&self, schema: &SchemaRef, value: Value) -> Result<Value> {
        let members = require_struct(value, PURPOSE)?.into_values();
        let values = members.into_iter().zip(schema.fields()).map(|(value, field)| {
            let value = or_default(value, &field.schema, self.use_default);
            if self.is_masked(&field.name) { self.masked(&value) } else { Ok(value) }
        });
        Ok(Struct::from_values(schema.clone(), values.collect::<Result<_>>()?).into())
    }
}

fn empty(value: &Value) -> Result<Value> {
    Ok(match value {
        Value::Boolean(_) => false.into(),
        Value::Int8(_) => 0i8.into(),
        Value::Int16(_) => 0i16.into(),
        Value::Int32(_) => 0i32.into(),
        Value::Int64(_) => 0i64.into(),
        Value::Float32(_) => 0f32.into(),
        Value::Float64(_) => 0f64.into(),
        Value::Decimal(v) => Decimal::new(0, v.scale).into(),
        Value::Date(_) => Value::Date(0),
        Value::Time(_) => Value::Time(0),
        Value::Timestamp(_) => Value::Timestamp(0),
        Value::String(_) => "".into(),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Map(_) => Value::Map(Vec::new()),
        other => {
            return Err(Error::data(format!("Cannot mask value of type: class {}", other.class_name())));
        }
    })
}

fn replaced(value: &Value, replacement: &str) -> Result<Value> {
    fn parse<T: std::str::FromStr + Into<Value>>(text: &str) -> Result<Value> {
        text.parse::<T>()
            .map(Into::into)
            .map_err(|_| Error::data(format!("Unable to convert {text} (class java.lang.String) to number")))
    }
    match value {
        Value::Int8(_) => parse::<i8>(replacement),
        Value::Int16(_) => parse::<i16>(replacement),
        Value::Int32(_) => parse::<i32>(replacement),
        Value::Int64(_) => parse::<i64>(replacement),
        Value::Float32(_) => parse::<f32>(replacement),
        Value::Float64(_) => parse::<f64>(replacement),
        Value::Decimal(_) => parse::<Decimal>(replacement),
        Value::String(_) => Ok(replacement.into()),
        other => Err(Error::data(format!(
            "Cannot mask value of type class {} with custom replacement.",
            other.class_name()
        ))),
    }
}

impl Transformation for MaskField {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.fields = config.list("fields").to_vec();
        self.replacement = config.string("replacement").map(str::to_owned);
        self.use_default = config.boolean(REPLACE_NULL);
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let half = self.side.of(&mut record);
        let value = std::mem::take(&mut half.value);
        half.value = match &half.schema {
            Some(schema) => self.with_schema(schema, value)?,
            None => {
                let mut entries = require_map(value, PURPOSE)?;
                for name in &self.fields {
                    let found = entries.iter().find(|(key, _)| key.as_str() == Some(name));
                    let masked = found.map(|(_, value)| self.masked(value)).transpose()?;
                    put(&mut entries, name, masked.unwrap_or_default());
                }
                Value::Map(entries)
            }
        };
        Ok(Some(record))
    }
}

fn replacement_rule(value: &ConfigValue) -> std::result::Result<(), String> {
    match value {
        ConfigValue::String(text) if text.is_empty() => Err("String must be non-empty".to_owned()),
        _ => Ok(()),
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::required("fields", ConfigType::List, "Names of the fields to mask.")
                .importance(Importance::High)
                .validator(Validator::NonEmpty),
        )
        .key(
            ConfigKey::optional(
                "replacement",
                ConfigType::String,
                "What stands in place of numbers and text; without it, that is 0 or nothing.",
            )
            .validator(Validator::Check(replacement_rule)),
        )
        .key(replace_null_key())
}

both_sides!("MaskField", MaskField);
