//! Who may do what: principals, operations and resources in Kafka's terms, and the authorizer that decides.

mod acl;
mod acl_set;
mod audit;
mod authorizer;
mod listener;
mod operation;
mod principal;
mod resource;
pub(crate) mod sasl;

pub use acl::{Acl, AclFilter, PatternFilter, PatternType, Permission};
pub use acl_set::{AclSet, Asked, Verdict};
pub(crate) use authorizer::Authorizer;
pub use authorizer::AuthorizerSettings;
pub(crate) use listener::{ListenerSecurity, ListenerSettings, Setup};
pub use operation::Operation;
pub use principal::Principal;
pub use resource::ResourceType;

/// The name of the one resource of type [`ResourceType::Cluster`].
pub const CLUSTER_NAME: &str = "kafka-cluster";
