//! Offsets in a file, for a worker that is alone.
//!
//! The file is one JSON document, `{"offsets":[{"key":"[\"c\",{..}]","value":"{..}"},..]}`, replaced as a whole by a rename, so
//! that a crash leaves the old or the new one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::offsets::OffsetState;

#[derive(Deserialize, Serialize)]
struct Document {
    offsets: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    key: String,
    value: String,
}

/// The file and what is in it.
pub struct OffsetsFile {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, String>>,
}

impl OffsetsFile {
    /// Reads the file into `state`; a missing one is empty.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open(path: &Path, state: &mut OffsetState) -> Result<Self, String> {
        let mut entries = BTreeMap::new();
        match std::fs::read(path) {
            Ok(bytes) if !bytes.is_empty() => {
                let document: Document = serde_json::from_slice(&bytes).map_err(|e| {
                    format!("it is not an offsets file of this worker ({e}); name another file, or move this one away")
                })?;
                for entry in document.offsets {
                    state.apply(&Bytes::from(entry.key.clone()), Some(entry.value.as_bytes()))?;
                    entries.insert(entry.key, entry.value);
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(Self { path: path.to_owned(), entries: Mutex::new(entries) })
    }

    /// Adds records and replaces the file.
    ///
    /// # Errors
    /// Why it could not be written; the old file is still there.
    pub async fn append(&self, records: &[(Bytes, Option<Bytes>)]) -> Result<(), String> {
        let mut entries = self.entries.lock().await;
        for (key, value) in records {
            let key = String::from_utf8_lossy(key).into_owned();
            match value {
                Some(value) => entries.insert(key, String::from_utf8_lossy(value).into_owned()),
                None => entries.remove(&key),
            };
        }
        let offsets = entries.iter().map(|(k, v)| Entry { key: k.clone(), value: v.clone() }).collect();
        let bytes = serde_json::to_vec(&Document { offsets }).expect("text is JSON");
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
        written
            .unwrap_or_else(|e| Err(std::io::Error::other(e)))
            .map_err(|e| format!("writing {}: {e}", self.path.display()))
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn offsets_are_there_again_after_a_restart() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("offsets");
        let mut state = OffsetState::new();
        let file = OffsetsFile::open(&path, &mut state).expect("a missing file is empty");
        let key = Bytes::from_static(br#"["c",{"f":"x"}]"#);
        file.append(&[(key.clone(), Some(Bytes::from_static(br#"{"p":1}"#)))]).await.expect("written");
        OffsetsFile::open(&path, &mut state).expect("readable");
        assert_eq!(state.of_connector("c").len(), 1);
        std::fs::write(&path, b"\xac\xed java").expect("written");
        let error = OffsetsFile::open(&path, &mut state).err().expect("a Java file is refused");
        assert!(error.contains("not an offsets file"), "{error}");
    }
}
