//! Settings of the authorizer.

use super::Properties;
use super::definition::ConfigError;
use crate::security::{AuthorizerSettings, Principal};

/// The one authorizer that is built in, under the name of Kafka's.
const STANDARD: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// What is set; `None` where there is no authorizer.
pub(super) fn authorizer(properties: &Properties) -> Result<Option<AuthorizerSettings>, ConfigError> {
    let invalid = |key: &str, value: &str, allowed: String| ConfigError::Invalid {
        key: key.into(),
        value: value.into(),
        allowed,
    };
    match properties.get("authorizer.class.name").map(str::trim).unwrap_or_default() {
        "" => return Ok(None),
        STANDARD => {}
        other => {
            let allowed = format!("must be {STANDARD}, or empty for no authorization");
            return Err(invalid("authorizer.class.name", other, allowed));
        }
    }
    let users = properties.get("super.users").unwrap_or_default();
    let parse = |text: &str| {
        let allowed =
            || format!("must be principals such as User:admin with semicolons between them, not {text}");
        Principal::parse(text).ok_or_else(|| invalid("super.users", users, allowed()))
    };
    let names = users.split(';').map(str::trim).filter(|name| !name.is_empty());
    Ok(Some(AuthorizerSettings {
        super_users: names.map(parse).collect::<Result<_, _>>()?,
        allow_everyone: properties
            .get("allow.everyone.if.no.acl.found")
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<AuthorizerSettings>, ConfigError> {
        let mut properties = Properties::default();
        for (key, value) in pairs {
            properties.set(key, value);
        }
        authorizer(&properties)
    }

    #[test]
    fn an_authorizer_has_super_users_and_a_default() {
        assert_eq!(read(&[("super.users", "User:a")]).unwrap(), None);
        let set = [("authorizer.class.name", STANDARD), ("super.users", "User:a; User:CN=b,O=c;")];
        let settings = read(&set).unwrap().unwrap();
        let expected = ["a", "CN=b,O=c"].map(Principal::user);
        assert_eq!(settings.super_users, expected.into());
        assert!(!settings.allow_everyone);
        let open = [set[0], ("allow.everyone.if.no.acl.found", "true")];
        assert!(read(&open).unwrap().unwrap().allow_everyone);
        let error = read(&[("authorizer.class.name", "com.example.Mine")]).unwrap_err().to_string();
        assert!(error.contains("com.example.Mine") && error.contains(STANDARD), "{error}");
        let error = read(&[set[0], ("super.users", "root")]).unwrap_err().to_string();
        assert!(error.contains("super.users") && error.contains("User:admin"), "{error}");
    }
}
