//! JDBC URLs.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use url::Url;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    MySql,
    Postgres,
    Sqlite,
}

/// What a JDBC URL says.
#[derive(Clone, PartialEq, Eq)]
pub struct JdbcUrl {
    pub kind: Kind,
    pub host: String,
    pub port: u16,
    /// Name of the database; SQLite's file.
    pub database: Option<String>,
    /// Everything after `?`, and users and passwords from before the host.
    pub parameters: BTreeMap<String, String>,
}

impl JdbcUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without the URL itself: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("jdbc:") else {
            return Err(
                "a JDBC URL starts with jdbc:, such as jdbc:postgresql://host:5432/database".to_owned()
            );
        };
        let kind = rest.split(':').next().unwrap_or_default();
        match kind {
            "sqlite" => Ok(Self::sqlite(&rest["sqlite:".len()..])),
            "mysql" | "mariadb" => Self::network(rest, Kind::MySql, 3306),
            "postgresql" => Self::network(rest, Kind::Postgres, 5432),
            other => Err(format!(
                "jdbc:{other}: is not a database that this connector reads; it reads jdbc:mysql:, jdbc:mariadb:, \
                 jdbc:postgresql: and jdbc:sqlite:"
            )),
        }
    }

    fn sqlite(rest: &str) -> Self {
        let rest = rest.strip_prefix("file:").unwrap_or(rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Self {
            kind: Kind::Sqlite,
            host: String::new(),
            port: 0,
            database: Some(path.to_owned()),
            parameters: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        }
    }

    fn network(rest: &str, kind: Kind, default_port: u16) -> Result<Self, String> {
        // PostgreSQL allows jdbc:postgresql:database, which means this host.
        let rest = match rest.split_once(':') {
            Some((scheme, path)) if !path.starts_with("//") => format!("{scheme}://localhost/{path}"),
            _ => rest.to_owned(),
        };
        if rest.split("://").nth(1).and_then(|r| r.split('/').next()).is_some_and(|hosts| hosts.contains(','))
        {
            return Err("the URL names several hosts; name the one to read from".to_owned());
        }
        let url = Url::parse(&rest).map_err(|e| format!("not a URL: {e}"))?;
        let mut parameters: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if !url.username().is_empty() {
            parameters.insert("user".to_owned(), decoded(url.username()));
        }
        if let Some(password) = url.password() {
            parameters.insert("password".to_owned(), decoded(password));
        }
        let database = decoded(url.path().trim_start_matches('/'));
        Ok(Self {
            kind,
            host: url.host_str().filter(|h| !h.is_empty()).unwrap_or("localhost").to_owned(),
            port: url.port().unwrap_or(default_port),
            database: Some(database).filter(|d| !d.is_empty()),
            parameters,
        })
    }

    /// A parameter, by any of `names`.
    pub fn parameter(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.parameters.get(*name).map(String::as_str))
    }

    /// Where this leads, without secrets.
    pub fn place(&self) -> String {
        let database = self.database.as_deref().unwrap_or("");
        match self.kind {
            Kind::Sqlite => format!("SQLite file {database}"),
            Kind::MySql => format!("MySQL at {}:{}/{database}", self.host, self.port),
            Kind::Postgres => format!("PostgreSQL at {}:{}/{database}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (text, place, user) in [
            ("jdbc:sqlite:/tmp/a b.db", "SQLite file /tmp/a b.db", None),
            ("jdbc:sqlite:file:x.db?mode=ro", "SQLite file x.db", None),
            ("jdbc:mysql://h:3307/db?user=u%40x&useSSL=false", "MySQL at h:3307/db", Some("u@x")),
            ("jdbc:mariadb://h/db", "MySQL at h:3306/db", None),
            ("jdbc:postgresql://u:p@h/db", "PostgreSQL at h:5432/db", Some("u")),
            ("jdbc:postgresql:db", "PostgreSQL at localhost:5432/db", None),
            ("jdbc:mysql://h:1", "MySQL at h:1/", None),
        ] {
            let url = JdbcUrl::parse(text).expect(text);
            assert_eq!(url.place(), place);
            assert_eq!(url.parameter(&["user"]), user, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_explained_without_showing_it() {
        for text in ["mysql://h/db", "jdbc:oracle:thin:@h", "jdbc:mysql://a,b/db", "jdbc:mysql://h:secret/db"]
        {
            let why = JdbcUrl::parse(text).err().expect(text);
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
