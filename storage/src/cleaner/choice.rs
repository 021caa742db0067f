//! What of a log may be cleaned, and how urgent it is.

use aqueduct_protocol::ids::Offset;

use crate::LogConfig;

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub(crate) base_offset: Offset,
    pub(crate) size: u64,
    /// Of its records; the time of the last write where they have none.
    pub(crate) largest_timestamp: i64,
    /// Of its first batch; `None` where it is not needed, or there is none.
    pub(crate) first_timestamp: Option<i64>,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) last_stable: Offset,
}

/// The part of a log that a cleaning would work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanable {
    /// Everything below has been cleaned before.
    pub first_dirty: Offset,
    /// Base offset of the first segment that must stay as it is.
    pub first_uncleanable: Offset,
    /// Bytes below `first_dirty`.
    pub clean_bytes: u64,
    /// Bytes from `first_dirty` to `first_uncleanable`.
    pub cleanable_bytes: u64,
    /// For how long records have been dirty beyond `max.compaction.lag.ms`, in milliseconds; 0 if none have.
    pub delay_ms: i64,
    /// The offset up to which the log was said to be clean does not lie in it; `first_dirty` takes its place.
    pub is_reset: bool,
}

impl Cleanable {
    /// Share of dirty bytes among those that a cleaning would touch; 0 where there are none.
    pub fn ratio(&self) -> f64 {
        match self.clean_bytes + self.cleanable_bytes {
            0 => 0.0,
            total => self.cleanable_bytes as f64 / total as f64,
        }
    }

    /// Whether it is time for a cleaning, by `min.cleanable.dirty.ratio` and `max.compaction.lag.ms`.
    pub fn is_due(&self, config: &LogConfig) -> bool {
        self.cleanable_bytes > 0 && (self.delay_ms > 0 || self.ratio() > config.min_cleanable_dirty_ratio)
    }
}

/// Whether first timestamps matter for the choice.
pub(crate) fn needs_first_timestamps(config: &LogConfig, now_ms: i64) -> bool {
    clean_until(config, now_ms) > 0
}

fn clean_until(config: &LogConfig, now_ms: i64) -> i64 {
    now_ms.saturating_sub(config.max_compaction_lag_ms.max(0))
}

/// Chooses what to clean of a log whose `segments` are given in order, the active one last. `clean_to` is where the
/// cleaning before ended.
pub(crate) fn choose(
    segments: &[SegmentFacts],
    bounds: Bounds,
    clean_to: Option<Offset>,
    config: &LogConfig,
    now_ms: i64,
) -> Cleanable {
    let known = clean_to.unwrap_or(bounds.start);
    let is_reset = known < bounds.start || known > bounds.end;
    let first_dirty = if is_reset { bounds.start } else { known };
    let (active, closed) = segments.split_last().expect("a log has at least one segment");
    let dirty = if first_dirty >= active.base_offset { &[][..] } else { from(closed, first_dirty) };
    let too_young = (config.min_compaction_lag_ms > 0)
        .then(|| dirty.iter().find(|s| s.largest_timestamp > now_ms - config.min_compaction_lag_ms))
        .flatten();
    let limit = [Some(bounds.last_stable), Some(active.base_offset), too_young.map(|s| s.base_offset)];
    let limit = limit.into_iter().flatten().min().unwrap_or(first_dirty).max(first_dirty);
    let rest = if limit >= active.base_offset { &[][..] } else { from(closed, limit) };
    let first_uncleanable = rest.first().unwrap_or(active).base_offset;
    let cleanable_bytes = match first_dirty < first_uncleanable {
        true => {
            let dirty = from(closed, first_dirty).iter();
            dirty.filter(|s| s.base_offset < first_uncleanable).map(|s| s.size).sum()
        }
        false => 0,
    };
    let clean_bytes = segments.iter().filter(|s| s.base_offset < first_dirty).map(|s| s.size).sum();
    let oldest = dirty.iter().filter_map(|s| s.first_timestamp).filter(|time| *time > 0).min();
    let delay_ms = oldest.map_or(0, |time| clean_until(config, now_ms).saturating_sub(time).max(0));
    Cleanable { first_dirty, first_uncleanable, clean_bytes, cleanable_bytes, delay_ms, is_reset }
}

/// The segments from the one on in which `offset` lies.
fn from(segments: &[SegmentFacts], offset: Offset) -> &[SegmentFacts] {
    let after = segments.partition_point(|s| s.base_offset <= offset);
    &segments[after.saturating_sub(1)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    /// Five segments of 100 offsets and 1000 bytes, one a second, the last one active.
    fn segments() -> Vec<SegmentFacts> {
        let one = |i: i64| SegmentFacts {
            base_offset: Offset(i * 100),
            size: 1000,
            largest_timestamp: NOW - 5000 + (i + 1) * 1000,
            first_timestamp: Some(NOW - 5000 + i * 1000),
        };
        (0..5).map(one).collect()
    }

    fn bounds(start: i64, last_stable: i64) -> Bounds {
        Bounds { start: Offset(start), end: Offset(450), last_stable: Offset(last_stable) }
    }

    fn chosen(clean_to: Option<i64>, bounds: Bounds, config: &LogConfig) -> Cleanable {
        choose(&segments(), bounds, clean_to.map(Offset), config, NOW)
    }

    #[test]
    fn the_active_segment_unstable_records_and_young_ones_stay() {
        let config = LogConfig::default();
        let range = |c: Cleanable| (c.first_dirty.0, c.first_uncleanable.0, c.clean_bytes, c.cleanable_bytes);
        assert_eq!(range(chosen(None, bounds(0, 450), &config)), (0, 400, 0, 4000));
        assert_eq!(range(chosen(Some(200), bounds(0, 450), &config)), (200, 400, 2000, 2000));
        // A segment that is dirty in part counts on both sides, as in the reference.
        assert_eq!(range(chosen(Some(250), bounds(0, 450), &config)), (250, 400, 3000, 2000));
        assert_eq!(range(chosen(Some(200), bounds(0, 320), &config)), (200, 300, 2000, 1000));
        assert_eq!(range(chosen(Some(400), bounds(0, 450), &config)), (400, 400, 4000, 0));
        assert_eq!(range(chosen(Some(420), bounds(0, 450), &config)), (420, 400, 5000, 0));
        let young = LogConfig { min_compaction_lag_ms: 3000, ..LogConfig::default() };
        assert_eq!(range(chosen(None, bounds(0, 450), &young)), (0, 200, 0, 2000));
        let all = LogConfig { min_compaction_lag_ms: 5000, ..LogConfig::default() };
        assert_eq!(range(chosen(None, bounds(0, 450), &all)), (0, 0, 0, 0));
        assert_eq!(chosen(None, bounds(0, 450), &all).ratio(), 0.0);
    }

    #[test]
    fn a_clean_offset_outside_of_the_log_is_not_believed() {
        let config = LogConfig::default();
        for (clean_to, start, first_dirty, is_reset) in [
            (Some(50), 120, 120, true),
            (Some(451), 0, 0, true),
            (Some(450), 0, 450, false),
            (None, 7, 7, false),
        ] {
            let found = chosen(clean_to, bounds(start, 450), &config);
            assert_eq!((found.first_dirty.0, found.is_reset), (first_dirty, is_reset), "{clean_to:?}");
        }
    }

    #[test]
    fn share_of_dirty_bytes_or_age_makes_it_due() {
        let config = LogConfig { min_cleanable_dirty_ratio: 0.5, ..LogConfig::default() };
        assert!(chosen(Some(100), bounds(0, 450), &config).is_due(&config));
        assert!(
            !chosen(Some(200), bounds(0, 450), &config).is_due(&config),
            "exactly the ratio is not enough"
        );
        let lag = LogConfig { max_compaction_lag_ms: 2500, ..config.clone() };
        let late = chosen(Some(200), bounds(0, 450), &lag);
        assert_eq!((late.delay_ms, late.is_due(&lag)), (500, true));
        let fresh = chosen(Some(300), bounds(0, 450), &lag);
        assert_eq!((fresh.delay_ms, fresh.is_due(&lag)), (0, false));
        let none = LogConfig { min_cleanable_dirty_ratio: 0.0, ..config };
        assert!(!chosen(Some(400), bounds(0, 450), &none).is_due(&none));
    }
}
