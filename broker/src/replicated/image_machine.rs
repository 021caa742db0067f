//! The image as the quorum's state machine.

use std::sync::Arc;

use aqueduct_quorum::{StateMachine, Unreadable};
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::metadata::{MetadataImage, Record, decode_snapshot, encode_snapshot};

/// The image of this node, for readers.
#[derive(Debug)]
pub struct ImageCell {
    /// As agreed on.
    image: ArcSwap<MetadataImage>,
    /// As this node's handlers see it: without topics while the cell is closed.
    shown: ArcSwap<MetadataImage>,
    changes: watch::Sender<Arc<MetadataImage>>,
    is_open: Mutex<bool>,
}

impl ImageCell {
    /// All that is agreed on, as far as this node knows.
    pub(crate) fn agreed(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    pub(super) fn image(&self) -> Arc<MetadataImage> {
        self.shown.load_full()
    }

    /// Hides topics from now on: a broker that starts must not take up partitions by an image of its former life.
    pub(crate) fn close(&self) {
        *self.is_open.lock() = false;
        self.put(MetadataImage::clone(&self.agreed()));
    }

    /// Shows everything.
    pub(crate) fn open(&self) {
        let mut is_open = self.is_open.lock();
        *is_open = true;
        self.show(self.agreed());
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.changes.subscribe()
    }

    fn put(&self, image: MetadataImage) {
        let is_open = self.is_open.lock();
        let image = Arc::new(image);
        self.image.store(image.clone());
        self.show(if *is_open { image } else { Arc::new(image.without_topics()) });
    }

    fn show(&self, image: Arc<MetadataImage>) {
        self.shown.store(image.clone());
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
        let cell = Arc::new(ImageCell {
            image: ArcSwap::new(image.clone()),
            shown: ArcSwap::new(image),
            changes,
            is_open: Mutex::new(true),
        });
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
        let image = self.cell.agreed();
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
