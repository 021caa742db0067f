//! `SimpleHeaderConverter`: header values as text, their type found again by their look.

use aqueduct_connect_api::{
    Config, ConfigDef, Factory, HeaderConverter, Plugin, Result, Schema, SchemaAndValue, SchemaRef, Type,
    Value,
};
use bytes::Bytes;

/// Header values as text.
#[derive(Debug, Default)]
pub struct SimpleHeaderConverter;

impl HeaderConverter for SimpleHeaderConverter {
    fn configure(&mut self, _: &Config) -> Result<()> {
        Ok(())
    }

    fn encode(&mut self, _: &str, _: &str, _: Option<&Schema>, value: &Value) -> Result<Option<Bytes>> {
        Ok(match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone().into_bytes()),
            Value::Bytes(bytes) => Some(bytes.clone()),
            other => Some(other.to_string().into()),
        })
    }

    fn decode(&mut self, _: &str, _: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        let Some(bytes) = bytes else { return Ok(SchemaAndValue::NULL) };
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => parse(text),
            Err(_) => SchemaAndValue::new(Some(Schema::of(Type::Bytes)), Value::Bytes(bytes.clone())),
        })
    }
}

/// The narrowest type that `text` reads as; text otherwise.
fn parse(text: &str) -> SchemaAndValue {
    let typed = |kind, value| SchemaAndValue::new(Some::<SchemaRef>(Schema::of(kind)), value);
    match text {
        "null" => return SchemaAndValue::NULL,
        "true" => return typed(Type::Boolean, Value::Boolean(true)),
        "false" => return typed(Type::Boolean, Value::Boolean(false)),
        _ => {}
    }
    if looks_numeric(text) {
        if let Ok(n) = text.parse::<i8>() {
            return typed(Type::Int8, n.into());
        }
        if let Ok(n) = text.parse::<i16>() {
            return typed(Type::Int16, n.into());
        }
        if let Ok(n) = text.parse::<i32>() {
            return typed(Type::Int32, n.into());
        }
        if let Ok(n) = text.parse::<i64>() {
            return typed(Type::Int64, n.into());
        }
        if let Ok(n) = text.parse::<f64>() {
            let narrow = n as f32;
            return if narrow.is_finite() && f64::from(narrow) == n {
                typed(Type::Float32, narrow.into())
            } else {
                typed(Type::Float64, n.into())
            };
        }
    }
    typed(Type::String, text.into())
}

fn looks_numeric(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.storage.SimpleHeaderConverter",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: ConfigDef::new,
        factory: Factory::HeaderConverter(|| Box::new(SimpleHeaderConverter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_finds_its_type_again() {
        for (text, value) in [
            ("null", Value::Null),
            ("true", Value::Boolean(true)),
            ("7", Value::Int8(7)),
            ("-300", Value::Int16(-300)),
            ("70000", Value::Int32(70000)),
            ("5000000000", Value::Int64(5_000_000_000)),
            ("1.5", Value::Float32(1.5)),
            ("1.1", Value::Float64(1.1)),
            ("12 monkeys", Value::from("12 monkeys")),
            ("", Value::from("")),
        ] {
            let bytes = Bytes::from(text);
            assert_eq!(
                SimpleHeaderConverter.decode("t", "h", Some(&bytes)).expect("text").value,
                value,
                "{text}"
            );
        }
    }
}
