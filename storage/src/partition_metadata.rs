//! `partition.metadata`: which topic, by id, a directory belongs to.

use std::path::Path;

use aqueduct_protocol::ids::Uuid;

use crate::error::IoContext;
use crate::{Error, files};

const NAME: &str = "partition.metadata";

/// Writes the file, at once.
pub(crate) fn write(dir: &Path, id: Uuid) -> Result<(), Error> {
    files::write_atomically(&dir.join(NAME), text(id).as_bytes())
}

/// Writes the file into a directory that was just made; [`sync`] is to follow with the first flush.
pub(crate) fn write_new(dir: &Path, id: Uuid) -> Result<(), Error> {
    let path = dir.join(NAME);
    std::fs::write(&path, text(id)).at("write", &path)
}

/// Makes the file durable, if there is one.
pub(crate) fn sync(dir: &Path) -> Result<(), Error> {
    let path = dir.join(NAME);
    if path.exists() { files::sync(&path) } else { Ok(()) }
}

fn text(id: Uuid) -> String {
    format!("version: 0\ntopic_id: {id}")
}

/// The id of the topic that the log in `dir` belongs to; `None` where there is no file.
pub fn read(dir: &Path) -> Result<Option<Uuid>, Error> {
    let path = dir.join(NAME);
    let Some(text) = files::read_text(&path)? else { return Ok(None) };
    let value =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
    if value("version").map(str::trim) != Some("0") {
        return Err(Error::damaged(&path, "version 0 expected"));
    }
    let id = value("topic_id").and_then(|id| Uuid::parse(id.trim()));
    id.map(Some).ok_or_else(|| Error::damaged(&path, "no topic_id"))
}
