//! What the handlers of one node share.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Settings;
use crate::metadata::MetadataBackend;
use crate::tasks::Tasks;

/// One running node. Services are cheap handles; a component takes clones of those that it needs.
pub(crate) struct Node {
    pub settings: Arc<Settings>,
    pub metadata: Arc<dyn MetadataBackend>,
    pub clock: Clock,
    pub tasks: Tasks,
}
