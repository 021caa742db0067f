//! What handlers ask before they do anything.

use super::Context;
use crate::security::{CLUSTER_NAME, Operation, ResourceType};

impl Context {
    /// Whether the client may do `operation` to the resource of that type and name. What is denied is logged.
    pub fn allows(&self, operation: Operation, resource: ResourceType, name: &str) -> bool {
        let authorizer = &self.node.authorizer;
        !authorizer.is_enabled()
            || authorizer.allows(&self.node.metadata.image().acls, &self.client, operation, resource, name)
    }

    /// As [`Context::allows`], but nothing is logged: for what a client did not name, or may do on another ground.
    pub fn would_allow(&self, operation: Operation, resource: ResourceType, name: &str) -> bool {
        let authorizer = &self.node.authorizer;
        let image = self.node.metadata.image();
        authorizer.would_allow(&image.acls, &self.client, operation, resource, name)
    }

    /// Whether the client may do `operation` to the cluster as a whole.
    pub fn allows_cluster(&self, operation: Operation) -> bool {
        self.allows(operation, ResourceType::Cluster, CLUSTER_NAME)
    }

    /// As [`Context::allows_cluster`], but nothing is logged.
    pub fn would_allow_cluster(&self, operation: Operation) -> bool {
        self.would_allow(operation, ResourceType::Cluster, CLUSTER_NAME)
    }

    pub fn allows_topic(&self, operation: Operation, name: &str) -> bool {
        self.allows(operation, ResourceType::Topic, name)
    }

    pub fn allows_group(&self, operation: Operation, name: &str) -> bool {
        self.allows(operation, ResourceType::Group, name)
    }

    /// Whether the client may do `operation` to some resource of the type.
    pub fn allows_any(&self, operation: Operation, resource: ResourceType) -> bool {
        let image = self.node.metadata.image();
        self.node.authorizer.allows_any(&image.acls, &self.client, operation, resource)
    }

    /// Everything that the client may do to a resource, as the bits of the wire.
    pub fn authorized_operations(&self, resource: ResourceType, name: &str) -> i32 {
        let allowed = resource.operations().iter().filter(|asked| self.would_allow(**asked, resource, name));
        allowed.fold(0, |bits, operation| bits | operation.bit())
    }

    /// Everything that the client may do to the cluster: nothing, where it may not even see it.
    pub fn authorized_cluster_operations(&self) -> i32 {
        match self.allows_cluster(Operation::Describe) {
            true => self.authorized_operations(ResourceType::Cluster, CLUSTER_NAME),
            false => 0,
        }
    }
}
