//! Configuration: the tables that define every key, the properties file, and the typed settings read from both.

mod access;
pub mod broker_keys;
mod cleaner;
pub mod client_metrics_keys;
pub mod definition;
pub mod dynamic;
pub mod group_keys;
mod known_keys;
mod listeners;
mod live;
mod properties;
mod roles;
mod security_keys;
mod settings;
mod throttled;
pub mod topic_keys;

pub use cleaner::CleanerSettings;
pub use definition::{ConfigError, Key, Kind, Scope};
pub use listeners::{Listener, Listeners, SecurityProtocol};
pub use live::{LiveSettings, Reconfigurable};
pub use properties::Properties;
pub use roles::{Address, ClusterSettings};
pub use settings::{GroupSettings, ReplicationSettings, Settings, TransactionSettings};
pub use throttled::Throttled;
pub use topic_keys::TopicConfig;
