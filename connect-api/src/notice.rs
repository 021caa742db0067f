//! What a task says of itself, for people who ask what it does.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What keeps a task from its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing is wrong: it waits for this, such as "the file /x, which is not there".
    Waits(String),
    /// An operation fails and is tried again.
    Fails {
        /// How often in a row.
        failures: u32,
        /// Why, the last time.
        error: String,
    },
}

/// Where a task leaves word of what keeps it from its work while its calls return as if all were well: a source that tries
/// again by itself, one that waits for its file. `GET /connectors/NAME/explain` shows it, and failures that do not end
/// make a task count as stuck. Clones share it; secrets do not belong there.
#[derive(Clone, Debug, Default)]
pub struct Notice(Arc<Mutex<Option<Told>>>);

impl Notice {
    /// The task waits for `what`.
    pub fn waits_for(&self, what: impl Into<String>) {
        self.set(Some(Told::Waits(what.into())));
    }

    /// An operation failed once more, and will be tried again.
    pub fn failed(&self, error: &dyn fmt::Display) {
        let failures = match self.read() {
            Some(Told::Fails { failures, .. }) => failures.saturating_add(1),
            _ => 1,
        };
        self.set(Some(Told::Fails { failures, error: error.to_string() }));
    }

    /// All is well again. Cheap where it was so before.
    pub fn clear(&self) {
        self.set(None);
    }

    /// What is said now.
    pub fn read(&self) -> Option<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, told: Option<Told>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_until_something_else_is_said() {
        let notice = Notice::default();
        let other = notice.clone();
        assert_eq!(notice.read(), None);
        notice.failed(&"no route");
        notice.failed(&"no host");
        assert_eq!(other.read(), Some(Told::Fails { failures: 2, error: "no host".to_owned() }));
        notice.waits_for("a file");
        assert_eq!(other.read(), Some(Told::Waits("a file".to_owned())));
        notice.failed(&"x");
        assert_eq!(other.read(), Some(Told::Fails { failures: 1, error: "x".to_owned() }));
        other.clear();
        assert_eq!(notice.read(), None);
    }
}
