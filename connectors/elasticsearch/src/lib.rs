//! Elasticsearch sink connector: records as documents, through the bulk API.
//!
//! Class names and settings are those of the Elasticsearch sink in common use
//! (`io.confluent.connect.elasticsearch.ElasticsearchSinkConnector`).
//!
//! ```text
//! put ──> operation (index, id, version, JSON) ──> batch ──> up to max.in.flight.requests bulk requests at once
//! answer ──> tracker: per partition the first offset that is not confirmed ──> pre_commit
//! ```
//!
//! No document can go back in time: where the key is the document's id, the record's offset is its external version, on
//! deletes as well, so that an operation that comes late is refused by the server. Updates (`write.method=upsert`) know no
//! such versions; they are sent one request after the other, and a retry repeats what followed it on the same document.
//!
//! Requests carry plain JSON media types: Elasticsearch 7, 8 and 9 and OpenSearch answer them alike, while media types with
//! a version are refused by the others.
//!
//! Where the reference gives up, this one goes on: single operations that the server turns away as too many are sent again
//! with growing pauses, and a document that the server refuses becomes a dead letter where those are configured.

mod answer;
mod backoff;
mod bulk;
mod client;
mod config;
mod connector;
mod document;
mod id;
mod index;
mod mapping;
mod names;
mod request;
mod task;
mod tracker;

pub use connector::ElasticsearchSink;
pub use task::ElasticsearchSinkTask;
