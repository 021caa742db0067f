//! The binlog's own formats: bytes in, plain values out. Nothing here does I/O.

pub mod event;
pub mod json;
pub mod reader;
pub mod row;
pub mod table_map;
