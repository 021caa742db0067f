//! Java property files.

use std::collections::BTreeMap;

/// Why text is not a property file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct PropertiesError {
    /// Line from 1.
    pub line: usize,
    pub why: String,
}

/// Reads the text of a `.properties` file: comments (`#`, `!`), `key=value`, `key: value` and `key value`, lines that go on
/// after a backslash, and escapes. The last of several values of one key wins.
///
/// # Errors
/// A broken `\u` escape or a line without a key.
pub fn parse_properties(text: &str) -> Result<BTreeMap<String, String>, PropertiesError> {
    let mut properties = BTreeMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while goes_on(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, more)) => logical.push_str(more.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        let failed = |why: String| PropertiesError { line: number + 1, why };
        if key.is_empty() {
            return Err(failed("no key before '='".to_owned()));
        }
        properties.insert(unescape(key).map_err(failed)?, unescape(value).map_err(failed)?);
    }
    Ok(properties)
}

/// Whether the line ends in an odd number of backslashes.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\x0c');
        escaped = *c == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let blank = [' ', '\t', '\x0c'];
    let rest = line[end..].trim_start_matches(blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(blank))
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                let unit = (digits.len() == 4)
                    .then(|| u16::from_str_radix(&digits, 16).ok())
                    .flatten()
                    .ok_or_else(|| format!("\\u{digits} is not a \\u escape with four hex digits"))?;
                units.push(unit);
                continue;
            }
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\x0c',
            ('\\', Some(other)) => other,
            ('\\', None) => break,
            (plain, _) => plain,
        };
        out.push_str(&String::from_utf16_lossy(&units));
        units.clear();
        out.push(plain);
    }
    out.push_str(&String::from_utf16_lossy(&units));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# comment\n! another\n a = 1\nb:2\nc 3\nd=\\\n   x,\\\n  y\ne\\ f=g\\=h\nu=\\u00e9\\uD83D\\uDE00\nempty\nk = v : w \na=4\n";
        let read = parse_properties(text).expect("valid");
        let get = |k: &str| read.get(k).map(String::as_str);
        assert_eq!(get("a"), Some("4"));
        assert_eq!(get("b"), Some("2"));
        assert_eq!(get("c"), Some("3"));
        assert_eq!(get("d"), Some("x,y"));
        assert_eq!(get("e f"), Some("g=h"));
        assert_eq!(get("u"), Some("é😀"));
        assert_eq!(get("empty"), Some(""));
        assert_eq!(get("k"), Some("v : w "));
        assert!(parse_properties("a=\\u12").is_err());
    }
}
