//! What moves data: one runner a task, each in a tokio task of its own.

mod conversion;
mod dead_letters;
mod errors;
mod in_flight;
mod lifeline;
pub mod progress;
mod runner;
mod sink;
mod sink_context;
mod source;
mod topics;
mod transforms;
pub(crate) mod window;

pub use runner::{TaskEnvironment, TaskHandle};
pub use topics::CreationRules;
