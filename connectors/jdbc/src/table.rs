//! Names of tables.

use std::fmt;

/// A table's name with what qualifies it. Which parts there are depends on the database: SQLite has neither, MySQL calls
/// its databases catalogs and has no schemas.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    pub catalog: Option<String>,
    pub schema: Option<String>,
    pub name: String,
}

impl TableId {
    fn parts(&self) -> impl Iterator<Item = &str> {
        self.catalog.as_deref().into_iter().chain(self.schema.as_deref()).chain(Some(&*self.name))
    }

    /// The full name with each part between `quote`s.
    pub fn quoted(&self, quote: char) -> String {
        self.parts().map(|part| quoted(part, quote)).collect::<Vec<_>>().join(".")
    }

    /// Without the catalog, as PostgreSQL's older drivers named tables.
    pub fn without_catalog(&self) -> Self {
        Self { catalog: None, ..self.clone() }
    }

    /// Reads what [`TableId::quoted`] wrote; names without quotes are taken as they are.
    pub fn parse(text: &str, quote: char) -> Option<Self> {
        let mut parts = split_quoted(text, quote, '.');
        let name = parts.pop().filter(|name| !name.is_empty())?;
        let schema = parts.pop();
        let catalog = parts.pop();
        match parts.is_empty() {
            // MySQL's one qualifier is the catalog.
            true if catalog.is_none() && quote == '`' => Some(Self { catalog: schema, schema: None, name }),
            true => Some(Self { catalog, schema, name }),
            false => None,
        }
    }
}

impl fmt::Display for TableId {
    /// The full name without quotes, as it stands in partitions and filters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts().collect::<Vec<_>>().join("."))
    }
}

/// `name` between `quote`s, quotes in it doubled.
pub fn quoted(name: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", name.replace(quote, &doubled))
}

/// Splits at `separator` outside quotes, and takes the quotes off.
pub fn split_quoted(text: &str, quote: char, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == quote && inside && chars.peek() == Some(&quote) {
            chars.next();
        } else if c == quote {
            inside = !inside;
            continue;
        } else if c == separator && !inside {
            parts.push(String::new());
            continue;
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// Splits a list of quoted full names at the commas between them, quotes left on.
pub fn split_list(text: &str, quote: char) -> Vec<String> {
    let mut inside = false;
    text.split(|c| {
        inside ^= c == quote;
        c == ',' && !inside
    })
    .map(|item| item.trim().to_owned())
    .filter(|item| !item.is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(catalog: Option<&str>, schema: Option<&str>, name: &str) -> TableId {
        TableId { catalog: catalog.map(Into::into), schema: schema.map(Into::into), name: name.into() }
    }

    #[test]
    fn names_survive_quoting() {
        for (table, quote, text) in [
            (id(None, None, "a.b\"c"), '"', "\"a.b\"\"c\""),
            (id(Some("db"), Some("public"), "t,u"), '"', "\"db\".\"public\".\"t,u\""),
            (id(Some("db"), None, "t"), '`', "`db`.`t`"),
            (id(None, None, "t"), '`', "`t`"),
        ] {
            assert_eq!(table.quoted(quote), text);
            assert_eq!(TableId::parse(text, quote), Some(table));
        }
        assert_eq!(TableId::parse("main.t", '"'), Some(id(None, Some("main"), "t")));
        assert_eq!(TableId::parse("a.b.c.d", '"'), None);
    }

    #[test]
    fn lists_split_outside_quotes() {
        assert_eq!(split_list("\"a,b\".\"c\", \"d\"", '"'), ["\"a,b\".\"c\"", "\"d\""]);
        assert_eq!(split_list("", '"'), [""; 0]);
    }
}
