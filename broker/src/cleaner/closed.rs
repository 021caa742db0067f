//! Compacted logs that nobody has used since the start: only those that have something to clean are opened.

use std::path::Path;
use std::time::UNIX_EPOCH;

use aqueduct_protocol::ids::{Offset, PartitionIndex};

use super::Cleaner;
use crate::config::TopicConfig;
use crate::metadata::EffectiveConfig;

impl Cleaner {
    /// Opens the logs that are due by the looks of their files.
    pub(super) async fn open_due(&self) {
        if self.node.partitions.needs_recovery() {
            return;
        }
        let (node, this) = (&self.node, self.clone());
        let due = aqueduct_quorum::blocking::spawn(move || this.due()).await.unwrap_or_default();
        for (topic, index) in due {
            let image = node.metadata.image();
            if let Some(topic) = image.topic_by_id(topic) {
                let _ = node.partitions.hosted(topic, index).await;
            }
        }
    }

    fn due(&self) -> Vec<(aqueduct_protocol::ids::Uuid, PartitionIndex)> {
        let (node, now_ms) = (&self.node, self.node.clock.now_ms());
        let image = node.metadata.image();
        let config =
            EffectiveConfig { image: &image, broker: node.settings.node_id, file: &node.settings.properties };
        let directories = node.partitions.directories();
        let held: std::collections::HashMap<_, _> = directories.held().into_iter().collect();
        let mut due = Vec::new();
        for (id, partition) in directories.known() {
            let (Some(topic), Some(directory)) = (image.topic_by_id(id), held.get(&partition)) else {
                continue;
            };
            if node.partitions.opened(id, partition.partition).is_some() {
                continue;
            }
            let config = config.topic_config(&topic.name);
            let clean_to = self.checkpoints.lock().get(*directory, &partition, id);
            let path = directories.path(*directory, &partition);
            if config.compact && is_due(&path, clean_to, &config, now_ms) {
                due.push((id, partition.partition));
            }
        }
        due
    }
}

/// Judges by the segment files alone; the log itself will know better.
fn is_due(directory: &Path, clean_to: Option<Offset>, config: &TopicConfig, now_ms: i64) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    let mut segments = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|kind| kind != "log") {
            continue;
        }
        let base = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse::<i64>().ok());
        let (Some(base), Ok(metadata)) = (base, entry.metadata()) else { continue };
        let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        segments.push((base, metadata.len(), written.map_or(0, |time| time.as_millis() as i64)));
    }
    segments.sort_unstable();
    // The active segment stays as it is.
    let active = segments.pop().map_or(i64::MAX, |segment| segment.0);
    let clean_to = clean_to.unwrap_or(Offset(0)).0;
    let next = segments.iter().skip(1).map(|segment| segment.0).chain([active]);
    let dirty: Vec<_> =
        segments.iter().zip(next).filter(|(_, next)| *next > clean_to).map(|(s, _)| s).collect();
    let total: u64 = segments.iter().map(|segment| segment.1).sum();
    let bytes: u64 = dirty.iter().map(|segment| segment.1).sum();
    let is_late = || {
        let limit = now_ms.saturating_sub(config.max_compaction_lag_ms);
        dirty.iter().any(|segment| segment.2 < limit)
    };
    bytes > 0 && (bytes as f64 / total as f64 > config.min_cleanable_dirty_ratio || is_late())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_segments_behind_the_clean_part_decide() {
        let dir = tempfile::tempdir().unwrap();
        let config = TopicConfig::resolve(|row| row.key.default.unwrap().to_owned());
        let now_ms = Clock::system().now_ms();
        let write = |base: i64, bytes: usize| {
            std::fs::write(dir.path().join(format!("{base:020}.log")), vec![0; bytes]).unwrap();
        };
        write(0, 100);
        assert!(!is_due(dir.path(), None, &config, now_ms), "the active segment alone");
        write(50, 100);
        assert!(is_due(dir.path(), None, &config, now_ms));
        assert!(!is_due(dir.path(), Some(Offset(50)), &config, now_ms));
        write(70, 90);
        assert!(!is_due(dir.path(), Some(Offset(50)), &config, now_ms), "half of it");
        assert!(is_due(dir.path(), Some(Offset(49)), &config, now_ms));
        let late = TopicConfig { max_compaction_lag_ms: 1000, ..config };
        assert!(is_due(dir.path(), Some(Offset(50)), &late, now_ms + 60_000));
        assert!(!is_due(dir.path(), Some(Offset(70)), &late, now_ms + 60_000));
    }

    use crate::clock::Clock;
}
