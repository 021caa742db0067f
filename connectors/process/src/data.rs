//! Schemas, values and records as JSON that loses nothing; `docs/plugins.md` says how they look.

mod decode;
mod encode;
mod json;
mod records;
mod schema;
#[cfg(test)]
mod tests;

pub use decode::{tagged, typed};
pub use encode::{write_tagged, write_typed};
pub(crate) use records::offset_map;
pub use records::{RecordReader, RecordWriter, SinkChunk};
pub use schema::{read_schema, write_schema};
