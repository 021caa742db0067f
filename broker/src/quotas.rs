//! Limits by user, client id and address: what is set, in Kafka's terms, and how much has been used.
//!
//! What is set is part of the metadata ([`QuotaSet`]). What is used is each broker's own affair (`Usage`): a client that
//! goes over its limit is answered at once, told how long it is to pause, and not listened to for that long.

mod bucket;
mod entity;
mod key;
mod metrics;
mod rate;
mod set;
mod tracker;
mod usage;

pub(crate) use entity::KINDS;
pub use entity::{Entity, Name};
pub use key::{QuotaKey, QuotaValue};
pub(crate) use metrics::QuotaMetrics;
pub(crate) use rate::Rate;
pub use rate::Windows;
pub use set::{Applied, QuotaSet};
pub use usage::QuotaExceeded;
pub(crate) use usage::{Usage, Who};
