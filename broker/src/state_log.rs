//! What a coordinator needs of a partition of its internal topic.

use async_trait::async_trait;
use bytes::Bytes;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Offset;
use aqueduct_storage::Terms;

/// One partition that holds a coordinator's state. `Partition` is one; the errors are wire codes that a coordinator may
/// pass on after mapping them as Kafka does.
#[async_trait]
pub trait StateLog: Send + Sync + 'static {
    /// Appends one batch as the coordinator's own (not a client's) and returns the offset of its first record. Offsets
    /// and leader epoch are filled in. What is returned is below the high watermark: all in-sync replicas have it. After an
    /// error it may come to be committed all the same.
    async fn append(&self, batch: Bytes, terms: Terms) -> Result<Offset, ErrorCode>;

    /// Reads whole batches from the one that holds `from` on, at least one where there is one, about `max_bytes`.
    /// Empty at the end. The first batch may begin below `from`.
    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode>;

    /// The offset of the first record.
    fn start_offset(&self) -> Offset;

    /// The offset after the last record.
    fn end_offset(&self) -> Offset;
}
