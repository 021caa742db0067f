//! Fetch: sessions, reading and waiting. The API's own file puts them together.

pub(crate) mod context;
pub(crate) mod read;
pub(crate) mod session;
pub(crate) mod sessions;
pub(crate) mod waiters;
