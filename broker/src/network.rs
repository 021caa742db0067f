//! The listeners for clients: accepting, who it is, frames in, answers out.

mod authenticate;
mod connection;
mod entrance;
mod frames;
mod limits;
mod listener;
mod send;
mod stream;

pub(crate) use entrance::Entrance;
pub(crate) use limits::Limits;
pub(crate) use listener::{Door, bind, run, secure, watch};
