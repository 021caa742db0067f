//! Messages as `protocol/schema` describes them, so that any API can be asked anything, by no code of the broker's.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use aqueduct_tests::install::workspace;

/// A range of versions.
#[derive(Clone, Copy, Debug)]
pub struct Versions(i16, i16);

impl Versions {
    fn parse(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Self(0, -1));
        }
        if let Some(low) = text.strip_suffix('+') {
            return Ok(Self(low.parse()?, i16::MAX));
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Ok(Self(low.parse()?, high.parse()?))
    }

    pub fn has(self, version: i16) -> bool {
        (self.0..=self.1).contains(&version)
    }

    pub fn all(self) -> std::ops::RangeInclusive<i16> {
        self.0..=self.1
    }
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// `int32`, `string`, the name of a struct.
    pub kind: String,
    pub array: bool,
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<u32>,
    pub fields: Vec<Self>,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub name: String,
    pub key: i16,
    pub versions: Versions,
    pub flexible: Versions,
    pub fields: Vec<Field>,
}

impl Message {
    /// The message in `protocol/schema/NAME.facts`.
    pub fn load(name: &str) -> Result<Self> {
        let path = folder().join(format!("{name}.facts"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let (head, body) = text.split_once('\n').context("a head")?;
        let value = |key: &str| head.split(' ').find_map(|word| word.strip_prefix(key));
        let (mut top, mut shared): (Vec<Field>, Vec<(String, Vec<Field>)>) = (Vec::new(), Vec::new());
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("struct ") {
                shared.push((rest.split(' ').next().unwrap_or_default().to_owned(), Vec::new()));
                continue;
            }
            let depth = (line.len() - line.trim_start().len()) / 2;
            let fields = shared.last_mut().map_or(&mut top, |(_, fields)| fields);
            let mut place = fields;
            for _ in 1..depth {
                place = &mut place.last_mut().context("a field above")?.fields;
            }
            place.push(field(line.trim_start())?);
        }
        resolve(&mut top, &shared);
        Ok(Self {
            name: head.split(' ').next().unwrap_or_default().to_owned(),
            key: value("key=").unwrap_or("-1").parse()?,
            versions: Versions::parse(value("versions=").context("versions")?)?,
            flexible: Versions::parse(value("flexible=").context("flexible")?)?,
            fields: top,
        })
    }
}

fn resolve(fields: &mut [Field], shared: &[(String, Vec<Field>)]) {
    for field in fields {
        if let Some((_, found)) = shared.iter().find(|(name, _)| *name == field.kind) {
            field.fields.clone_from(found);
        }
        resolve(&mut field.fields, shared);
    }
}

fn field(line: &str) -> Result<Field> {
    let mut words = line.split(' ');
    let (Some(name), Some(kind), Some(versions)) = (words.next(), words.next(), words.next()) else {
        bail!("not a field: {line}");
    };
    let (mut nullable, mut tag) = (Versions(0, -1), None);
    for word in words {
        if let Some(value) = word.strip_prefix("nullable=") {
            nullable = Versions::parse(value)?;
        } else if let Some(value) = word.strip_prefix("tag=") {
            tag = Some(value.parse()?);
        }
    }
    Ok(Field {
        name: name.to_owned(),
        kind: kind.trim_start_matches("[]").to_owned(),
        array: kind.starts_with("[]"),
        versions: Versions::parse(versions)?,
        nullable,
        tag,
        fields: Vec::new(),
    })
}

fn folder() -> PathBuf {
    workspace().join("protocol/schema")
}

/// The names of all APIs, by key: `Produce`, `Fetch`.
pub fn apis() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(api) = name.strip_suffix("Request.facts") {
            found.push((Message::load(&format!("{api}Request"))?.key, api.to_owned()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}
