//! `Cast`: fields, or the whole key or value, as another primitive type.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Importance, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Record, Result, Schema, SchemaAndValue, SchemaRef, Struct,
    Transformation, Type, Value, data::Decimal,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{
    Last, REPLACE_NULL, Side, basics, both_sides, date_format, or_default, put, replace_null_key,
    require_map, require_struct,
};

const PURPOSE: &str = "cast types";
const OUTPUTS: &str = "INT8, INT16, INT32, INT64, FLOAT32, FLOAT64, BOOLEAN, STRING";

/// What is cast, and to which type.
#[derive(Debug)]
enum Spec {
    Whole(Type),
    Fields(Vec<(String, Type)>),
}

impl Spec {
    fn parse(items: &[String]) -> std::result::Result<Self, String> {
        let mut fields = Vec::with_capacity(items.len());
        let mut whole = None;
        for item in items {
            match item.split(':').collect::<Vec<_>>()[..] {
                [kind] => whole = Some(output_type(kind)?),
                [field, kind] => fields.push((field.trim().to_owned(), output_type(kind)?)),
                _ => return Err(format!("Invalid rename mapping: {item}")),
            }
        }
        match whole {
            Some(_) if items.len() > 1 => Err(
                "Cast transformations that specify a type to cast the entire value to may ony specify a single cast in their spec"
                    .to_owned(),
            ),
            Some(kind) => Ok(Self::Whole(kind)),
            None => Ok(Self::Fields(fields)),
        }
    }

    fn target(&self, name: &str) -> Option<Type> {
        match self {
            Self::Whole(_) => None,
            Self::Fields(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind),
        }
    }
}

fn output_type(text: &str) -> std::result::Result<Type, String> {
    const TYPES: [Type; 8] = [
        Type::Int8,
        Type::Int16,
        Type::Int32,
        Type::Int64,
        Type::Float32,
        Type::Float64,
        Type::Boolean,
        Type::String,
    ];
    let name = text.trim().to_ascii_uppercase();
    TYPES.into_iter().find(|kind| kind.name() == name).ok_or_else(|| match &*name {
        "BYTES" | "ARRAY" | "MAP" | "STRUCT" => {
            format!("Cast transformation does not support casting to {name}; supported types are [{OUTPUTS}]")
        }
        _ => format!("Invalid type found in casting spec: {}", text.trim()),
    })
}

/// Casts to primitive types.
#[derive(Debug)]
pub struct Cast {
    side: Side,
    spec: Spec,
    use_default: bool,
    schemas: Last<SchemaRef>,
}

impl Cast {
    fn new(side: Side) -> Self {
        Self { side, spec: Spec::Fields(Vec::new()), use_default: true, schemas: Last::NONE }
    }

    fn without_schema(&self, value: Value) -> Result<Value> {
        if let Spec::Whole(kind) = self.spec {
            return cast(None, value, kind);
        }
        let Spec::Fields(fields) = &self.spec else { return Ok(value) };
        let mut entries = require_map(value, PURPOSE)?;
        for (name, kind) in fields {
            let old =
                entries.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value.clone());
            put(&mut entries, name, cast(None, old.unwrap_or_default(), *kind)?);
        }
        Ok(Value::Map(entries))
    }

    fn with_schema(&mut self, schema: &SchemaRef, value: Value) -> Result<SchemaAndValue> {
        let spec = &self.spec;
        let updated = self.schemas.get(schema, |schema| cast_schema(spec, schema))?.clone();
        let value = match spec {
            Spec::Whole(kind) => cast(Some(schema), value, *kind)?,
            Spec::Fields(_) => {
                let members = require_struct(value, PURPOSE)?.into_values();
                let casted = members.into_iter().zip(schema.fields()).map(|(value, field)| {
                    let value = or_default(value, &field.schema, self.use_default);
                    spec.target(&field.name).map_or_else(
                        || Ok(value.clone()),
                        |kind| cast(Some(&field.schema), value.clone(), kind),
                    )
                });
                Struct::from_values(updated.clone(), casted.collect::<Result<_>>()?).into()
            }
        };
        Ok(SchemaAndValue::new(Some(updated), value))
    }
}

fn cast_schema(spec: &Spec, schema: &SchemaRef) -> Result<SchemaRef> {
    let mut builder = match spec {
        Spec::Whole(kind) => basics(schema, *kind),
        Spec::Fields(_) => {
            let mut builder = basics(schema, Type::Struct);
            for field in schema.fields() {
                let of = match spec.target(&field.name) {
                    Some(kind) => cast_field(&field.schema, kind)?,
                    None => field.schema.clone(),
                };
                builder = builder.field(field.name.clone(), of);
            }
            builder
        }
    };
    if schema.is_optional() {
        builder = builder.optional();
    }
    if let (Spec::Whole(kind), Some(default)) = (spec, schema.default_value()) {
        builder = builder.default_value(cast(Some(schema), default.clone(), *kind)?);
    }
    Ok(builder.build())
}

fn cast_field(schema: &SchemaRef, kind: Type) -> Result<SchemaRef> {
    let mut builder = Schema::builder(kind);
    if schema.is_optional() {
        builder = builder.optional();
    }
    if let Some(default) = schema.default_value() {
        builder = builder.default_value(cast(Some(schema), default.clone(), kind)?);
    }
    Ok(builder.build())
}

/// One value as `target`, by Java's rules of narrowing and parsing.
fn cast(schema: Option<&SchemaRef>, value: Value, target: Type) -> Result<Value> {
    let input = schema.map_or_else(|| kind_of(&value), |schema| Some(schema.kind()));
    match input {
        None => return Ok(Value::Null),
        Some(kind @ (Type::Array | Type::Map | Type::Struct)) => {
            return Err(Error::data(format!(
                "Cast transformation does not support casting from {}; supported types are [{OUTPUTS}, BYTES]",
                kind.name()
            )));
        }
        Some(_) if value.is_null() => return Ok(Value::Null),
        Some(_) => {}
    }
    if target == Type::String {
        return Ok(text(&value).into());
    }
    let number = number(&value, target)?;
    Ok(match (target, number) {
        (Type::Boolean, Number::Text(text)) => text.eq_ignore_ascii_case("true").into(),
        (Type::Boolean, number) => (number.long() != 0).into(),
        (Type::Float32, Number::Text(text)) => (float(&text)? as f32).into(),
        (Type::Float64, Number::Text(text)) => float(&text)?.into(),
        (Type::Float32, number) => number.float().into(),
        (Type::Float64, number) => number.double().into(),
        (Type::Int8, Number::Text(text)) => integer::<i8>(&text)?.into(),
        (Type::Int16, Number::Text(text)) => integer::<i16>(&text)?.into(),
        (Type::Int32, Number::Text(text)) => integer::<i32>(&text)?.into(),
        (_, Number::Text(text)) => integer::<i64>(&text)?.into(),
        (Type::Int8, number) => (number.int() as i8).into(),
        (Type::Int16, number) => (number.int() as i16).into(),
        (Type::Int32, number) => number.int().into(),
        (_, number) => number.long().into(),
    })
}

/// The type of a value without a schema; `None` for null.
fn kind_of(value: &Value) -> Option<Type> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(_) => Type::Boolean,
        Value::Int8(_) => Type::Int8,
        Value::Int16(_) => Type::Int16,
        Value::Int32(_) | Value::Date(_) | Value::Time(_) => Type::Int32,
        Value::Int64(_) | Value::Timestamp(_) => Type::Int64,
        Value::Float32(_) => Type::Float32,
        Value::Float64(_) => Type::Float64,
        Value::String(_) => Type::String,
        Value::Bytes(_) | Value::Decimal(_) => Type::Bytes,
        Value::Array(_) => Type::Array,
        Value::Map(_) => Type::Map,
        Value::Struct(_) => Type::Struct,
    })
}

enum Number {
    Long(i64),
    Float(f32),
    Double(f64),
    Text(String),
}

impl Number {
    fn long(&self) -> i64 {
        match self {
            Self::Long(v) => *v,
            Self::Float(v) => *v as i64,
            Self::Double(v) => *v as i64,
            Self::Text(_) => 0,
        }
    }

    /// Integers lose their upper bits, floats stop at the ends of the range, as in Java.
    fn int(&self) -> i32 {
        match self {
            Self::Float(v) => *v as i32,
            Self::Double(v) => *v as i32,
            other => other.long() as i32,
        }
    }

    fn float(&self) -> f32 {
        match self {
            Self::Float(v) => *v,
            Self::Double(v) => *v as f32,
            other => other.long() as f32,
        }
    }

    fn double(&self) -> f64 {
        match self {
            Self::Float(v) => f64::from(*v),
            Self::Double(v) => *v,
            other => other.long() as f64,
        }
    }
}

fn number(value: &Value, target: Type) -> Result<Number> {
    Ok(match value {
        Value::Boolean(v) => Number::Long((*v).into()),
        Value::Float32(v) => Number::Float(*v),
        Value::Float64(v) => Number::Double(*v),
        Value::String(v) => Number::Text(v.to_string()),
        Value::Decimal(v) if matches!(target, Type::Float32 | Type::Float64) => Number::Double(v.to_f64()),
        Value::Decimal(v) => Number::Long(whole(v)?),
        Value::Date(v) | Value::Time(v) => Number::Long((*v).into()),
        Value::Timestamp(v) => Number::Long(*v),
        other => Number::Long(other.as_i64().ok_or_else(|| {
            Error::data(format!("Unexpected type in Cast transformation: class {}", other.class_name()))
        })?),
    })
}

fn out_of_range(text: &str) -> Error {
    Error::data(format!("Value ({text}) was out of range for requested data type"))
}

fn integer<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| out_of_range(text))
}

/// A float in Java's form: space around it is fine, and it may end in `d` or `f`.
fn float(text: &str) -> Result<f64> {
    let trimmed = text.trim();
    let digits = trimmed.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(trimmed);
    match digits.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        true => digits.parse().map_err(|_| out_of_range(text)),
        false => match trimmed {
            "NaN" | "+NaN" | "-NaN" => Ok(f64::NAN),
            "Infinity" | "+Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(out_of_range(text)),
        },
    }
}

/// The whole part of a decimal, its upper bits lost.
fn whole(decimal: &Decimal) -> Result<i64> {
    let text = decimal.to_plain_string();
    let whole = text.split_once('.').map_or(&*text, |(whole, _)| whole);
    whole.parse::<i128>().map(|v| v as i64).map_err(|_| out_of_range(&text))
}

fn text(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => STANDARD.encode(bytes),
        Value::Date(days) => date_format::of_its_look(i64::from(*days) * date_format::DAY),
        Value::Time(millis) => date_format::of_its_look((*millis).into()),
        Value::Timestamp(millis) => date_format::of_its_look(*millis),
        other => other.to_string(),
    }
}

impl Transformation for Cast {
    fn configure(&mut self, config: &Config) -> Result<()> {
        let items = config.list("spec");
        self.spec = Spec::parse(items).map_err(|why| Error::config("spec", items.join(","), why))?;
        self.use_default = config.boolean(REPLACE_NULL);
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if self.side.of(&mut record).value.is_null() {
            return Ok(Some(record));
        }
        let half = std::mem::take(self.side.of(&mut record));
        *self.side.of(&mut record) = match &half.schema {
            None => SchemaAndValue::schemaless(self.without_schema(half.value)?),
            Some(schema) => self.with_schema(schema, half.value)?,
        };
        Ok(Some(record))
    }
}

fn spec_rule(value: &ConfigValue) -> std::result::Result<(), String> {
    match value {
        ConfigValue::List(items) if items.is_empty() => {
            Err("Must specify at least one field to cast.".to_owned())
        }
        ConfigValue::List(items) => Spec::parse(items).map(drop),
        _ => Ok(()),
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::required(
                "spec",
                ConfigType::List,
                "FIELD:TYPE pairs, such as a:int32,b:string, or one TYPE for the whole key or value. Types: int8, int16, int32, int64, float32, float64, boolean, string.",
            )
            .importance(Importance::High)
            .validator(Validator::Check(spec_rule)),
        )
        .key(replace_null_key())
}

both_sides!("Cast", Cast);
