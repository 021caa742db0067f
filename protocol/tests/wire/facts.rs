//! Reads the facts files; see `xtask/src/protocol/facts.rs` for their form.

use std::collections::HashMap;
use std::fs;
use std::iter::Peekable;
use std::path::Path;

pub type Range = std::ops::RangeInclusive<i16>;

/// A field; its name is of no consequence on the wire.
pub struct Field {
    pub ty: String,
    pub versions: Range,
    pub nullable: Range,
    pub tag: Option<u32>,
    pub default: Option<String>,
    pub flexible: Option<Range>,
    pub fields: Vec<Field>,
}

pub struct Message {
    pub name: String,
    pub flexible: Range,
    pub fields: Vec<Field>,
    pub shared: HashMap<String, Vec<Field>>,
}

#[allow(clippy::reversed_empty_ranges)]
const NONE: Range = 0..=-1;

fn range(text: &str) -> Range {
    let number = |t: &str| t.parse().expect("a version");
    match text.strip_suffix('+') {
        _ if text == "none" => NONE,
        Some(min) => number(min)..=i16::MAX,
        None => {
            let (min, max) = text.split_once('-').unwrap_or((text, text));
            number(min)..=number(max)
        }
    }
}

/// The release of Kafka that the facts are of.
pub fn release() -> String {
    fs::read_to_string(dir().join("RELEASE")).expect("the release is noted").trim().to_owned()
}

fn dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/schema"))
}

pub fn read(name: &str) -> Message {
    let path = dir().join(format!("{name}.facts"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines().peekable();
    let head = lines.next().expect("a first line");
    let flexible = head.split(' ').find_map(|w| w.strip_prefix("flexible=")).expect("flexible versions");
    let fields = fields(&mut lines, 2);
    let mut shared = HashMap::new();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("struct ").and_then(|l| l.split(' ').next()).expect("a shared struct");
        shared.insert(name.to_owned(), self::fields(&mut lines, 2));
    }
    Message { name: name.to_owned(), flexible: range(flexible), fields, shared }
}

fn fields<'a>(lines: &mut Peekable<impl Iterator<Item = &'a str>>, indent: usize) -> Vec<Field> {
    let mut found = Vec::new();
    while let Some(line) = lines.next_if(|l| l.len() - l.trim_start().len() == indent) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        let mut field = Field {
            ty: words[1].to_owned(),
            versions: range(words[2]),
            nullable: value("nullable").map_or(NONE, range),
            tag: value("tag").map(|t| t.parse().expect("a tag")),
            default: value("default").map(str::to_owned),
            flexible: value("flexible").map(range),
            fields: Vec::new(),
        };
        field.fields = fields(lines, indent + 2);
        found.push(field);
    }
    found
}
