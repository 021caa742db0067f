//! The table of settings.

use std::borrow::Cow;
use std::fmt;

use crate::config::{Config, ConfigMap, ConfigValue};
use crate::error::{Error, Result};

/// Types of settings, named as the REST API shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl ConfigType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// How much a user should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    High,
    Medium,
    Low,
}

impl Importance {
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "HIGH",
            Self::Medium => "MEDIUM",
            Self::Low => "LOW",
        }
    }
}

/// How wide a form should show the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    None,
    Short,
    Medium,
    Long,
}

impl Width {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Short => "SHORT",
            Self::Medium => "MEDIUM",
            Self::Long => "LONG",
        }
    }
}

/// What a parsed value must satisfy.
#[derive(Clone)]
pub enum Validator {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, upper or lower case.
    OneOfIgnoreCase(&'static [&'static str]),
    /// A number of at least this.
    AtLeast(i64),
    /// A number from the first to the second, both included.
    Between(i64, i64),
    /// Text or a list with something in it.
    NonEmpty,
    /// Anything else; gives the reason why a value is wrong.
    Check(fn(&ConfigValue) -> std::result::Result<(), String>),
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(words) | Self::OneOfIgnoreCase(words) => write!(f, "[{}]", words.join(", ")),
            Self::AtLeast(least) => write!(f, "[{least},...]"),
            Self::Between(least, most) => write!(f, "[{least},...,{most}]"),
            Self::NonEmpty => f.write_str("non-empty string"),
            Self::Check(_) => f.write_str("a rule of its own"),
        }
    }
}

impl Validator {
    fn check(&self, value: &ConfigValue) -> std::result::Result<(), String> {
        let words: Vec<&str> = match value {
            ConfigValue::String(s) => vec![s],
            ConfigValue::List(items) => items.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        match self {
            Self::OneOf(allowed) => match words.iter().find(|w| !allowed.contains(w)) {
                Some(_) => Err(format!("String must be one of: {}", allowed.join(", "))),
                None => Ok(()),
            },
            Self::OneOfIgnoreCase(allowed) => {
                match words.iter().find(|w| !allowed.iter().any(|a| a.eq_ignore_ascii_case(w))) {
                    Some(_) => {
                        Err(format!("String must be one of (case insensitive): {}", allowed.join(", ")))
                    }
                    None => Ok(()),
                }
            }
            Self::AtLeast(least) => match value.as_i64() {
                Some(n) if n < *least => Err(format!("Value must be at least {least}")),
                _ => Ok(()),
            },
            Self::Between(least, most) => match value.as_i64() {
                Some(n) if n < *least => Err(format!("Value must be at least {least}")),
                Some(n) if n > *most => Err(format!("Value must be no more than {most}")),
                _ => Ok(()),
            },
            Self::NonEmpty => match value {
                ConfigValue::String(s) if s.is_empty() => Err("String must be non-empty".to_owned()),
                ConfigValue::List(items) if items.is_empty() => Err("List must not be empty".to_owned()),
                _ => Ok(()),
            },
            Self::Check(rule) => rule(value),
        }
    }
}

/// One setting. `Cow` names allow keys that are made at run time, such as `transforms.route.regex`.
#[derive(Clone, Debug)]
pub struct ConfigKey {
    pub name: Cow<'static, str>,
    pub kind: ConfigType,
    /// `None` where the setting is required; `Some(None)` where the default is null; else the default's text.
    pub default: Option<Option<Cow<'static, str>>>,
    pub importance: Importance,
    pub documentation: Cow<'static, str>,
    pub group: Option<Cow<'static, str>>,
    /// Position within the group from 1; -1 outside any group.
    pub order_in_group: i32,
    pub width: Width,
    pub display_name: Cow<'static, str>,
    pub dependents: Vec<Cow<'static, str>>,
    pub validator: Option<Validator>,
    /// Values that a form may offer.
    pub recommended: Vec<Cow<'static, str>>,
}

impl ConfigKey {
    /// A required setting.
    pub fn required(
        name: impl Into<Cow<'static, str>>,
        kind: ConfigType,
        documentation: &'static str,
    ) -> Self {
        let name = name.into();
        Self {
            display_name: name.clone(),
            name,
            kind,
            default: None,
            importance: Importance::High,
            documentation: documentation.into(),
            group: None,
            order_in_group: -1,
            width: Width::None,
            dependents: Vec::new(),
            validator: None,
            recommended: Vec::new(),
        }
    }

    /// A setting with a default, given as text.
    pub fn with_default(
        name: impl Into<Cow<'static, str>>,
        kind: ConfigType,
        default: impl Into<Cow<'static, str>>,
        documentation: &'static str,
    ) -> Self {
        Self {
            default: Some(Some(default.into())),
            importance: Importance::Medium,
            ..Self::required(name, kind, documentation)
        }
    }

    /// A setting that may be left out and is null then.
    pub fn optional(
        name: impl Into<Cow<'static, str>>,
        kind: ConfigType,
        documentation: &'static str,
    ) -> Self {
        Self {
            default: Some(None),
            importance: Importance::Medium,
            ..Self::required(name, kind, documentation)
        }
    }

    #[must_use]
    pub fn importance(mut self, importance: Importance) -> Self {
        self.importance = importance;
        self
    }

    /// The form's section and the position in it.
    #[must_use]
    pub fn group(mut self, group: impl Into<Cow<'static, str>>, order: i32) -> Self {
        self.group = Some(group.into());
        self.order_in_group = order;
        self
    }

    #[must_use]
    pub fn width(mut self, width: Width) -> Self {
        self.width = width;
        self
    }

    #[must_use]
    pub fn display_name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.display_name = name.into();
        self
    }

    #[must_use]
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    #[must_use]
    pub fn dependents(mut self, dependents: &[&'static str]) -> Self {
        self.dependents = dependents.iter().map(|d| Cow::Borrowed(*d)).collect();
        self
    }

    #[must_use]
    pub fn recommended(mut self, values: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        self.recommended = values.into_iter().map(Into::into).collect();
        self
    }

    /// Reads `text`, or the default where there is none.
    ///
    /// # Errors
    /// [`Error::Config`], or [`Error::Connect`] where a required setting is missing.
    pub fn parse(&self, text: Option<&str>) -> Result<ConfigValue> {
        let text = match (text, &self.default) {
            (Some(text), _) => text,
            (None, Some(Some(default))) => default,
            (None, Some(None)) => return Ok(ConfigValue::Null),
            (None, None) => {
                return Err(Error::connect(format!(
                    "Missing required configuration \"{}\" which has no default value.",
                    self.name
                )));
            }
        };
        let shown =
            || if self.kind == ConfigType::Password { "[hidden]".to_owned() } else { text.to_owned() };
        let value =
            ConfigValue::parse(self.kind, text).map_err(|why| Error::config(&*self.name, shown(), why))?;
        if let Some(validator) = &self.validator {
            validator.check(&value).map_err(|why| Error::config(&*self.name, shown(), why))?;
        }
        Ok(value)
    }
}

/// What validation says of one setting.
#[derive(Clone, Debug)]
pub struct ConfigValueInfo {
    pub key: ConfigKey,
    /// The value in force as text; null where there is none. Passwords are given as they are: show them masked.
    pub value: Option<String>,
    pub recommended_values: Vec<String>,
    pub errors: Vec<String>,
    pub visible: bool,
}

impl ConfigValueInfo {
    /// Adds `error` to the setting that it names, or to `otherwise`.
    pub fn report(infos: &mut [Self], error: &Error, otherwise: &str) {
        let key = match error {
            Error::Config { name, .. } => name,
            _ => otherwise,
        };
        if let Some(info) = infos.iter_mut().find(|info| info.key.name == key) {
            info.errors.push(error.to_string());
        }
    }
}

/// A table of settings, in the order in which forms show them.
#[derive(Clone, Debug, Default)]
pub struct ConfigDef {
    keys: Vec<ConfigKey>,
}

impl ConfigDef {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a setting; one of the same name is replaced.
    #[must_use]
    pub fn key(mut self, key: ConfigKey) -> Self {
        self.add(key);
        self
    }

    /// Adds a setting; one of the same name is replaced.
    pub fn add(&mut self, key: ConfigKey) {
        match self.keys.iter_mut().find(|k| k.name == key.name) {
            Some(known) => *known = key,
            None => self.keys.push(key),
        }
    }

    /// Adds every setting of `other`.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        other.keys.into_iter().for_each(|key| self.add(key));
        self
    }

    pub fn keys(&self) -> &[ConfigKey] {
        &self.keys
    }

    pub fn get(&self, name: &str) -> Option<&ConfigKey> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// Reads every setting of the table out of `map`; what the table does not know is ignored.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn parse(&self, map: &ConfigMap) -> Result<Config> {
        let mut values = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            values.push((key.name.to_string(), key.parse(map.get(&*key.name).map(String::as_str))?));
        }
        Ok(Config::new(values, map.clone()))
    }

    /// Reads every setting and reports on each, in order.
    pub fn validate(&self, map: &ConfigMap) -> Vec<ConfigValueInfo> {
        self.keys
            .iter()
            .map(|key| {
                let text = map.get(&*key.name).map(String::as_str);
                let errors = key.parse(text).err().map(|e| e.to_string()).into_iter().collect();
                let value = text.or(key.default.as_ref().and_then(Option::as_deref)).map(str::to_owned);
                let recommended_values = key.recommended.iter().map(ToString::to_string).collect();
                ConfigValueInfo { key: key.clone(), value, recommended_values, errors, visible: true }
            })
            .collect()
    }
}
