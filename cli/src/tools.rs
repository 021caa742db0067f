//! The command line tools: what administers a cluster, reads and writes topics, looks at files and at the machine.

pub mod acls;
pub mod configs;
mod connect;
pub mod consume;
pub mod doctor;
pub mod drain;
pub mod dump_log;
pub mod elect;
pub mod groups;
pub mod log_dirs;
mod moving;
mod output;
pub mod perf;
pub mod produce;
pub mod quorum;
pub mod reassign;
pub mod storage;
pub mod topics;
