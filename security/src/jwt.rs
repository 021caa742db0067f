//! JSON web tokens (RFC 7519) and the key sets that they are checked with (RFC 7517).

mod keys;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use keys::KeySet;

/// A token that has been taken apart, and not been checked.
pub struct Token<'a> {
    /// `header.claims`, which the signature is over.
    signed: &'a str,
    signature: Vec<u8>,
    pub algorithm: String,
    pub key_id: Option<String>,
    claims: Map<String, Value>,
}

/// What must hold for a token.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Empty allows any.
    pub audiences: Vec<String>,
    pub issuer: Option<String>,
    pub subject_claim: String,
    pub scope_claim: String,
    /// Scopes that a token must have.
    pub required_scopes: BTreeSet<String>,
    pub clock_skew_seconds: i64,
    /// Whether a token must say when it was issued.
    pub require_issued_at: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            audiences: Vec::new(),
            issuer: None,
            subject_claim: "sub".into(),
            scope_claim: "scope".into(),
            required_scopes: BTreeSet::new(),
            clock_skew_seconds: 30,
            require_issued_at: true,
        }
    }
}

/// Whom a token that holds stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub subject: String,
    pub scopes: BTreeSet<String>,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Text of errors for the log: the token itself is no part of them.
type Checked<T> = Result<T, String>;

impl<'a> Token<'a> {
    /// Takes a token in its compact form apart.
    pub fn parse(text: &'a str) -> Checked<Self> {
        let malformed = || "the token is not a JSON web token of three parts".to_owned();
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).map_err(|_| malformed());
        let object = |part: &str| -> Checked<Map<String, Value>> {
            serde_json::from_slice(&decode(part)?).map_err(|_| malformed())
        };
        let header = object(header)?;
        let text = |name: &str| header.get(name).and_then(Value::as_str).map(str::to_owned);
        if header.contains_key("crit") {
            return Err("the token has critical header fields that are not known".into());
        }
        Ok(Self {
            signed,
            signature: decode(signature)?,
            algorithm: text("alg").ok_or("the token names no algorithm")?,
            key_id: text("kid"),
            claims: object(claims)?,
        })
    }

    /// Whether the token is one without a signature.
    pub fn is_unsecured(&self) -> bool {
        self.algorithm == "none" && self.signature.is_empty()
    }

    /// Checks the signature.
    pub fn verify(&self, keys: &KeySet) -> Checked<()> {
        keys.verify(&self.algorithm, self.key_id.as_deref(), self.signed.as_bytes(), &self.signature)
    }

    /// Checks the claims at a time in milliseconds since 1970.
    pub fn check(&self, rules: &Rules, now_ms: i64) -> Checked<Identity> {
        let skew = rules.clock_skew_seconds.saturating_mul(1000);
        let expires_at_ms = self.time("exp")?.ok_or("the token has no exp claim")?;
        if now_ms.saturating_sub(skew) >= expires_at_ms {
            return Err("the token has expired".into());
        }
        let issued = self.time("iat")?;
        if rules.require_issued_at && issued.is_none() {
            return Err("the token has no iat claim".into());
        }
        if self.time("nbf")?.is_some_and(|from| now_ms.saturating_add(skew) < from) {
            return Err("the token is not valid yet (nbf)".into());
        }
        if issued.is_some_and(|issued| issued > expires_at_ms) {
            return Err("the token expires before it was issued".into());
        }
        if let Some(issuer) = &rules.issuer
            && self.claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(format!("the token is not of the expected issuer {issuer}"));
        }
        if !rules.audiences.is_empty() {
            let audiences = words(self.claims.get("aud"), false);
            if !rules.audiences.iter().any(|wanted| audiences.contains(wanted)) {
                return Err(format!(
                    "the token is for none of the expected audiences {}",
                    rules.audiences.join(", ")
                ));
            }
        }
        let subject =
            self.claims.get(&rules.subject_claim).and_then(Value::as_str).unwrap_or_default().trim();
        if subject.is_empty() {
            return Err(format!("the token has no {} claim", rules.subject_claim));
        }
        let scopes = words(self.claims.get(&rules.scope_claim), true);
        if let Some(missing) = rules.required_scopes.iter().find(|scope| !scopes.contains(*scope)) {
            return Err(format!("the token lacks the scope {missing}"));
        }
        Ok(Identity { subject: subject.to_owned(), scopes, expires_at_ms })
    }

    /// A claim of seconds since 1970, in milliseconds.
    fn time(&self, name: &str) -> Checked<Option<i64>> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(seconds) if seconds.abs() < 1e13 => Ok(Some((seconds * 1000.0) as i64)),
                _ => Err(format!("the {name} claim of the token is no time")),
            },
        }
    }
}

/// A list, or a text; scopes in a text have spaces between them.
fn words(value: Option<&Value>, split: bool) -> BTreeSet<String> {
    match value {
        Some(Value::String(text)) if split => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::String(text)) => BTreeSet::from([text.clone()]),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => BTreeSet::new(),
    }
}

/// When a token expires, in milliseconds since 1970, without any check: for the client that holds it.
pub fn expiry_ms(token: &str) -> Option<i64> {
    Token::parse(token).ok()?.time("exp").ok()?
}

/// A token without a signature, for tests and development.
pub fn unsecured(claims: &Map<String, Value>) -> String {
    let encode = |value: &str| URL_SAFE_NO_PAD.encode(value);
    let claims = Value::Object(claims.clone()).to_string();
    format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(claims: Value) -> String {
        unsecured(claims.as_object().unwrap())
    }

    fn rules() -> Rules {
        Rules {
            audiences: vec!["kafka".into()],
            issuer: Some("https://issuer".into()),
            required_scopes: BTreeSet::from(["write".to_owned()]),
            ..Rules::default()
        }
    }

    #[test]
    fn claims_are_checked_one_by_one() {
        let good = json!({"exp": 100, "iat": 50, "iss": "https://issuer", "aud": ["kafka"], "sub": "svc", "scope": "read write"});
        let check = |claims: &Value, now| Token::parse(&token(claims.clone())).unwrap().check(&rules(), now);
        let identity = check(&good, 99_000).unwrap();
        assert_eq!((identity.subject.as_str(), identity.expires_at_ms), ("svc", 100_000));
        assert!(check(&good, 129_000).is_ok(), "within the skew");
        assert!(check(&good, 130_000).unwrap_err().contains("expired"));
        for (claim, value, part) in [
            ("exp", Value::Null, "exp"),
            ("iat", json!("x"), "iat"),
            ("nbf", json!(500), "not valid yet"),
            ("iat", json!(101), "before it was issued"),
            ("iss", json!("other"), "issuer"),
            ("aud", json!("kafk"), "audience"),
            ("sub", json!(" "), "sub"),
            ("scope", json!(["read"]), "write"),
        ] {
            let mut claims = good.clone();
            claims[claim] = value;
            let error = check(&claims, 99_000).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_is_no_token_is_an_error() {
        for bad in ["", "a", "a.b", "a.b.c", "e30.e30.", "...."] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
        let text = token(json!({}));
        let token = Token::parse(&text).unwrap();
        assert!(token.is_unsecured());
        assert!(token.verify(&KeySet::default()).is_err(), "no signature holds for a key set");
    }
}
