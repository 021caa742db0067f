//! Connectors in processes of their own, written in any language.
//!
//! An executable on the plugin path whose name starts with `aqueduct-plugin-` is a plugin. The worker asks it what it
//! serves ([`Discovery`]) and registers that, so that its connectors are listed, validated and run like any other. Each
//! task has a process of its own, which the worker calls with one request at a time, as frames of JSON on standard input;
//! answers come on standard output, and standard error is the plugin's log. `docs/plugins.md` is the protocol.
//!
//! ```text
//! ProcessSourceTask ──► Process ──requests──► Host ──stdin──► plugin
//! ProcessSinkTask          ▲                  Session ◄─stdout──┘
//! ProcessConnector         └─────answers────── FrameReader
//! ```

mod connector;
mod data;
mod describe;
mod discover;
mod frame;
mod host;
mod process;
mod program;
mod scan;
mod secrets;
mod session;
mod sink;
mod source;
mod stderr;

pub use connector::{ProcessConnector, Served};
pub use data::{
    RecordReader, RecordWriter, SinkChunk, read_schema, tagged, typed, write_schema, write_tagged,
    write_typed,
};
pub use describe::{ConnectorDescription, Description, KeyDescription, Kind};
pub use discover::{Discovery, describe, register};
pub use frame::{FrameError, FrameReader, frame};
pub use process::{CallError, Process, all_ended};
pub use program::{Limits, Program};
pub use secrets::Secrets;
pub use session::{Ask, Event, Fault, Session, Violation};
pub use sink::ProcessSinkTask;
pub use source::ProcessSourceTask;
