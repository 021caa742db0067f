//! The listener for clients: accepting, frames in, answers out.

mod connection;
mod frames;
mod limits;
mod listener;
mod send;

pub(crate) use limits::Limits;
pub(crate) use listener::{Door, bind, run};
