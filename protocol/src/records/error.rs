use super::Compression;

/// Why bytes are not a sound record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes end before the value does.
    #[error("record batch cut short in {field}: {needed} bytes needed, {left} left")]
    Truncated { field: &'static str, needed: usize, left: usize },
    /// A length or count is negative where it may not be, or does not fit what holds it.
    #[error("{field} of {length} is out of range, {left} bytes left")]
    BadLength { field: &'static str, length: i64, left: usize },
    /// A variable-length integer runs on for too many bytes.
    #[error("variable-length {field} is too long")]
    BadVarint { field: &'static str },
    /// A message format older (or newer) than record batches.
    #[error("magic {magic} at offset {base_offset}, only magic 2 is served")]
    UnsupportedMagic { magic: i8, base_offset: i64 },
    /// The checksum in the header is not that of the bytes.
    #[error(
        "crc {stored:#010x} of the batch at offset {base_offset} does not match its bytes ({computed:#010x})"
    )]
    CrcMismatch { base_offset: i64, stored: u32, computed: u32 },
    /// Bits 0-2 of the attributes name no codec.
    #[error("compression codec {0} does not exist")]
    UnknownCodec(u8),
    /// The records cannot be decompressed.
    #[error("{codec} records cannot be decompressed: {why}")]
    Decompress { codec: Compression, why: String },
    /// The records grow beyond what may be decompressed.
    #[error("{codec} records decompress to more than {limit} bytes")]
    OutputTooLarge { codec: Compression, limit: usize },
    /// The records could not be compressed.
    #[error("records cannot be compressed with {codec}: {why}")]
    Compress { codec: Compression, why: String },
    /// The header's count is not the number of records.
    #[error("batch at offset {base_offset} declares {declared} records and holds {found}")]
    WrongCount { base_offset: i64, declared: i32, found: i64 },
    /// Bytes are left after the last record.
    #[error("{left} bytes are left after the last record of the batch at offset {base_offset}")]
    TrailingBytes { base_offset: i64, left: usize },
    /// A record's place in the batch is not the one that its offset claims.
    #[error("record {index} of the batch at offset {base_offset} has offset delta {found}")]
    WrongOffsetDelta { base_offset: i64, index: i32, found: i32 },
    /// The batch's offsets do not follow those before it, or overlap those after it.
    #[error("base offset {found} where {expected} or a little more was expected")]
    WrongBaseOffset { found: i64, expected: i64 },
    /// The batch has no room for another record.
    #[error("batch of {size} bytes cannot take a record of {record} bytes more")]
    BatchFull { size: usize, record: usize },
}
