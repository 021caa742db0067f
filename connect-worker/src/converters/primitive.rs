//! Converters of one primitive type each: its bytes, the most significant one first.

use aqueduct_connect_api::convert::RawHeader;
use aqueduct_connect_api::{
    Config, ConfigDef, Converter, Error, Factory, Header, Plugin, Result, Schema, SchemaAndValue, SchemaRef,
    Type, Value,
};
use bytes::Bytes;

/// Values of one primitive type.
#[derive(Debug)]
struct PrimitiveConverter {
    kind: Type,
    /// The converter's Java name, for error texts.
    name: &'static str,
    size: usize,
}

impl PrimitiveConverter {
    fn bytes(&self, value: &Value) -> Option<Bytes> {
        Some(match (self.kind, value) {
            (Type::Boolean, Value::Boolean(v)) => Bytes::from_static(if *v { &[1] } else { &[0] }),
            (Type::Int16, Value::Int16(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Type::Int32, Value::Int32(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Type::Int64, Value::Int64(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Type::Float32, Value::Float32(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Type::Float64, Value::Float64(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            _ => return None,
        })
    }

    fn value(&self, bytes: &[u8]) -> Option<Value> {
        Some(match self.kind {
            Type::Boolean => match bytes {
                [0] => false.into(),
                [1] => true.into(),
                _ => return None,
            },
            Type::Int16 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
            Type::Int32 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
            Type::Int64 => i64::from_be_bytes(bytes.try_into().ok()?).into(),
            Type::Float32 => f32::from_be_bytes(bytes.try_into().ok()?).into(),
            _ => f64::from_be_bytes(bytes.try_into().ok()?).into(),
        })
    }
}

impl Converter for PrimitiveConverter {
    fn configure(&mut self, _: &Config, _: bool) -> Result<()> {
        Ok(())
    }

    fn encode(
        &mut self,
        topic: &str,
        _: &[Header],
        schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        if value.is_null() {
            return Ok(None);
        }
        let fits = schema.is_none_or(|schema| schema.kind() == self.kind);
        match self.bytes(value).filter(|_| fits) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(Error::data(format!(
                "Failed to serialize for topic {topic}: {} holds values of type {}, this one is a {}{}",
                self.name,
                self.kind.name(),
                value.class_name(),
                schema.map(|schema| format!(" of type {}", schema.kind().name())).unwrap_or_default(),
            ))),
        }
    }

    fn decode(&mut self, topic: &str, _: &[RawHeader], bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        let schema = Some(Schema::optional_of(self.kind));
        let Some(bytes) = bytes else { return Ok(SchemaAndValue::new(schema, Value::Null)) };
        let value = self.value(bytes).ok_or_else(|| {
            Error::data(format!(
                "Failed to deserialize for topic {topic}: {} needs {} byte{}, found {} that begin with {:02x?}",
                self.name,
                self.size,
                if self.size == 1 { ", 0 or 1" } else { "s" },
                bytes.len(),
                &bytes[..bytes.len().min(8)]
            ))
        })?;
        Ok(SchemaAndValue::new(schema, value))
    }
}

macro_rules! primitive {
    ($($name:literal, $kind:ident, $size:literal;)*) => {$(
        aqueduct_connect_api::inventory::submit! {
            Plugin {
                class: concat!("org.apache.kafka.connect.converters.", $name),
                aliases: &[],
                version: env!("CARGO_PKG_VERSION"),
                config: &ConfigDef::new,
                factory: Factory::Converter(|| {
                    Box::new(PrimitiveConverter { kind: Type::$kind, name: $name, size: $size })
                }),
            }
        }
    )*};
}

primitive! {
    "BooleanConverter", Boolean, 1;
    "ShortConverter", Int16, 2;
    "IntegerConverter", Int32, 4;
    "LongConverter", Int64, 8;
    "FloatConverter", Float32, 4;
    "DoubleConverter", Float64, 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Type, size: usize) -> PrimitiveConverter {
        PrimitiveConverter { kind, name: "X", size }
    }

    #[test]
    fn bytes_are_big_endian() {
        let mut long = of(Type::Int64, 8);
        let bytes = long.encode("t", &[], None, &Value::Int64(258)).expect("fits").expect("some");
        assert_eq!(&bytes[..], [0, 0, 0, 0, 0, 0, 1, 2]);
        let back = long.decode("t", &[], Some(&bytes)).expect("a long");
        assert_eq!(back, SchemaAndValue::new(Some(Schema::optional_of(Type::Int64)), Value::Int64(258)));
        assert_eq!(long.encode("t", &[], None, &Value::Null).expect("null"), None);
    }

    #[test]
    fn other_types_and_lengths_are_named() {
        let error = of(Type::Int32, 4).encode("t", &[], None, &"x".into()).expect_err("text");
        assert!(error.to_string().contains("java.lang.String"), "{error}");
        let schema = Schema::of(Type::Int64);
        assert!(of(Type::Int32, 4).encode("t", &[], Some(&schema), &1i32.into()).is_err());
        let error =
            of(Type::Boolean, 1).decode("t", &[], Some(&Bytes::from_static(b"2"))).expect_err("not 0 or 1");
        assert!(error.to_string().contains("found 1 that begin with [32]"), "{error}");
    }
}
