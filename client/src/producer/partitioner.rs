//! Which partition a record goes to: by the hash of its key, or sticky for records without one.

/// Java's hash of keys: 32-bit MurmurHash2 with a fixed seed.
pub(super) fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a key, of `partitions` there are.
pub(super) fn for_key(key: &[u8], partitions: usize) -> i32 {
    let positive = murmur2(key) & i32::MAX;
    (positive as usize % partitions.max(1)) as i32
}

/// The partition for records without a key: the same until `batch.size` bytes went there, then another one by chance
/// among those with a leader (KIP-794, without its weights by queue length).
#[derive(Debug, Default)]
pub(super) struct Sticky {
    current: Option<i32>,
    bytes: usize,
}

impl Sticky {
    /// The partition for the next record of `size` bytes. `available` are those with a leader; with none, all of
    /// `partitions` are taken as such. `random` is in `0.0..1.0` and used only when the partition changes.
    pub(super) fn next(
        &mut self,
        size: usize,
        stick_for: usize,
        available: &[i32],
        partitions: usize,
        random: impl FnOnce() -> f64,
    ) -> i32 {
        let valid = |at: &i32| {
            if available.is_empty() { (*at as usize) < partitions } else { available.contains(at) }
        };
        let current = self.current.filter(|at| self.bytes < stick_for.max(1) && valid(at));
        let partition = current.unwrap_or_else(|| {
            self.bytes = 0;
            let choices = if available.is_empty() { partitions } else { available.len() };
            let at = ((random() * choices as f64) as usize).min(choices.saturating_sub(1));
            available.get(at).copied().unwrap_or(at as i32)
        });
        self.current = Some(partition);
        self.bytes += size;
        partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by `org.apache.kafka.common.utils.Utils.murmur2`.
    #[test]
    fn hashes_as_java_does() {
        let expected = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (text, hash) in expected {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
        assert_eq!(for_key(b"foobar", 7), (-790_332_482 & i32::MAX) % 7);
    }

    #[test]
    fn sticks_until_a_batch_went_there() {
        let mut sticky = Sticky::default();
        let mut next = |size, random| sticky.next(size, 100, &[1, 3, 5], 6, || random);
        assert_eq!([next(60, 0.5), next(60, 0.0), next(60, 0.99), next(60, 0.0)], [3, 3, 5, 5]);
        assert_eq!(next(1, 0.0), 1);
    }

    #[test]
    fn leaves_a_partition_that_lost_its_leader_and_copes_with_none() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.next(1, 100, &[0, 1], 2, || 0.9), 1);
        assert_eq!(sticky.next(1, 100, &[0], 2, || 0.9), 0);
        let mut sticky = Sticky::default();
        assert_eq!(sticky.next(1, 100, &[], 4, || 0.6), 2);
        assert_eq!(sticky.next(1, 100, &[], 4, || 0.0), 2);
    }
}
