//! Values out of JSON text, straight from the parser: no tree in between.

use aqueduct_connect_api::data::{DATE, DECIMAL, TIME, TIMESTAMP};
use aqueduct_connect_api::{Decimal, Error, Result, Schema, SchemaRef, Struct, Type, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Options;

/// Reads `text` as a value of `schema`, or as whatever it looks like.
///
/// # Errors
/// `Error::Data` with the place in the text.
pub(super) fn read(schema: Option<&SchemaRef>, text: &str, options: Options) -> Result<Value> {
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = Seed { schema: schema.map(|s| &**s), whole: schema, options };
    seed.deserialize(&mut json).map_err(|e| Error::data(e.to_string()))
}

#[derive(Clone, Copy)]
struct Seed<'s> {
    schema: Option<&'s Schema>,
    /// The same schema where it can be shared with a struct.
    whole: Option<&'s SchemaRef>,
    options: Options,
}

impl<'s> Seed<'s> {
    fn with(&self, schema: Option<&'s SchemaRef>) -> Self {
        Self { schema: schema.map(|s| &**s), whole: schema, options: self.options }
    }

    fn wrong(&self, found: &str) -> String {
        match self.schema {
            Some(schema) => {
                format!("a value of type {} was expected, {found} was found", schema.kind().name())
            }
            None => format!("{found} was not expected"),
        }
    }

    fn missing<E: serde::de::Error>(&self) -> Result<Value, E> {
        let Some(schema) = self.schema else { return Ok(Value::Null) };
        if let Some(default) = schema.default_value().filter(|_| self.options.replace_null_with_default) {
            return Ok(default.clone());
        }
        if schema.is_optional() {
            return Ok(Value::Null);
        }
        Err(E::custom(format!("Invalid null value for required {} field", schema.kind().name())))
    }

    fn integer<E: serde::de::Error>(&self, v: i64) -> Result<Value, E> {
        let Some(schema) = self.schema else { return Ok(Value::Int64(v)) };
        let narrow = || E::custom(format!("{v} does not fit {}", schema.kind().name()));
        Ok(match (schema.kind(), schema.name()) {
            (Type::Int8, _) => Value::Int8(v.try_into().map_err(|_| narrow())?),
            (Type::Int16, _) => Value::Int16(v.try_into().map_err(|_| narrow())?),
            (Type::Int32, Some(DATE)) => Value::Date(v.try_into().map_err(|_| narrow())?),
            (Type::Int32, Some(TIME)) => Value::Time(v.try_into().map_err(|_| narrow())?),
            (Type::Int32, _) => Value::Int32(v.try_into().map_err(|_| narrow())?),
            (Type::Int64, Some(TIMESTAMP)) => Value::Timestamp(v),
            (Type::Int64, _) => Value::Int64(v),
            (Type::Float32, _) => Value::Float32(v as f32),
            (Type::Float64, _) => Value::Float64(v as f64),
            _ => return Err(E::custom(self.wrong(&format!("the number {v}")))),
        })
    }

    fn text<E: serde::de::Error>(&self, v: &str) -> Result<Value, E> {
        let Some(schema) = self.schema else { return Ok(v.into()) };
        match schema.kind() {
            Type::String => Ok(v.into()),
            Type::Bytes => STANDARD.decode(v).map(|b| Value::Bytes(b.into())).map_err(E::custom),
            Type::Float64 => v.parse().map(Value::Float64).map_err(|_| E::custom(self.wrong("text"))),
            Type::Float32 => v.parse().map(Value::Float32).map_err(|_| E::custom(self.wrong("text"))),
            _ => Err(E::custom(self.wrong("text"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        let Some(schema) = self.schema.filter(|s| s.kind() == Type::Bytes && s.name() == Some(DECIMAL))
        else {
            return json.deserialize_any(self);
        };
        // A number's digits are read from its text: a double would lose some.
        let raw = <&RawValue as serde::Deserialize>::deserialize(json)?.get().trim();
        if raw == "null" {
            return self.missing();
        }
        let scale = schema.parameter("scale").and_then(|s| s.parse().ok());
        let scale = scale.ok_or_else(|| D::Error::custom("Invalid schema: scale parameter not found."))?;
        if raw.starts_with('"') {
            let text: String = serde_json::from_str(raw).map_err(D::Error::custom)?;
            let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
            return Ok(Value::Decimal(Decimal::from_bytes(&bytes, scale)));
        }
        let decimal: Decimal = raw.parse().map_err(D::Error::custom)?;
        let same = decimal
            .with_scale(scale)
            .ok_or_else(|| D::Error::custom(format!("{raw} needs more than {scale} decimal places")))?;
        Ok(Value::Decimal(same))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.schema {
            Some(schema) => write!(f, "a value of type {}", schema.kind().name()),
            None => f.write_str("any value"),
        }
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Value, E> {
        match self.schema.map(Schema::kind) {
            None | Some(Type::Boolean) => Ok(Value::Boolean(v)),
            _ => Err(E::custom(self.wrong(if v { "true" } else { "false" }))),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        self.integer(v)
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        match i64::try_from(v) {
            Ok(v) => self.integer(v),
            Err(_) => self.visit_f64(v as f64),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        match self.schema.map(Schema::kind) {
            None | Some(Type::Float64) => Ok(Value::Float64(v)),
            Some(Type::Float32) => Ok(Value::Float32(v as f32)),
            _ => Err(E::custom(self.wrong(&format!("the number {v}")))),
        }
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        self.text(v)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.missing()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        match self.schema.map(|s| (s.kind(), s)) {
            None => {
                let mut values = Vec::new();
                while let Some(value) = items.next_element_seed(self)? {
                    values.push(value);
                }
                Ok(Value::Array(values))
            }
            Some((Type::Array, schema)) => {
                let of = self.with(schema.value_schema());
                let mut values = Vec::new();
                while let Some(value) = items.next_element_seed(of)? {
                    values.push(value);
                }
                Ok(Value::Array(values))
            }
            Some((Type::Map, schema)) => {
                let pair =
                    Pair { key: self.with(schema.key_schema()), value: self.with(schema.value_schema()) };
                let mut entries = Vec::new();
                while let Some(entry) = items.next_element_seed(pair)? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
            Some(_) => Err(A::Error::custom(self.wrong("an array"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        match self.schema.map(|s| (s.kind(), s)) {
            None => {
                let mut entries = Vec::new();
                while let Some(name) = members.next_key::<String>()? {
                    entries.push((name.into(), members.next_value_seed(self)?));
                }
                Ok(Value::Map(entries))
            }
            Some((Type::Map, schema)) => {
                let (key, value) = (self.with(schema.key_schema()), self.with(schema.value_schema()));
                let mut entries = Vec::new();
                while let Some(name) = members.next_key::<String>()? {
                    entries.push((key.text(&name)?, members.next_value_seed(value)?));
                }
                Ok(Value::Map(entries))
            }
            Some((Type::Struct, schema)) => {
                let whole = self.whole.ok_or_else(|| A::Error::custom("a struct without a schema"))?;
                let mut values: Vec<Option<Value>> = vec![None; schema.fields().len()];
                let mut next = 0;
                while let Some(name) = members.next_key::<std::borrow::Cow<'de, str>>()? {
                    // Writers keep the schema's order, so the field is nearly always the next one.
                    let found = match schema.fields().get(next) {
                        Some(field) if field.name == *name => Some((next, field)),
                        _ => schema.field(&name),
                    };
                    let Some((index, field)) = found else {
                        members.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    };
                    let value = members.next_value_seed(self.with(Some(&field.schema)));
                    values[index] =
                        Some(value.map_err(|e| A::Error::custom(format!("field \"{name}\": {e}")))?);
                    next = index + 1;
                }
                let mut whole_values = Vec::with_capacity(values.len());
                for (value, field) in values.into_iter().zip(schema.fields()) {
                    whole_values.push(match value {
                        Some(value) => value,
                        None => self.with(Some(&field.schema)).missing().map_err(|e: A::Error| {
                            A::Error::custom(format!("field \"{}\": {e}", field.name))
                        })?,
                    });
                }
                Ok(Struct::from_values(whole.clone(), whole_values).into())
            }
            Some(_) => Err(A::Error::custom(self.wrong("an object"))),
        }
    }
}

/// An entry of a map that is written as an array of two.
#[derive(Clone, Copy)]
struct Pair<'s> {
    key: Seed<'s>,
    value: Seed<'s>,
}

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = (Value, Value);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = (Value, Value);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map entry: an array of a key and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let two = || A::Error::custom("Found invalid map entry, expected length 2");
        let key = items.next_element_seed(self.key)?.ok_or_else(two)?;
        let value = items.next_element_seed(self.value)?.ok_or_else(two)?;
        match items.next_element::<serde::de::IgnoredAny>()? {
            None => Ok((key, value)),
            Some(_) => Err(two()),
        }
    }
}
