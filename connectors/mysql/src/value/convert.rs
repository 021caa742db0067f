//! From raw values to what topics carry.

use aqueduct_connect_api::{Decimal, Schema, SchemaRef, Struct, Type, Value};
use bytes::Bytes;
use bytestring::ByteString;

use super::time::{parse_date_time, parse_time, zoned_text};
use super::{CivilDate, CivilTime, Raw, base64};
use crate::binlog::json;
use crate::table::{Column, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMode {
    Precise,
    Double,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    AdaptiveMicroseconds,
    Connect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryMode {
    Bytes,
    Base64,
    Base64Url,
    Hex,
}

/// The choices that the user has about forms.
#[derive(Clone, Copy, Debug)]
pub struct Modes {
    pub decimal: DecimalMode,
    pub time: TimeMode,
    pub binary: BinaryMode,
    /// BIGINT UNSIGNED as a decimal instead of a signed long.
    pub precise_unsigned: bool,
    /// Move years of one or two digits.
    pub adjust_years: bool,
    /// Give comments of columns as documentation of their schemas.
    pub comments: bool,
}

/// Turns raw values of one column into values of one schema.
#[derive(Clone, Debug)]
pub struct Codec {
    column: Column,
    modes: Modes,
    schema: SchemaRef,
}

impl Codec {
    /// `None` where the type has no form.
    pub fn new(column: &Column, modes: Modes) -> Option<Self> {
        let bare = schema_builder(column, modes)?;
        let mut codec = Self { column: column.clone(), modes, schema: bare.clone().build() };
        let mut builder = if column.optional { bare.optional() } else { bare };
        if let Some(comment) = column.comment.as_ref().filter(|_| modes.comments) {
            builder = builder.doc(comment.as_str());
        }
        if let Some(default) = codec.default_value() {
            builder = builder.default_value(default);
        }
        codec.schema = builder.build();
        Some(codec)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The value, or the reason why it is none of the column's.
    pub fn convert(&self, raw: &Raw<'_>) -> Result<Value, String> {
        let kind = &self.column.kind;
        Ok(match (kind, raw) {
            (_, Raw::Null) => Value::Null,
            (Kind::Bit(1), Raw::Bytes(b)) => Value::Boolean(b.iter().any(|b| *b != 0)),
            (Kind::Bit(_), Raw::Bytes(b)) => Value::Bytes(b.iter().rev().copied().collect()),
            (
                Kind::TinyInt | Kind::SmallInt | Kind::MediumInt | Kind::Int | Kind::BigInt | Kind::Year,
                raw,
            ) => self.integer(raw)?,
            (Kind::Float { scaled: false }, Raw::Float(v)) => Value::Float32(*v),
            (Kind::Float { .. }, Raw::Float(v)) => Value::Float64((*v).into()),
            (Kind::Double, Raw::Double(v)) => Value::Float64(*v),
            (Kind::Float { scaled: false }, Raw::Utf8(t)) => Value::Float32(parse(t)?),
            (Kind::Float { .. } | Kind::Double, Raw::Utf8(t)) => Value::Float64(parse(t)?),
            (Kind::Decimal { scale, .. }, Raw::Decimal(d)) => self.decimal(d.clone(), *scale)?,
            (Kind::Decimal { scale, .. }, Raw::Utf8(t)) => self.decimal(parse(t)?, *scale)?,
            (Kind::Text(charset), Raw::Bytes(b)) => Value::String(
                charset.decode(b).map_err(|name| format!("text of charset {name} cannot be decoded"))?,
            ),
            (Kind::Text(_) | Kind::Enum(_) | Kind::Set(_) | Kind::Json, Raw::Utf8(t)) => {
                Value::String(utf8(t))
            }
            (Kind::Binary { fixed }, Raw::Bytes(b) | Raw::Utf8(b)) => self.binary(b, *fixed),
            (Kind::Json, Raw::Json(b)) => Value::String(json::to_text(b).map_err(|e| e.0)?.into()),
            (Kind::Enum(options), Raw::UInt(0)) if !options.is_empty() => Value::String(ByteString::new()),
            (Kind::Enum(options), Raw::UInt(n)) => {
                let index = usize::try_from(*n).ok().and_then(|n| n.checked_sub(1));
                let option = index.and_then(|i| options.get(i));
                Value::String(option.cloned().ok_or_else(|| format!("option {n} of {}", options.len()))?)
            }
            (Kind::Set(options), Raw::UInt(bits)) => Value::String(set_text(options, *bits)?.into()),
            (Kind::Date, Raw::Date(d) | Raw::DateTime(d, _)) => self.date(*d),
            (Kind::Time(_), Raw::Time(micros)) => self.time(*micros),
            (Kind::DateTime(digits), Raw::DateTime(d, t)) => self.date_time(*d, *t, *digits),
            (Kind::DateTime(digits), Raw::Date(d)) => self.date_time(*d, CivilTime::default(), *digits),
            (Kind::Timestamp(digits), Raw::Timestamp { seconds, micros }) => {
                self.timestamp(*seconds, *micros, *digits)
            }
            // result sets give timestamps as civil times; the session's time zone is UTC
            (Kind::Timestamp(digits), Raw::DateTime(d, t)) if !d.is_zero() => {
                let micros = d.days() * 86_400_000_000 + t.micros_of_day();
                let micro = micros.rem_euclid(1_000_000) as u32;
                self.timestamp(micros.div_euclid(1_000_000), micro, *digits)
            }
            (Kind::Timestamp(digits), Raw::DateTime(..)) => self.timestamp(0, 0, *digits),
            (Kind::Point | Kind::Geometry, Raw::Bytes(b)) => self.geometry(b)?,
            (Kind::Vector, Raw::Bytes(b)) => Value::Array(
                b.chunks_exact(4)
                    .map(|c| Value::Float32(f32::from_le_bytes([c[0], c[1], c[2], c[3]])))
                    .collect(),
            ),
            (kind, raw) => return Err(format!("{raw:?} in a column of {kind:?}")),
        })
    }

    fn integer(&self, raw: &Raw<'_>) -> Result<Value, String> {
        let (signed, full) = match raw {
            Raw::Int(n) => (*n, i128::from(*n)),
            Raw::UInt(n) => (*n as i64, i128::from(*n)),
            Raw::Utf8(t) | Raw::Bytes(t) => {
                let n: i128 = parse(t)?;
                (n as i64, n)
            }
            other => return Err(format!("{other:?} is no integer")),
        };
        let misfit = || format!("{full} is out of range");
        Ok(match self.schema.kind() {
            Type::Int16 => Value::Int16(full.try_into().map_err(|_| misfit())?),
            Type::Int32 => Value::Int32(full.try_into().map_err(|_| misfit())?),
            Type::Bytes => Value::Decimal(Decimal::new(full, 0)),
            _ => Value::Int64(signed),
        })
    }

    fn decimal(&self, decimal: Decimal, scale: u32) -> Result<Value, String> {
        let decimal =
            decimal.with_scale(scale as i32).ok_or_else(|| format!("{decimal} has no scale {scale}"))?;
        Ok(match self.modes.decimal {
            DecimalMode::Precise => Value::Decimal(decimal),
            DecimalMode::Double => Value::Float64(decimal.to_f64()),
            DecimalMode::Text => Value::String(decimal.to_plain_string().into()),
        })
    }

    fn binary(&self, bytes: &[u8], fixed: Option<usize>) -> Value {
        let mut bytes = bytes.to_vec();
        if let Some(len) = fixed {
            bytes.resize(len.max(bytes.len()), 0);
        }
        match self.modes.binary {
            BinaryMode::Bytes => Value::Bytes(bytes.into()),
            BinaryMode::Base64 => base64(&bytes, false).into(),
            BinaryMode::Base64Url => base64(&bytes, true).into(),
            BinaryMode::Hex => bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
        }
    }

    /// Null, or the epoch where null is not allowed: what becomes of the server's zero dates.
    fn zero(&self, epoch: Value) -> Value {
        if self.column.optional { Value::Null } else { epoch }
    }

    fn adjusted(&self, date: CivilDate) -> CivilDate {
        if self.modes.adjust_years { date.adjusted() } else { date }
    }

    fn date(&self, date: CivilDate) -> Value {
        let form = |days| match self.modes.time {
            TimeMode::AdaptiveMicroseconds => Value::Int32(days),
            TimeMode::Connect => Value::Date(days),
        };
        if date.is_zero() {
            return self.zero(form(0));
        }
        form(self.adjusted(date).days() as i32)
    }

    fn time(&self, micros: i64) -> Value {
        match self.modes.time {
            TimeMode::AdaptiveMicroseconds => Value::Int64(micros),
            TimeMode::Connect => Value::Time((micros / 1000) as i32),
        }
    }

    fn date_time(&self, date: CivilDate, time: CivilTime, digits: u8) -> Value {
        let form = |micros: i64| match self.modes.time {
            TimeMode::AdaptiveMicroseconds if digits > 3 => Value::Int64(micros),
            TimeMode::AdaptiveMicroseconds => Value::Int64(micros.div_euclid(1000)),
            TimeMode::Connect => Value::Timestamp(micros.div_euclid(1000)),
        };
        if date.is_zero() {
            return self.zero(form(0));
        }
        form(self.adjusted(date).days() * 86_400_000_000 + time.micros_of_day())
    }

    fn timestamp(&self, seconds: i64, micros: u32, digits: u8) -> Value {
        if (seconds, micros) == (0, 0) {
            return self.zero("1970-01-01T00:00:00Z".into());
        }
        zoned_text(seconds, micros, digits).into()
    }

    fn geometry(&self, bytes: &[u8]) -> Result<Value, String> {
        let (srid, wkb) = bytes.split_at_checked(4).ok_or("geometry without SRID")?;
        let srid = srid.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b)) as i32;
        let srid = if srid == 0 { Value::Null } else { Value::Int32(srid) };
        let wkb_value = Value::Bytes(Bytes::copy_from_slice(wkb));
        if self.column.kind == Kind::Geometry {
            return Ok(Struct::from_values(self.schema.clone(), vec![wkb_value, srid]).into());
        }
        // byte order 1 = little endian, type 1 = point, two doubles
        let coordinate =
            |at: usize| wkb.get(at..at + 8).and_then(|b| b.try_into().ok()).map(f64::from_le_bytes);
        match (wkb.get(..5), coordinate(5), coordinate(13)) {
            (Some([1, 1, 0, 0, 0]), Some(x), Some(y)) => {
                Ok(Struct::from_values(self.schema.clone(), vec![x.into(), y.into(), wkb_value, srid]).into())
            }
            _ => Err("POINT is not a little-endian point".to_owned()),
        }
    }

    fn default_value(&self) -> Option<Value> {
        let text = self.column.default.as_deref()?;
        let raw = match &self.column.kind {
            Kind::Bit(1) => return Some(Value::Boolean(text.contains('1') || text == "\u{1}")),
            Kind::Bit(width) => {
                let number = u64::from_str_radix(text, 2).ok()?;
                let len = width.div_ceil(8) as usize;
                return Some(Value::Bytes(Bytes::copy_from_slice(&number.to_le_bytes()[..len.min(8)])));
            }
            Kind::TinyInt | Kind::SmallInt | Kind::MediumInt | Kind::Int | Kind::BigInt | Kind::Year => {
                let rounded = text.trim().parse::<i128>().ok().or_else(|| {
                    let n: f64 = text.trim().parse().ok()?;
                    Some(n.round() as i128)
                })?;
                return self.convert(&Raw::Utf8(rounded.to_string().as_bytes())).ok();
            }
            Kind::Date | Kind::DateTime(_) | Kind::Timestamp(_) => {
                let (date, time) = parse_date_time(text.trim())?;
                // a moment's default has no meaning for a column that may be null
                let is_epoch = date.days() == 0 && time == CivilTime::default();
                if is_epoch && self.column.optional && matches!(self.column.kind, Kind::Timestamp(_)) {
                    return None;
                }
                Raw::DateTime(date, time)
            }
            Kind::Time(_) => Raw::Time(parse_time(text.trim())?),
            Kind::Json | Kind::Point | Kind::Geometry | Kind::Vector | Kind::Unsupported => return None,
            _ => Raw::Utf8(text.as_bytes()),
        };
        match (&raw, &self.column.kind) {
            (Raw::Utf8(t), Kind::Decimal { scale, .. }) => {
                let decimal: Decimal = parse(t).ok()?;
                self.decimal(decimal, *scale).ok()
            }
            _ => self.convert(&raw).ok().filter(|v| !v.is_null()),
        }
    }
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Result<T, String> {
    let text = String::from_utf8_lossy(text);
    text.trim().parse().map_err(|_| format!("\"{text}\" is no number"))
}

fn utf8(text: &[u8]) -> ByteString {
    String::from_utf8_lossy(text).into_owned().into()
}

fn set_text(options: &[ByteString], bits: u64) -> Result<String, String> {
    let mut text = String::new();
    for index in (0..64).filter(|i| bits >> i & 1 == 1) {
        let option =
            options.get(index).ok_or_else(|| format!("option {} of {}", index + 1, options.len()))?;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(option);
    }
    Ok(text)
}

fn schema_builder(column: &Column, modes: Modes) -> Option<aqueduct_connect_api::data::SchemaBuilder> {
    let named = |kind, name: &'static str| Schema::builder(kind).name(name).version(1);
    let connect_time = modes.time == TimeMode::Connect;
    Some(match &column.kind {
        Kind::Bit(1) => Schema::builder(Type::Boolean),
        Kind::Bit(n) => named(Type::Bytes, "io.debezium.data.Bits").parameter("length", n.to_string()),
        Kind::TinyInt => Schema::builder(Type::Int16),
        Kind::SmallInt if column.unsigned => Schema::builder(Type::Int32),
        Kind::SmallInt => Schema::builder(Type::Int16),
        Kind::MediumInt => Schema::builder(Type::Int32),
        Kind::Int if column.unsigned => Schema::builder(Type::Int64),
        Kind::Int => Schema::builder(Type::Int32),
        Kind::BigInt if column.unsigned && modes.precise_unsigned => {
            Schema::decimal_builder(0).parameter("connect.decimal.precision", "20")
        }
        Kind::BigInt => Schema::builder(Type::Int64),
        Kind::Float { scaled: false } => Schema::builder(Type::Float32),
        Kind::Float { scaled: true } | Kind::Double => Schema::builder(Type::Float64),
        Kind::Decimal { precision, scale } => match modes.decimal {
            DecimalMode::Precise => Schema::decimal_builder(*scale as i32)
                .parameter("connect.decimal.precision", precision.to_string()),
            DecimalMode::Double => Schema::builder(Type::Float64),
            DecimalMode::Text => Schema::builder(Type::String),
        },
        Kind::Text(_) => Schema::builder(Type::String),
        Kind::Binary { .. } => match modes.binary {
            BinaryMode::Bytes => Schema::builder(Type::Bytes),
            _ => Schema::builder(Type::String),
        },
        Kind::Json => named(Type::String, "io.debezium.data.Json"),
        Kind::Enum(options) => {
            named(Type::String, "io.debezium.data.Enum").parameter("allowed", allowed(options))
        }
        Kind::Set(options) => {
            named(Type::String, "io.debezium.data.EnumSet").parameter("allowed", allowed(options))
        }
        Kind::Year => named(Type::Int32, "io.debezium.time.Year"),
        Kind::Date if connect_time => Schema::date_builder(),
        Kind::Date => named(Type::Int32, "io.debezium.time.Date"),
        Kind::Time(_) if connect_time => Schema::time_builder(),
        Kind::Time(_) => named(Type::Int64, "io.debezium.time.MicroTime"),
        Kind::DateTime(_) if connect_time => Schema::timestamp_builder(),
        Kind::DateTime(0..=3) => named(Type::Int64, "io.debezium.time.Timestamp"),
        Kind::DateTime(_) => named(Type::Int64, "io.debezium.time.MicroTimestamp"),
        Kind::Timestamp(_) => named(Type::String, "io.debezium.time.ZonedTimestamp"),
        Kind::Point => named(Type::Struct, "io.debezium.data.geometry.Point")
            .doc("Geometry (POINT)")
            .field("x", Schema::builder(Type::Float64).build())
            .field("y", Schema::builder(Type::Float64).build())
            .field("wkb", Schema::builder(Type::Bytes).optional().build())
            .field("srid", Schema::builder(Type::Int32).optional().build()),
        Kind::Geometry => named(Type::Struct, "io.debezium.data.geometry.Geometry")
            .doc("Geometry")
            .field("wkb", Schema::builder(Type::Bytes).build())
            .field("srid", Schema::builder(Type::Int32).optional().build()),
        Kind::Vector => Schema::array_builder(Schema::builder(Type::Float32).build())
            .name("io.debezium.data.FloatVector")
            .version(1),
        Kind::Unsupported => return None,
    })
}

/// Options in one text; commas within are escaped.
fn allowed(options: &[ByteString]) -> String {
    options.iter().map(|o| o.replace(',', "\\,")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::declared::{Declared, DefaultStyle};

    const MODES: Modes = Modes {
        decimal: DecimalMode::Precise,
        time: TimeMode::AdaptiveMicroseconds,
        binary: BinaryMode::Bytes,
        precise_unsigned: false,
        adjust_years: true,
        comments: false,
    };

    fn column(column_type: &str, nullable: bool, default: Option<&str>) -> Column {
        Declared {
            name: "c".to_owned(),
            column_type: column_type.to_owned(),
            nullable,
            default: default.map(str::to_owned),
            ..Declared::default()
        }
        .into_column(DefaultStyle::MySql)
    }

    fn convert(column_type: &str, raw: Raw<'_>) -> Value {
        Codec::new(&column(column_type, true, None), MODES).unwrap().convert(&raw).unwrap()
    }

    #[test]
    fn converts_values_of_events_and_result_sets_alike() {
        let date = CivilDate { year: 2018, month: 6, day: 20 };
        let time = CivilTime { hour: 6, minute: 37, second: 3, micros: 120_000 };
        for (column_type, raw, value) in [
            ("bit(1)", Raw::Bytes(&[1]), Value::Boolean(true)),
            ("bit(12)", Raw::Bytes(&[0x0a, 3]), Value::Bytes(Bytes::from_static(&[3, 0x0a]))),
            ("tinyint unsigned", Raw::UInt(255), Value::Int16(255)),
            ("smallint unsigned", Raw::UInt(65535), Value::Int32(65535)),
            ("int unsigned", Raw::UInt(u32::MAX.into()), Value::Int64(4_294_967_295)),
            ("bigint unsigned", Raw::UInt(u64::MAX), Value::Int64(-1)),
            ("float(7,3)", Raw::Float(1234.567), Value::Float64(1_234.567_016_601_562_5)),
            ("decimal(5,2)", Raw::Utf8(b"-1.50"), Value::Decimal(Decimal::new(-150, 2))),
            ("binary(4)", Raw::Bytes(b"ab"), Value::Bytes(Bytes::from_static(b"ab\0\0"))),
            ("enum('a','b')", Raw::UInt(2), "b".into()),
            ("enum('a','b')", Raw::UInt(0), "".into()),
            ("set('x','y','z')", Raw::UInt(5), "x,z".into()),
            ("date", Raw::Date(date), Value::Int32(17_702)),
            ("date", Raw::Date(CivilDate { year: 0, month: 0, day: 0 }), Value::Null),
            ("datetime(3)", Raw::DateTime(date, time), Value::Int64(1_529_476_623_120)),
            ("datetime(6)", Raw::DateTime(date, time), Value::Int64(1_529_476_623_120_000)),
            ("timestamp(3)", Raw::DateTime(date, time), "2018-06-20T06:37:03.120Z".into()),
            (
                "timestamp",
                Raw::Timestamp { seconds: 1_529_476_623, micros: 0 },
                "2018-06-20T06:37:03Z".into(),
            ),
            ("timestamp", Raw::Timestamp { seconds: 0, micros: 0 }, Value::Null),
            ("time(6)", Raw::Time(-1), Value::Int64(-1)),
            ("year", Raw::Int(1999), Value::Int32(1999)),
        ] {
            assert_eq!(convert(column_type, raw), value, "{column_type}");
        }
    }

    #[test]
    fn zero_dates_are_the_epoch_where_null_is_not_allowed() {
        let codec = Codec::new(&column("timestamp", false, None), MODES).unwrap();
        let value = codec.convert(&Raw::Timestamp { seconds: 0, micros: 0 }).unwrap();
        assert_eq!(value, "1970-01-01T00:00:00Z".into());
    }

    #[test]
    fn defaults_are_values_of_the_schema() {
        for (column_type, text, value) in [
            ("int", "5", Value::Int32(5)),
            ("tinyint", "1.4", Value::Int16(1)),
            ("decimal(10,2)", "12.3", Value::Decimal(Decimal::new(1230, 2))),
            ("time", "12:13:14", Value::Int64(43_994_000_000)),
            ("datetime", "1970-01-01 00:00:00", Value::Int64(0)),
            ("timestamp", "2021-03-04 05:06:07", "2021-03-04T05:06:07Z".into()),
            ("bit(12)", "1010", Value::Bytes(Bytes::from_static(&[10, 0]))),
            ("varbinary(5)", "xy", Value::Bytes(Bytes::from_static(b"xy"))),
        ] {
            let codec = Codec::new(&column(column_type, true, Some(text)), MODES).unwrap();
            assert_eq!(codec.schema().default_value(), Some(&value), "{column_type}");
        }
        let moment = column("timestamp", true, Some("1970-01-01 00:00:00"));
        assert_eq!(Codec::new(&moment, MODES).unwrap().schema().default_value(), None);
    }
}
