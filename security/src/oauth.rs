//! SASL OAUTHBEARER (RFC 7628): the messages around a token.

use std::collections::BTreeMap;

use crate::Secret;

const SEPARATOR: char = '\u{1}';
/// What a client sends to end an exchange that has failed.
pub const ABORT: &[u8] = b"\x01";

/// What a client sends first.
pub fn message(token: &Secret, extensions: &BTreeMap<String, String>) -> Vec<u8> {
    let mut text = format!("n,,{SEPARATOR}auth=Bearer {}{SEPARATOR}", token.expose());
    for (name, value) in extensions {
        text.push_str(&format!("{name}={value}{SEPARATOR}"));
    }
    text.push(SEPARATOR);
    text.into_bytes()
}

/// What a client has sent.
#[derive(Debug)]
pub struct Login {
    pub token: Secret,
    /// Empty where the client wants to be who the token says.
    pub authorization: String,
}

/// Reads a client's first message; an error is the text for the client.
pub fn parse(message: &[u8]) -> Result<Login, String> {
    let wrong = |why: &str| format!("Invalid OAUTHBEARER client first message: {why}");
    let text = std::str::from_utf8(message).map_err(|_| wrong("not UTF-8"))?;
    let (header, rest) = text.split_once(SEPARATOR).ok_or_else(|| wrong("no separator"))?;
    let authorization = header
        .strip_prefix("n,")
        .and_then(|rest| rest.strip_suffix(','))
        .ok_or_else(|| wrong("the header must be n,,"))?;
    let authorization = match authorization.strip_prefix("a=") {
        Some(name) => name.replace("=2C", ",").replace("=3D", "="),
        None if authorization.is_empty() => String::new(),
        None => return Err(wrong("the header must be n,,")),
    };
    let mut token = None;
    for pair in rest.split(SEPARATOR).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| wrong("a pair without an equals sign"))?;
        if name != "auth" {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
                return Err(wrong("the name of an extension must be letters"));
            }
            continue;
        }
        let (scheme, value) = value.split_once(' ').ok_or_else(|| wrong("'auth' must be 'Bearer TOKEN'"))?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(wrong("'auth' must be 'Bearer TOKEN'"));
        }
        token = Some(Secret::new(value.trim()));
    }
    let token = token.ok_or_else(|| wrong("'auth' not specified"))?;
    Ok(Login { token, authorization })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_bad_ones_are_refused() {
        let extensions = BTreeMap::from([("traceId".to_owned(), "1".to_owned())]);
        let login = parse(&message(&Secret::new("a.b.c"), &extensions)).unwrap();
        assert!(login.token.matches("a.b.c") && login.authorization.is_empty());
        assert_eq!(parse(b"n,a=o=2Cx,\x01auth=bearer t\x01\x01").unwrap().authorization, "o,x");
        for bad in [
            &b""[..],
            b"n,,",
            b"y,,\x01auth=Bearer t\x01\x01",
            b"n,,\x01auth=Basic t\x01\x01",
            b"n,,\x01\x01",
            b"n,,\x01a1=x\x01\x01",
        ] {
            assert!(parse(bad).is_err());
        }
    }
}
