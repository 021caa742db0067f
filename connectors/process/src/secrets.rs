//! Values that must not be seen: a plugin may print what it was given.

use std::sync::Arc;

use aqueduct_connect_api::ConfigMap;

/// Shorter values are words that stand everywhere.
const SHORTEST: usize = 4;

/// Secrets among a connector's settings.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[String]>);

impl Secrets {
    /// The values of settings that `is_secret` says are, and of those whose names say so.
    pub fn of(settings: &ConfigMap, is_secret: impl Fn(&str) -> bool) -> Self {
        const WORDS: [&str; 5] = ["password", "secret", "token", "credential", "jaas"];
        let secret = |key: &str| {
            let name = key.to_ascii_lowercase();
            is_secret(key) || WORDS.iter().any(|word| name.contains(word))
        };
        let values = settings.iter().filter(|(key, _)| secret(key)).map(|(_, value)| value);
        // Lines of a key are printed one by one.
        let mut parts: Vec<String> = values
            .flat_map(|value| value.lines().chain(Some(value.as_str())))
            .map(|part| part.trim().to_owned())
            .filter(|part| part.len() >= SHORTEST)
            .collect();
        // The longest first: what holds another goes as a whole.
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts.dedup();
        Self(parts.into())
    }

    /// The text without them.
    pub fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, "[hidden]"),
            false => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_settings_are_hidden() {
        let pairs = [
            ("user", "admin"),
            ("db.password", "hunter2"),
            ("key", "-BEGIN-\nabcdef\nxy"),
            ("pin.token", "42"),
        ];
        let settings: ConfigMap = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let secrets = Secrets::of(&settings, |key| key == "key");
        let hidden = secrets.hide("admin:hunter2@h 42 abcdef".to_owned());
        assert_eq!(hidden, "admin:[hidden]@h 42 [hidden]");
        assert_eq!(secrets.hide("-BEGIN-\nabcdef\nxy".to_owned()), "[hidden]");
    }
}
