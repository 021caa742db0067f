//! Schemas out of JSON text.

use aqueduct_connect_api::{Error, Result, Schema, SchemaRef, Type};
use serde_json::Value as Json;

use super::{Options, payload};

/// Reads a schema; JSON null is no schema.
///
/// # Errors
/// `Error::Data` that says which member is missing or wrong.
pub(super) fn parse(text: &str, options: Options) -> Result<Option<SchemaRef>> {
    let json: Json =
        serde_json::from_str(text).map_err(|e| Error::data("the schema is not JSON").caused_by(e))?;
    if json.is_null() {
        return Ok(None);
    }
    from_json(&json, options).map(Some)
}

fn from_json(json: &Json, options: Options) -> Result<SchemaRef> {
    let kind = json.get("type").and_then(Json::as_str);
    let kind = match kind {
        Some("boolean") => Type::Boolean,
        Some("int8") => Type::Int8,
        Some("int16") => Type::Int16,
        Some("int32") => Type::Int32,
        Some("int64") => Type::Int64,
        Some("float") => Type::Float32,
        Some("double") => Type::Float64,
        Some("bytes") => Type::Bytes,
        Some("string") => Type::String,
        Some("array") => Type::Array,
        Some("map") => Type::Map,
        Some("struct") => Type::Struct,
        Some(other) => return Err(Error::data(format!("Unknown schema type: {other}"))),
        None => return Err(Error::data("Schema must contain 'type' field")),
    };
    let mut builder = match kind {
        Type::Array => {
            let items = json.get("items").filter(|i| i.is_object());
            let items = items.ok_or_else(|| Error::data("Array schema did not specify the element type"))?;
            Schema::array_builder(from_json(items, options)?)
        }
        Type::Map => {
            let part = |name: &str, what: &str| {
                json.get(name)
                    .filter(|p| p.is_object())
                    .ok_or_else(|| Error::data(format!("Map schema did not specify the {what} type")))
            };
            let keys = from_json(part("keys", "key")?, options)?;
            Schema::map_builder(keys, from_json(part("values", "value")?, options)?)
        }
        other => Schema::builder(other),
    };
    if kind == Type::Struct {
        let fields = json.get("fields").and_then(Json::as_array);
        let fields =
            fields.ok_or_else(|| Error::data("Struct schema's \"fields\" argument is not an array."))?;
        for field in fields {
            let name = field.get("field").and_then(Json::as_str);
            let name =
                name.ok_or_else(|| Error::data("Struct schema's field name not specified properly"))?;
            builder = builder.field(name, from_json(field, options)?);
        }
    }
    if json.get("optional").and_then(Json::as_bool) == Some(true) {
        builder = builder.optional();
    }
    if let Some(name) = json.get("name").and_then(Json::as_str) {
        builder = builder.name(name);
    }
    if let Some(version) = json.get("version").and_then(Json::as_i64) {
        let version = i32::try_from(version)
            .map_err(|_| Error::data(format!("Schema version {version} is out of range")))?;
        builder = builder.version(version);
    }
    if let Some(doc) = json.get("doc").and_then(Json::as_str) {
        builder = builder.doc(doc);
    }
    if let Some(parameters) = json.get("parameters").filter(|p| !p.is_null()) {
        let parameters = parameters.as_object();
        for (name, value) in parameters.ok_or_else(|| Error::data("Schema parameters must be an object"))? {
            let value =
                value.as_str().ok_or_else(|| Error::data("Schema parameters must have string values"))?;
            builder = builder.parameter(name.as_str(), value);
        }
    }
    if let Some(default) = json.get("default").filter(|d| !d.is_null()) {
        let value = payload::read(Some(&builder.clone().build()), &default.to_string(), options)?;
        builder = builder.default_value(value);
    }
    Ok(builder.build())
}
