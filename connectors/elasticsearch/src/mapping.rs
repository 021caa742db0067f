//! Mappings of indices, from the schemas of values.

use aqueduct_connect_api::data::{DATE, DECIMAL, TIME, TIMESTAMP};
use aqueduct_connect_api::{Schema, Type, Value};
use serde_json::{Map, Value as Json, json};

/// The mapping of an index for documents of `schema`.
pub fn of_schema(schema: &Schema, compact_maps: bool) -> Json {
    of(schema, compact_maps)
}

fn of(schema: &Schema, compact_maps: bool) -> Json {
    if let Some(kind) = logical(schema) {
        return with_null_value(json!({ "type": kind }), schema);
    }
    match schema.kind() {
        Type::Struct => {
            let properties: Map<String, Json> = schema
                .fields()
                .iter()
                .map(|field| (field.name.to_string(), of(&field.schema, compact_maps)))
                .collect();
            json!({ "properties": properties })
        }
        Type::Array => schema.value_schema().map_or_else(|| json!({}), |items| of(items, compact_maps)),
        Type::Map => match (schema.key_schema(), schema.value_schema()) {
            (Some(keys), Some(values)) if !(compact_maps && keys.kind() == Type::String) => json!({
                "properties": { "key": of(keys, compact_maps), "value": of(values, compact_maps) }
            }),
            _ => json!({ "type": "object" }),
        },
        Type::String => json!({
            "type": "text",
            "fields": { "keyword": { "type": "keyword", "ignore_above": 256 } }
        }),
        Type::Bytes => json!({ "type": "binary" }),
        kind => with_null_value(json!({ "type": primitive(kind) }), schema),
    }
}

fn logical(schema: &Schema) -> Option<&'static str> {
    match schema.name()? {
        DATE | TIME | TIMESTAMP => Some("date"),
        DECIMAL => Some("double"),
        _ => None,
    }
}

fn primitive(kind: Type) -> &'static str {
    match kind {
        Type::Int8 => "byte",
        Type::Int16 => "short",
        Type::Int32 => "integer",
        Type::Int64 => "long",
        Type::Float32 => "float",
        Type::Float64 => "double",
        Type::Boolean => "boolean",
        Type::String => "text",
        Type::Bytes => "binary",
        Type::Array | Type::Map | Type::Struct => "object",
    }
}

/// A default stands in for null.
fn with_null_value(mut mapping: Json, schema: &Schema) -> Json {
    let default = schema.default_value().and_then(|value| match value {
        Value::Boolean(v) => Some(json!(v)),
        Value::Float32(v) => Some(json!(v)),
        Value::Float64(v) => Some(json!(v)),
        Value::Decimal(v) => Some(json!(v.to_f64())),
        Value::Date(v) | Value::Time(v) => Some(json!(v)),
        Value::Timestamp(v) => Some(json!(v)),
        other => other.as_i64().map(|v| json!(v)),
    });
    if let Some(default) = default {
        mapping["null_value"] = default;
    }
    mapping
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_become_mappings() {
        let schema = Schema::struct_builder("s")
            .field("id", Schema::of(Type::Int64))
            .field("name", Schema::optional_of(Type::String))
            .field("count", Schema::builder(Type::Int16).default_value(Value::Int16(3)).build())
            .field("price", Schema::decimal_builder(2).build())
            .field("at", Schema::timestamp_builder().build())
            .field("tags", Schema::array_builder(Schema::of(Type::Boolean)).build())
            .field("by", Schema::map_builder(Schema::of(Type::Int32), Schema::of(Type::Bytes)).build())
            .build();
        assert_eq!(
            of_schema(&schema, true),
            json!({ "properties": {
                "id": { "type": "long" },
                "name": { "type": "text", "fields": { "keyword": { "type": "keyword", "ignore_above": 256 } } },
                "count": { "type": "short", "null_value": 3 },
                "price": { "type": "double" },
                "at": { "type": "date" },
                "tags": { "type": "boolean" },
                "by": { "properties": { "key": { "type": "integer" }, "value": { "type": "binary" } } },
            }})
        );
    }
}
