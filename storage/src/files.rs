//! File names of a log directory, and careful writing.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::Offset;

use crate::Error;
use crate::error::IoContext;

pub(crate) const LOG: &str = "log";
pub(crate) const OFFSET_INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TXN_INDEX: &str = "txnindex";
pub(crate) const SNAPSHOT: &str = "snapshot";
pub(crate) const DELETED: &str = ".deleted";
pub(crate) const CLEANED: &str = ".cleaned";
pub(crate) const SWAP: &str = ".swap";

/// `dir/<20 digits>.<kind>`
pub(crate) fn path(dir: &Path, base: Offset, kind: &str) -> PathBuf {
    dir.join(format!("{:020}.{kind}", base.0))
}

/// Reads `<20 digits>.<kind>`, with anything after it.
pub(crate) fn parse(name: &str) -> Option<(Offset, &str)> {
    let (digits, kind) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((Offset(digits.parse().ok()?), kind))
}

/// `path` with `suffix` behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Replaces the file's content at once: after a crash it is the old or the new, never a part.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Error> {
    replace(path, content, true)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Replaces the file's content at once, as far as running processes see it; synced on demand.
pub(crate) fn replace(path: &Path, content: &[u8], synced: bool) -> Result<(), Error> {
    let temporary = with_suffix(path, ".tmp");
    let mut file = File::create(&temporary).at("create", &temporary)?;
    file.write_all(content).at("write", &temporary)?;
    if synced {
        file.sync_all().at("sync", &temporary)?;
    }
    fs::rename(&temporary, path).at("rename to", path)
}

/// Makes the file's content durable.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).at("sync", path)
}

/// Makes created, renamed and removed names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).at("sync", dir)
}

/// The file's text; `None` where there is no file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Err(Error::damaged(path, "not UTF-8")),
        Err(e) => Err(e).at("read", path),
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("remove", path),
        _ => Ok(()),
    }
}

/// Renames a file that may not be there; says whether it was.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<bool, Error> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("rename", from),
    }
}

/// Names in a directory, those that are not UTF-8 left out, in order.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        names.extend(entry.at("list", dir)?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
