//! The facts files: one message each, one line a field, nesting by two spaces.
//!
//! ```text
//! DescribeTopicPartitionsRequest request key=75 versions=0 flexible=0+
//!   Topics []TopicRequest 0+
//!     Name string 0+
//!   ResponsePartitionLimit int32 0+ default=2000
//!   Cursor Cursor 0+ nullable=0+ default=null
//! ```
//!
//! A struct that several fields name follows the fields as `struct NAME VERSIONS`.

use std::fmt::Write as _;
use std::iter::Peekable;

use anyhow::{Context as _, Result, bail, ensure};

use super::model::{Field, Kind, Message, Shared, Type, Versions};

/// The text of a facts file.
pub fn print(message: &Message) -> String {
    let kind = match message.kind {
        Kind::Request => "request",
        Kind::Response => "response",
        Kind::Data => "data",
    };
    let mut out = format!("{} {kind}", message.name);
    if let Some(key) = message.key {
        let _ = write!(out, " key={key}");
    }
    let _ = write!(out, " versions={} flexible={}", message.versions, message.flexible);
    out.push_str(if message.unstable { " unstable\n" } else { "\n" });
    print_fields(&mut out, &message.fields, 1);
    for shared in &message.shared {
        let _ = writeln!(out, "struct {} {}", shared.name, shared.versions);
        print_fields(&mut out, &shared.fields, 1);
    }
    out
}

fn print_fields(out: &mut String, fields: &[Field], depth: usize) {
    for f in fields {
        let _ = write!(out, "{:1$}{2} {3} {4}", "", depth * 2, f.name, f.ty, f.versions);
        if !f.nullable.is_empty() {
            let _ = write!(out, " nullable={}", f.nullable);
        }
        if let Some(tag) = f.tag {
            let _ = write!(out, " tag={tag}");
        }
        if let Some(flexible) = f.flexible {
            let _ = write!(out, " flexible={flexible}");
        }
        if let Some(default) = &f.default {
            let _ = write!(out, " default={default}");
        }
        out.push_str(if f.ignorable { " ignorable\n" } else { "\n" });
        print_fields(out, &f.fields, depth + 1);
    }
}

/// Reads what [`print()`] writes.
pub fn parse(text: &str) -> Result<Message> {
    let mut lines = text.lines().peekable();
    let head = lines.next().context("empty file")?;
    let mut words = head.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let kind = match words.next() {
        Some("request") => Kind::Request,
        Some("response") => Kind::Response,
        Some("data") => Kind::Data,
        other => bail!("unknown kind {other:?}"),
    };
    let mut message = Message {
        name,
        kind,
        key: None,
        versions: Versions::NONE,
        flexible: Versions::NONE,
        unstable: false,
        fields: Vec::new(),
        shared: Vec::new(),
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("key", v) => message.key = Some(v.parse()?),
            ("versions", v) => message.versions = Versions::parse(v)?,
            ("flexible", v) => message.flexible = Versions::parse(v)?,
            ("unstable", _) => message.unstable = true,
            _ => bail!("unknown word {word:?}"),
        }
    }
    message.fields = parse_fields(&mut lines, 1)?;
    while let Some(line) = lines.next() {
        let mut words = line.split(' ');
        ensure!(words.next() == Some("struct"), "struct expected: {line:?}");
        let name = words.next().context("struct without a name")?.to_owned();
        let versions = Versions::parse(words.next().context("struct without versions")?)?;
        message.shared.push(Shared { name, versions, fields: parse_fields(&mut lines, 1)? });
    }
    Ok(message)
}

fn parse_fields<'a>(lines: &mut Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Result<Vec<Field>> {
    let mut fields = Vec::new();
    while let Some(line) = lines.next_if(|l| l.len() - l.trim_start().len() == depth * 2) {
        let mut field = parse_field(line.trim_start()).with_context(|| format!("in line {line:?}"))?;
        field.fields = parse_fields(lines, depth + 1)?;
        fields.push(field);
    }
    Ok(fields)
}

fn parse_field(line: &str) -> Result<Field> {
    let mut words = line.split(' ');
    let mut next = || words.next().context("name, type and versions expected");
    let (name, ty, versions) = (next()?, next()?, next()?);
    let mut field = Field {
        name: name.to_owned(),
        ty: Type::parse(ty)?,
        versions: Versions::parse(versions)?,
        nullable: Versions::NONE,
        tag: None,
        ignorable: false,
        default: None,
        flexible: None,
        fields: Vec::new(),
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("nullable", v) => field.nullable = Versions::parse(v)?,
            ("tag", v) => field.tag = Some(v.parse()?),
            ("flexible", v) => field.flexible = Some(Versions::parse(v)?),
            ("default", v) => field.default = Some(v.to_owned()),
            ("ignorable", _) => field.ignorable = true,
            _ => bail!("unknown word {word:?}"),
        }
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
AddThingsRequest request key=24 versions=0-5 flexible=3+ unstable
  Things []Thing 4+ tag=0
    Name string 4+ nullable=5+ flexible=none default=null ignorable
    Parts []Part 4+
  Parts []Part 0-3
struct Part 0+
  Index int32 0+ default=-1
";

    #[test]
    fn facts_print_as_they_were_read() {
        let message = parse(TEXT).expect("well formed");
        assert_eq!(message.fields[0].fields[0].name, "Name");
        assert_eq!(message.fields[1].name, "Parts");
        assert_eq!(message.shared[0].fields[0].default.as_deref(), Some("-1"));
        assert_eq!(print(&message), TEXT);
    }

    #[test]
    fn a_bad_line_is_named() {
        let text = TEXT.replace("int32", "int33");
        let error = format!("{:#}", parse(&text).expect_err("no such type"));
        assert!(error.contains("Index int33") && error.contains("unknown type"), "{error}");
    }
}
