//! Distinguished names in the form of RFC 2253, as Java's `X500Principal.getName()` gives them.

use std::fmt::Write as _;

use crate::der::{self, Element, Reader};

/// The name that a certificate is about, last part first; `None` where the bytes are no certificate.
pub fn subject(certificate: &[u8]) -> Option<String> {
    let mut reader = tbs(certificate)?;
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        reader.next()?;
    }
    let name = reader.take(der::SEQUENCE)?;
    rfc2253(name.content)
}

fn tbs(certificate: &[u8]) -> Option<Reader<'_>> {
    let mut reader = Reader(certificate).enter(der::SEQUENCE)?.enter(der::SEQUENCE)?;
    // The version may be left out.
    let _ = reader.take(der::CONTEXT_0);
    Some(reader)
}

fn rfc2253(name: &[u8]) -> Option<String> {
    let mut reader = Reader(name);
    let mut parts = Vec::new();
    while !reader.is_empty() {
        let mut set = reader.enter(der::SET)?;
        let mut values = Vec::new();
        while !set.is_empty() {
            let mut pair = set.enter(der::SEQUENCE)?;
            let kind = pair.take(der::OID)?;
            values.push(attribute(kind.content, pair.next()?));
        }
        parts.push(values.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(kind: &[u8], value: Element<'_>) -> String {
    let oid = der::dotted(kind);
    match (keyword(&oid), is_text(value.tag)) {
        (Some(keyword), true) => format!("{keyword}={}", escaped(&String::from_utf8_lossy(value.content))),
        (keyword, _) => {
            let mut text = format!("{}=#", keyword.unwrap_or(&oid));
            for byte in value.whole {
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

/// RFC 2253 names these kinds only; others stand as numbers.
fn keyword(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// UTF8String, PrintableString, T61String, IA5String, GeneralString, UniversalString, BMPString.
fn is_text(tag: u8) -> bool {
    matches!(tag, 0x0c | 0x13 | 0x14 | 0x16 | 0x1b | 0x1c | 0x1e)
}

fn escaped(text: &str) -> String {
    let blank = |c: char| c == ' ' || c == '\r';
    let lead = text.len() - text.trim_start_matches(blank).len();
    let trail = text.trim_end_matches(blank).len();
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\0' => {
                out.push_str("\\00");
                continue;
            }
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => out.push('\\'),
            c if blank(c) && (at < lead || at >= trail) => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: Vec<u8>| [vec![tag, content.len() as u8], content].concat();
        let inner = [wrap(6, oid.to_vec()), wrap(tag, text.to_vec())].concat();
        wrap(0x30, inner)
    }

    fn name(parts: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let set = |values: &Vec<Vec<u8>>| {
            let content = values.concat();
            [vec![0x31, content.len() as u8], content].concat()
        };
        parts.iter().flat_map(set).collect()
    }

    #[test]
    fn names_are_printed_as_java_prints_them() {
        let cn = [0x55, 4, 3];
        let ou = [0x55, 4, 11];
        let mail = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
        let bytes = name(&[
            vec![pair(&[0x55, 4, 6], 0x13, b"DE")],
            vec![pair(&ou, 0x0c, b"a"), pair(&ou, 0x0c, b"b")],
            vec![pair(&mail, 0x16, b"x@y")],
            vec![pair(&cn, 0x0c, " #1, \"\u{fc}\"=<x> ".as_bytes())],
        ]);
        assert_eq!(
            rfc2253(&bytes).unwrap(),
            "CN=\\ \\#1\\, \\\"\u{fc}\\\"\\=\\<x\\>\\ ,1.2.840.113549.1.9.1=#1603784079,OU=a+OU=b,C=DE"
        );
        assert_eq!(rfc2253(&[0x31, 5, 1]), None);
        assert_eq!(subject(b"no certificate"), None);
    }
}
