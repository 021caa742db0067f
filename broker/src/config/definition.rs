//! What a config key is: its type, default, allowed values and whether it may change at run time.

/// A configuration that cannot be used. The message names the key, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that its key does not allow.
    #[error("Invalid value {value} for configuration {key}: {allowed}")]
    Invalid { key: String, value: String, allowed: String },
    /// A key that has no default and no value.
    #[error("missing required configuration {key}: {why}")]
    Missing { key: String, why: String },
    /// Two keys that contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// A line of a properties file or of `--set` that is not `key=value`.
    #[error("{place}: {why}")]
    Syntax { place: String, why: String },
}

/// Type of a value, numbered as DescribeConfigs does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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

impl Kind {
    /// The number that stands for the type on the wire.
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// Whether a broker key may be changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only in the properties file.
    ReadOnly,
    /// By IncrementalAlterConfigs, for all brokers or for one.
    Dynamic,
    /// By IncrementalAlterConfigs, for one listener of one broker.
    PerListener,
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// Anything of the type.
    Any,
    /// A number of at least this.
    AtLeast(i64),
    /// A number within these bounds, both included.
    Between(i64, i64),
    /// A fraction within these bounds, both included.
    Fraction(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words.
    EachOf(&'static [&'static str]),
    /// Not empty.
    NotEmpty,
}

impl Check {
    /// Why this number is not allowed, in Kafka's words, which its tools show.
    fn refuses(self, number: i64) -> Option<String> {
        match self {
            Self::AtLeast(low) | Self::Between(low, _) if number < low => {
                Some(format!("Value must be at least {low}"))
            }
            Self::Between(_, high) if number > high => Some(format!("Value must be no more than {high}")),
            _ => None,
        }
    }
}

/// One row of a table of keys.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// `None` stands for null.
    pub default: Option<&'static str>,
    pub check: Check,
    pub scope: Scope,
    pub doc: &'static str,
}

impl Key {
    /// Checks a value's type and bounds.
    pub fn validate(&self, value: &str) -> Result<(), ConfigError> {
        let wrong = |allowed: String| {
            let shown = if self.kind == Kind::Password { "[hidden]" } else { value };
            Err(ConfigError::Invalid { key: self.name.into(), value: shown.into(), allowed })
        };
        let number = |low: i64, high: i64, what: &str| match value.trim().parse::<i64>() {
            Ok(n) if n >= low && n <= high => Ok(n),
            _ => Err(what.to_owned()),
        };
        let parsed = match self.kind {
            Kind::Boolean => match value.trim().to_ascii_lowercase().as_str() {
                "true" | "false" => return Ok(()),
                _ => return wrong("Expected value to be either true or false".into()),
            },
            Kind::Short => number(i16::MIN as i64, i16::MAX as i64, "Not a number of type SHORT"),
            Kind::Int => number(i32::MIN as i64, i32::MAX as i64, "Not a number of type INT"),
            Kind::Long => number(i64::MIN, i64::MAX, "Not a number of type LONG"),
            Kind::Double => {
                let Ok(n) = value.trim().parse::<f64>() else {
                    return wrong("Not a number of type DOUBLE".into());
                };
                return match self.check {
                    Check::Fraction(low, _) if n < low => wrong(format!("Value must be at least {low:?}")),
                    Check::Fraction(_, high) if n > high => {
                        wrong(format!("Value must be no more than {high:?}"))
                    }
                    _ => Ok(()),
                };
            }
            Kind::List | Kind::String | Kind::Class | Kind::Password => return self.validate_words(value),
        };
        match parsed.map(|number| self.check.refuses(number)) {
            Err(what) | Ok(Some(what)) => wrong(what),
            Ok(None) => Ok(()),
        }
    }

    fn validate_words(&self, value: &str) -> Result<(), ConfigError> {
        let one_of = |words: &[&str]| format!("String must be one of: {}", words.join(", "));
        let (wrong, allowed) = match self.check {
            Check::OneOf(words) if !words.contains(&value.trim()) => (value, one_of(words)),
            Check::EachOf(words) => match list(value).into_iter().find(|word| !words.contains(word)) {
                Some(word) => (word, one_of(words)),
                None => return Ok(()),
            },
            Check::NotEmpty if value.trim().is_empty() => (value, "String must be non-empty".to_owned()),
            _ => return Ok(()),
        };
        let value = if self.kind == Kind::Password { "[hidden]" } else { wrong };
        Err(ConfigError::Invalid { key: self.name.into(), value: value.into(), allowed })
    }
}

/// The words of a comma-separated list, trimmed, empty ones left out.
pub fn list(value: &str) -> Vec<&str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, check: Check) -> Key {
        Key { name: "k", kind, default: None, check, scope: Scope::ReadOnly, doc: "" }
    }

    #[test]
    fn values_are_checked_by_type_and_bounds() {
        assert!(key(Kind::Boolean, Check::Any).validate("TRUE").is_ok());
        assert!(key(Kind::Boolean, Check::Any).validate("yes").is_err());
        assert!(key(Kind::Int, Check::AtLeast(1)).validate("0").is_err());
        assert!(key(Kind::Int, Check::AtLeast(1)).validate("2147483648").is_err());
        assert!(key(Kind::Long, Check::AtLeast(-1)).validate("2147483648").is_ok());
        assert!(key(Kind::Double, Check::Fraction(0.0, 1.0)).validate("1.5").is_err());
        assert!(key(Kind::List, Check::EachOf(&["compact", "delete"])).validate("compact, delete").is_ok());
        assert!(key(Kind::List, Check::EachOf(&["compact", "delete"])).validate("shrink").is_err());
    }

    #[test]
    fn an_error_names_key_value_and_what_is_allowed() {
        let error = key(Kind::Int, Check::AtLeast(1)).validate("-4").unwrap_err();
        assert_eq!(error.to_string(), "Invalid value -4 for configuration k: Value must be at least 1");
        let secret = key(Kind::Password, Check::NotEmpty).validate(" ").unwrap_err();
        assert!(secret.to_string().contains("[hidden]"));
    }
}
