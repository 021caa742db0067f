//! `TimestampConverter`: timestamps as text, numbers or logical types, from any of these.

use aqueduct_connect_api::config::{ConfigType, Importance, Validator};
use aqueduct_connect_api::data::{DATE, TIME, TIMESTAMP};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Record, Result, Schema, SchemaAndValue, SchemaRef, Struct,
    Transformation, Type, Value,
};

use super::date_format::{DAY, DateFormat};
use super::{
    Last, REPLACE_NULL, Side, basics, both_sides, or_default, put, replace_null_key, require_map,
    require_struct,
};

const PURPOSE: &str = "converting timestamp formats";
const KINDS: &[&str] = &["string", "unix", "Date", "Time", "Timestamp"];
const PRECISIONS: &[&str] = &["nanoseconds", "microseconds", "milliseconds", "seconds"];

/// The forms of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Unix,
    Date,
    Time,
    Timestamp,
}

impl Form {
    fn of_schema(schema: &Schema) -> Result<Self> {
        Ok(match (schema.name(), schema.kind()) {
            (Some(TIMESTAMP), _) => Self::Timestamp,
            (Some(DATE), _) => Self::Date,
            (Some(TIME), _) => Self::Time,
            (_, Type::String) => Self::Text,
            (_, Type::Int64) => Self::Unix,
            (name, kind) => {
                let name = name.map(|name| format!("{name}:")).unwrap_or_default();
                return Err(Error::connect(format!(
                    "Schema Schema{{{name}{}}} does not correspond to a known timestamp type format",
                    kind.name()
                )));
            }
        })
    }

    fn of_value(value: &Value) -> Result<Self> {
        Ok(match value {
            Value::Date(_) | Value::Time(_) | Value::Timestamp(_) => Self::Timestamp,
            Value::Int64(_) => Self::Unix,
            Value::String(_) => Self::Text,
            other => {
                return Err(Error::data(format!(
                    "TimestampConverter does not support class {} objects as timestamps",
                    other.class_name()
                )));
            }
        })
    }

    fn schema(self, optional: bool) -> SchemaRef {
        let builder = match self {
            Self::Text => Schema::builder(Type::String),
            Self::Unix => Schema::builder(Type::Int64),
            Self::Date => Schema::date_builder(),
            Self::Time => Schema::time_builder(),
            Self::Timestamp => Schema::timestamp_builder(),
        };
        if optional { builder.optional().build() } else { builder.build() }
    }
}

/// Unix numbers of a precision: so many of them, or so many milliseconds each.
#[derive(Clone, Copy, Debug)]
enum Precision {
    PerMilli(i64),
    Millis(i64),
}

/// Converts timestamps.
#[derive(Debug)]
pub struct TimestampConverter {
    side: Side,
    field: String,
    target: Form,
    format: Option<DateFormat>,
    precision: Precision,
    use_default: bool,
    schemas: Last<SchemaRef>,
}

impl TimestampConverter {
    fn new(side: Side) -> Self {
        Self {
            side,
            field: String::new(),
            target: Form::Timestamp,
            format: None,
            precision: Precision::PerMilli(1),
            use_default: true,
            schemas: Last::NONE,
        }
    }

    fn convert(&self, value: &Value, from: Option<Form>) -> Result<Value> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let from = from.map_or_else(|| Form::of_value(value), Ok)?;
        Ok(self.written(self.millis(value, from)?))
    }

    fn millis(&self, value: &Value, from: Form) -> Result<i64> {
        let unexpected = |expected: &str| {
            Error::data(format!("Expected {expected}, but found class {}", value.class_name()))
        };
        match (from, value) {
            (Form::Text, Value::String(text)) => {
                let Some(format) = &self.format else {
                    return Err(Error::data(format!(
                        "Could not parse timestamp: value ({text}) is text, and no format is set"
                    )));
                };
                format.parse(text).ok_or_else(|| {
                    Error::data(format!(
                        "Could not parse timestamp: value ({text}) does not match pattern ({})",
                        format.pattern()
                    ))
                })
            }
            (Form::Text, _) => Err(unexpected("string timestamp to be a String")),
            (Form::Unix, Value::Int64(number)) => Ok(match self.precision {
                Precision::PerMilli(count) => number / count,
                Precision::Millis(millis) => number.saturating_mul(millis),
            }),
            (Form::Unix, _) => Err(unexpected("Unix timestamp to be a Long")),
            (_, Value::Date(days)) => Ok(i64::from(*days) * DAY),
            (_, Value::Time(millis)) => Ok((*millis).into()),
            (_, Value::Timestamp(millis)) => Ok(*millis),
            (_, _) => Err(unexpected("a logical date, time or timestamp")),
        }
    }

    fn written(&self, millis: i64) -> Value {
        match self.target {
            Form::Text => self.format.as_ref().map(|format| format.format(millis)).unwrap_or_default().into(),
            Form::Unix => match self.precision {
                Precision::PerMilli(count) => millis.saturating_mul(count).into(),
                Precision::Millis(each) => (millis / each).into(),
            },
            Form::Date => Value::Date(millis.div_euclid(DAY) as i32),
            Form::Time => Value::Time(millis.rem_euclid(DAY) as i32),
            Form::Timestamp => Value::Timestamp(millis),
        }
    }

    fn without_schema(&self, value: Value) -> Result<Value> {
        if value.is_null() || self.field.is_empty() {
            return self.convert(&value, None);
        }
        let mut entries = require_map(value, PURPOSE)?;
        let found = entries.iter().find(|(key, _)| key.as_str() == Some(&self.field));
        let converted = found.map(|(_, value)| self.convert(value, None)).transpose()?.unwrap_or_default();
        put(&mut entries, &self.field, converted);
        Ok(Value::Map(entries))
    }

    fn with_schema(&mut self, schema: &SchemaRef, value: Value) -> Result<SchemaAndValue> {
        if self.field.is_empty() {
            let converted = self.convert(&value, Some(Form::of_schema(schema)?))?;
            return Ok(SchemaAndValue::new(Some(self.target.schema(schema.is_optional())), converted));
        }
        let (field, target) = (&self.field, self.target);
        let updated = self.schemas.get(schema, |schema| {
            let builder = schema.fields().iter().fold(basics(schema, Type::Struct), |b, of| {
                let converted = of.name == field.as_str();
                let of_field =
                    if converted { target.schema(of.schema.is_optional()) } else { of.schema.clone() };
                b.field(of.name.clone(), of_field)
            });
            Ok(if schema.is_optional() { builder.optional().build() } else { builder.build() })
        })?;
        let updated = updated.clone();
        if value.is_null() {
            return Ok(SchemaAndValue::new(Some(updated), Value::Null));
        }
        let members = require_struct(value, PURPOSE)?.into_values();
        let values = members.into_iter().zip(schema.fields()).map(|(value, of)| {
            let value = or_default(value, &of.schema, self.use_default);
            if of.name == self.field.as_str() {
                self.convert(&value, Some(Form::of_schema(&of.schema)?))
            } else {
                Ok(value)
            }
        });
        let value = Struct::from_values(updated.clone(), values.collect::<Result<_>>()?).into();
        Ok(SchemaAndValue::new(Some(updated), value))
    }
}

impl Transformation for TimestampConverter {
    fn configure(&mut self, config: &Config) -> Result<()> {
        config.text("field").clone_into(&mut self.field);
        self.target = match config.text("target.type") {
            "string" => Form::Text,
            "unix" => Form::Unix,
            "Date" => Form::Date,
            "Time" => Form::Time,
            _ => Form::Timestamp,
        };
        self.precision = match config.text("unix.precision") {
            "nanoseconds" => Precision::PerMilli(1_000_000),
            "microseconds" => Precision::PerMilli(1_000),
            "seconds" => Precision::Millis(1_000),
            _ => Precision::PerMilli(1),
        };
        let format = config.text("format");
        if self.target == Form::Text && format.trim().is_empty() {
            return Err(Error::config(
                "format",
                format,
                "TimestampConverter requires format option to be specified when using string timestamps",
            ));
        }
        self.format = match format.trim() {
            "" => None,
            _ => Some(DateFormat::new(format).map_err(|why| {
                Error::config(
                    "format",
                    format,
                    format!(
                        "TimestampConverter requires a SimpleDateFormat-compatible pattern for string timestamps: {format}: {why}"
                    ),
                )
            })?),
        };
        self.use_default = config.boolean(REPLACE_NULL);
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let half = std::mem::take(self.side.of(&mut record));
        *self.side.of(&mut record) = match &half.schema {
            None => SchemaAndValue::schemaless(self.without_schema(half.value)?),
            Some(schema) => self.with_schema(schema, half.value)?,
        };
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::with_default(
                "field",
                ConfigType::String,
                "",
                "The field with the timestamp; empty where the whole key or value is one.",
            )
            .importance(Importance::High),
        )
        .key(
            ConfigKey::required(
                "target.type",
                ConfigType::String,
                "What to convert to: string, unix, Date, Time or Timestamp.",
            )
            .importance(Importance::High)
            .validator(Validator::OneOf(KINDS)),
        )
        .key(
            ConfigKey::with_default(
                "format",
                ConfigType::String,
                "",
                "Pattern of timestamps that are text, in the letters of Java's SimpleDateFormat; in UTC.",
            )
            .importance(Importance::Medium),
        )
        .key(
            ConfigKey::with_default(
                "unix.precision",
                ConfigType::String,
                "milliseconds",
                "Unit of Unix timestamps: seconds, milliseconds, microseconds or nanoseconds.",
            )
            .validator(Validator::OneOf(PRECISIONS)),
        )
        .key(replace_null_key())
}

both_sides!("TimestampConverter", TimestampConverter);
