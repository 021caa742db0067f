//! Requests to groups of the consumer protocol, and what they share.

mod classic;
mod convert;
mod describe;
mod fence;
mod heartbeat;
mod offsets;
mod subscription;
mod write;

pub use describe::{DescribedConsumerGroup, DescribedConsumerMember};
pub(crate) use write::Undo;
