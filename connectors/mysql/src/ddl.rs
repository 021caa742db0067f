//! What a logged statement does to tables: enough to know which definitions to read again.

use crate::table::TableId;

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ddl {
    CreateTable(TableId),
    AlterTable(TableId),
    /// Old and new names.
    RenameTables(Vec<(TableId, TableId)>),
    DropTables(Vec<TableId>),
    Truncate(TableId),
    CreateDatabase(String),
    AlterDatabase(String),
    DropDatabase(String),
    /// Nothing that concerns tables.
    Other,
}

impl Ddl {
    /// Reads a statement that ran in `database`.
    pub fn parse(sql: &str, database: &str) -> Self {
        Parser { tokens: tokens(sql), at: 0, database }.statement().unwrap_or(Self::Other)
    }

    /// Every table that it names.
    pub fn tables(&self) -> Vec<&TableId> {
        match self {
            Self::CreateTable(t) | Self::AlterTable(t) | Self::Truncate(t) => vec![t],
            Self::RenameTables(pairs) => pairs.iter().flat_map(|(old, new)| [old, new]).collect(),
            Self::DropTables(tables) => tables.iter().collect(),
            _ => Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// Bare, in its own spelling.
    Word(String),
    /// In backquotes or double quotes.
    Name(String),
    Text,
    Mark(char),
}

/// Words, names and marks; comments are gone, but what `/*! */` wraps for the server stays.
fn tokens(sql: &str) -> Vec<Token> {
    /// No name of a table stands behind this many tokens, except in a long DROP or RENAME.
    const LIMIT: usize = 4096;
    let chars: Vec<char> = sql.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    let get = |at: usize| chars.get(at).copied();
    while at < chars.len() && tokens.len() < LIMIT {
        match chars[at] {
            c if c.is_whitespace() => at += 1,
            '#' => at = line_end(&chars, at),
            '-' if get(at + 1) == Some('-') => at = line_end(&chars, at),
            '/' if get(at + 1) == Some('*') => {
                let marks_code = match (get(at + 2), get(at + 3)) {
                    (Some('!'), _) => Some(at + 3),
                    (Some('M'), Some('!')) => Some(at + 4),
                    _ => None,
                };
                match marks_code {
                    Some(code) => {
                        at = code;
                        while get(at).is_some_and(|c| c.is_ascii_digit()) {
                            at += 1;
                        }
                    }
                    None => {
                        at += 2;
                        while at < chars.len() && !(chars[at] == '*' && get(at + 1) == Some('/')) {
                            at += 1;
                        }
                        at += 2;
                    }
                }
            }
            '*' if get(at + 1) == Some('/') => at += 2,
            quote @ ('`' | '"' | '\'') => {
                let mut text = String::new();
                at += 1;
                while at < chars.len() {
                    if chars[at] == quote {
                        if get(at + 1) != Some(quote) {
                            break;
                        }
                        at += 1;
                    } else if chars[at] == '\\' && quote == '\'' {
                        at += 1;
                    }
                    text.extend(get(at));
                    at += 1;
                }
                at += 1;
                tokens.push(if quote == '\'' { Token::Text } else { Token::Name(text) });
            }
            c if c.is_alphanumeric() || c == '_' || c == '$' => {
                let start = at;
                while get(at).is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                    at += 1;
                }
                tokens.push(Token::Word(chars[start..at].iter().collect()));
            }
            c => {
                tokens.push(Token::Mark(c));
                at += 1;
            }
        }
    }
    tokens
}

fn line_end(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| from + n)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    database: &'a str,
}

impl Parser<'_> {
    fn is(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.at += usize::from(found);
        found
    }

    fn mark(&mut self, mark: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Option<String> {
        let name = match self.tokens.get(self.at)? {
            Token::Word(name) | Token::Name(name) => name.clone(),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    fn table(&mut self) -> Option<TableId> {
        let first = self.name()?;
        if self.mark('.') {
            return Some(TableId::new(&first, &self.name()?));
        }
        Some(TableId::new(self.database, &first))
    }

    fn skip_to(&mut self, word: &str) -> bool {
        while self.at < self.tokens.len() && !self.is(word) {
            self.at += 1;
        }
        self.take(word)
    }

    fn if_exists(&mut self) {
        if self.take("if") {
            self.take("not");
            self.take("exists");
        }
    }

    fn statement(&mut self) -> Option<Ddl> {
        if self.is("set") {
            // SET STATEMENT a=b FOR ...
            self.at += 1;
            if !self.take("statement") || !self.skip_to("for") {
                return None;
            }
        }
        if self.take("create") {
            return self.create();
        }
        if self.take("alter") {
            while self.take("online") || self.take("ignore") {}
            if self.take("database") || self.take("schema") {
                let name = self.name().unwrap_or_else(|| self.database.to_owned());
                return Some(Ddl::AlterDatabase(name));
            }
            if !self.take("table") {
                return None;
            }
            self.if_exists();
            let table = self.table()?;
            return Some(self.renamed_by_alter(table));
        }
        if self.take("rename") {
            if !self.take("table") && !self.take("tables") {
                return None;
            }
            self.if_exists();
            let mut pairs = Vec::new();
            loop {
                let old = self.table()?;
                // RENAME TABLE a WAIT 5 TO b
                if !self.skip_to("to") {
                    return None;
                }
                pairs.push((old, self.table()?));
                if !self.mark(',') {
                    return Some(Ddl::RenameTables(pairs));
                }
            }
        }
        if self.take("drop") {
            return self.drop();
        }
        if self.take("truncate") {
            self.take("table");
            return Some(Ddl::Truncate(self.table()?));
        }
        None
    }

    fn create(&mut self) -> Option<Ddl> {
        if self.take("or") {
            self.take("replace");
        }
        if self.take("database") || self.take("schema") {
            self.if_exists();
            return Some(Ddl::CreateDatabase(self.name()?));
        }
        if self.take("temporary") {
            return None;
        }
        if self.take("table") {
            self.if_exists();
            return Some(Ddl::CreateTable(self.table()?));
        }
        while ["online", "offline", "unique", "fulltext", "spatial", "vector"].iter().any(|w| self.is(w)) {
            self.at += 1;
        }
        if self.take("index") && self.skip_to("on") {
            return Some(Ddl::AlterTable(self.table()?));
        }
        None
    }

    fn drop(&mut self) -> Option<Ddl> {
        if self.take("database") || self.take("schema") {
            self.if_exists();
            return Some(Ddl::DropDatabase(self.name()?));
        }
        if self.take("index") {
            return if self.skip_to("on") { Some(Ddl::AlterTable(self.table()?)) } else { None };
        }
        if self.take("temporary") || !(self.take("table") || self.take("tables")) {
            return None;
        }
        self.if_exists();
        let mut tables = vec![self.table()?];
        while self.mark(',') {
            tables.push(self.table()?);
        }
        Some(Ddl::DropTables(tables))
    }

    /// `ALTER TABLE a RENAME [TO|AS] b` moves the table; RENAME COLUMN, INDEX and KEY do not.
    fn renamed_by_alter(&mut self, table: TableId) -> Ddl {
        while self.skip_to("rename") {
            if self.is("column") || self.is("index") || self.is("key") || self.is("constraint") {
                continue;
            }
            if !self.take("to") {
                self.take("as");
            }
            self.mark('=');
            if let Some(new) = self.table() {
                return Ddl::RenameTables(vec![(table, new)]);
            }
        }
        Ddl::AlterTable(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_statements_do() {
        let t = |name: &str| TableId::new("db", name);
        for (sql, ddl) in [
            ("ALTER TABLE plain ADD COLUMN extra INT COMMENT 'rename to x'", Ddl::AlterTable(t("plain"))),
            ("alter table `db`.`a b` drop column x", Ddl::AlterTable(t("a b"))),
            ("ALTER TABLE a DROP b, RENAME COLUMN c TO d", Ddl::AlterTable(t("a"))),
            ("ALTER TABLE a RENAME TO o.b", Ddl::RenameTables(vec![(t("a"), TableId::new("o", "b"))])),
            ("CREATE TABLE IF NOT EXISTS later (id INT)", Ddl::CreateTable(t("later"))),
            ("/* c */ CREATE OR REPLACE TABLE x LIKE y", Ddl::CreateTable(t("x"))),
            ("create /*!32302 table */ x (a int)", Ddl::CreateTable(t("x"))),
            ("CREATE TEMPORARY TABLE x (a INT)", Ddl::Other),
            ("CREATE UNIQUE INDEX i ON x (a)", Ddl::AlterTable(t("x"))),
            (
                "RENAME TABLE a TO b, c TO o.d",
                Ddl::RenameTables(vec![(t("a"), t("b")), (t("c"), TableId::new("o", "d"))]),
            ),
            ("DROP TABLE IF EXISTS `a`, b /* generated by server */", Ddl::DropTables(vec![t("a"), t("b")])),
            ("TRUNCATE two", Ddl::Truncate(t("two"))),
            ("SET STATEMENT max_statement_time=1 FOR TRUNCATE TABLE two", Ddl::Truncate(t("two"))),
            ("CREATE DATABASE x CHARSET utf8", Ddl::CreateDatabase("x".to_owned())),
            ("DROP SCHEMA IF EXISTS x", Ddl::DropDatabase("x".to_owned())),
            ("INSERT INTO x VALUES (1)", Ddl::Other),
            ("GRANT ALL ON x.* TO u", Ddl::Other),
            ("ALTER TABLE", Ddl::Other),
            ("'", Ddl::Other),
            ("", Ddl::Other),
        ] {
            assert_eq!(Ddl::parse(sql, "db"), ddl, "{sql}");
        }
    }
}
