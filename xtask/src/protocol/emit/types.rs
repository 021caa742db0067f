//! The Rust types and default values of fields.

use crate::protocol::model::{Field, Type, Versions};

/// Whether the field may be null in any of `within`.
pub fn nullable(f: &Field, within: Versions) -> bool {
    !f.nullable.intersect(f.versions).intersect(within).is_empty() || f.ty == Type::Records
}

/// The type of the field as a member.
pub fn rust_type(f: &Field, within: Versions) -> String {
    let plain = plain_type(&f.ty);
    if nullable(f, within) { format!("Option<{plain}>") } else { plain }
}

fn plain_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::Int8 => "i8".to_owned(),
        Type::Int16 => "i16".to_owned(),
        Type::Int32 => "i32".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Uint16 => "u16".to_owned(),
        Type::Uint32 => "u32".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Uuid => "Uuid".to_owned(),
        Type::String => "ByteString".to_owned(),
        Type::Bytes | Type::Records => "Bytes".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", plain_type(element)),
    }
}

/// Whether the member starts as null.
pub fn null_default(f: &Field, within: Versions) -> bool {
    nullable(f, within) && (f.default.as_deref() == Some("null") || f.ty == Type::Records)
}

/// The value that the member starts with, as Kafka's classes have it.
pub fn default_value(f: &Field, within: Versions) -> String {
    if null_default(f, within) {
        return "None".to_owned();
    }
    let plain = match (&f.ty, f.default.as_deref().filter(|d| *d != "null")) {
        (Type::Bool, d) => d.unwrap_or("false").to_owned(),
        (Type::Float64, d) => format!("{}_f64", d.unwrap_or("0.0")),
        (Type::Uuid, _) => "Uuid::ZERO".to_owned(),
        (Type::String, None) => "ByteString::new()".to_owned(),
        (Type::String, Some(d)) => format!("ByteString::from_static({d:?})"),
        (Type::Bytes | Type::Records, _) => "Bytes::new()".to_owned(),
        (Type::Struct(name), _) => format!("{name}::default()"),
        (Type::Array(_), _) => "Vec::new()".to_owned(),
        (ty, Some(d)) => number(ty, d),
        (_, None) => "0".to_owned(),
    };
    if nullable(f, within) { format!("Some({plain})") } else { plain }
}

/// A default number as a Rust literal; the extremes by name.
fn number(ty: &Type, text: &str) -> String {
    match (ty, text) {
        (Type::Int32, "-2147483648") => "i32::MIN".to_owned(),
        (Type::Int32, "0x7fffffff" | "2147483647") => "i32::MAX".to_owned(),
        (Type::Int64, "-9223372036854775808") => "i64::MIN".to_owned(),
        (Type::Int64, "9223372036854775807") => "i64::MAX".to_owned(),
        _ => text.to_owned(),
    }
}

/// Whether [`Default`] may be derived as far as this field goes.
pub fn is_zero_default(f: &Field, within: Versions) -> bool {
    match default_value(f, within).as_str() {
        "None" | "0" | "false" | "0.0_f64" | "Uuid::ZERO" | "ByteString::new()" | "Bytes::new()"
        | "Vec::new()" => true,
        other => matches!(&f.ty, Type::Struct(name) if other == format!("{name}::default()")),
    }
}

/// The condition that `this` (an expression such as `self.x`) differs from its default.
pub fn not_default(f: &Field, within: Versions, this: &str) -> String {
    let default = default_value(f, within);
    match default.as_str() {
        "None" => format!("{this}.is_some()"),
        "true" => format!("!{this}"),
        "false" => this.to_owned(),
        "Uuid::ZERO" => format!("!{this}.is_zero()"),
        "ByteString::new()" | "Bytes::new()" | "Vec::new()" => format!("!{this}.is_empty()"),
        "Some(ByteString::new())" | "Some(Bytes::new())" | "Some(Vec::new())" => {
            format!("{this}.as_ref().is_none_or(|v| !v.is_empty())")
        }
        _ => format!("{this} != {default}"),
    }
}
