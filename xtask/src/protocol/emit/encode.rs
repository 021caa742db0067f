//! `impl Encode`.

use std::fmt::Write as _;

use super::layout::{Struct, When, flexible_expr, when};
use super::types::{not_default, nullable};
use super::{field_name, first_flexible, has_word};
use crate::protocol::model::{Field, Message, Type, Versions};

/// Writes the impl of one struct.
pub fn write(out: &mut String, m: &Message, s: &Struct<'_>) {
    let mut body = String::new();
    for f in s.fields.iter().filter(|f| f.tag.is_none()) {
        untagged(&mut body, m, s, f);
    }
    tagged(&mut body, m, s);
    let version = if s.top || has_word(&body, "version") || has_word(&body, "flexible") {
        "version"
    } else {
        "_version"
    };
    let buf = if has_word(&body, "buf") { "buf" } else { "_buf" };
    let _ = writeln!(
        out,
        "impl Encode for {} {{\nfn encode(&self, {buf}: &mut BytesMut, {version}: i16) -> Result<(), EncodeError> {{",
        s.name
    );
    if s.top {
        let _ = writeln!(
            out,
            "write::check_version({:?}, version, {}, {})?;",
            m.name, m.versions.min, m.versions.max
        );
    }
    if has_word(&body, "flexible") {
        let _ = writeln!(out, "let flexible = version >= {};", first_flexible(m));
    }
    out.push_str(&body);
    out.push_str("Ok(())\n}\n}\n\n");
}

fn untagged(out: &mut String, m: &Message, s: &Struct<'_>, f: &Field) {
    let code = value(m, s, f);
    match when(f.versions, s.versions) {
        When::Always => out.push_str(&code),
        When::Never => {}
        When::If(cond, _) => {
            let _ = writeln!(out, "if {cond} {{\n{code}\n}}{}", not_in_version(m, s, f, " else if"));
        }
    }
}

/// What refuses a value that this version cannot carry; nothing where it may be dropped.
fn not_in_version(m: &Message, s: &Struct<'_>, f: &Field, prefix: &str) -> String {
    if f.ignorable {
        return String::new();
    }
    let this = format!("self.{}", field_name(&f.name));
    let differs = not_default(f, s.versions, &this);
    format!("{prefix} {differs} {{\nreturn Err(write::not_in_version({}, version));\n}}", path(m, s, f))
}

/// The name that errors give to a field.
pub fn path(m: &Message, s: &Struct<'_>, f: &Field) -> String {
    if s.top { format!("\"{}.{}\"", m.name, f.name) } else { format!("\"{}.{}.{}\"", m.name, s.name, f.name) }
}

/// Statements that write the field, given that it is in the version.
fn value(m: &Message, s: &Struct<'_>, f: &Field) -> String {
    let present = s.versions.intersect(f.versions);
    let this = format!("self.{}", field_name(&f.name));
    let path = path(m, s, f);
    let flexible = flexible_expr(m, f, s.versions);
    let mut out = String::new();
    let null = nullable(f, s.versions);
    if null {
        match when(nullable_range(f), present) {
            When::Always => {}
            When::Never => {
                let _ = writeln!(out, "write::not_null({this}.is_some(), {path}, version)?;");
            }
            When::If(cond, _) => {
                let _ = writeln!(out, "write::not_null({cond} || {this}.is_some(), {path}, version)?;");
            }
        }
    }
    let _ = match (&f.ty, null) {
        (Type::Struct(_), false) => writeln!(out, "{this}.encode(buf, version)?;"),
        (Type::Struct(_), true) if f.tag.is_some() => {
            writeln!(out, "write::tagged_nullable_struct(buf, {this}.as_ref(), version)?;")
        }
        (Type::Struct(_), true) => writeln!(out, "write::nullable_struct(buf, {this}.as_ref(), version)?;"),
        (Type::Array(element), _) => {
            let helper = if null { "nullable_array" } else { "array" };
            let items = if null { format!("{this}.as_deref()") } else { format!("&{this}") };
            let each = element_writer(element, flexible, &path);
            writeln!(out, "write::{helper}(buf, {flexible}, {items}, {path}, {each})?;")
        }
        (Type::String, false) => writeln!(out, "write::string(buf, {flexible}, &{this}, {path})?;"),
        (Type::String, true) => {
            writeln!(out, "write::nullable_string(buf, {flexible}, {this}.as_deref(), {path})?;")
        }
        (Type::Bytes | Type::Records, false) => {
            writeln!(out, "write::bytes(buf, {flexible}, &{this}, {path})?;")
        }
        (Type::Bytes | Type::Records, true) => {
            writeln!(out, "write::nullable_bytes(buf, {flexible}, {this}.as_deref(), {path})?;")
        }
        (ty, _) => writeln!(out, "{};", fixed(ty, &this)),
    };
    out
}

fn nullable_range(f: &Field) -> Versions {
    f.nullable
}

fn fixed(ty: &Type, this: &str) -> String {
    match ty {
        Type::Bool => format!("buf.put_u8({this}.into())"),
        Type::Int8 => format!("buf.put_i8({this})"),
        Type::Int16 => format!("buf.put_i16({this})"),
        Type::Int32 => format!("buf.put_i32({this})"),
        Type::Int64 => format!("buf.put_i64({this})"),
        Type::Uint16 => format!("buf.put_u16({this})"),
        Type::Uint32 => format!("buf.put_u32({this})"),
        Type::Float64 => format!("buf.put_f64({this})"),
        _ => format!("buf.put_slice(&{this}.0)"),
    }
}

fn element_writer(element: &Type, flexible: &str, path: &str) -> String {
    match element {
        Type::Struct(_) => "|buf, v| v.encode(buf, version)".to_owned(),
        Type::String => format!("|buf, v| write::string(buf, {flexible}, v, {path})"),
        Type::Bytes => format!("|buf, v| write::bytes(buf, {flexible}, v, {path})"),
        Type::Uuid => "|buf, v| { buf.put_slice(&v.0); Ok(()) }".to_owned(),
        ty => format!("|buf, v| {{ {}; Ok(()) }}", fixed(ty, "*v")),
    }
}

/// The tagged fields and the block that holds them.
fn tagged(out: &mut String, m: &Message, s: &Struct<'_>) {
    let mut fields: Vec<_> = s.fields.iter().filter(|f| f.tag.is_some()).collect();
    fields.sort_by_key(|f| f.tag);
    let block = when(m.flexible, s.versions);
    if fields.is_empty() {
        match block {
            When::Always => out.push_str("buf.put_u8(0);\n"),
            When::Never => {}
            When::If(..) => out.push_str("if flexible {\nbuf.put_u8(0);\n}\n"),
        }
        return;
    }
    out.push_str("let mut tags = write::Tags::default();\n");
    for f in fields {
        let differs = not_default(f, s.versions, &format!("self.{}", field_name(&f.name)));
        let put = format!(
            "let buf = tags.start();\n{}tags.end({}, {})?;\n",
            value(m, s, f),
            f.tag.unwrap_or_default(),
            path(m, s, f)
        );
        match when(f.versions, s.versions) {
            When::Always => {
                let _ = writeln!(out, "if {differs} {{\n{put}}}");
            }
            When::Never => {}
            When::If(cond, _) if f.ignorable => {
                let _ = writeln!(out, "if {cond} && {differs} {{\n{put}}}");
            }
            When::If(_, absent) => {
                let _ = writeln!(
                    out,
                    "if {differs} {{\nif {absent} {{\nreturn Err(write::not_in_version({}, version));\n}}\n{put}}}",
                    path(m, s, f)
                );
            }
        }
    }
    out.push_str(match block {
        When::Always => "tags.finish(buf);\n",
        _ => "if flexible {\ntags.finish(buf);\n}\n",
    });
}
