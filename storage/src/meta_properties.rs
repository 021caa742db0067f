use std::path::Path;

use aqueduct_protocol::ids::{BrokerId, Uuid};

use crate::{Error, files};

pub(crate) const NAME: &str = "meta.properties";

/// `meta.properties`: which broker of which cluster a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: BrokerId,
    pub directory_id: Uuid,
}

impl MetaProperties {
    /// Reads the file in `dir`; `None` where the directory is not formatted.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(NAME);
        let Some(text) = files::read_text(&path)? else { return Ok(None) };
        let value = |wanted: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.trim_start().split_once('=')?;
                (key.trim() == wanted).then(|| value.trim())
            })
        };
        let missing = |key: &str| Error::damaged(&path, format!("{key} is missing or not what it should be"));
        match value("version") {
            Some("1") => {}
            found => return Err(Error::damaged(&path, format!("version {found:?}, 1 expected"))),
        }
        let node_id = value("node.id").and_then(|id| id.parse().ok()).ok_or_else(|| missing("node.id"))?;
        Ok(Some(Self {
            cluster_id: value("cluster.id").ok_or_else(|| missing("cluster.id"))?.to_owned(),
            node_id: BrokerId(node_id),
            directory_id: value("directory.id").and_then(Uuid::parse).unwrap_or(Uuid::ZERO),
        }))
    }

    /// Writes the file into `dir`, at once.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let Self { cluster_id, node_id, directory_id } = self;
        let text = format!(
            "#\ncluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\nversion=1\n"
        );
        files::write_atomically(&dir.join(NAME), text.as_bytes())
    }

    /// [`Error::ForeignDirectory`] if the file in `dir`, which says `self`, belongs to another cluster or node.
    pub fn check(&self, dir: &Path, cluster_id: &str, node_id: BrokerId) -> Result<(), Error> {
        let path = dir.join(NAME);
        let foreign =
            |key, found, expected| Error::ForeignDirectory { path: path.clone(), key, found, expected };
        if self.cluster_id != cluster_id {
            return Err(foreign("cluster.id", self.cluster_id.clone(), cluster_id.to_owned()));
        }
        if self.node_id != node_id {
            return Err(foreign("node.id", self.node_id.to_string(), node_id.to_string()));
        }
        Ok(())
    }
}
