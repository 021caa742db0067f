//! The image as the quorum's state machine.

use std::sync::Arc;

use aqueduct_quorum::{StateMachine, Unreadable};
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use tokio::sync::watch;

use crate::metadata::{MetadataImage, Record, decode_snapshot, encode_snapshot};

/// The image of this node, for readers.
#[derive(Debug)]
pub struct ImageCell {
    image: ArcSwap<MetadataImage>,
    changes: watch::Sender<Arc<MetadataImage>>,
}

impl ImageCell {
    pub(super) fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.changes.subscribe()
    }

    fn put(&self, image: MetadataImage) {
        let image = Arc::new(image);
        self.image.store(image.clone());
        self.changes.send_replace(image);
    }
}

/// Applies agreed entries to the image.
#[derive(Debug)]
pub struct ImageMachine {
    cell: Arc<ImageCell>,
}

impl ImageMachine {
    /// An empty image of a cluster, and where it is read.
    pub fn new(cluster_id: &str) -> (Self, Arc<ImageCell>) {
        let image = Arc::new(MetadataImage::new(ByteString::from(cluster_id)));
        let changes = watch::Sender::new(image.clone());
        let cell = Arc::new(ImageCell { image: ArcSwap::new(image), changes });
        (Self { cell: cell.clone() }, cell)
    }
}

impl StateMachine for ImageMachine {
    fn apply(&mut self, index: u64, mut entry: Bytes) -> Result<(), Unreadable> {
        let mut image = MetadataImage::clone(&self.cell.image.load());
        while !entry.is_empty() {
            let tag = entry[0];
            let record = Record::decode(&mut entry);
            let unknown =
                || Unreadable(format!("a record of kind {tag} in entry {index} of the metadata log"));
            image.apply(&record.ok_or_else(unknown)?);
        }
        self.cell.put(image);
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Bytes + Send + Sync> {
        let image = self.cell.image();
        Box::new(move || encode_snapshot(&image))
    }

    fn restore(&mut self, snapshot: Bytes) -> Result<(), Unreadable> {
        let image =
            decode_snapshot(snapshot).ok_or_else(|| Unreadable("a snapshot of the metadata".into()))?;
        let expected = &self.cell.image.load().cluster_id;
        if image.cluster_id != *expected {
            return Err(Unreadable(format!("a snapshot of cluster {}, not {expected}", image.cluster_id)));
        }
        self.cell.put(image);
        Ok(())
    }
}

/// The bytes of one entry.
pub(super) fn encode(records: &[Record], out: &mut BytesMut) {
    records.iter().for_each(|record| record.encode(out));
}
