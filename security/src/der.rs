//! As much of DER as certificates and key stores need: elements with definite lengths.

/// Tags that are looked for.
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// Tag and length included.
    pub whole: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element; `None` at the end, or where the bytes are not DER.
    pub fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => first as usize,
            0x81..=0x84 => {
                let (bytes, after) = rest.split_at_checked((first & 0x7f) as usize)?;
                rest = after;
                bytes.iter().fold(0, |length, byte| length << 8 | *byte as usize)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element { tag, content, whole })
    }

    /// The next element, if it has this tag.
    pub fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// The content of the next element, if it has this tag, to read in turn.
    pub fn enter(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.take(tag).map(|element| Reader(element.content))
    }

    /// The next element as a small number.
    pub fn number(&mut self) -> Option<u32> {
        let bytes = self.take(INTEGER)?.content;
        (bytes.len() <= 5).then(|| bytes.iter().fold(0u64, |n, byte| n << 8 | *byte as u64))?.try_into().ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An object identifier in its dotted form.
pub(crate) fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut value = 0u64;
    for byte in oid {
        value = value << 7 | (byte & 0x7f) as u64;
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (value / 40).min(2);
                arcs.push(first);
                value -= first * 40;
            }
            arcs.push(value);
            value = 0;
        }
    }
    let texts: Vec<String> = arcs.iter().map(u64::to_string).collect();
    texts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_cut_ones_are_not() {
        let mut reader = Reader(&[0x30, 3, 2, 1, 5, 4, 0x81, 1, 7]);
        let mut inner = reader.enter(SEQUENCE).unwrap();
        assert_eq!(inner.number(), Some(5));
        assert!(inner.is_empty());
        assert!(reader.take(SEQUENCE).is_none());
        assert_eq!(reader.take(OCTET_STRING).unwrap().content, [7]);
        for bad in [&[0x30][..], &[0x30, 2, 1], &[0x30, 0x80, 0, 0], &[0x1f, 1, 1], &[4, 0x85, 0, 0, 0, 0, 1]]
        {
            assert!(Reader(bad).next().is_none());
        }
    }

    #[test]
    fn identifiers_have_a_dotted_form() {
        assert_eq!(dotted(&[0x55, 4, 3]), "2.5.4.3");
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]), "1.2.840.113549.1.9.1");
    }
}
