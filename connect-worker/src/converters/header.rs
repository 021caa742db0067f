//! `SimpleHeaderConverter`: header values as text, their type found again by their look.

use aqueduct_connect_api::{
    Config, ConfigDef, Factory, HeaderConverter, Plugin, Result, Schema, SchemaAndValue, Type, Value,
};
use bytes::Bytes;

use crate::values;

/// Header values as text.
#[derive(Debug, Default)]
pub struct SimpleHeaderConverter;

impl HeaderConverter for SimpleHeaderConverter {
    fn configure(&mut self, _: &Config) -> Result<()> {
        Ok(())
    }

    fn encode(&mut self, _: &str, _: &str, _: Option<&Schema>, value: &Value) -> Result<Option<Bytes>> {
        Ok(values::to_text(value).map(Bytes::from))
    }

    fn decode(&mut self, _: &str, _: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        let Some(bytes) = bytes else { return Ok(SchemaAndValue::NULL) };
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => values::parse(text),
            Err(_) => SchemaAndValue::new(Some(Schema::of(Type::Bytes)), Value::Bytes(bytes.clone())),
        })
    }
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.storage.SimpleHeaderConverter",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &ConfigDef::new,
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
            ("1.1", Value::Float32(1.1)),
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
