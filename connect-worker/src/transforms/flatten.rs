//! `Flatten`: nested fields as fields of the top level, their names joined.

use aqueduct_connect_api::config::{ConfigType, Importance};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Record, Result, Schema, SchemaAndValue, SchemaRef, Struct,
    Transformation, Type, Value, data::SchemaBuilder,
};
use bytestring::ByteString;

use super::{Entries, Last, Side, basics, both_sides, require_map, require_struct, unambiguous};

const PURPOSE: &str = "flattening";

/// Flattens structs, or maps without a schema.
#[derive(Debug)]
pub struct Flatten {
    side: Side,
    delimiter: String,
    schemas: Last<SchemaRef>,
}

impl Flatten {
    fn new(side: Side) -> Self {
        Self { side, delimiter: ".".to_owned(), schemas: Last::NONE }
    }
}

fn joined(prefix: &str, delimiter: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}{delimiter}{name}") }
}

fn flatten_map(entries: Entries, prefix: &str, delimiter: &str, out: &mut Entries) -> Result<()> {
    for (key, value) in entries {
        let name = joined(prefix, delimiter, &key.to_string());
        match value {
            Value::Map(inner) => flatten_map(inner, &name, delimiter, out)?,
            Value::Struct(_) => {
                return Err(Error::data(format!(
                    "Flatten transformation does not support STRUCT for record without schemas (for field {name})."
                )));
            }
            value => super::put(out, &name, value),
        }
    }
    Ok(())
}

fn flatten_schema(
    schema: &Schema,
    prefix: &str,
    delimiter: &str,
    optional: bool,
    default: Option<&Struct>,
    mut builder: SchemaBuilder,
) -> Result<SchemaBuilder> {
    for field in schema.fields() {
        let name = joined(prefix, delimiter, &field.name);
        let of = &field.schema;
        let optional = optional || of.is_optional();
        let default = of.default_value().or_else(|| default.and_then(|parent| parent.get(&field.name)));
        match of.kind() {
            Type::Struct => {
                let default = default.and_then(Value::as_struct);
                builder = flatten_schema(of, &name, delimiter, optional, default, builder)?;
            }
            Type::Map => {
                return Err(Error::data(format!(
                    "Flatten transformation does not support MAP for record with schemas (for field {name})."
                )));
            }
            _ => {
                let mut leaf = of.to_builder();
                if optional {
                    leaf = leaf.optional();
                }
                if let Some(default) = default.filter(|value| !value.is_null()) {
                    leaf = leaf.default_value(default.clone());
                }
                builder = builder.field(ByteString::from(name), leaf.build());
            }
        }
    }
    Ok(builder)
}

/// Members at the leaves, in order; those of a struct that is null are null.
fn flatten_values(schema: &Schema, value: Option<Struct>, out: &mut Vec<Value>) {
    let mut members = value.map(Struct::into_values).into_iter().flatten();
    for field in schema.fields() {
        let value = members.next().unwrap_or_default();
        match (field.schema.kind(), value) {
            (Type::Struct, Value::Struct(inner)) => flatten_values(&field.schema, Some(*inner), out),
            (Type::Struct, _) => match field.schema.default_value().and_then(Value::as_struct) {
                Some(default) => flatten_values(&field.schema, Some(default.clone()), out),
                None => flatten_values(&field.schema, None, out),
            },
            (_, value) => out.push(super::or_default(value, &field.schema, true)),
        }
    }
}

impl Transformation for Flatten {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.delimiter = config.text("delimiter").to_owned();
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let half = self.side.of(&mut record);
        let Some(schema) = half.schema.clone() else {
            if !half.value.is_null() {
                let entries = require_map(std::mem::take(&mut half.value), PURPOSE)?;
                let mut flat = Entries::new();
                flatten_map(entries, "", &self.delimiter, &mut flat)?;
                half.value = Value::Map(flat);
            }
            return Ok(Some(record));
        };
        if half.value.is_null() {
            return Ok(Some(record));
        }
        let value = require_struct(std::mem::take(&mut half.value), PURPOSE)?;
        let delimiter = &self.delimiter;
        let flat = self.schemas.get(&schema, |schema| {
            let default = schema.default_value().and_then(Value::as_struct);
            let builder = basics(schema, Type::Struct);
            unambiguous(
                flatten_schema(schema, "", delimiter, schema.is_optional(), default, builder)?.build(),
            )
        })?;
        let mut values = Vec::with_capacity(flat.fields().len());
        flatten_values(&schema, Some(value), &mut values);
        let value = Struct::from_values(flat.clone(), values).into();
        *half = SchemaAndValue::new(Some(flat.clone()), value);
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    ConfigDef::new().key(
        ConfigKey::with_default(
            "delimiter",
            ConfigType::String,
            ".",
            "Stands between the names of a field and of the field that it was in.",
        )
        .importance(Importance::Medium),
    )
}

both_sides!("Flatten", Flatten);
