//! Values as the text of headers, and back: the type is the one that the text looks like.

use std::fmt::Write as _;

use aqueduct_connect_api::data::{DATE, Decimal, TIME, TIMESTAMP};
use aqueduct_connect_api::{Schema, SchemaAndValue, SchemaRef, Type, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::transforms::{DAY, DateFormat, of_its_look};

/// Nested deeper than this, text is text.
const DEPTH: usize = 64;

/// The text of a value; `None` for null.
pub fn to_text(value: &Value) -> Option<String> {
    let mut out = String::new();
    if value.is_null() {
        return None;
    }
    write_value(&mut out, value, false);
    Some(out)
}

fn write_value(out: &mut String, value: &Value, embedded: bool) {
    let _ = match value {
        Value::String(text) if embedded => {
            write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        Value::Bytes(bytes) => write!(out, "{}", STANDARD.encode(bytes)),
        Value::Date(days) => write!(out, "{}", of_its_look(i64::from(*days) * DAY)),
        Value::Time(millis) => write!(out, "{}", of_its_look((*millis).into())),
        Value::Timestamp(millis) => write!(out, "{}", of_its_look(*millis)),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_value(out, item, true);
            }
            out.push(']');
            Ok(())
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_value(out, key, true);
                out.push(':');
                write_value(out, value, true);
            }
            out.push('}');
            Ok(())
        }
        Value::Struct(members) => {
            out.push('{');
            for (index, (field, value)) in members.schema().fields().iter().zip(members.values()).enumerate()
            {
                out.push_str(if index > 0 { "," } else { "" });
                write_value(out, &Value::String(field.name.clone()), true);
                out.push(':');
                write_value(out, value, true);
            }
            out.push('}');
            Ok(())
        }
        other => write!(out, "{other}"),
    };
}

/// The value that a text looks like; text where it looks like nothing else.
pub fn parse(text: &str) -> SchemaAndValue {
    let string = || SchemaAndValue::new(Some(Schema::of(Type::String)), text.into());
    if text.is_empty() {
        return string();
    }
    let mut parser = Parser { text, at: 0 };
    parser.value(false, 0).unwrap_or_else(|NotAValue| string())
}

/// The text is not what it began to look like.
#[derive(Debug)]
struct NotAValue;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn has_next(&self) -> bool {
        self.at < self.text.len()
    }

    /// The next token: a delimiter, or all up to the next one that no backslash stands before.
    fn next(&mut self) -> &'a str {
        let start = self.at;
        let mut escaped = false;
        for (index, c) in self.text[start..].char_indices() {
            match c {
                '\\' => escaped = !escaped,
                ':' | ',' | '{' | '}' | '[' | ']' | '"' if !escaped => {
                    self.at = start + index.max(1);
                    return &self.text[start..self.at];
                }
                _ => escaped = false,
            }
        }
        self.at = self.text.len();
        &self.text[start..]
    }

    fn consume(&mut self, expected: &str) -> bool {
        let start = self.at;
        // Space before a delimiter is a token of its own.
        let mut token = self.next();
        if token.trim().is_empty() && self.has_next() {
            token = self.next();
        }
        let found = token.trim() == expected;
        if !found {
            self.at = start;
        }
        found
    }

    /// A word that stands for a value: alone, or within an array or map.
    fn literal(&mut self, embedded: bool, expected: &str) -> bool {
        let start = self.at;
        if self.consume(expected) && (embedded || !self.has_next()) {
            return true;
        }
        self.at = start;
        false
    }

    fn value(&mut self, embedded: bool, depth: usize) -> Result<SchemaAndValue, NotAValue> {
        if !self.has_next() || depth > DEPTH {
            return Err(NotAValue);
        }
        if embedded && self.consume("\"") {
            return self.quoted();
        }
        if self.literal(embedded, "null") {
            return Ok(SchemaAndValue::NULL);
        }
        for (word, value) in [("true", true), ("false", false)] {
            if self.literal(embedded, word) {
                return Ok(typed(Type::Boolean, value.into()));
            }
        }
        let start = self.at;
        let nested = if self.consume("[") {
            Some(self.array(depth))
        } else if self.consume("{") {
            Some(self.map(depth))
        } else {
            None
        };
        match nested {
            Some(Ok(value)) if embedded || !self.has_next() => return Ok(value),
            Some(_) => self.at = start,
            None => {}
        }
        self.scalar(embedded)
    }

    fn scalar(&mut self, embedded: bool) -> Result<SchemaAndValue, NotAValue> {
        let token = self.next();
        let trimmed = token.trim();
        if trimmed.starts_with(|c: char| c.is_ascii_digit()) {
            let start = self.at;
            // Colons within a time are delimiters: five tokens make a time.
            let rest: String = (0..4).map(|_| self.next()).collect();
            if let Some(value) = temporal(&format!("{token}{rest}")).filter(|_| embedded || !self.has_next())
            {
                return Ok(value);
            }
            self.at = start;
            if let Some(value) = temporal(trimmed).filter(|_| embedded || !self.has_next()) {
                return Ok(value);
            }
        }
        if trimmed.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'))
            && (embedded || !self.has_next())
            && let Some(value) = number(trimmed)
        {
            return Ok(value);
        }
        Err(NotAValue)
    }

    fn quoted(&mut self) -> Result<SchemaAndValue, NotAValue> {
        let mut text = String::new();
        while self.has_next() {
            match self.next() {
                "\"" => {
                    let plain = text.replace("\\\"", "\"").replace("\\\\", "\\");
                    return Ok(typed(Type::String, plain.into()));
                }
                token => text.push_str(token),
            }
        }
        Err(NotAValue)
    }

    fn array(&mut self, depth: usize) -> Result<SchemaAndValue, NotAValue> {
        let (mut items, mut of) = (Vec::new(), Common::default());
        loop {
            if self.consume("]") {
                let schema = match of.schema() {
                    Some(schema) => {
                        items.iter_mut().for_each(|item| widen(item, schema.kind()));
                        Schema::array_builder(schema)
                    }
                    None => Schema::builder(Type::Array),
                };
                return Ok(SchemaAndValue::new(Some(schema.build()), Value::Array(items)));
            }
            if self.consume(",") {
                return Err(NotAValue);
            }
            let item = self.value(true, depth + 1)?;
            of.merge(item.schema);
            items.push(item.value);
            let end = self.at;
            if self.consume("]") {
                self.at = end;
            } else if !self.consume(",") {
                return Err(NotAValue);
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<SchemaAndValue, NotAValue> {
        let (mut entries, mut keys, mut values) = (Vec::new(), Common::default(), Common::default());
        loop {
            if self.consume("}") {
                return Ok(map_of(entries, keys.schema(), values.schema()));
            }
            if self.consume(",") {
                return Err(NotAValue);
            }
            let key = self.value(true, depth + 1)?;
            if key.value.is_null() || !self.consume(":") {
                return Err(NotAValue);
            }
            let value = self.value(true, depth + 1)?;
            keys.merge(key.schema);
            values.merge(value.schema);
            put(&mut entries, key.value, value.value);
            let end = self.at;
            if self.consume("}") {
                self.at = end;
            } else if !self.consume(",") {
                return Err(NotAValue);
            }
        }
    }
}

fn put(entries: &mut Vec<(Value, Value)>, key: Value, value: Value) {
    match entries.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => entries.push((key, value)),
    }
}

fn map_of(
    mut entries: Vec<(Value, Value)>,
    keys: Option<SchemaRef>,
    values: Option<SchemaRef>,
) -> SchemaAndValue {
    let schema = match (keys, values) {
        (Some(keys), Some(values)) => {
            for (key, value) in &mut entries {
                widen(key, keys.kind());
                widen(value, values.kind());
            }
            Schema::map_builder(keys, values)
        }
        _ => Schema::builder(Type::Map),
    };
    SchemaAndValue::new(Some(schema.build()), Value::Map(entries))
}

/// The schema that all items have in common.
#[derive(Default)]
struct Common {
    schema: Option<SchemaRef>,
    differ: bool,
}

impl Common {
    fn merge(&mut self, next: Option<SchemaRef>) {
        let Some(next) = next else { return };
        let Some(schema) = &self.schema else {
            self.schema = Some(next);
            return;
        };
        if *schema == next {
            return;
        }
        match (rank(schema.kind()), rank(next.kind())) {
            (Some(a), Some(b)) if schema.name().is_none() && next.name().is_none() => {
                if b > a {
                    self.schema = Some(next);
                }
            }
            _ => self.differ = true,
        }
    }

    fn schema(&self) -> Option<SchemaRef> {
        self.schema.clone().filter(|_| !self.differ)
    }
}

/// Numbers, from the narrowest to the widest.
fn rank(kind: Type) -> Option<u8> {
    [Type::Int8, Type::Int16, Type::Int32, Type::Int64, Type::Float32, Type::Float64]
        .iter()
        .position(|of| *of == kind)
        .map(|rank| rank as u8)
}

fn widen(value: &mut Value, kind: Type) {
    let widened = match (kind, &*value) {
        (_, Value::Null) => return,
        (Type::Float32, v) => v.as_i64().map(|n| Value::Float32(n as f32)),
        (Type::Float64, Value::Float32(v)) => Some(Value::Float64((*v).into())),
        (Type::Float64, v) => v.as_i64().map(|n| Value::Float64(n as f64)),
        (Type::Int16, v) => v.as_i64().map(|n| Value::Int16(n as i16)),
        (Type::Int32, v) => v.as_i64().map(|n| Value::Int32(n as i32)),
        (Type::Int64, v) => v.as_i64().map(Value::Int64),
        _ => None,
    };
    if let Some(widened) = widened {
        *value = widened;
    }
}

fn typed(kind: Type, value: Value) -> SchemaAndValue {
    SchemaAndValue::new(Some(Schema::of(kind)), value)
}

/// A date, time or timestamp, told apart by its length.
fn temporal(text: &str) -> Option<SchemaAndValue> {
    let text = text.replace('\\', "");
    let text = text.trim();
    let (pattern, name) = match text.len() {
        10 => ("yyyy-MM-dd", DATE),
        13 => ("HH:mm:ss.SSS'Z'", TIME),
        24 => ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", TIMESTAMP),
        _ => return None,
    };
    let format = DateFormat::new(pattern).ok()?;
    let millis = format.parse(text)?;
    let (schema, value) = match name {
        DATE => (Schema::date_builder(), Value::Date(millis.div_euclid(DAY) as i32)),
        TIME => (Schema::time_builder(), Value::Time(millis.rem_euclid(DAY) as i32)),
        _ => (Schema::timestamp_builder(), Value::Timestamp(millis)),
    };
    Some(SchemaAndValue::new(Some(schema.build()), value))
}

/// The narrowest integer, else a float, else a decimal.
fn number(text: &str) -> Option<SchemaAndValue> {
    let decimal: Decimal = text.parse().ok()?;
    if let Some(whole) = decimal.with_scale(0)
        && let Ok(n) = whole.to_plain_string().parse::<i64>()
    {
        return Some(if let Ok(n) = i8::try_from(n) {
            typed(Type::Int8, n.into())
        } else if let Ok(n) = i16::try_from(n) {
            typed(Type::Int16, n.into())
        } else if let Ok(n) = i32::try_from(n) {
            typed(Type::Int32, n.into())
        } else {
            typed(Type::Int64, n.into())
        });
    }
    let double = decimal.to_f64();
    let single: f32 = decimal.to_string().parse().unwrap_or(f32::INFINITY);
    Some(if decimal.scale != 0 && single.is_finite() {
        typed(Type::Float32, single.into())
    } else if decimal.scale != 0 && double.is_finite() {
        typed(Type::Float64, double.into())
    } else {
        SchemaAndValue::new(Some(Schema::decimal_builder(decimal.scale).build()), decimal.into())
    })
}
