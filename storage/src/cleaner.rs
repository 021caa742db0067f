//! Compaction: of each key the newest record stays.
//!
//! ```text
//!  0 ............ first dirty ............ first uncleanable ............ end
//!  |  cleaned before  |  keys are gathered here   |  not yet: active, unstable, too young  |
//!  '-------- written anew, segment by segment ----'
//! ```
//!
//! The decisions are plain functions and types: [`choice`] says what may be cleaned, [`OffsetMap`] holds the newest offset
//! of each key, [`transactions`] tells aborted records and spent markers, [`filter`] what is left of a batch, [`groups`]
//! which segments become one, [`swap`] which files are renamed in which order. [`rewrite`] feeds them from files, and
//! [`crate::Log::clean`] puts its result into the log.

pub(crate) mod choice;
pub(crate) mod filter;
pub(crate) mod groups;
pub(crate) mod offset_map;
pub(crate) mod reader;
pub(crate) mod rewrite;
pub(crate) mod swap;
pub(crate) mod transactions;

use aqueduct_protocol::ids::Offset;

pub use choice::Cleanable;
pub(crate) use offset_map::OffsetMap;

/// What one cleaning may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerLimits {
    /// Memory for the keys of the dirty part, in bytes (`log.cleaner.dedupe.buffer.size` by thread). Less is taken where
    /// the part is small.
    pub dedupe_bytes: u64,
    /// How full that memory may get (`log.cleaner.io.buffer.load.factor`).
    pub load_factor: f64,
    /// Bytes that are read, and written, at once. A batch that is larger is read whole all the same.
    pub io_bytes: usize,
}

/// Called with the bytes that were read or written, between two steps; it may wait. The cleaning is given up where it
/// returns `false`.
pub type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

/// What one cleaning did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleaned {
    /// Up to here the log is clean: the first dirty offset of the next cleaning.
    pub end: Offset,
    /// Of the dirty part, to gather its keys.
    pub map_bytes_read: u64,
    pub map_records_read: u64,
    /// Of everything up to `end`, to write it anew.
    pub bytes_read: u64,
    pub records_read: u64,
    pub bytes_written: u64,
    pub records_written: u64,
    /// Records without a key, which compaction cannot keep.
    pub keyless: u64,
    /// How full the memory for keys was, of 1.
    pub buffer_utilization: f64,
    pub segments_before: usize,
    pub segments_after: usize,
}

impl Cleaned {
    pub(crate) fn nothing(end: Offset) -> Self {
        Self {
            end,
            map_bytes_read: 0,
            map_records_read: 0,
            bytes_read: 0,
            records_read: 0,
            bytes_written: 0,
            records_written: 0,
            keyless: 0,
            buffer_utilization: 0.0,
            segments_before: 0,
            segments_after: 0,
        }
    }
}
