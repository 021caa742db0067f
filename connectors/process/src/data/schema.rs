//! Schemas as JSON, in the form that Kafka's JSON converter gives them.

use aqueduct_connect_api::{Error, Result, Schema, SchemaRef, Type};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode::typed;
use super::encode::{write_text, write_typed};

const MAX_DEPTH: usize = 32;
const MAX_FIELDS: usize = 10_000;

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Boolean => "boolean",
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float32 => "float",
        Type::Float64 => "double",
        Type::Bytes => "bytes",
        Type::String => "string",
        Type::Array => "array",
        Type::Map => "map",
        Type::Struct => "struct",
    }
}

/// Writes a schema.
///
/// # Errors
/// `Error::Data` where its default is not one of its values.
pub fn write_schema(out: &mut Vec<u8>, schema: &Schema) -> Result<()> {
    write_named(out, schema, None)
}

fn write_named(out: &mut Vec<u8>, schema: &Schema, field: Option<&str>) -> Result<()> {
    out.extend_from_slice(b"{\"type\":");
    write_text(out, type_name(schema.kind()));
    let part = |out: &mut Vec<u8>, name: &str, of: &SchemaRef| {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_named(out, of, None)
    };
    match (schema.kind(), schema.key_schema(), schema.value_schema()) {
        (Type::Array, _, Some(items)) => part(out, "items", items)?,
        (Type::Map, Some(keys), Some(values)) => {
            part(out, "keys", keys)?;
            part(out, "values", values)?;
        }
        _ => {}
    }
    if schema.kind() == Type::Struct {
        out.extend_from_slice(b",\"fields\":[");
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_named(out, &field.schema, Some(&field.name))?;
        }
        out.push(b']');
    }
    out.extend_from_slice(format!(",\"optional\":{}", schema.is_optional()).as_bytes());
    if let Some(name) = schema.name() {
        out.extend_from_slice(b",\"name\":");
        write_text(out, name);
    }
    if let Some(version) = schema.version() {
        out.extend_from_slice(format!(",\"version\":{version}").as_bytes());
    }
    if let Some(doc) = schema.doc() {
        out.extend_from_slice(b",\"doc\":");
        write_text(out, doc);
    }
    for (index, (name, value)) in schema.parameters().iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"parameters\":{" } else { b"," });
        write_text(out, name);
        out.push(b':');
        write_text(out, value);
    }
    if !schema.parameters().is_empty() {
        out.push(b'}');
    }
    if let Some(default) = schema.default_value() {
        out.extend_from_slice(b",\"default\":");
        write_typed(out, schema, default)?;
    }
    if let Some(field) = field {
        out.extend_from_slice(b",\"field\":");
        write_text(out, field);
    }
    out.push(b'}');
    Ok(())
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    items: Option<&'a RawValue>,
    #[serde(borrow, default)]
    keys: Option<&'a RawValue>,
    #[serde(borrow, default)]
    values: Option<&'a RawValue>,
    #[serde(borrow, default)]
    fields: Vec<&'a RawValue>,
    #[serde(default)]
    optional: bool,
    name: Option<String>,
    version: Option<i32>,
    doc: Option<String>,
    #[serde(default)]
    parameters: serde_json::Map<String, serde_json::Value>,
    #[serde(borrow, default)]
    default: Option<&'a RawValue>,
    field: Option<String>,
}

/// Reads a schema.
///
/// # Errors
/// `Error::Data` that says which member is missing or wrong.
pub fn read_schema(text: &str) -> Result<SchemaRef> {
    read_named(text, 0).map(|(_, schema)| schema)
}

fn read_named(text: &str, depth: usize) -> Result<(Option<String>, SchemaRef)> {
    if depth > MAX_DEPTH {
        return Err(Error::data(format!("a schema is nested deeper than {MAX_DEPTH}")));
    }
    let written: Written<'_> =
        serde_json::from_str(text).map_err(|e| Error::data(format!("a schema is wrong: {e}")))?;
    let part = |part: Option<&RawValue>, name: &str| {
        let text = part.ok_or_else(|| {
            Error::data(format!("a schema of type {} needs the member \"{name}\"", written.kind))
        })?;
        read_named(text.get(), depth + 1).map(|(_, schema)| schema)
    };
    let mut builder = match written.kind.as_str() {
        "boolean" => Schema::builder(Type::Boolean),
        "int8" => Schema::builder(Type::Int8),
        "int16" => Schema::builder(Type::Int16),
        "int32" => Schema::builder(Type::Int32),
        "int64" => Schema::builder(Type::Int64),
        "float" | "float32" => Schema::builder(Type::Float32),
        "double" | "float64" => Schema::builder(Type::Float64),
        "bytes" => Schema::builder(Type::Bytes),
        "string" => Schema::builder(Type::String),
        "array" => Schema::array_builder(part(written.items, "items")?),
        "map" => Schema::map_builder(part(written.keys, "keys")?, part(written.values, "values")?),
        "struct" => Schema::builder(Type::Struct),
        other => return Err(Error::data(format!("\"{other}\" is not a type of a schema"))),
    };
    if written.kind == "struct" {
        if written.fields.len() > MAX_FIELDS {
            return Err(Error::data(format!("a struct has more than {MAX_FIELDS} fields")));
        }
        let mut names = std::collections::HashSet::new();
        for field in &written.fields {
            let (name, schema) = read_named(field.get(), depth + 1)?;
            let name = name.ok_or_else(|| Error::data("a field of a struct needs its name in \"field\""))?;
            if !names.insert(name.clone()) {
                return Err(Error::data(format!("a struct has the field \"{name}\" twice")));
            }
            builder = builder.field(name, schema);
        }
    }
    if written.optional {
        builder = builder.optional();
    }
    if let Some(name) = written.name {
        builder = builder.name(name);
    }
    if let Some(version) = written.version {
        builder = builder.version(version);
    }
    if let Some(doc) = written.doc {
        builder = builder.doc(doc);
    }
    for (name, value) in written.parameters {
        let value = value
            .as_str()
            .ok_or_else(|| Error::data(format!("the parameter \"{name}\" of a schema is not text")))?;
        builder = builder.parameter(name, value.to_owned());
    }
    if let Some(default) = written.default {
        let value = typed(&builder.clone().build(), default.get())?;
        builder = builder.default_value(value);
    }
    Ok((written.field, builder.build()))
}
