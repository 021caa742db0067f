//! Operations on their way to the server: the body of a bulk request, and what each part of it stands for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use aqueduct_connect_api::{Result, SinkRecord, TopicPartition};
use bytes::Bytes;

use crate::document::{number, string};

/// An operation in a [`Batch`].
#[derive(Debug)]
pub struct Item {
    pub partition: TopicPartition,
    pub offset: i64,
    /// The record, where it may have to be reported.
    pub record: Option<Box<SinkRecord>>,
    /// Of the index and the id: operations on one document have the same.
    document: u64,
    /// Its lines in the body.
    lines: Range<usize>,
}

/// What happens to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Index,
    /// Merges the fields into the document, or makes it.
    Update,
    Delete,
}

/// Which document, and how.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub action: Action,
    pub index: &'a str,
    /// `None`: the server makes one.
    pub id: Option<&'a str>,
    pub version: Option<i64>,
}

/// Operations for one request.
#[derive(Debug, Default)]
pub struct Batch {
    body: Vec<u8>,
    items: Vec<Item>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of operations.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Bytes of the body.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// Adds an operation; `document` writes the document's JSON. After an error the batch is as before.
    pub fn add(
        &mut self,
        target: Target<'_>,
        partition: TopicPartition,
        offset: i64,
        document: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let start = self.body.len();
        write_action(&mut self.body, target);
        if target.action != Action::Delete
            && let Err(error) = write_document(&mut self.body, target.action, document)
        {
            self.body.truncate(start);
            return Err(error);
        }
        let mut hasher = DefaultHasher::new();
        (target.index, target.id).hash(&mut hasher);
        self.items.push(Item {
            partition,
            offset,
            record: None,
            document: hasher.finish(),
            lines: start..self.body.len(),
        });
        Ok(())
    }

    /// Keeps the record of the operation that was added last.
    pub fn keep_record(&mut self, record: &SinkRecord) {
        if let Some(item) = self.items.last_mut() {
            item.record = Some(Box::new(record.clone()));
        }
    }

    /// The body to send, and the operations in it.
    pub fn into_parts(self) -> (Bytes, Vec<Item>) {
        (self.body.into(), self.items)
    }
}

/// The body with only `items`, whose lines are moved with it.
pub fn body_of(body: &Bytes, items: &mut [Item]) -> Bytes {
    let mut smaller = Vec::with_capacity(items.iter().map(|item| item.lines.len()).sum());
    for item in items {
        let start = smaller.len();
        smaller.extend_from_slice(&body[item.lines.clone()]);
        item.lines = start..smaller.len();
    }
    smaller.into()
}

/// Marks, beside those marked in `again`, every later operation on the same document: sent alone, the earlier one would
/// overwrite it.
pub fn with_followers(items: &[Item], again: &mut [bool]) {
    let mut documents = std::collections::HashSet::new();
    for (item, again) in items.iter().zip(again) {
        if *again {
            documents.insert(item.document);
        } else if documents.contains(&item.document) {
            *again = true;
        }
    }
}

fn write_action(out: &mut Vec<u8>, target: Target<'_>) {
    let name: &[u8] = match target.action {
        Action::Index => b"{\"index\":{\"_index\":",
        Action::Update => b"{\"update\":{\"_index\":",
        Action::Delete => b"{\"delete\":{\"_index\":",
    };
    out.extend_from_slice(name);
    string(out, target.index);
    if let Some(id) = target.id {
        out.extend_from_slice(b",\"_id\":");
        string(out, id);
    }
    if let Some(version) = target.version {
        out.extend_from_slice(b",\"version\":");
        number(out, version);
        out.extend_from_slice(b",\"version_type\":\"external\"");
    }
    if target.action == Action::Update {
        out.extend_from_slice(b",\"retry_on_conflict\":5");
    }
    out.extend_from_slice(b"}}\n");
}

fn write_document(
    out: &mut Vec<u8>,
    action: Action,
    document: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    if action == Action::Update {
        out.extend_from_slice(b"{\"doc\":");
        document(out)?;
        out.extend_from_slice(b",\"doc_as_upsert\":true}");
    } else {
        document(out)?;
    }
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aqueduct_connect_api::Error;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn batch(targets: &[(Action, &str, Option<i64>)]) -> Batch {
        let mut batch = Batch::default();
        for (offset, (action, id, version)) in (0..).zip(targets) {
            let target = Target { action: *action, index: "i", id: Some(id), version: *version };
            let document = |out: &mut Vec<u8>| {
                out.extend_from_slice(b"{}");
                Ok(())
            };
            batch.add(target, partition(), offset, document).expect("fits");
        }
        batch
    }

    #[test]
    fn operations_have_their_lines() {
        let (body, _) = batch(&[
            (Action::Index, "a\"", Some(7)),
            (Action::Delete, "b", Some(8)),
            (Action::Update, "c", None),
        ])
        .into_parts();
        let expected = concat!(
            r#"{"index":{"_index":"i","_id":"a\"","version":7,"version_type":"external"}}"#,
            "\n{}\n",
            r#"{"delete":{"_index":"i","_id":"b","version":8,"version_type":"external"}}"#,
            "\n",
            r#"{"update":{"_index":"i","_id":"c","retry_on_conflict":5}}"#,
            "\n",
            r#"{"doc":{},"doc_as_upsert":true}"#,
            "\n"
        );
        assert_eq!(std::str::from_utf8(&body), Ok(expected));
    }

    #[test]
    fn a_document_that_cannot_be_written_leaves_nothing() {
        let mut batch = batch(&[(Action::Index, "a", None)]);
        let size = batch.size();
        let target = Target { action: Action::Index, index: "i", id: None, version: None };
        let failing = |out: &mut Vec<u8>| {
            out.push(b'{');
            Err(Error::data("no"))
        };
        assert!(batch.add(target, partition(), 1, failing).is_err());
        assert_eq!((batch.size(), batch.count()), (size, 1));
    }

    #[test]
    fn a_retry_keeps_the_order_of_each_document() {
        let (body, mut items) = batch(&[
            (Action::Update, "a", None),
            (Action::Update, "b", None),
            (Action::Update, "a", None),
            (Action::Update, "c", None),
        ])
        .into_parts();
        let mut again = vec![true, false, false, false];
        with_followers(&items, &mut again);
        assert_eq!(again, [true, false, true, false]);
        let mut keep = again.iter();
        items.retain(|_| *keep.next().expect("as many"));
        let smaller = body_of(&body, &mut items);
        let text = std::str::from_utf8(&smaller).expect("text");
        assert_eq!(text.matches("\"_id\":\"a\"").count(), 2);
        assert_eq!(text.lines().count(), 4);
        assert_eq!(body_of(&smaller, &mut items), smaller);
    }
}
