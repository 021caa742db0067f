//! Keys and values as the reference's JSON converter prints them with schemas.

use aqueduct_connect_api::{Schema, SchemaAndValue, Type, Value};
use serde_json::{Value as Json, json};

pub fn with_schema(data: &SchemaAndValue) -> Json {
    match &data.schema {
        None => Json::Null,
        Some(schema) => json!({"schema": schema_json(schema, None), "payload": value_json(&data.value)}),
    }
}

pub fn schema_json(schema: &Schema, field: Option<&str>) -> Json {
    let kind = match schema.kind() {
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float32 => "float",
        Type::Float64 => "double",
        Type::Boolean => "boolean",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Array => "array",
        Type::Map => "map",
        Type::Struct => "struct",
    };
    let mut out = json!({"type": kind, "optional": schema.is_optional()});
    let map = out.as_object_mut().expect("it was made as an object");
    if schema.kind() == Type::Struct {
        let fields = schema.fields().iter().map(|f| schema_json(&f.schema, Some(&f.name))).collect();
        map.insert("fields".to_owned(), Json::Array(fields));
    }
    if let Some(items) = schema.value_schema() {
        map.insert("items".to_owned(), schema_json(items, None));
    }
    if let Some(name) = schema.name() {
        map.insert("name".to_owned(), name.into());
    }
    if let Some(version) = schema.version() {
        map.insert("version".to_owned(), version.into());
    }
    if let Some(doc) = schema.doc() {
        map.insert("doc".to_owned(), doc.into());
    }
    if !schema.parameters().is_empty() {
        let parameters = schema.parameters().iter().map(|(k, v)| (k.to_string(), (&**v).into())).collect();
        map.insert("parameters".to_owned(), Json::Object(parameters));
    }
    if let Some(default) = schema.default_value() {
        map.insert("default".to_owned(), value_json(default));
    }
    if let Some(field) = field {
        map.insert("field".to_owned(), field.into());
    }
    out
}

pub fn value_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(v) => (*v).into(),
        Value::Int8(v) => (*v).into(),
        Value::Int16(v) => (*v).into(),
        Value::Int32(v) | Value::Date(v) | Value::Time(v) => (*v).into(),
        Value::Int64(v) | Value::Timestamp(v) => (*v).into(),
        // as text, so that the shortest form is compared
        Value::Float32(v) => v.to_string().parse::<f64>().expect("a number").into(),
        Value::Float64(v) => (*v).into(),
        Value::String(v) => (&**v).into(),
        Value::Bytes(v) => base64(v).into(),
        Value::Decimal(v) => base64(&v.to_bytes()).into(),
        Value::Array(items) => items.iter().map(value_json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(k, v)| (k.as_str().unwrap_or_default().to_owned(), value_json(v)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Struct(s) => s
            .schema()
            .fields()
            .iter()
            .zip(s.values())
            .map(|(f, v)| (f.name.to_string(), value_json(v)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let word = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
            (0..4).map(move |at| {
                if at <= chunk.len() {
                    char::from(LETTERS[(word >> (18 - 6 * at) & 63) as usize])
                } else {
                    '='
                }
            })
        })
        .collect()
}
