//! Config providers: `${provider:path:key}` in settings stands for text that is kept elsewhere.
//!
//! Variables are resolved when something starts or is validated; what is stored stays as the user wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use aqueduct_connect_api::ConfigMap;
use regex::{Captures, Regex};

use super::parse_properties;

static VARIABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}").expect("a valid pattern"));

#[derive(Debug)]
enum Provider {
    /// A key of a property file.
    File { allowed: Vec<PathBuf> },
    /// A file of a directory.
    Directory { allowed: Vec<PathBuf> },
    /// An environment variable.
    Environment { allowed: Regex },
}

/// The providers that the worker's settings name.
#[derive(Clone, Debug, Default)]
pub struct Providers(Arc<BTreeMap<String, Provider>>);

impl Providers {
    /// Reads `config.providers` and `config.providers.NAME.*`.
    ///
    /// # Errors
    /// A provider without a class, of an unknown class, or with a bad pattern.
    pub fn from_config(settings: &ConfigMap) -> Result<Self, String> {
        let names = settings.get("config.providers").map_or("", String::as_str);
        let mut providers = BTreeMap::new();
        for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let setting = |key: &str| settings.get(&format!("config.providers.{name}.{key}"));
            let class = setting("class").ok_or_else(|| {
                format!("config.providers names {name}, but config.providers.{name}.class is missing")
            })?;
            let allowed = || {
                setting("param.allowed.paths")
                    .map(|paths| paths.split(',').map(|p| PathBuf::from(p.trim())).collect())
                    .unwrap_or_default()
            };
            let provider = match class.rsplit('.').next() {
                Some("FileConfigProvider") => Provider::File { allowed: allowed() },
                Some("DirectoryConfigProvider") => Provider::Directory { allowed: allowed() },
                Some("EnvVarConfigProvider") => {
                    let pattern = setting("param.allowlist.pattern").map_or(".*", String::as_str);
                    let allowed = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| {
                        format!("config.providers.{name}.param.allowlist.pattern={pattern}: {e}")
                    })?;
                    Provider::Environment { allowed }
                }
                _ => {
                    return Err(format!(
                        "config.providers.{name}.class={class} is unknown; FileConfigProvider, \
                         DirectoryConfigProvider and EnvVarConfigProvider of org.apache.kafka.common.config.provider are there"
                    ));
                }
            };
            providers.insert(name.to_owned(), provider);
        }
        Ok(Self(Arc::new(providers)))
    }

    /// `settings` with every variable of a known provider replaced; what cannot be found stays as it is.
    pub fn resolve(&self, settings: &ConfigMap) -> ConfigMap {
        if self.0.is_empty() {
            return settings.clone();
        }
        settings.iter().map(|(key, value)| (key.clone(), self.resolve_text(value))).collect()
    }

    /// Whether `text` holds what looks like a variable.
    pub fn has_variable(text: &str) -> bool {
        VARIABLE.is_match(text)
    }

    fn resolve_text(&self, text: &str) -> String {
        VARIABLE
            .replace_all(text, |found: &Captures<'_>| {
                let path = found.get(3).map_or("", |m| m.as_str());
                self.0
                    .get(&found[1])
                    .and_then(|provider| provider.look_up(path, &found[4]))
                    .unwrap_or_else(|| found[0].to_owned())
            })
            .into_owned()
    }
}

impl Provider {
    fn look_up(&self, path: &str, key: &str) -> Option<String> {
        match self {
            Self::File { allowed } => {
                let text = std::fs::read_to_string(permitted(Path::new(path), allowed)?).ok()?;
                parse_properties(&text).ok()?.remove(key)
            }
            Self::Directory { allowed } => {
                // A key is a file name, not a way out of the directory.
                if key.contains(['/', '\\']) || key == ".." {
                    return None;
                }
                std::fs::read_to_string(permitted(Path::new(path), allowed)?.join(key)).ok()
            }
            Self::Environment { allowed } => {
                (path.is_empty() && allowed.is_match(key)).then(|| std::env::var(key).ok())?
            }
        }
    }
}

fn permitted(path: &Path, allowed: &[PathBuf]) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let inside = |a: &PathBuf| a.canonicalize().is_ok_and(|allowed| path.starts_with(allowed));
    (allowed.is_empty() || allowed.iter().any(inside)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_known_variables_and_leaves_the_rest() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("secrets.properties");
        std::fs::write(&file, "password=hunter2\n").expect("written");
        let settings: ConfigMap = [
            ("config.providers", "file,env".to_owned()),
            (
                "config.providers.file.class",
                "org.apache.kafka.common.config.provider.FileConfigProvider".to_owned(),
            ),
            (
                "config.providers.env.class",
                "org.apache.kafka.common.config.provider.EnvVarConfigProvider".to_owned(),
            ),
            ("config.providers.env.param.allowlist.pattern", "PATH".to_owned()),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
        let providers = Providers::from_config(&settings).expect("valid");
        let path = file.display();
        assert_eq!(providers.resolve_text(&format!("a ${{file:{path}:password}} b")), "a hunter2 b");
        for same in [
            format!("${{file:{path}:nope}}"),
            "${other:x}".to_owned(),
            "${env:HOME}".to_owned(),
            "$plain".to_owned(),
        ] {
            assert_eq!(providers.resolve_text(&same), same);
        }
        assert_ne!(providers.resolve_text("${env:PATH}"), "${env:PATH}");
    }
}
