//! `ByteArrayConverter`: bytes as they are.

use std::sync::{Arc, LazyLock};

use aqueduct_connect_api::convert::RawHeader;
use aqueduct_connect_api::{
    Config, ConfigDef, Converter, Error, Factory, Header, Plugin, Result, Schema, SchemaAndValue, SchemaRef,
    Type, Value,
};
use bytes::Bytes;

static OPTIONAL_BYTES: LazyLock<SchemaRef> = LazyLock::new(|| Schema::optional_of(Type::Bytes));

/// Bytes as they are.
#[derive(Debug, Default)]
pub struct ByteArrayConverter;

impl Converter for ByteArrayConverter {
    fn configure(&mut self, _: &Config, _is_key: bool) -> Result<()> {
        Ok(())
    }

    fn encode(
        &mut self,
        _: &str,
        _: &[Header],
        schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        if let Some(schema) = schema.filter(|s| s.kind() != Type::Bytes) {
            return Err(Error::data(format!(
                "Invalid schema type for ByteArrayConverter: {}; only bytes pass, so set a converter that knows {} values",
                schema.kind().name(),
                schema.kind().name()
            )));
        }
        match value {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes.clone())),
            other => Err(Error::data(format!(
                "ByteArrayConverter is not compatible with objects of type class {}",
                other.class_name()
            ))),
        }
    }

    fn decode(&mut self, _: &str, _: &[RawHeader], bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        Ok(SchemaAndValue::new(Some(Arc::clone(&OPTIONAL_BYTES)), bytes.cloned().into()))
    }
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.converters.ByteArrayConverter",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &ConfigDef::new,
        factory: Factory::Converter(|| Box::new(ByteArrayConverter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_and_nothing_else() {
        let mut c = ByteArrayConverter;
        let bytes = Bytes::from_static(b"\0\xff");
        assert_eq!(
            c.encode("t", &[], None, &Value::Bytes(bytes.clone())).expect("bytes"),
            Some(bytes.clone())
        );
        assert_eq!(c.encode("t", &[], None, &Value::Null).expect("null"), None);
        assert!(c.encode("t", &[], None, &Value::from("text")).is_err());
        assert!(c.encode("t", &[], Some(&Schema::of(Type::String)), &Value::from("text")).is_err());
        assert_eq!(c.decode("t", &[], Some(&bytes)).expect("bytes").value, Value::Bytes(bytes));
        assert_eq!(c.decode("t", &[], None).expect("null").value, Value::Null);
    }
}
