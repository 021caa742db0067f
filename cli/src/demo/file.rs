//! A file with one JSON document a line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{Table, object, order, setting};

/// The file sink's output: every version of every order, the newest last.
pub struct Lines {
    path: PathBuf,
}

impl Lines {
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("orders.jsonl") }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn connector(&self, topic: &str) -> Map<String, Value> {
        object(json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
            "file": setting(&self.path.display()),
            "topics": topic,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        }))
    }

    /// The newest version of each order; a line that is not whole yet is left for later.
    pub fn read(&self) -> Result<Table> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Table::new()),
            Err(error) => return Err(error).with_context(|| self.path.display().to_string()),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|line| *line != "null").map(|line| order(&serde_json::from_str(line)?)).collect()
    }
}
