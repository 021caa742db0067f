//! `partition.metadata`: which topic, by id, a directory belongs to.

use std::path::Path;

use aqueduct_protocol::ids::Uuid;

use crate::{Error, files};

const NAME: &str = "partition.metadata";

pub(crate) fn write(dir: &Path, id: Uuid) -> Result<(), Error> {
    files::write_atomically(&dir.join(NAME), format!("version: 0\ntopic_id: {id}").as_bytes())
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
