//! Columns as `information_schema` declares them.

use bytestring::ByteString;

use super::{Column, Kind};
use crate::value::charset::Charset;

/// One row of `information_schema.columns`.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    pub name: String,
    /// `COLUMN_TYPE`: `int(10) unsigned`.
    pub column_type: String,
    pub nullable: bool,
    pub default: Option<String>,
    pub extra: String,
    pub charset: Option<String>,
    pub comment: String,
}

/// Whose catalogue the row is from: defaults are written differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultStyle {
    /// Plain text; `DEFAULT_GENERATED` in `EXTRA` marks expressions.
    MySql,
    /// SQL expressions: text is quoted.
    MariaDb,
}

impl Declared {
    pub fn into_column(self, style: DefaultStyle) -> Column {
        let parsed = TypeText::parse(&self.column_type);
        let kind = parsed.kind(self.charset.as_deref());
        let extra = self.extra.to_ascii_lowercase();
        let default = self
            .default
            .as_deref()
            .and_then(|text| default_literal(text, style, extra.contains("default_generated"), &kind));
        let (length, scale) = parsed.size(&kind);
        Column {
            name: self.name.into(),
            type_name: parsed.name(),
            length,
            scale,
            unsigned: parsed.attributes.contains("unsigned") || parsed.attributes.contains("zerofill"),
            charset: self.charset,
            optional: self.nullable,
            default,
            auto_increment: extra.contains("auto_increment"),
            generated: extra.contains("virtual generated")
                || extra.contains("stored generated")
                || extra.contains("persistent"),
            comment: (!self.comment.is_empty()).then_some(self.comment),
            kind,
        }
    }
}

/// `COLUMN_TYPE` taken apart.
struct TypeText<'a> {
    base: String,
    args: &'a str,
    attributes: String,
}

impl<'a> TypeText<'a> {
    fn parse(text: &'a str) -> Self {
        let end = text.find(['(', ' ']).unwrap_or(text.len());
        let base = text[..end].to_ascii_lowercase();
        let (args, rest) = match text[end..].strip_prefix('(') {
            Some(rest) => rest.rsplit_once(')').unwrap_or((rest, "")),
            None => ("", &text[end..]),
        };
        Self { base, args, attributes: rest.trim().to_ascii_lowercase() }
    }

    fn name(&self) -> String {
        let mut name = self.base.to_ascii_uppercase();
        for attribute in ["unsigned", "zerofill"] {
            if self.attributes.split(' ').any(|a| a == attribute) {
                name.push(' ');
                name.push_str(&attribute.to_ascii_uppercase());
            }
        }
        name
    }

    fn numbers(&self) -> (Option<i32>, Option<i32>) {
        let mut parts = self.args.split(',').map(|n| n.trim().parse().ok());
        (parts.next().flatten(), parts.next().flatten())
    }

    fn size(&self, kind: &Kind) -> (Option<i32>, Option<i32>) {
        match kind {
            Kind::Enum(_) => (Some(1), None),
            Kind::Set(options) => (Some((2 * options.len() as i32 - 1).max(0)), None),
            _ => self.numbers(),
        }
    }

    fn kind(&self, charset: Option<&str>) -> Kind {
        let (first, second) = self.numbers();
        let precision = first.unwrap_or(0).clamp(0, 6) as u8;
        match &*self.base {
            "bit" => Kind::Bit(first.unwrap_or(1).max(1) as u32),
            "tinyint" => Kind::TinyInt,
            "smallint" => Kind::SmallInt,
            "mediumint" => Kind::MediumInt,
            "int" | "integer" => Kind::Int,
            "bigint" => Kind::BigInt,
            "float" => Kind::Float { scaled: second.is_some() },
            "double" | "real" => Kind::Double,
            "decimal" | "numeric" => Kind::Decimal {
                precision: first.unwrap_or(10).max(0) as u32,
                scale: second.unwrap_or(0).max(0) as u32,
            },
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                Kind::Text(charset.map_or(Charset::Utf8, Charset::named))
            }
            "binary" => Kind::Binary { fixed: Some(first.unwrap_or(1).max(0) as usize) },
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Kind::Binary { fixed: None },
            "json" => Kind::Json,
            "enum" => Kind::Enum(quoted_list(self.args)),
            "set" => Kind::Set(quoted_list(self.args)),
            "year" => Kind::Year,
            "date" => Kind::Date,
            "time" => Kind::Time(precision),
            "datetime" => Kind::DateTime(precision),
            "timestamp" => Kind::Timestamp(precision),
            "point" => Kind::Point,
            "geometry" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => Kind::Geometry,
            "vector" => Kind::Vector,
            _ => Kind::Unsupported,
        }
    }
}

/// The items of `'a','it''s'`.
fn quoted_list(text: &str) -> Vec<ByteString> {
    let mut items = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\'' {
            continue;
        }
        let mut item = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    item.push('\'');
                }
                '\'' => break,
                '\\' if chars.peek() == Some(&'\\') => {
                    chars.next();
                    item.push('\\');
                }
                c => item.push(c),
            }
        }
        items.push(item.into());
    }
    items
}

fn default_literal(text: &str, style: DefaultStyle, generated: bool, kind: &Kind) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    if matches!(kind, Kind::DateTime(_) | Kind::Timestamp(_))
        && ["current_timestamp", "now(", "localtime"].iter().any(|now| lower.starts_with(now))
    {
        return Some("1970-01-01 00:00:00".to_owned());
    }
    if lower.starts_with("b'") && text.ends_with('\'') {
        return Some(text[2..text.len() - 1].to_owned());
    }
    let literal = match style {
        DefaultStyle::MySql if generated => return None,
        DefaultStyle::MySql => text.to_owned(),
        DefaultStyle::MariaDb if lower == "null" => return None,
        DefaultStyle::MariaDb if text.starts_with('\'') => {
            unescape(text.strip_prefix('\'')?.strip_suffix('\'')?)
        }
        // Numbers stand bare; anything else bare is an expression.
        DefaultStyle::MariaDb => text.parse::<f64>().is_ok().then(|| text.to_owned())?,
    };
    match (kind, literal.strip_prefix("0x")) {
        (Kind::Binary { .. }, Some(hex)) if style == DefaultStyle::MySql => {
            let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
                .map(|i| hex.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect();
            bytes.and_then(|b| String::from_utf8(b).ok())
        }
        _ => Some(literal),
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                chars.next();
                out.push('\'');
            }
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(column_type: &str, default: Option<&str>, style: DefaultStyle) -> Column {
        Declared {
            name: "c".to_owned(),
            column_type: column_type.to_owned(),
            default: default.map(str::to_owned),
            ..Declared::default()
        }
        .into_column(style)
    }

    #[test]
    fn reads_types() {
        let int = column("int(8) unsigned zerofill", None, DefaultStyle::MariaDb);
        assert_eq!((&*int.type_name, int.length, int.unsigned), ("INT UNSIGNED ZEROFILL", Some(8), true));
        let decimal = column("decimal(10,2)", None, DefaultStyle::MySql);
        assert_eq!(decimal.kind, Kind::Decimal { precision: 10, scale: 2 });
        let options = column("enum('a','it''s, x','(y)')", None, DefaultStyle::MySql);
        assert_eq!(options.kind, Kind::Enum(vec!["a".into(), "it's, x".into(), "(y)".into()]));
        assert_eq!(column("set('x','y','z')", None, DefaultStyle::MySql).length, Some(5));
        assert_eq!(column("datetime(6)", None, DefaultStyle::MySql).kind, Kind::DateTime(6));
        assert_eq!(column("inet6", None, DefaultStyle::MySql).kind, Kind::Unsupported);
    }

    #[test]
    fn reads_defaults_of_both_servers() {
        use DefaultStyle::{MariaDb, MySql};
        for (kind, text, style, literal) in [
            ("varchar(9)", "'it''s'", MariaDb, Some("it's")),
            ("varchar(9)", "it's", MySql, Some("it's")),
            ("varchar(9)", "NULL", MariaDb, None),
            ("varchar(9)", "uuid()", MariaDb, None),
            ("int(11)", "-3", MariaDb, Some("-3")),
            ("bit(4)", "b'101'", MariaDb, Some("101")),
            ("datetime", "current_timestamp()", MariaDb, Some("1970-01-01 00:00:00")),
            ("varbinary(9)", "0x7879", MySql, Some("xy")),
        ] {
            assert_eq!(column(kind, Some(text), style).default.as_deref(), literal, "{text}");
        }
    }
}
