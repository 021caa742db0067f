//! Java's properties format, as `server.properties` uses it.

use std::collections::BTreeMap;
use std::path::Path;

use super::ConfigError;

/// Keys and values as they were written, the last one of a key winning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Syntax {
            place: path.display().to_string(),
            why: format!("cannot be read: {error}"),
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads the text of a file; `place` names it in errors.
    pub fn parse(text: &str, place: &str) -> Result<Self, ConfigError> {
        let read = aqueduct_client::parse_properties(text).map_err(|error| ConfigError::Syntax {
            place: format!("{place}, line {}", error.line),
            why: error.why,
        })?;
        Ok(Self(read.into_iter().map(|(key, value)| (key, value.trim_end().to_owned())).collect()))
    }

    /// Applies one `--set KEY=VALUE`.
    pub fn set_pair(&mut self, pair: &str) -> Result<(), ConfigError> {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(ConfigError::Syntax {
                place: format!("--set {pair}"),
                why: "must be KEY=VALUE, such as --set num.partitions=3".into(),
            });
        };
        self.set(key.trim(), value.trim());
        Ok(())
    }

    /// Sets one key.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The value of a key, where there is one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# comment\n! also\nnode.id=1\nlog.dirs : /var/a,\\\n   /var/b\n spaced   value one \nempty=\nuni=\\u0041\\tb\n";
        let p = Properties::parse(text, "f").unwrap();
        assert_eq!(p.get("node.id"), Some("1"));
        assert_eq!(p.get("log.dirs"), Some("/var/a,/var/b"));
        assert_eq!(p.get("spaced"), Some("value one"));
        assert_eq!(p.get("empty"), Some(""));
        assert_eq!(p.get("uni"), Some("A\tb"));
        assert_eq!(p.get("none"), None);
    }

    #[test]
    fn errors_name_file_and_line() {
        let error = Properties::parse("a=1\n=2\n", "server.properties").unwrap_err();
        assert_eq!(error.to_string(), "server.properties, line 2: no key before '='");
        assert!(Properties::default().set_pair("oops").is_err());
    }
}
