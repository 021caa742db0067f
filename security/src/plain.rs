//! SASL PLAIN (RFC 4616).

use crate::Secret;

/// What a client sends.
pub fn message(username: &str, password: &Secret) -> Vec<u8> {
    [b"\0", username.as_bytes(), b"\0", password.expose().as_bytes()].concat()
}

/// What a client has sent.
#[derive(Debug)]
pub struct Login {
    pub username: String,
    pub password: Secret,
}

/// Reads a client's message; an error is the text for the client.
pub fn parse(message: &[u8]) -> Result<Login, String> {
    let text =
        std::str::from_utf8(message).map_err(|_| "Invalid SASL/PLAIN response: not UTF-8".to_owned())?;
    let parts: Vec<&str> = text.split('\0').collect();
    let [authorization, username, password] = parts[..] else {
        return Err(format!("Invalid SASL/PLAIN response: expected 3 tokens, got {}", parts.len()));
    };
    if username.is_empty() {
        return Err("Authentication failed: username not specified".into());
    }
    if password.is_empty() {
        return Err("Authentication failed: password not specified".into());
    }
    if !authorization.is_empty() && authorization != username {
        return Err(
            "Authentication failed: Client requested an authorization id that is different from username"
                .into(),
        );
    }
    Ok(Login { username: username.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_bad_ones_are_refused() {
        let login = parse(&message("u", &Secret::new("p"))).unwrap();
        assert_eq!((login.username.as_str(), login.password.matches("p")), ("u", true));
        assert!(parse(b"u\0u\0p").is_ok());
        for bad in [&b"\0u"[..], b"\0u\0p\0x", b"\0\0p", b"\0u\0", b"other\0u\0p", b"\0u\0\xff"] {
            assert!(parse(bad).is_err());
        }
    }
}
