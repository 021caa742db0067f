//! What decides which connectors and tasks run here.
//!
//! [`Core`](core::Core) decides and does nothing; [`Driver`](driver::Driver) carries it out; [`Herder`] is the handle that
//! REST and embedders hold.

mod auto_restart;
mod commands;
mod core;
mod driver;
mod explain;
mod fencing;
mod handle;
mod leadership;
mod leftovers;
mod offsets;
mod restart;
mod session_keys;
mod task_configs;
mod validate;

pub(crate) use self::core::Core;
pub(crate) use auto_restart::{AutoRestarts, Planned, RestartPolicy};
pub(crate) use driver::{Driver, GroupEvent};
pub use explain::{
    Detail, ExplainedError, ExplainedLag, ExplainedStuck, Explanation, PerSecond, TaskExplanation,
};
pub(crate) use fencing::Fencing;
pub(crate) use handle::Shared;
pub use handle::{Health, Herder, NewConnector};
pub(crate) use leadership::{Leadership, Owners};
pub use validate::{ConfigInfo, ConfigInfos};
