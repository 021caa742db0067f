//! Values.

use bytes::Bytes;
use bytestring::ByteString;

use crate::data::{DATE, DECIMAL, Decimal, Schema, SchemaRef, Struct, TIME, TIMESTAMP, Type};
use crate::error::{Error, Result};

/// A value. Strings and bytes are shared slices, so a clone copies no text.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Boolean(bool),
    Int8(i8),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Float32(f32),
    Float64(f64),
    String(ByteString),
    Bytes(Bytes),
    /// Logical `Decimal`; on the wire bytes.
    Decimal(Decimal),
    /// Logical `Date`: days since 1970-01-01; on the wire int32.
    Date(i32),
    /// Logical `Time`: milliseconds since midnight; on the wire int32.
    Time(i32),
    /// Logical `Timestamp`: milliseconds since 1970-01-01T00:00:00Z; on the wire int64.
    Timestamp(i64),
    Array(Vec<Value>),
    /// Entries in the order in which they were put.
    Map(Vec<(Value, Value)>),
    Struct(Box<Struct>),
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// Any of the four integers, widened.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Int8(v) => Some(v.into()),
            Self::Int16(v) => Some(v.into()),
            Self::Int32(v) => Some(v.into()),
            Self::Int64(v) => Some(v),
            _ => None,
        }
    }

    pub fn as_struct(&self) -> Option<&Struct> {
        match self {
            Self::Struct(s) => Some(s),
            _ => None,
        }
    }

    /// The entry `key` of a map whose keys are strings.
    pub fn map_get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Name of the Java class that the reference holds such a value in, for error texts.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "java.lang.Boolean",
            Self::Int8(_) => "java.lang.Byte",
            Self::Int16(_) => "java.lang.Short",
            Self::Int32(_) => "java.lang.Integer",
            Self::Int64(_) => "java.lang.Long",
            Self::Float32(_) => "java.lang.Float",
            Self::Float64(_) => "java.lang.Double",
            Self::String(_) => "java.lang.String",
            Self::Bytes(_) => "java.nio.ByteBuffer",
            Self::Decimal(_) => "java.math.BigDecimal",
            Self::Date(_) | Self::Time(_) | Self::Timestamp(_) => "java.util.Date",
            Self::Array(_) => "java.util.ArrayList",
            Self::Map(_) => "java.util.HashMap",
            Self::Struct(_) => "org.apache.kafka.connect.data.Struct",
        }
    }

    /// Checks that this value, members and items included, is one of `schema`'s.
    ///
    /// # Errors
    /// [`Error::Data`] that names the field, the schema's type and the value's.
    pub fn validate(&self, schema: &Schema, field: &str) -> Result<()> {
        let logical = schema.name();
        let fits = match (self, schema.kind()) {
            (Self::Null, _) => {
                if schema.is_optional() || schema.default_value().is_some() {
                    return Ok(());
                }
                return Err(Error::data(format!(
                    "Invalid value: null used for required field: \"{field}\", schema type: {}",
                    schema.kind().name()
                )));
            }
            (Self::Decimal(_), Type::Bytes) => logical == Some(DECIMAL),
            (Self::Date(_), Type::Int32) => logical == Some(DATE),
            (Self::Time(_), Type::Int32) => logical == Some(TIME),
            (Self::Timestamp(_), Type::Int64) => logical == Some(TIMESTAMP),
            (Self::Bytes(_), Type::Bytes) => logical != Some(DECIMAL),
            (Self::Int32(_), Type::Int32) => !matches!(logical, Some(DATE | TIME)),
            (Self::Int64(_), Type::Int64) => logical != Some(TIMESTAMP),
            (Self::Boolean(_), Type::Boolean)
            | (Self::Int8(_), Type::Int8)
            | (Self::Int16(_), Type::Int16)
            | (Self::Float32(_), Type::Float32)
            | (Self::Float64(_), Type::Float64)
            | (Self::String(_), Type::String) => true,
            (Self::Struct(s), Type::Struct) => {
                std::ptr::eq(&**s.schema(), schema)
                    || **s.schema() == *schema
                    || s.schema().fields() == schema.fields()
            }
            (Self::Array(items), Type::Array) => {
                if let Some(of) = schema.value_schema() {
                    items.iter().try_for_each(|item| item.validate(of, field))?;
                }
                true
            }
            (Self::Map(entries), Type::Map) => {
                for (k, v) in entries {
                    if let Some(of) = schema.key_schema() {
                        k.validate(of, field)?;
                    }
                    if let Some(of) = schema.value_schema() {
                        v.validate(of, field)?;
                    }
                }
                true
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Error::data(format!(
            "Invalid Java object for schema{} with type {}: class {} for field: \"{field}\"",
            logical.map(|n| format!(" \"{n}\"")).unwrap_or_default(),
            schema.kind().name(),
            self.class_name()
        )))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Struct> for Value {
    fn from(value: Struct) -> Self {
        Self::Struct(Box::new(value))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! from_number {
    ($($raw:ty => $variant:ident),*) => {$(
        impl From<$raw> for Value {
            fn from(value: $raw) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}
from_number!(bool => Boolean, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64, f32 => Float32, f64 => Float64,
    Bytes => Bytes, ByteString => String, Decimal => Decimal);

/// A value with its schema; data without a schema has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchemaAndValue {
    pub schema: Option<SchemaRef>,
    pub value: Value,
}

impl SchemaAndValue {
    /// Neither schema nor value.
    pub const NULL: Self = Self { schema: None, value: Value::Null };

    pub fn new(schema: Option<SchemaRef>, value: Value) -> Self {
        Self { schema, value }
    }

    pub fn schemaless(value: Value) -> Self {
        Self { schema: None, value }
    }
}
