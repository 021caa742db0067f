//! Cells to Connect values.

use aqueduct_connect_api::data::SchemaBuilder;
use aqueduct_connect_api::{Decimal, Schema, Type, Value};
use bytes::Bytes;
use bytestring::ByteString;
use chrono_tz::Tz;

use crate::column::Cell;
use crate::time::{Moment, epoch_days, parse_date, parse_moment, parse_time_of_day, wall_text};

/// `timestamp.granularity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampForm {
    #[default]
    ConnectLogical,
    MicrosLong,
    MicrosString,
    MicrosIsoString,
    NanosLong,
    NanosString,
    NanosIsoString,
}

/// The Connect type that a column becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal { precision: Option<u32>, scale: i32 },
    Text,
    Binary,
    Date,
    Time,
    Timestamp(TimestampForm),
}

impl Target {
    /// Starts the schema of such values.
    pub fn schema(self) -> SchemaBuilder {
        match self {
            Self::Boolean => Schema::builder(Type::Boolean),
            Self::Int8 => Schema::builder(Type::Int8),
            Self::Int16 => Schema::builder(Type::Int16),
            Self::Int32 => Schema::builder(Type::Int32),
            Self::Int64 => Schema::builder(Type::Int64),
            Self::Float32 => Schema::builder(Type::Float32),
            Self::Float64 => Schema::builder(Type::Float64),
            Self::Text => Schema::builder(Type::String),
            Self::Binary => Schema::builder(Type::Bytes),
            Self::Date => Schema::date_builder(),
            Self::Time => Schema::time_builder(),
            Self::Decimal { precision, scale } => {
                let schema = Schema::decimal_builder(scale);
                match precision {
                    Some(digits) => schema.parameter("connect.decimal.precision", digits.to_string()),
                    None => schema,
                }
            }
            Self::Timestamp(form) => match form {
                TimestampForm::ConnectLogical => Schema::timestamp_builder(),
                TimestampForm::MicrosLong | TimestampForm::NanosLong => Schema::builder(Type::Int64),
                _ => Schema::builder(Type::String),
            },
        }
    }
}

/// The value of `cell`; the error says why there is none.
///
/// # Errors
/// A value that is not one of `target`'s, with what can be done about it.
pub fn to_value(cell: &Cell, target: Target, zone: Tz, nullable: bool) -> Result<Value, String> {
    if *cell == Cell::Null {
        return Ok(Value::Null);
    }
    match target {
        Target::Boolean => boolean(cell).map(Value::Boolean).ok_or_else(|| unfit(cell, "a boolean")),
        Target::Int8 => narrow(cell, "8").map(Value::Int8),
        Target::Int16 => narrow(cell, "16").map(Value::Int16),
        Target::Int32 => narrow(cell, "32").map(Value::Int32),
        Target::Int64 => narrow(cell, "64").map(Value::Int64),
        Target::Float32 => {
            float(cell).map(|v| Value::Float32(v as f32)).ok_or_else(|| unfit(cell, "a number"))
        }
        Target::Float64 => float(cell).map(Value::Float64).ok_or_else(|| unfit(cell, "a number")),
        Target::Decimal { scale, .. } => decimal(cell, scale).map(Value::Decimal),
        Target::Text => Ok(Value::String(text(cell))),
        Target::Binary => Ok(Value::Bytes(match cell {
            Cell::Bytes(bytes) => bytes.clone(),
            other => Bytes::from(text(other).to_string()),
        })),
        Target::Date => match cell {
            Cell::Integer(millis) => Ok(Value::Date(millis.div_euclid(86_400_000) as i32)),
            cell => {
                let shown = text(cell);
                let day = shown.split([' ', 'T']).next().and_then(parse_date);
                day.map(|day| Value::Date(epoch_days(day)))
                    .or_else(|| zero_date(&shown, nullable, Value::Date(0)))
                    .ok_or_else(|| unfit(cell, "a date"))
            }
        },
        Target::Time => match cell {
            Cell::Integer(millis) => Ok(Value::Time(millis.rem_euclid(86_400_000) as i32)),
            cell => parse_time_of_day(&text(cell))
                .and_then(|millis| i32::try_from(millis).ok())
                .map(Value::Time)
                .ok_or_else(|| unfit(cell, "a time of day")),
        },
        Target::Timestamp(form) => timestamp(cell, form, zone, nullable),
    }
}

/// The instant in a cell of a timestamp column; `None` for null and for what is no instant.
pub fn moment(cell: &Cell, zone: Tz) -> Option<Moment> {
    match cell {
        Cell::Integer(millis) => Moment::from_timestamp_millis(*millis),
        Cell::Real(millis) => Moment::from_timestamp_millis(*millis as i64),
        Cell::Text(text) => parse_moment(text, zone),
        Cell::Null | Cell::Bytes(_) => None,
    }
}

/// The whole number in a cell.
pub fn whole(cell: &Cell) -> Option<i128> {
    match cell {
        Cell::Integer(n) => Some((*n).into()),
        Cell::Real(n) if n.fract() == 0.0 && n.abs() < 1e30 => Some(*n as i128),
        Cell::Text(text) => {
            let (number, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
            fraction.bytes().all(|b| b == b'0').then(|| number.parse().ok()).flatten()
        }
        _ => None,
    }
}

fn narrow<T: TryFrom<i128>>(cell: &Cell, bits: &str) -> Result<T, String> {
    let number = whole(cell).ok_or_else(|| unfit(cell, "a whole number"))?;
    T::try_from(number).map_err(|_| {
        format!("the value {number} does not fit into {bits} bits; cast the column to a decimal in a 'query'")
    })
}

fn boolean(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Integer(n) => Some(*n != 0),
        Cell::Real(n) => Some(*n != 0.0),
        Cell::Text(text) => match text.to_ascii_lowercase().as_str() {
            "t" | "true" | "1" | "y" | "yes" | "on" => Some(true),
            "f" | "false" | "0" | "n" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn float(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Integer(n) => Some(*n as f64),
        Cell::Real(n) => Some(*n),
        Cell::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The number with `scale` digits after the point, or more where it has more.
fn decimal(cell: &Cell, scale: i32) -> Result<Decimal, String> {
    let shown = text(cell);
    let number: Decimal = shown.trim().parse().map_err(|_| unfit(cell, "a decimal number"))?;
    if let Some(scaled) = number.with_scale(scale) {
        return Ok(scaled);
    }
    match number.scale > scale {
        true => Ok(number),
        false => Err(unfit(cell, "a decimal number of a sensible size")),
    }
}

fn timestamp(cell: &Cell, form: TimestampForm, zone: Tz, nullable: bool) -> Result<Value, String> {
    if let (Cell::Text(text), TimestampForm::ConnectLogical) = (cell, form) {
        // The instants that stand for both ends of time in the reference's driver.
        match &**text {
            "infinity" => return Ok(Value::Timestamp(9_223_372_036_825_200_000)),
            "-infinity" => return Ok(Value::Timestamp(-9_223_372_036_832_400_000)),
            _ => {}
        }
    }
    let Some(moment) = moment(cell, zone) else {
        let zero = if form == TimestampForm::ConnectLogical {
            Value::Timestamp(0)
        } else {
            in_form(Moment::UNIX_EPOCH, form)?
        };
        return zero_date(&text(cell), nullable, zero).ok_or_else(|| unfit(cell, "a date and time"));
    };
    in_form(moment, form)
}

fn in_form(moment: Moment, form: TimestampForm) -> Result<Value, String> {
    let nanos = || {
        moment.timestamp_nanos_opt().ok_or_else(|| {
            format!("{moment} has no nanoseconds in 64 bits; use micros in timestamp.granularity")
        })
    };
    Ok(match form {
        TimestampForm::ConnectLogical => Value::Timestamp(moment.timestamp_millis()),
        TimestampForm::MicrosLong => Value::Int64(moment.timestamp_micros()),
        TimestampForm::MicrosString => moment.timestamp_micros().to_string().into(),
        TimestampForm::MicrosIsoString => wall_text(moment, Tz::UTC, 6).replacen(' ', "T", 1).into(),
        TimestampForm::NanosLong => Value::Int64(nanos()?),
        TimestampForm::NanosString => nanos()?.to_string().into(),
        TimestampForm::NanosIsoString => wall_text(moment, Tz::UTC, 9).replacen(' ', "T", 1).into(),
    })
}

/// MySQL's zero dates: null where that is allowed, else the epoch.
fn zero_date(text: &str, nullable: bool, epoch: Value) -> Option<Value> {
    text.starts_with("0000-00-00").then_some(if nullable { Value::Null } else { epoch })
}

fn text(cell: &Cell) -> ByteString {
    match cell {
        Cell::Null => ByteString::new(),
        Cell::Integer(n) => n.to_string().into(),
        Cell::Real(n) => n.to_string().into(),
        Cell::Text(text) => text.clone(),
        Cell::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
    }
}

fn unfit(cell: &Cell, what: &str) -> String {
    let shown: String = text(cell).chars().take(40).collect();
    format!("the value {shown:?} is not {what}; mend the row, or select the column with a cast in a 'query'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(cell: Cell, target: Target) -> Result<Value, String> {
        to_value(&cell, target, Tz::UTC, true)
    }

    #[test]
    fn cells_become_values() {
        let text = |s: &str| Cell::Text(s.into());
        for (cell, target, expected) in [
            (text("t"), Target::Boolean, Value::Boolean(true)),
            (Cell::Integer(0), Target::Boolean, Value::Boolean(false)),
            (text("-128"), Target::Int8, Value::Int8(-128)),
            (text("12.00"), Target::Int64, Value::Int64(12)),
            (text("1.5"), Target::Float32, Value::Float32(1.5)),
            (Cell::Integer(2), Target::Float64, Value::Float64(2.0)),
            (text("0.10"), Target::Decimal { precision: None, scale: 2 }, Decimal::new(10, 2).into()),
            (Cell::Real(2.5), Target::Decimal { precision: None, scale: 2 }, Decimal::new(250, 2).into()),
            (text("-1E3"), Target::Decimal { precision: None, scale: 0 }, Decimal::new(-1000, 0).into()),
            (text("1970-01-03"), Target::Date, Value::Date(2)),
            (text("0000-00-00"), Target::Date, Value::Null),
            (text("00:00:01.5"), Target::Time, Value::Time(1500)),
            (
                text("1970-01-01 00:00:01.5"),
                Target::Timestamp(TimestampForm::ConnectLogical),
                Value::Timestamp(1500),
            ),
            (Cell::Integer(1500), Target::Timestamp(TimestampForm::MicrosLong), Value::Int64(1_500_000)),
            (
                text("1970-01-01 00:00:01.5"),
                Target::Timestamp(TimestampForm::NanosIsoString),
                "1970-01-01T00:00:01.500000000".into(),
            ),
            (Cell::Integer(5), Target::Text, "5".into()),
            (Cell::Null, Target::Int8, Value::Null),
        ] {
            assert_eq!(value(cell.clone(), target), Ok(expected), "{cell:?} {target:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_explained() {
        for (cell, target, part) in [
            (Cell::Text("18446744073709551615".into()), Target::Int64, "does not fit into 64 bits"),
            (Cell::Text("NaN".into()), Target::Decimal { precision: None, scale: 0 }, "not a decimal number"),
            (Cell::Text("x".into()), Target::Date, "not a date"),
            (Cell::Real(0.5), Target::Int64, "not a whole number"),
        ] {
            let why = value(cell, target).expect_err("unfit");
            assert!(why.contains(part), "{why}");
        }
    }
}
