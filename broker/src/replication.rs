//! Replication of partitions between brokers.
//!
//! ```text
//! image ─▶ watch ─▶ Partition::assume ─▶ Leader: Leading decides on the watermark and the in-sync set ─▶ Alters ─▶ controller
//!                                   └──▶ Follower: Fetchers fetch from the leader's broker ─▶ append, or cut and fetch again
//! ```
//! `leading` and `history` are the rules, without I/O; the rest carries them out. Roles change under a lock of the
//! partition; the log itself refuses appends of an epoch that is over.

mod alter;
mod fetcher;
mod fetchers;
mod following;
mod history;
#[cfg(test)]
mod lag_tests;
mod leading;
mod log_ends;
#[cfg(test)]
mod model;
mod partition;
mod role;
mod session;
mod throttle;
mod watch;

pub(crate) use history::{Reign, UnknownEpoch};
pub(crate) use leading::Acknowledged;
pub(crate) use role::{Around, Role};
pub(crate) use throttle::Sides;
pub(crate) use watch::start;

/// Up to where a reader sees records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Up to the first open transaction.
    Committed,
    /// Up to the high watermark.
    Uncommitted,
    /// All of the log; for followers.
    LogEnd,
}
