//! The Connect worker: herder, group membership, stores, task runners, converters, transforms.

pub mod config;
mod config_state;
pub mod converters;
mod error;
mod headers;
mod ids;
pub mod membership;
mod offsets;
mod status;
pub mod transforms;
