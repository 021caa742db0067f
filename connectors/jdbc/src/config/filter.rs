//! Which tables are read.

use aqueduct_connect_api::{Config, Error, Result};
use regex::Regex;

use super::{TABLE_BLACKLIST, TABLE_EXCLUDE, TABLE_INCLUDE, TABLE_WHITELIST};
use crate::table::TableId;

/// The lists of tables.
#[derive(Debug)]
pub enum Filter {
    All,
    /// Names, full or bare, with quotes or without.
    Named {
        names: Vec<String>,
        included: bool,
    },
    /// Expressions that must match a whole full name.
    Matching {
        include: Vec<Regex>,
        exclude: Vec<Regex>,
    },
}

impl Filter {
    /// Reads the four lists.
    ///
    /// # Errors
    /// Lists that exclude each other, and expressions that are none.
    pub fn read(config: &Config) -> Result<Self> {
        let [include, exclude, white, black] =
            [TABLE_INCLUDE, TABLE_EXCLUDE, TABLE_WHITELIST, TABLE_BLACKLIST].map(|key| {
                config.list(key).iter().filter(|item| !item.is_empty()).cloned().collect::<Vec<_>>()
            });
        let regular = !include.is_empty() || !exclude.is_empty();
        let conflict = |key: &str, other: &str| {
            Err(Error::config(key, "[set]", format!("{key} and {other} exclude each other: remove one")))
        };
        if regular && !white.is_empty() {
            return conflict(TABLE_WHITELIST, "table.include.list or table.exclude.list");
        }
        if regular && !black.is_empty() {
            return conflict(TABLE_BLACKLIST, "table.include.list or table.exclude.list");
        }
        if !white.is_empty() && !black.is_empty() {
            return conflict(TABLE_WHITELIST, TABLE_BLACKLIST);
        }
        if regular {
            return Ok(Self::Matching {
                include: expressions(TABLE_INCLUDE, &include)?,
                exclude: expressions(TABLE_EXCLUDE, &exclude)?,
            });
        }
        Ok(match (white.is_empty(), black.is_empty()) {
            (true, true) => Self::All,
            (false, _) => Self::Named { names: white, included: true },
            (true, false) => Self::Named { names: black, included: false },
        })
    }

    /// Whether no list is set.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether `table` is read.
    pub fn takes(&self, table: &TableId, quote: char) -> bool {
        match self {
            Self::All => true,
            Self::Named { names, included } => {
                let (full, quoted) = (table.to_string(), table.quoted(quote));
                let partial = table.without_catalog().to_string();
                let named =
                    names.iter().any(|n| *n == table.name || *n == full || *n == partial || *n == quoted);
                named == *included
            }
            Self::Matching { include, exclude } => {
                let forms = [table.to_string(), table.without_catalog().to_string()];
                let any = |list: &[Regex]| list.iter().any(|e| forms.iter().any(|form| e.is_match(form)));
                (include.is_empty() || any(include)) && !any(exclude)
            }
        }
    }
}

fn expressions(key: &str, items: &[String]) -> Result<Vec<Regex>> {
    items
        .iter()
        .map(|item| {
            Regex::new(&format!("^(?:{item})$"))
                .map_err(|e| Error::config(key, item, format!("not a regular expression: {e}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::config_def;
    use aqueduct_connect_api::ConfigMap;

    fn filter(settings: &[(&str, &str)]) -> Result<Filter> {
        let mut map: ConfigMap =
            [("connection.url", "jdbc:sqlite:x"), ("mode", "bulk"), ("topic.prefix", "p")]
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect();
        map.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        Filter::read(&config_def().parse(&map)?)
    }

    #[test]
    fn lists_pick_tables() {
        let table =
            |name: &str| TableId { catalog: Some("db".into()), schema: Some("s".into()), name: name.into() };
        for (key, value, taken) in [
            ("topic.prefix", "p", ["a", "b"].as_slice()),
            ("table.whitelist", "a", &["a"]),
            ("table.whitelist", "db.s.b", &["b"]),
            ("table.blacklist", "s.b", &["a"]),
            ("table.include.list", ".*[.]b", &["b"]),
            ("table.exclude.list", "s[.]b", &["a"]),
        ] {
            let filter = filter(&[(key, value)]).expect("fits");
            let got: Vec<&str> = ["a", "b"].into_iter().filter(|n| filter.takes(&table(n), '"')).collect();
            assert_eq!(got, taken, "{key}={value}");
        }
    }

    #[test]
    fn lists_of_both_kinds_exclude_each_other() {
        for pair in [
            [("table.whitelist", "a"), ("table.blacklist", "b")],
            [("table.whitelist", "a"), ("table.include.list", "b")],
            [("table.exclude.list", "a"), ("table.blacklist", "b")],
        ] {
            assert!(matches!(filter(&pair), Err(Error::Config { .. })), "{pair:?}");
        }
        assert!(filter(&[("table.include.list", "(")]).is_err());
    }
}
