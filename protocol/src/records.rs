//! Record batches, magic 2: the form in which records travel and lie on disk.
//!
//! ```text
//! 0        8       12       16    17    21    23       27       35       43      51     53     57     61
//! | base   | length| leader | mag | crc | at- | last   | base   | max    | prod- | prod | base | rec. | records,
//! | offset |       | epoch  | ic  |     | tr. | offset | time-  | time-  | ucer  | uc.  | seq. | coun | compressed
//! |        |       |        |     |     |     | delta  | stamp  | stamp  | id    | ep.  |      | t    | as a whole
//!                                       '------------ covered by the CRC-32C ------------------------------------
//! ```
//!
//! [`Batches`] walks over the batches of a buffer, [`RecordBatch`] is one of them, [`RecordBatch::records`] decodes its
//! records, [`RecordBatch::check_records`] counts and checks them without building any, and [`BatchBuilder`] writes a
//! batch. Nothing is allocated from a length that the input only claims, and the output of decompression is capped.

mod batch;
mod builder;
mod compression;
mod control;
mod error;
mod header;
mod patch;
mod record;
mod rewrite;
mod varint;
mod xerial;

pub use batch::{Batches, RecordBatch, RecordsSummary};
pub use builder::BatchBuilder;
pub use compression::{Compression, OutputLimit};
pub use control::{ControlType, EndTransactionMarker};
pub use error::RecordError;
pub use header::{Attributes, BatchHeader, HEADER_LEN, LENGTH_PREFIX, NO_TIMESTAMP, TimestampType};
pub use patch::{
    compute_crc, extend_crc, patch_base_offset, patch_crc, patch_crc_value, patch_leader_epoch,
    patch_max_timestamp, patch_producer, patch_timestamps,
};
pub use record::{Header, RawRecord, Record, Records, for_each_raw};
pub use rewrite::{BatchRewriter, empty_batch};
