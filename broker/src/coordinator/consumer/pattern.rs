//! Regular expressions of subscriptions, in the dialect of RE2: they match whole topic names.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::RegexBuilder;

/// Memory that a compiled expression may take.
const SIZE_LIMIT: usize = 1 << 20;

/// Longest expression that is looked at, in bytes.
const LENGTH_LIMIT: usize = i16::MAX as usize;

/// A regular expression that is valid.
#[derive(Debug)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_LIMIT {
            return Err(format!("it is longer than {LENGTH_LIMIT} bytes"));
        }
        // On its own first: `a)(?:b` would be valid in brackets.
        build(text)?;
        build(&format!("^(?:{text})$")).map(Self)
    }

    /// The names that match.
    pub fn find<'a>(&self, names: impl Iterator<Item = &'a str>) -> BTreeSet<Arc<str>> {
        names.filter(|name| self.0.is_match(name)).map(Into::into).collect()
    }
}

fn build(text: &str) -> Result<regex::Regex, String> {
    RegexBuilder::new(text).size_limit(SIZE_LIMIT).build().map_err(|error| {
        let why = error.to_string();
        why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let topics = ["orders", "orders-eu", "my-orders", "a.b", "aXb"];
        let found = |text: &str| -> Vec<String> {
            Pattern::new(text).unwrap().find(topics.into_iter()).iter().map(|name| name.to_string()).collect()
        };
        assert_eq!(found("orders"), ["orders"]);
        assert_eq!(found("orders.*"), ["orders", "orders-eu"]);
        assert_eq!(found("my-orders|a\\.b"), ["a.b", "my-orders"]);
        assert_eq!(found("(?i)ORDERS"), ["orders"]);
        assert_eq!(found(".*").len(), 5);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in [
            "[",
            "(",
            "a)(?:b",
            "*",
            "(?=a)",
            "\\",
            "x{2,1}",
            "((((((((((((((((a{9}){9}){9}){9}){9}){9}){9})))))))))",
        ] {
            let why = Pattern::new(text).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{text}: {why}");
        }
        assert!(Pattern::new(&"a".repeat(70_000)).is_err());
    }
}
