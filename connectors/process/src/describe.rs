//! What a plugin says of the connectors that it serves.

use std::borrow::Cow;

use aqueduct_connect_api::config::{ConfigType, Importance, Validator, Width};
use aqueduct_connect_api::{ConfigDef, ConfigKey};
use serde::Deserialize;

const MAX_CONNECTORS: usize = 100;
const MAX_KEYS: usize = 1000;

/// The answer to `describe`.
#[derive(Clone, Debug, Deserialize)]
pub struct Description {
    pub connectors: Vec<ConnectorDescription>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Source,
    Sink,
}

/// One connector.
#[derive(Clone, Debug, Deserialize)]
pub struct ConnectorDescription {
    pub class: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub version: String,
    #[serde(default)]
    pub config: Vec<KeyDescription>,
    /// Whether it answers `validate`.
    #[serde(default)]
    pub validates: bool,
    /// Whether it answers `alter_offsets`.
    #[serde(default)]
    pub alters_offsets: bool,
    /// Whether it wants to be asked from time to time if its division into tasks has changed.
    #[serde(default)]
    pub monitors: bool,
    /// What it promises of exactly-once delivery; null where it does not say.
    pub exactly_once: Option<bool>,
}

/// One setting.
#[derive(Clone, Debug, Deserialize)]
pub struct KeyDescription {
    pub name: String,
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Whether it must be set; what is neither required nor has a default is null where it is not set.
    #[serde(default)]
    pub required: bool,
    pub default: Option<String>,
    pub importance: Option<String>,
    #[serde(default)]
    pub documentation: String,
    pub group: Option<String>,
    pub order: Option<i32>,
    pub width: Option<String>,
    pub display_name: Option<String>,
    #[serde(default)]
    pub dependents: Vec<String>,
    #[serde(default)]
    pub recommended: Vec<String>,
    /// What its value must satisfy, one of these.
    pub one_of: Option<Vec<String>>,
    pub at_least: Option<i64>,
    pub at_most: Option<i64>,
    #[serde(default)]
    pub non_empty: bool,
}

impl Description {
    /// Reads the answer.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let description: Self =
            serde_json::from_str(text).map_err(|e| format!("its description is wrong: {e}"))?;
        if description.connectors.is_empty() {
            return Err("it serves no connector".to_owned());
        }
        if description.connectors.len() > MAX_CONNECTORS {
            return Err(format!("it serves more than {MAX_CONNECTORS} connectors"));
        }
        for connector in &description.connectors {
            connector.check().map_err(|why| format!("connector {}: {why}", connector.class))?;
        }
        Ok(description)
    }
}

/// Whether `name` is a full class name: words with dots between them.
fn is_class(name: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '-'))
    };
    name.len() <= 250 && name.contains('.') && name.split('.').all(word)
}

impl ConnectorDescription {
    fn check(&self) -> Result<(), String> {
        for name in std::iter::once(&self.class).chain(&self.aliases) {
            if !is_class(name) {
                return Err(format!(
                    "\"{name}\" is not a full class name: use words with dots between them, such as org.example.ThingSource"
                ));
            }
        }
        if self.version.is_empty() {
            return Err("its version is empty".to_owned());
        }
        if self.config.len() > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} settings"));
        }
        self.config_def().map(drop)
    }

    /// The table of its settings.
    ///
    /// # Errors
    /// Names the setting that is described wrongly.
    pub fn config_def(&self) -> Result<ConfigDef, String> {
        let mut table = ConfigDef::new();
        for key in &self.config {
            let built = key.build().map_err(|why| format!("setting {}: {why}", key.name))?;
            table.add(built);
        }
        Ok(table)
    }
}

/// The constant that a word names, whatever its case.
fn named<T: Copy>(what: &str, word: Option<&str>, known: &[(&str, T)], otherwise: T) -> Result<T, String> {
    let Some(word) = word else { return Ok(otherwise) };
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("its {what} is \"{word}\", not one of {}", names.join(", "))
    })
}

impl KeyDescription {
    fn build(&self) -> Result<ConfigKey, String> {
        use ConfigType::{Boolean, Class, Double, Int, List, Long, Password, Short, String};
        let types = [Boolean, String, Int, Short, Long, Double, List, Class, Password].map(|t| (t.name(), t));
        let importances = [Importance::High, Importance::Medium, Importance::Low].map(|i| (i.name(), i));
        let widths = [Width::None, Width::Short, Width::Medium, Width::Long].map(|w| (w.name(), w));
        if self.name.is_empty() {
            return Err("it has no name".to_owned());
        }
        let kind = named("type", self.kind.as_deref(), &types, String)?;
        let mut key = match (&self.default, self.required) {
            (Some(default), _) => ConfigKey::with_default(self.name.clone(), kind, default.clone(), ""),
            (None, true) => ConfigKey::required(self.name.clone(), kind, ""),
            (None, false) => ConfigKey::optional(self.name.clone(), kind, ""),
        };
        key.importance = named("importance", self.importance.as_deref(), &importances, key.importance)?;
        key.width = named("width", self.width.as_deref(), &widths, key.width)?;
        key.documentation = self.documentation.clone().into();
        key.group = self.group.clone().map(Cow::Owned);
        key.order_in_group = self.order.unwrap_or(-1);
        if let Some(name) = &self.display_name {
            key.display_name = name.clone().into();
        }
        key.dependents = self.dependents.iter().cloned().map(Cow::Owned).collect();
        key.recommended = self.recommended.iter().cloned().map(Cow::Owned).collect();
        key.validator = self.validator();
        if self.default.is_some() {
            key.parse(None).map_err(|e| format!("its default is wrong: {e}"))?;
        }
        Ok(key)
    }

    fn validator(&self) -> Option<Validator> {
        if let Some(words) = &self.one_of {
            // Descriptions are read once a process, and plugins stay for as long as it lives.
            let words: Vec<&'static str> =
                words.iter().map(|w| &*Box::leak(w.clone().into_boxed_str())).collect();
            return Some(Validator::OneOf(Box::leak(words.into_boxed_slice())));
        }
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => Some(Validator::Between(least, most)),
            (Some(least), None) => Some(Validator::AtLeast(least)),
            (None, Some(most)) => Some(Validator::Between(i64::MIN, most)),
            (None, None) => self.non_empty.then_some(Validator::NonEmpty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_built_from_its_description() {
        let text = r#"{"connectors":[{"class":"a.B","type":"sink","version":"1","config":[
            {"name":"path","required":true,"non_empty":true,"documentation":"Where."},
            {"name":"n","type":"int","default":"5","at_least":1,"importance":"low","group":"G","order":1},
            {"name":"mode","one_of":["a","b"],"default":"a"},
            {"name":"secret","type":"PASSWORD"}]}]}"#;
        let description = Description::read(text).expect("right");
        let table = description.connectors[0].config_def().expect("right");
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let config = table.parse(&map(&[("path", "x")])).expect("enough");
        assert_eq!((config.text("path"), config.number("n"), config.text("mode")), ("x", 5, "a"));
        for (settings, why) in [
            (map(&[]), "path"),
            (map(&[("path", " ")]), "non-empty"),
            (map(&[("path", "x"), ("n", "0")]), "at least 1"),
            (map(&[("path", "x"), ("mode", "c")]), "one of: a, b"),
        ] {
            let error = table.parse(&settings).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn wrong_descriptions_are_named() {
        let one = |more: &str| {
            format!(r#"{{"connectors":[{{"class":"a.B","type":"sink","version":"1",{more}}}]}}"#)
        };
        for (text, why) in [
            ("7".to_owned(), "description is wrong"),
            (r#"{"connectors":[]}"#.to_owned(), "no connector"),
            (one(r#""config":[{"name":"x","type":"MONEY"}]"#), "its type is \"MONEY\""),
            (one(r#""config":[{"name":"x","type":"INT","default":"y"}]"#), "its default is wrong"),
            (one(r#""aliases":["../x"]"#), "not a full class name"),
            (
                r#"{"connectors":[{"class":"B","type":"sink","version":"1"}]}"#.to_owned(),
                "not a full class name",
            ),
            (r#"{"connectors":[{"class":"a.B","type":"tap","version":"1"}]}"#.to_owned(), "tap"),
        ] {
            let error = Description::read(&text).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
