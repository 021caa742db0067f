//! MySQL's binary JSON, printed as text without spaces.

use std::fmt::Write as _;

use super::reader::{Malformed, Reader, Result};
use super::row::read_decimal;

/// MySQL itself refuses documents deeper than this.
const MAX_DEPTH: u32 = 101;

/// The text of a document. Empty bytes are the JSON null that an implicit default leaves behind.
pub fn to_text(bytes: &[u8]) -> Result<String> {
    let mut out = String::with_capacity(bytes.len());
    match bytes.split_first() {
        None => out.push_str("null"),
        Some((kind, data)) => value(&mut out, *kind, data, 0)?,
    }
    Ok(out)
}

fn value(out: &mut String, kind: u8, data: &[u8], depth: u32) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Malformed("JSON is nested too deeply".to_owned()));
    }
    let mut r = Reader(data);
    match kind {
        0 | 1 => container(out, data, kind == 1, true, depth),
        2 | 3 => container(out, data, kind == 3, false, depth),
        4 => literal(out, r.u8()?),
        5 => print(out, r.int(2)?),
        6 => print(out, r.uint(2)?),
        7 => print(out, r.int(4)?),
        8 => print(out, r.uint(4)?),
        9 => print(out, r.int(8)?),
        10 => print(out, r.uint(8)?),
        11 => print_double(out, f64::from_bits(r.uint(8)?)),
        12 => {
            let len = length(&mut r)?;
            quote(out, &String::from_utf8_lossy(r.bytes(len)?));
            Ok(())
        }
        15 => {
            let kind = r.u8()?;
            let len = length(&mut r)?;
            opaque(out, kind, r.bytes(len)?)
        }
        _ => Err(Malformed(format!("unknown JSON type {kind}"))),
    }
}

fn print(out: &mut String, number: impl std::fmt::Display) -> Result<()> {
    write!(out, "{number}").map_err(|e| Malformed(e.to_string()))
}

fn print_double(out: &mut String, number: f64) -> Result<()> {
    match serde_json::Number::from_f64(number) {
        Some(n) => print(out, n),
        None => Err(Malformed(format!("{number} is no JSON number"))),
    }
}

fn literal(out: &mut String, code: u8) -> Result<()> {
    out.push_str(match code {
        0 => "null",
        1 => "true",
        2 => "false",
        _ => return Err(Malformed(format!("unknown JSON literal {code}"))),
    });
    Ok(())
}

/// A length in groups of seven bits, the lowest first.
fn length(r: &mut Reader<'_>) -> Result<usize> {
    let mut len = 0usize;
    for shift in [0, 7, 14, 21, 28] {
        let byte = r.u8()?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(len);
        }
    }
    Err(Malformed("JSON length takes too many bytes".to_owned()))
}

fn container(out: &mut String, data: &[u8], large: bool, object: bool, depth: u32) -> Result<()> {
    let width = if large { 4 } else { 2 };
    let mut r = Reader(data);
    let count = r.uint(width)? as usize;
    let size = r.uint(width)? as usize;
    let data = data.get(..size).ok_or_else(|| Malformed("JSON container exceeds its document".to_owned()))?;
    let entry = 1 + width;
    let keys = if object { count.saturating_mul(width + 2) } else { 0 };
    let need = keys.saturating_add(count.saturating_mul(entry)).saturating_add(2 * width);
    if need > size {
        return Err(Malformed(format!("JSON container of {count} entries in {size} bytes")));
    }
    let from = |offset: usize| {
        data.get(offset..).ok_or_else(|| Malformed("JSON offset outside of its container".to_owned()))
    };
    let mut entries = Reader(from(2 * width + keys)?);
    let mut names = Reader(from(2 * width)?);
    out.push(if object { '{' } else { '[' });
    for index in 0..count {
        if index > 0 {
            out.push(',');
        }
        if object {
            let offset = names.uint(width)? as usize;
            let len = names.uint(2)? as usize;
            quote(out, &String::from_utf8_lossy(Reader(from(offset)?).bytes(len)?));
            out.push(':');
        }
        let kind = entries.u8()?;
        let inline = entries.bytes(width)?;
        match kind {
            4 => literal(out, inline[0])?,
            5 | 6 => value(out, kind, inline, depth + 1)?,
            7 | 8 if large => value(out, kind, inline, depth + 1)?,
            _ => value(out, kind, from(Reader(inline).uint(width)? as usize)?, depth + 1)?,
        }
    }
    out.push(if object { '}' } else { ']' });
    Ok(())
}

/// Values of SQL types inside a document.
fn opaque(out: &mut String, kind: u8, data: &[u8]) -> Result<()> {
    match kind {
        246 => {
            let mut r = Reader(data);
            let (precision, scale) = (r.u8()?.into(), r.u8()?.into());
            print(out, read_decimal(&mut r, precision, scale)?.to_plain_string())
        }
        7 | 10 | 11 | 12 => {
            let packed = Reader(data).int(8)?;
            let size = packed.unsigned_abs();
            let (micros, whole) = (size & 0xff_ffff, size >> 24);
            out.push('"');
            if kind == 11 {
                let sign = if packed < 0 { "-" } else { "" };
                let (h, m, s) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
                print(out, format_args!("{sign}{h:02}:{m:02}:{s:02}"))?;
            } else {
                let (ymd, hms) = (whole >> 17, whole & 0x1_ffff);
                print(out, format_args!("{:04}-{:02}-{:02}", (ymd >> 5) / 13, (ymd >> 5) % 13, ymd & 31))?;
                if kind != 10 {
                    print(out, format_args!(" {:02}:{:02}:{:02}", hms >> 12, hms >> 6 & 63, hms & 63))?;
                }
            }
            if kind != 10 && micros > 0 {
                print(out, format_args!(".{micros:06}"))?;
            }
            out.push('"');
            Ok(())
        }
        _ => {
            out.push('"');
            out.push_str(&crate::value::base64(data, false));
            out.push('"');
            Ok(())
        }
    }
}

fn quote(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_documents() {
        // {"a":[1,"x",null],"b":-2}
        let document = [
            0, 2, 0, 0x2b, 0, // object, 2 entries, size 43 with padding
            18, 0, 1, 0, 19, 0, 1, 0, // keys
            2, 20, 0, // a: array at 20
            5, 0xfe, 0xff, // b: -2 inline
            b'a', b'b', // names at 18, 19
            3, 0, 15, 0, // array at 20: 3 items, size 15
            5, 1, 0, 12, 13, 0, 4, 0, 0, // 1, "x" at 13, null
            1, b'x', 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(to_text(&document).unwrap(), r#"{"a":[1,"x",null],"b":-2}"#);
        assert_eq!(to_text(&[]).unwrap(), "null");
        assert_eq!(to_text(&[11, 0, 0, 0, 0, 0, 0, 4, 0x40]).unwrap(), "2.5");
    }

    #[test]
    fn no_prefix_of_a_document_panics() {
        let document = [0, 1, 0, 12, 0, 11, 0, 1, 0, 4, 1, b'a'];
        assert!(to_text(&document).is_err() || !document.is_empty());
        for end in 0..document.len() {
            let _ = to_text(&document[..end]);
        }
        for byte in 0..=255 {
            for at in 0..document.len() {
                let mut broken = document;
                broken[at] = byte;
                let _ = to_text(&broken);
            }
        }
    }
}
