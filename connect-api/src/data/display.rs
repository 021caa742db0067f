//! Values as text, in the form of Java's `toString`: file sinks and string converters write it.

use std::fmt;

use crate::data::{Struct, Value};

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(v) => v.fmt(f),
            Self::Int8(v) => v.fmt(f),
            Self::Int16(v) => v.fmt(f),
            Self::Int32(v) | Self::Date(v) | Self::Time(v) => v.fmt(f),
            Self::Int64(v) | Self::Timestamp(v) => v.fmt(f),
            Self::Float32(v) => write_float(f, f64::from(*v), &v.to_string()),
            Self::Float64(v) => write_float(f, *v, &v.to_string()),
            Self::String(v) => f.write_str(v),
            Self::Bytes(v) => v.iter().try_for_each(|b| write!(f, "{b:02x}")),
            Self::Decimal(v) => v.fmt(f),
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{")?;
                for (i, (k, v)) in entries.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{k}={v}")?;
                }
                f.write_str("}")
            }
            Self::Struct(v) => v.fmt(f),
        }
    }
}

/// Java prints whole floats with `.0` and switches to an exponent outside [1e-3, 1e7).
fn write_float(f: &mut fmt::Formatter<'_>, value: f64, shortest: &str) -> fmt::Result {
    if value.is_nan() {
        return f.write_str("NaN");
    }
    if value.is_infinite() {
        return f.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        f.write_str(shortest)?;
        return if shortest.contains('.') { Ok(()) } else { f.write_str(".0") };
    }
    let (sign, digits) = shortest.strip_prefix('-').map_or(("", shortest), |d| ("-", d));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{part}");
    let first = all.find(|c| c != '0').unwrap_or(0);
    let exponent = whole.len() as i64 - 1 - first as i64;
    let mantissa = all[first..].trim_end_matches('0');
    let (head, tail) = mantissa.split_at(1);
    let tail = if tail.is_empty() { "0" } else { tail };
    write!(f, "{sign}{head}.{tail}E{exponent}")
}

impl fmt::Display for Struct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Struct{")?;
        let mut first = true;
        for (field, value) in self.schema().fields().iter().zip(self.values()) {
            if value.is_null() {
                continue;
            }
            if !first {
                f.write_str(",")?;
            }
            first = false;
            write!(f, "{}={value}", field.name)?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Schema, Type};

    #[test]
    fn floats_print_as_java_does() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (1234567.0, "1234567.0"),
            (1e7, "1.0E7"),
            (1.25e-5, "1.25E-5"),
            (123456789.5, "1.234567895E8"),
            (0.0, "0.0"),
        ] {
            assert_eq!(Value::Float64(value).to_string(), text);
        }
        assert_eq!(Value::Float32(1.1).to_string(), "1.1");
    }

    #[test]
    fn structs_print_as_java_does() {
        let schema = Schema::struct_builder("s")
            .field("a", Schema::of(Type::Int32))
            .field("b", Schema::optional_of(Type::String))
            .field("c", Schema::optional_of(Type::String))
            .build();
        let mut s = Struct::new(schema);
        s.put("a", 1).expect("fits").put("c", "x").expect("fits");
        assert_eq!(Value::from(s).to_string(), "Struct{a=1,c=x}");
        let map = Value::Map(vec![("k".into(), Value::Int8(1)), ("n".into(), Value::Null)]);
        assert_eq!(map.to_string(), "{k=1, n=null}");
    }
}
