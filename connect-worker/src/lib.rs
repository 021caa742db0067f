//! The Connect worker: herder, group membership, stores, task runners, converters, transforms.
//!
//! [`Worker::start`] runs one inside this process and gives a [`Handle`]; its [`Herder`] answers everything that the REST
//! API offers.
//!
//! ```text
//! Group (rounds of the group) ──events──► Driver ──► ConnectorHandle, TaskHandle (one tokio task each)
//!                                          ▲  │
//!            Herder (handle) ──requests────┘  └──► ConfigStore, StatusStore, OffsetsStore ──► three topics
//! ```
//! Decisions are pure and apart: [`membership`] shares out, `herder::core` says what to start and stop, `config_state`,
//! `status` and `offsets` say what the topics mean.

mod clock;
pub mod config;
mod config_state;
mod connector_runner;
pub mod converters;
pub mod decoders;
pub mod entities;
mod error;
mod group;
mod headers;
mod herder;
mod ids;
pub mod internal;
pub mod membership;
mod metrics;
mod offsets;
pub mod predicates;
mod status;
mod store;
mod task;
pub mod transforms;
mod values;
mod worker;

pub use aqueduct_connect_api::ConfigMap;
pub use config::{Mode, WorkerConfig, parse_properties};
pub use error::{Error, Result};
pub use herder::{ConfigInfo, ConfigInfos, Health, Herder, NewConnector};
pub use herder::{
    Detail, ExplainedError, ExplainedLag, ExplainedStuck, Explanation, PerSecond, TaskExplanation,
};
pub use ids::{ConnectorName, RunState, TargetState, TaskId};
pub use metrics::{
    Calls, Coordination, NamedPlugin, Rebalances, Startups, TaskCounters, TaskPlugins, TaskSample,
    WorkerMetrics,
};
pub use task::progress;
pub use worker::{Handle, Worker};
