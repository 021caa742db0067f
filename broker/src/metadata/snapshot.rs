//! An image as bytes, for a quorum's snapshots: its versions, its cluster, and the records that make it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::record::{get_text, put_text};
use super::{MetadataImage, Record};

/// The image as bytes. Whoever keeps them adds a checksum.
pub fn encode(image: &MetadataImage) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u64(image.version);
    out.put_u64(image.configs_version);
    put_text(&mut out, &image.cluster_id);
    image.to_records().iter().for_each(|record| record.encode(&mut out));
    out.freeze()
}

/// Reads what [`encode`] wrote; `None` where it is anything else.
pub fn decode(mut bytes: Bytes) -> Option<MetadataImage> {
    let (version, configs_version) = (bytes.try_get_u64().ok()?, bytes.try_get_u64().ok()?);
    let mut image = MetadataImage::new(get_text(&mut bytes)?);
    while bytes.has_remaining() {
        let record = Record::decode(&mut bytes)?;
        image.apply(&record);
    }
    // Versions count all changes that there ever were; epochs of brokers are taken from them.
    (image.version, image.configs_version) = (version, configs_version);
    Some(image)
}
