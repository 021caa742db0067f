//! The only look that the coordinator takes into member metadata: which topics a `consumer` group subscribes to, so that
//! offsets of other topics can expire and be deleted.

use std::sync::Arc;

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// Topics of a consumer's subscription, which starts the same way in all versions: version i16, array of strings. `None`
/// where the bytes are no subscription.
pub(crate) fn topics(metadata: &[u8]) -> Option<Vec<Arc<str>>> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (name, tail) = tail.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
        topics.push(std::str::from_utf8(name).ok()?.into());
        rest = tail;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_and_damage_is_noticed() {
        let metadata = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(topics(&metadata), Some(vec!["a".into(), "bc".into()]));
        for cut in 0..13 {
            assert_eq!(topics(&metadata[..cut]), None, "cut at {cut}");
        }
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics(b""), None);
    }
}
