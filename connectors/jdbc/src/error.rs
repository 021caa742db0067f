//! What a database answers when it cannot.

use aqueduct_connect_api::Error;

/// A failure of the database or of the way to it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DbError {
    pub message: String,
    /// Whether the same call may succeed later.
    pub transient: bool,
}

impl DbError {
    /// A failure that stays.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), transient: false }
    }

    /// This failure with what was being done.
    #[must_use]
    pub fn during(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// A connection to `place` that failed, with what to check.
    pub fn at_connect(place: &str, user: impl std::fmt::Debug, error: sqlx::Error) -> Self {
        let error = Self::from(error);
        let message = format!(
            "cannot connect to {place} as user {user:?}: {}; check connection.url, connection.user and \
             connection.password, and that the server runs",
            error.message
        );
        Self { message, ..error }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let transient = is_transient(&error);
        let message = match &error {
            sqlx::Error::Database(e) => match e.code() {
                Some(code) => format!("{} (code {code})", e.message()),
                None => e.message().to_owned(),
            },
            other => other.to_string(),
        };
        Self { message, transient }
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        if error.transient { Self::retriable(error.message) } else { Self::connect(error.message) }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(e) => {
            if let Some(e) = e.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
                // Too many connections, shutdown, lock wait, deadlock, gone away, lost, read-only while failing over.
                return matches!(e.number(), 1040 | 1053 | 1205 | 1213 | 1290 | 1792 | 2006 | 2013);
            }
            let code = e.code().unwrap_or_default();
            if e.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
                // Busy and locked, with their extended codes.
                return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6));
            }
            // PostgreSQL classes: connection, rollback, resources, operator intervention; and lock not available.
            ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "55P03"
        }
        _ => false,
    }
}
