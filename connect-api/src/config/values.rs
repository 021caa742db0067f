//! Settings that have been read.

use std::collections::HashMap;
use std::fmt;

use crate::config::{ConfigMap, ConfigType};
use crate::error::{Error, Result};

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for the server that asks for it, nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A setting's value.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    Null,
    Boolean(bool),
    Int(i64),
    Double(f64),
    String(String),
    List(Vec<String>),
    Password(Password),
}

/// The text without what Java takes for space around it: wide spaces are a part of the text.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

impl ConfigValue {
    /// Reads `text`, trimmed, as `kind`; the error says why it cannot.
    pub fn parse(kind: ConfigType, text: &str) -> std::result::Result<Self, String> {
        let trimmed = trim(text);
        let integer = |least: i64, most: i64| {
            trimmed
                .parse::<i64>()
                .ok()
                .filter(|n| (least..=most).contains(n))
                .map(Self::Int)
                .ok_or_else(|| format!("Not a number of type {}", kind.name()))
        };
        match kind {
            ConfigType::Boolean => match trimmed.to_ascii_lowercase().as_str() {
                "true" => Ok(Self::Boolean(true)),
                "false" => Ok(Self::Boolean(false)),
                _ => Err("Expected value to be either true or false".to_owned()),
            },
            ConfigType::Int => integer(i32::MIN.into(), i32::MAX.into()),
            ConfigType::Short => integer(i16::MIN.into(), i16::MAX.into()),
            ConfigType::Long => integer(i64::MIN, i64::MAX),
            ConfigType::Double => {
                trimmed.parse().map(Self::Double).map_err(|_| "Not a number of type DOUBLE".to_owned())
            }
            ConfigType::List if trimmed.is_empty() => Ok(Self::List(Vec::new())),
            ConfigType::List => {
                Ok(Self::List(trimmed.split(',').map(|item| item.trim().to_owned()).collect()))
            }
            ConfigType::String | ConfigType::Class => Ok(Self::String(trimmed.to_owned())),
            ConfigType::Password => Ok(Self::Password(Password::new(trimmed))),
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }
}

/// A plugin's settings, read and checked, with all that the user wrote beside them.
#[derive(Clone, Debug, Default)]
pub struct Config {
    values: HashMap<String, ConfigValue>,
    originals: ConfigMap,
}

impl Config {
    pub(crate) fn new(values: Vec<(String, ConfigValue)>, originals: ConfigMap) -> Self {
        Self { values: values.into_iter().collect(), originals }
    }

    /// All settings as the user wrote them, unknown ones included.
    pub fn originals(&self) -> &ConfigMap {
        &self.originals
    }

    /// What the user wrote under keys that start with `prefix`, without it.
    pub fn originals_with_prefix(&self, prefix: &str) -> ConfigMap {
        self.originals
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_owned(), v.clone())))
            .collect()
    }

    pub fn get(&self, name: &str) -> &ConfigValue {
        self.values.get(name).unwrap_or(&ConfigValue::Null)
    }

    /// Text; `None` where it is null.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            ConfigValue::String(s) => Some(s),
            _ => None,
        }
    }

    /// Text that has a default or is required; empty where the table has no such key.
    pub fn text(&self, name: &str) -> &str {
        self.string(name).unwrap_or_default()
    }

    /// An integer; `None` where it is null.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.get(name).as_i64()
    }

    /// An integer that has a default or is required; 0 where the table has no such key.
    pub fn number(&self, name: &str) -> i64 {
        self.integer(name).unwrap_or_default()
    }

    pub fn boolean(&self, name: &str) -> bool {
        matches!(self.get(name), ConfigValue::Boolean(true))
    }

    pub fn double(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            ConfigValue::Double(v) => Some(*v),
            _ => None,
        }
    }

    /// Items of a list; empty where it is null.
    pub fn list(&self, name: &str) -> &[String] {
        match self.get(name) {
            ConfigValue::List(items) => items,
            _ => &[],
        }
    }

    pub fn password(&self, name: &str) -> Option<&Password> {
        match self.get(name) {
            ConfigValue::Password(p) => Some(p),
            _ => None,
        }
    }

    /// An integer that counts something, as a `usize`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is negative.
    pub fn count(&self, name: &str) -> Result<usize> {
        let number = self.number(name);
        usize::try_from(number)
            .map_err(|_| Error::config(name, number.to_string(), "Value must be at least 0"))
    }
}
