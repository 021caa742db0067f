//! Formatting: empty directories are made those of one node of one cluster, and the first voters of a quorum are written
//! down (KIP-853). A node alone, and nodes of `controller.quorum.voters`, need none.

mod begin;
mod first;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::Uuid;
use aqueduct_quorum::{Directory, DirectoryId, NodeId, Peer};
use aqueduct_storage::MetaProperties;

use crate::config::{ClusterSettings, ConfigError, Properties, Settings};
pub use crate::node::random_uuid;
pub use first::{FirstControllers, InitialController, initial_controllers};

/// The format of the metadata, as Kafka names it.
const METADATA_VERSION: &str = "metadata.version 4.3-IV0";
/// More are no quorum that could agree on anything in time.
const MOST_VOTERS: usize = 100;

/// What is wanted of a node's directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub cluster_id: String,
    pub first: FirstControllers,
    /// Pass over directories that are formatted for this node already, which are refused otherwise.
    pub ignore_formatted: bool,
    /// `NAME=LEVEL`: levels of features that a new cluster begins with.
    pub features: Vec<String>,
    /// `MECHANISM=[name=USER,password=PASSWORD]`: credentials that it begins with.
    pub credentials: Vec<String>,
}

/// Why nothing was formatted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is wanted does not fit the configuration, or contradicts itself.
    #[error("{0}")]
    Wrong(String),
    #[error(
        "Log directory {} is already formatted. Use --ignore-formatted to ignore this directory and format the others.", path.display()
    )]
    Formatted { path: PathBuf },
    #[error(
        "Invalid {key} in: {}. Expected {expected}, but read {found}: the directory belongs to another {of}; check log.dirs and {option}, or name an empty directory", path.display()
    )]
    Foreign {
        path: PathBuf,
        key: &'static str,
        expected: String,
        found: String,
        of: &'static str,
        option: &'static str,
    },
    #[error("log directory: {0}")]
    Storage(#[from] aqueduct_storage::Error),
    #[error("{}: {source}", path.display())]
    Quorum { path: PathBuf, source: aqueduct_quorum::StartError },
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Directories with their new ids, that of the metadata last: only with it the node is formatted.
    directories: Vec<(PathBuf, Uuid)>,
    /// Goes into the directory of the metadata.
    voters: BTreeMap<NodeId, Peer>,
    /// What is told about it.
    lines: Vec<String>,
}

/// Formats the directories of a node with this `server.properties`, and says which. Blocks on the disk.
///
/// # Errors
/// Before anything is written, what does not fit; later only what the disk refuses.
pub fn format(properties: Properties, wanted: &Format) -> Result<Vec<String>, FormatError> {
    let settings = Settings::read(properties)?;
    let mut paths: Vec<&PathBuf> =
        settings.log_dirs.iter().filter(|path| **path != settings.metadata_dir).collect();
    paths.push(&settings.metadata_dir);
    let found: Result<Vec<_>, FormatError> =
        paths.into_iter().map(|path| Ok((path.clone(), MetaProperties::read(path)?))).collect();
    let records = begin::records(&wanted.features, &wanted.credentials).map_err(FormatError::Wrong)?;
    let plan = plan(&settings, wanted, found?, random_uuid)?;
    let begins = plan.directories.iter().any(|(path, _)| *path == settings.metadata_dir);
    if begins && !records.is_empty() {
        create(&settings.metadata_dir)?;
        crate::metadata::first::write(&settings.metadata_dir, &records).map_err(|source| {
            aqueduct_storage::Error::Io { action: "write", path: settings.metadata_dir.clone(), source }
        })?;
    }
    if !plan.voters.is_empty() {
        let failed = |source| FormatError::Quorum { path: settings.metadata_dir.clone(), source };
        let disk = Directory::open(&settings.metadata_dir).map_err(failed)?;
        aqueduct_quorum::format(&disk, &plan.voters).map_err(failed)?;
    }
    for (path, directory_id) in &plan.directories {
        create(path)?;
        let (cluster_id, node_id) = (wanted.cluster_id.clone(), settings.node_id);
        MetaProperties { cluster_id, node_id, directory_id: *directory_id }.write(path)?;
    }
    Ok(plan.lines)
}

fn create(path: &Path) -> Result<(), FormatError> {
    let failed = |source| aqueduct_storage::Error::Io { action: "create", path: path.to_owned(), source };
    Ok(std::fs::create_dir_all(path).map_err(failed)?)
}

/// Decides what is written. `found` are the directories with what they are formatted as, that of the metadata last.
fn plan(
    settings: &Settings,
    wanted: &Format,
    found: Vec<(PathBuf, Option<MetaProperties>)>,
    mut new_id: impl FnMut() -> Uuid,
) -> Result<Plan, FormatError> {
    let cluster = settings.formatted_part()?;
    // What is formatted for a quorum has a part in one; by its configuration this node may be alone.
    let is_alone = settings.cluster.is_none();
    check(&cluster, is_alone, wanted)?;
    let own_id = new_id();
    let voters = voters(settings, &cluster, &wanted.first, own_id)?;
    for (path, meta) in &found {
        let Some(meta) = meta else { continue };
        let foreign = |key, of, option, expected, found| {
            let path = path.join("meta.properties");
            Err(FormatError::Foreign { path, key, expected, found, of, option })
        };
        if meta.cluster_id != wanted.cluster_id {
            let (expected, found) = (wanted.cluster_id.clone(), meta.cluster_id.clone());
            return foreign("cluster.id", "cluster", "--cluster-id", expected, found);
        }
        if meta.node_id != settings.node_id {
            let (expected, found) = (settings.node_id.to_string(), meta.node_id.to_string());
            return foreign("node.id", "node", "node.id", expected, found);
        }
        if !wanted.ignore_formatted {
            return Err(FormatError::Formatted { path: path.clone() });
        }
    }
    let own =
        u64::try_from(settings.node_id.0).ok().and_then(|id| voters.get(&id)).map(|peer| peer.directory);
    let mut plan = Plan { directories: Vec::new(), voters: BTreeMap::new(), lines: Vec::new() };
    let last = found.len() - 1;
    for (at, (path, _)) in found.into_iter().enumerate().filter(|(_, (_, meta))| meta.is_none()) {
        let (kind, id) = match own {
            _ if at < last => ("data", new_id()),
            Some(directory) => ("dynamic metadata voter", Uuid(directory.0)),
            None if !voters.is_empty() => ("dynamic metadata", own_id),
            None => ("metadata", own_id),
        };
        plan.lines.push(format!("Formatting {kind} directory {} with {METADATA_VERSION}.", path.display()));
        plan.directories.push((path, id));
        if at == last && own.is_some() {
            plan.voters = voters.clone();
        }
    }
    if plan.lines.is_empty() {
        plan.lines.push("All of the log directories are already formatted.".into());
    }
    Ok(plan)
}

/// Whether what is wanted fits the configuration.
fn check(cluster: &ClusterSettings, is_alone: bool, wanted: &Format) -> Result<(), FormatError> {
    let wrong = |why: String| Err(FormatError::Wrong(why));
    let is_named = matches!(wanted.first, FirstControllers::Standalone | FirstControllers::Initial(_));
    if wanted.cluster_id.is_empty()
        || wanted.cluster_id.len() > 64
        || wanted.cluster_id.contains(|c: char| !c.is_ascii_graphic())
    {
        return wrong(format!(
            "--cluster-id={}: must be at most 64 letters, digits, - and _, the same on all nodes; aqueduct storage random-uuid prints a new one",
            wanted.cluster_id
        ));
    }
    if is_named && !cluster.voters.is_empty() {
        return wrong("You cannot specify controller.quorum.voters and format the node with --initial-controllers or --standalone. If you want to use dynamic quorum, please remove controller.quorum.voters and specify controller.quorum.bootstrap.servers instead.".into());
    }
    if wanted.first == FirstControllers::Standalone && !cluster.is_controller {
        return wrong("You can only use --standalone on a controller.".into());
    }
    if wanted.first == FirstControllers::Join && is_alone && cluster.voters.is_empty() {
        return wrong("controller.quorum.bootstrap.servers names this node only, so that there is nobody to join: name controllers that vote, or use --standalone where this node is the first.".into());
    }
    if wanted.first == FirstControllers::Unsaid && cluster.is_controller && cluster.voters.is_empty() {
        return wrong("Because controller.quorum.voters is not set on this controller, you must specify one of the following: --standalone, --initial-controllers, or --no-initial-controllers.".into());
    }
    Ok(())
}

/// The first voters, with the directories that they vote with.
fn voters(
    settings: &Settings,
    cluster: &ClusterSettings,
    first: &FirstControllers,
    own_id: Uuid,
) -> Result<BTreeMap<NodeId, Peer>, FormatError> {
    let wrong = |why: String| Err(FormatError::Wrong(why));
    let listener = &cluster.controller_listener;
    let peer = |host: &str, port: u16, directory: Uuid| Peer {
        directory: DirectoryId(directory.0),
        listener: listener.name.clone(),
        host: host.to_owned(),
        port,
    };
    let node = |id: i32| NodeId::try_from(id).unwrap_or_default();
    match first {
        FirstControllers::Unsaid | FirstControllers::Join => Ok(BTreeMap::new()),
        FirstControllers::Standalone => {
            let own = settings.listeners.of_controller(listener);
            if own.port == 0 {
                return wrong(format!(
                    "{own} has port 0, where no other node could find this one: give it a port in listeners"
                ));
            }
            Ok([(node(settings.node_id.0), peer(&own.host, own.port, own_id))].into())
        }
        FirstControllers::Initial(all) => {
            let ids: Vec<String> = all.iter().map(|one| one.id.to_string()).collect();
            if all.len() > MOST_VOTERS {
                return wrong(format!(
                    "--initial-controllers: {} are too many, {MOST_VOTERS} at most",
                    all.len()
                ));
            }
            if cluster.is_controller && all.iter().all(|one| one.id != settings.node_id.0) {
                return wrong(format!(
                    "--initial-controllers names the nodes {}, not this one, which is node {} by node.id: add it, or use --no-initial-controllers where it is to join later",
                    ids.join(", "),
                    settings.node_id
                ));
            }
            Ok(all.iter().map(|one| (node(one.id), peer(&one.host, one.port, one.directory))).collect())
        }
    }
}

#[cfg(test)]
#[path = "format/tests.rs"]
mod tests;
