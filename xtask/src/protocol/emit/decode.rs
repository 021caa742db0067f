//! `impl Decode`.

use std::fmt::Write as _;

use super::encode::path;
use super::layout::{Struct, When, flexible_expr, min_size, when};
use super::types::{default_value, nullable};
use super::{field_name, first_flexible, has_word};
use crate::protocol::model::{Field, Message, Type};

/// Writes the impl of one struct.
pub fn write(out: &mut String, m: &Message, s: &Struct<'_>, structs: &[Struct<'_>]) {
    let mut body = String::new();
    let tagged: Vec<_> = s.fields.iter().filter(|f| f.tag.is_some()).collect();
    let mut literal = String::from("Self {\n");
    for f in &s.fields {
        let name = field_name(&f.name);
        let default = default_value(f, s.versions);
        let read = value(m, s, f, structs);
        let _ = match when(f.versions, s.versions) {
            _ if f.tag.is_some() => writeln!(literal, "{name}: {default},"),
            When::Always => writeln!(literal, "{name}: {read},"),
            When::Never => Ok(()),
            When::If(cond, _) => writeln!(literal, "{name}: if {cond} {{ {read} }} else {{ {default} }},"),
        };
    }
    literal.push('}');
    let block = when(m.flexible, s.versions);
    if block == When::Never {
        let _ = writeln!(body, "Ok({literal})");
    } else {
        let mutable = if tagged.is_empty() { "" } else { "mut " };
        let _ = writeln!(body, "let {mutable}this = {literal};");
        let tags = tags(m, s, &tagged, structs);
        match block {
            When::Always => body.push_str(&tags),
            _ => {
                let _ = writeln!(body, "if flexible {{\n{tags}}}");
            }
        }
        body.push_str("Ok(this)\n");
    }
    let version = if s.top || has_word(&body, "version") || has_word(&body, "flexible") {
        "version"
    } else {
        "_version"
    };
    let buf = if has_word(&body, "buf") { "buf" } else { "_buf" };
    let _ = writeln!(
        out,
        "impl Decode for {} {{\nfn decode({buf}: &mut Bytes, {version}: i16) -> Result<Self, DecodeError> {{",
        s.name
    );
    if s.top {
        let _ = writeln!(
            out,
            "read::check_version({:?}, version, {}, {})?;",
            m.name, m.versions.min, m.versions.max
        );
    }
    if has_word(&body, "flexible") {
        let _ = writeln!(out, "let flexible = version >= {};", first_flexible(m));
    }
    out.push_str(&body);
    out.push_str("}\n}\n\n");
}

fn tags(m: &Message, s: &Struct<'_>, tagged: &[&&Field], structs: &[Struct<'_>]) -> String {
    let name = if s.top { format!("{:?}", m.name) } else { format!("\"{}.{}\"", m.name, s.name) };
    if tagged.is_empty() {
        return format!("read::skip_tags(buf, {name})?;\n");
    }
    let mut out = format!("read::tags(buf, {name}, |tag, buf| {{\nmatch tag {{\n");
    for f in tagged {
        let guard = match when(f.versions, s.versions.intersect(m.flexible)) {
            When::If(cond, _) => format!(" if {cond}"),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "{}{guard} => this.{} = {},",
            f.tag.unwrap_or_default(),
            field_name(&f.name),
            value(m, s, f, structs)
        );
    }
    out.push_str("_ => return Ok(false),\n}\nOk(true)\n})?;\n");
    out
}

/// The expression that reads the field, given that it is in the version.
fn value(m: &Message, s: &Struct<'_>, f: &Field, structs: &[Struct<'_>]) -> String {
    let present = s.versions.intersect(f.versions);
    let path = path(m, s, f);
    let flexible = flexible_expr(m, f, s.versions);
    let null = nullable(f, s.versions);
    let plain = match (&f.ty, null) {
        (Type::Struct(name), false) => format!("{name}::decode(buf, version)?"),
        (Type::Struct(_), true) if f.tag.is_some() => {
            format!("read::tagged_nullable_struct(buf, version, {path})?")
        }
        (Type::Struct(_), true) => format!("read::nullable_struct(buf, version, {path})?"),
        (Type::Array(element), _) => {
            let helper = if null { "nullable_array" } else { "array" };
            let least = min_size(m, structs, element, present);
            let each = element_reader(element, flexible, &path);
            let version = if null { "" } else { "version, " };
            format!("read::{helper}(buf, {flexible}, {least}, {version}{path}, {each})?")
        }
        (Type::String, false) => format!("read::string(buf, {flexible}, version, {path})?"),
        (Type::String, true) => format!("read::nullable_string(buf, {flexible}, {path})?"),
        (Type::Bytes | Type::Records, false) => format!("read::bytes(buf, {flexible}, version, {path})?"),
        (Type::Bytes | Type::Records, true) => format!("read::nullable_bytes(buf, {flexible}, {path})?"),
        (ty, _) => format!("{}?", fixed(ty, &path)),
    };
    if !null {
        return plain;
    }
    match when(f.nullable, present) {
        When::Always => plain,
        When::Never => format!("read::not_null(false, {plain}, version, {path})?"),
        When::If(cond, _) => format!("read::not_null({cond}, {plain}, version, {path})?"),
    }
}

fn fixed(ty: &Type, path: &str) -> String {
    let helper = match ty {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Int32 => "i32",
        Type::Int64 => "i64",
        Type::Uint16 => "u16",
        Type::Uint32 => "u32",
        Type::Float64 => "f64",
        _ => "uuid",
    };
    format!("read::{helper}(buf, {path})")
}

fn element_reader(element: &Type, flexible: &str, path: &str) -> String {
    match element {
        Type::Struct(name) => format!("|buf| {name}::decode(buf, version)"),
        Type::String => format!("|buf| read::string(buf, {flexible}, version, {path})"),
        Type::Bytes => format!("|buf| read::bytes(buf, {flexible}, version, {path})"),
        ty => format!("|buf| {}", fixed(ty, path)),
    }
}
