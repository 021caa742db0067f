//! Which structs a message needs, and when their parts are on the wire.

use anyhow::{Context as _, Result, ensure};

use crate::protocol::model::{Field, Message, Type, Versions};

/// A struct to be written, with the fields that any served version has.
pub struct Struct<'a> {
    pub name: &'a str,
    /// The versions of the message in which it occurs.
    pub versions: Versions,
    pub fields: Vec<&'a Field>,
    /// Whether it is the message itself.
    pub top: bool,
}

/// The message's struct first, then its parts in the order of their first use.
pub fn structs(m: &Message) -> Result<Vec<Struct<'_>>> {
    let mut found = Vec::new();
    visit(m, &mut found, &m.name, &m.fields, m.versions)?;
    found[0].top = true;
    for s in &mut found {
        let versions = s.versions;
        s.fields.retain(|f| !f.versions.intersect(versions).is_empty());
    }
    Ok(found)
}

fn visit<'a>(
    m: &'a Message,
    found: &mut Vec<Struct<'a>>,
    name: &'a str,
    fields: &'a [Field],
    versions: Versions,
) -> Result<()> {
    let at = match found.iter().position(|s| s.name == name) {
        Some(at) => {
            ensure!(found[at].fields.iter().copied().eq(fields), "two structs {name}");
            at
        }
        None => {
            found.push(Struct {
                name,
                versions: Versions::NONE,
                fields: fields.iter().collect(),
                top: false,
            });
            found.len() - 1
        }
    };
    found[at].versions = found[at].versions.hull(versions);
    let versions = found[at].versions;
    for f in fields {
        let inner = f.versions.intersect(versions);
        let Some(part) = f.ty.struct_name().filter(|_| !inner.is_empty()) else { continue };
        if f.fields.is_empty() {
            let shared =
                m.shared.iter().find(|s| s.name == part).with_context(|| format!("no struct {part}"))?;
            visit(m, found, part, &shared.fields, inner.intersect(shared.versions))?;
        } else {
            visit(m, found, part, &f.fields, inner)?;
        }
    }
    Ok(())
}

/// When something is on the wire, seen from code that runs in certain versions only.
#[derive(PartialEq)]
pub enum When {
    Always,
    Never,
    /// A Rust condition on `version`, and its opposite.
    If(String, String),
}

/// When `range` holds, given that the version is in `within`.
pub fn when(range: Versions, within: Versions) -> When {
    let both = range.intersect(within);
    if both.is_empty() {
        When::Never
    } else if range.covers(within) {
        When::Always
    } else if range.min <= within.min {
        When::If(format!("version <= {}", range.max), format!("version > {}", range.max))
    } else if range.max >= within.max {
        When::If(format!("version >= {}", range.min), format!("version < {}", range.min))
    } else if range.min == range.max {
        When::If(format!("version == {}", range.min), format!("version != {}", range.min))
    } else {
        let inside = format!("({}..={}).contains(&version)", range.min, range.max);
        let outside = format!("!{inside}");
        When::If(inside, outside)
    }
}

/// The Rust expression of whether a field is written in compact form, in a struct that declares `flexible` if needed.
pub fn flexible_expr(m: &Message, f: &Field, within: Versions) -> &'static str {
    match when(f.flexible.unwrap_or(m.flexible), within.intersect(f.versions)) {
        When::Always => "true",
        When::Never => "false",
        When::If(..) => "flexible",
    }
}

/// The fewest bytes that one element of this type takes, over all versions in `versions`.
pub fn min_size(m: &Message, structs: &[Struct<'_>], ty: &Type, versions: Versions) -> usize {
    (versions.min..=versions.max).map(|v| size_in(m, structs, ty, v)).min().unwrap_or(1).max(1)
}

fn size_in(m: &Message, structs: &[Struct<'_>], ty: &Type, version: i16) -> usize {
    let flexible = m.flexible.contains(version);
    match ty {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 | Type::Uint32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Uuid => 16,
        Type::String => {
            if flexible {
                1
            } else {
                2
            }
        }
        Type::Bytes | Type::Records | Type::Array(_) => {
            if flexible {
                1
            } else {
                4
            }
        }
        Type::Struct(name) => {
            let fields = structs.iter().find(|s| s.name == name).map(|s| &s.fields[..]).unwrap_or_default();
            let own: usize = fields
                .iter()
                .filter(|f| f.versions.contains(version) && f.tag.is_none())
                // A struct that may be null takes one byte then.
                .map(|f| {
                    if f.nullable.contains(version) && matches!(f.ty, Type::Struct(_)) {
                        1
                    } else {
                        size_in(m, structs, &f.ty, version)
                    }
                })
                .sum();
            own + usize::from(flexible)
        }
    }
}
