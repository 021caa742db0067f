//! Retention of logs that nobody has used since the start: only those that it may concern are opened.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::{Closed, Partitions};
use crate::config::TopicConfig;

impl Partitions {
    /// Opens the logs whose files are old or large enough for retention to look at them.
    pub async fn open_for_retention(self: &Arc<Self>, now_ms: i64) {
        let this = self.clone();
        let due = aqueduct_quorum::blocking::spawn(move || this.due(now_ms)).await.unwrap_or_default();
        for (topic, index) in due {
            let _ = self.hosted(&topic, index).await;
        }
    }

    fn due(&self, now_ms: i64) -> Vec<Closed> {
        let image = self.metadata.image();
        let mut due = Vec::new();
        for (id, partition) in self.directories.known() {
            let Some(topic) = image.topic_by_id(id) else { continue };
            if self.opened(id, partition.partition).is_some() {
                continue;
            }
            let config = self.topic_config(&image, &topic.name);
            let Some(found) = self.directories.find(&partition) else { continue };
            if is_due(&self.directories.path(found.directory, &partition), &config, now_ms) {
                due.push((topic.clone(), partition.partition));
            }
        }
        due
    }
}

/// Judges by the segment files alone: how large they are together, and when the oldest was last written to.
fn is_due(directory: &Path, config: &TopicConfig, now_ms: i64) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    let (mut bytes, mut oldest_ms) = (0i64, i64::MAX);
    for entry in entries.flatten() {
        if entry.path().extension().is_none_or(|kind| kind != "log") {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        bytes = bytes.saturating_add(metadata.len() as i64);
        let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        oldest_ms = oldest_ms.min(written.map_or(0, |time| time.as_millis() as i64));
    }
    let too_old = config.retention_ms >= 0 && now_ms.saturating_sub(oldest_ms) > config.retention_ms;
    let too_large = config.retention_bytes >= 0 && bytes > config.retention_bytes;
    bytes > 0 && config.delete && (too_old || too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_and_size_of_the_files_decide() {
        let dir = tempfile::tempdir().unwrap();
        let defaults = TopicConfig::resolve(|row| row.key.default.unwrap().to_owned());
        let now_ms = crate::clock::Clock::system().now_ms();
        assert!(!is_due(dir.path(), &defaults, now_ms + defaults.retention_ms + 10_000));
        std::fs::write(dir.path().join("00000000000000000000.log"), [0; 100]).unwrap();
        assert!(!is_due(dir.path(), &defaults, now_ms));
        assert!(is_due(dir.path(), &defaults, now_ms + defaults.retention_ms + 10_000));
        let small = TopicConfig { retention_bytes: 50, ..defaults.clone() };
        assert!(is_due(dir.path(), &small, now_ms));
        let compacted = TopicConfig { delete: false, ..small };
        assert!(!is_due(dir.path(), &compacted, now_ms));
    }
}
