//! All that the author of a connector, converter or transform sees.
//!
//! A connector describes itself in a [`plugin::Plugin`] and submits it with [`inventory::submit!`]; a worker finds it
//! there by the class names that users put in `connector.class`. The data that flows is a [`record::Record`]: topic,
//! key, value, headers and timestamp, each value with an optional [`data::Schema`].
//!
//! | to write | implement |
//! |---|---|
//! | a source | [`Connector`] and [`SourceTask`] |
//! | a sink | [`Connector`] and [`SinkTask`] |
//! | a converter | [`Converter`] or [`HeaderConverter`] |
//! | a transform | [`Transformation`] or [`Predicate`] |

pub mod config;
pub mod connector;
pub mod convert;
pub mod data;
pub mod error;
pub mod notice;
pub mod offset;
pub mod plugin;
pub mod record;

pub use config::{Config, ConfigDef, ConfigKey, ConfigMap};
pub use connector::{
    Connector, ConnectorContext, ExactlyOnceSupport, OffsetMap, OffsetStore, SinkContext, SinkTask,
    SinkTaskContext, SourceTask, SourceTaskContext, TopicPartition, TransactionContext,
};
pub use convert::{Converter, HeaderConverter, Predicate, Transformation};
pub use data::{Decimal, Field, Schema, SchemaAndValue, SchemaRef, Struct, Type, Value};
pub use error::{Error, Result};
pub use notice::{Notice, Told};
pub use offset::SourceOffset;
pub use plugin::{Factory, Plugin};
pub use record::{Header, Record, SinkRecord, SourceRecord, TimestampType};

/// For plugin authors: the crate whose `submit!` registers a plugin.
pub use inventory;
