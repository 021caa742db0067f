//! What tasks of the load write to together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value behind a lock that a panicking holder does not spoil.
#[derive(Debug, Default)]
pub struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Shared<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take(&self) -> T {
        std::mem::take(&mut *self.lock())
    }
}
