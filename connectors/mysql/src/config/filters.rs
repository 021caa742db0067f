//! Which databases, tables and columns are captured, and which columns make keys.

use aqueduct_connect_api::{Config, Error, Result};
use regex::{Regex, RegexBuilder};

use crate::table::{Table, TableId};

/// Databases of the server itself.
const BUILT_IN: [&str; 4] = ["mysql", "performance_schema", "sys", "information_schema"];

/// A list of expressions that include, or one that excludes, or none.
#[derive(Clone, Debug, Default)]
struct Rule {
    include: Option<Vec<Regex>>,
    exclude: Option<Vec<Regex>>,
}

impl Rule {
    fn read(config: &Config, what: &str) -> Result<Self> {
        let list = |key: &str| -> Result<Option<Vec<Regex>>> {
            let text = config.text(key);
            if text.trim().is_empty() {
                return Ok(None);
            }
            split(text).iter().map(|item| expression(key, item)).collect::<Result<_>>().map(Some)
        };
        let (include_key, exclude_key) = (format!("{what}.include.list"), format!("{what}.exclude.list"));
        let rule = Self { include: list(&include_key)?, exclude: list(&exclude_key)? };
        if rule.include.is_some() && rule.exclude.is_some() {
            return Err(Error::config(
                &*exclude_key,
                config.text(&exclude_key),
                format!("Set only one of {include_key} and {exclude_key}"),
            ));
        }
        Ok(rule)
    }

    fn allows(&self, name: &str) -> bool {
        match (&self.include, &self.exclude) {
            (Some(include), _) => include.iter().any(|r| r.is_match(name)),
            (None, Some(exclude)) => !exclude.iter().any(|r| r.is_match(name)),
            (None, None) => true,
        }
    }
}

/// All rules together.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    databases: Rule,
    tables: Rule,
    columns: Rule,
    snapshot: Option<Vec<Regex>>,
    keys: Vec<(Regex, Vec<String>)>,
    built_in: bool,
    /// Changes with what the rules say; it tells whether progress of a snapshot was made under the same ones.
    pub fingerprint: u32,
}

impl Filters {
    pub fn read(config: &Config) -> Result<Self> {
        let mut filters = Self {
            databases: Rule::read(config, "database")?,
            tables: Rule::read(config, "table")?,
            columns: Rule::read(config, "column")?,
            snapshot: None,
            keys: Vec::new(),
            built_in: !config.boolean("table.ignore.builtin"),
            fingerprint: fingerprint(config),
        };
        let key = "snapshot.include.collection.list";
        if !config.text(key).trim().is_empty() {
            let list = split(config.text(key));
            filters.snapshot = Some(list.iter().map(|i| expression(key, i)).collect::<Result<_>>()?);
        }
        let key = "message.key.columns";
        for part in config.text(key).split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let Some((table, columns)) = part.rsplit_once(':') else {
                return Err(Error::config(key, part, "Expected database.table:column,column;..."));
            };
            let columns: Vec<String> = columns.split(',').map(|c| c.trim().to_owned()).collect();
            filters.keys.push((expression(key, table)?, columns));
        }
        Ok(filters)
    }

    pub fn captures_database(&self, database: &str) -> bool {
        let built_in = BUILT_IN.iter().any(|b| b.eq_ignore_ascii_case(database));
        (self.built_in || !built_in) && self.databases.allows(database)
    }

    pub fn captures(&self, table: &TableId) -> bool {
        self.captures_database(&table.database) && self.tables.allows(&table.to_string())
    }

    /// Whether the snapshot reads the rows of a captured table.
    pub fn snapshots(&self, table: &TableId) -> bool {
        let name = table.to_string();
        self.snapshot.as_ref().is_none_or(|list| list.iter().any(|r| r.is_match(&name)))
    }

    pub fn captures_column(&self, table: &TableId, column: &str) -> bool {
        self.columns.allows(&format!("{table}.{column}"))
    }

    /// Indexes of the columns that make the key: those chosen by the user, else the primary key.
    pub fn key_of(&self, table: &Table) -> Vec<usize> {
        let name = table.id.to_string();
        match self.keys.iter().find(|(tables, _)| tables.is_match(&name)) {
            Some((_, columns)) => columns.iter().filter_map(|c| table.column(c)).collect(),
            None => table.primary_key.clone(),
        }
    }
}

/// Items between commas; `\,` is a comma within an item.
fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = items.last_mut().expect("the list starts with an item");
        match c {
            '\\' if chars.peek() == Some(&',') => {
                chars.next();
                last.push(',');
            }
            ',' => items.push(String::new()),
            c => last.push(c),
        }
    }
    items.iter().map(|i| i.trim().to_owned()).filter(|i| !i.is_empty()).collect()
}

fn expression(key: &str, text: &str) -> Result<Regex> {
    RegexBuilder::new(&format!("^(?:{})$", text.trim()))
        .case_insensitive(true)
        .build()
        .map_err(|e| Error::config(key, text, format!("Not a regular expression: {e}")))
}

fn fingerprint(config: &Config) -> u32 {
    let keys = [
        "database.include.list",
        "database.exclude.list",
        "table.include.list",
        "table.exclude.list",
        "snapshot.include.collection.list",
    ];
    let bytes = keys.iter().flat_map(|k| config.text(k).bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flavor, config_def};

    fn filters(settings: &[(&str, &str)]) -> Result<Filters> {
        let map = settings
            .iter()
            .chain(&[
                ("database.hostname", "h"),
                ("database.user", "u"),
                ("database.server.id", "1"),
                ("topic.prefix", "p"),
            ])
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Filters::read(&config_def(Flavor::MySql).parse(&map)?)
    }

    #[test]
    fn lists_are_anchored_and_ignore_case() {
        let f = filters(&[("table.include.list", "inv\\.orders, INV\\.cust.*")]).unwrap();
        for (table, captured) in
            [("orders", true), ("orders2", false), ("Customers", true), ("customers", true), ("items", false)]
        {
            assert_eq!(f.captures(&TableId::new("inv", table)), captured, "{table}");
        }
        assert!(!f.captures(&TableId::new("xinv", "orders")));
    }

    #[test]
    fn tables_of_the_server_are_left_out() {
        let f = filters(&[]).unwrap();
        assert!(!f.captures(&TableId::new("mysql", "user")));
        assert!(f.captures(&TableId::new("inv", "user")));
    }

    #[test]
    fn wrong_lists_are_explained() {
        let both = filters(&[("table.include.list", "a"), ("table.exclude.list", "b")]).unwrap_err();
        assert!(both.to_string().contains("only one of"), "{both}");
        let bad = filters(&[("database.include.list", "a(")]).unwrap_err();
        assert!(bad.to_string().contains("Not a regular expression"), "{bad}");
        assert!(filters(&[("message.key.columns", "nonsense")]).is_err());
    }
}
