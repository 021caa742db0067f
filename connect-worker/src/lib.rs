//! The Connect worker: herder, group membership, stores, task runners, converters, transforms.

pub mod converters;
pub mod transforms;
