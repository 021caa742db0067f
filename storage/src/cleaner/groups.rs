//! Which segments become one.

use std::ops::Range;

use aqueduct_protocol::ids::Offset;

/// What counts of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) base_offset: Offset,
    pub(crate) log: u64,
    pub(crate) offset_index: u64,
    pub(crate) time_index: u64,
}

/// Puts neighbours together as long as neither log nor indexes would pass their limits, nor offsets 2^31 from the first.
/// Returns ranges of `segments`, which are in order; `end` is the offset after the last of them.
pub(crate) fn group(segments: &[Size], max_log: u64, max_index: u64, end: Offset) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    while start < segments.len() {
        let first = segments[start];
        let (mut log, mut offset_index, mut time_index) = (first.log, first.offset_index, first.time_index);
        let mut next = start + 1;
        while let Some(size) = segments.get(next) {
            log += size.log;
            offset_index += size.offset_index;
            time_index += size.time_index;
            let last = segments.get(next + 1).map_or(end, |s| s.base_offset).0 - 1;
            let in_reach = size.log == 0 || last - first.base_offset.0 <= i32::MAX as i64;
            if log > max_log || offset_index > max_index || time_index > max_index || !in_reach {
                break;
            }
            next += 1;
        }
        groups.push(start..next);
        start = next;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(all: &[(i64, u64)]) -> Vec<Size> {
        let one = |(base, log): &(i64, u64)| Size {
            base_offset: Offset(*base),
            log: *log,
            offset_index: log / 10,
            time_index: log / 20,
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn neighbours_go_together_up_to_the_limits() {
        let segments = sizes(&[(0, 100), (10, 50), (20, 50), (30, 201), (40, 0), (50, 150), (60, 20)]);
        assert_eq!(group(&segments, 200, 1000, Offset(70)), [0..3, 3..4, 4..7]);
        assert_eq!(group(&segments[..3], 2000, 15, Offset(30)), [0..2, 2..3]);
        assert!(group(&[], 200, 100, Offset(0)).is_empty());
    }

    #[test]
    fn offsets_stay_in_reach_of_the_base() {
        let far = i32::MAX as i64;
        let segments = sizes(&[(0, 10), (5, 10), (far, 10), (far + 5, 0), (far + 9, 10)]);
        assert_eq!(group(&segments, 1000, 1000, Offset(far + 20)), [0..2, 2..5]);
        assert_eq!(group(&segments[..3], 1000, 1000, Offset(far + 1)).len(), 1);
    }
}
