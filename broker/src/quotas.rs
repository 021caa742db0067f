//! Limits by user, client id and address: what is set, in Kafka's terms, and how much has been used.

mod entity;
mod key;
mod set;

pub(crate) use entity::KINDS;
pub use entity::{Entity, Name};
pub use key::{QuotaKey, QuotaValue};
pub use set::{Applied, QuotaSet};
