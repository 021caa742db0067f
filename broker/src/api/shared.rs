//! What several APIs need.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use bytestring::ByteString;

use super::Context;
use crate::config::group_keys;
use crate::controller::{Controller, ControllerSettings, Reply, Request};
use crate::metadata::{
    Command, ConfigOp, MetadataError, MetadataImage, Outcome, Rejection, Resource, decide,
};
use crate::node::Node;
use crate::partition::Partition;
use crate::security::Operation;

/// Stands for "authorized operations were not asked for".
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// A copy that does not keep the request's buffer alive; for everything that outlives the request.
pub(crate) fn own(text: &str) -> ByteString {
    ByteString::from(text.to_owned())
}

/// Code and message of a failed command.
pub(super) fn failure(error: MetadataError) -> (ErrorCode, String) {
    match error {
        MetadataError::Rejected(Rejection { code, message }) => (code, message),
        MetadataError::NotController { .. } => (ErrorCode::NotController, error.to_string()),
        MetadataError::NoController { .. } => (ErrorCode::RequestTimedOut, error.to_string()),
        MetadataError::Stopping => (ErrorCode::BrokerNotAvailable, error.to_string()),
        _ => (ErrorCode::KafkaStorageError, error.to_string()),
    }
}

/// Where a leader is that a client is sent to.
pub(super) struct LeaderEndpoint {
    pub id: BrokerId,
    pub host: ByteString,
    pub port: i32,
    pub rack: Option<ByteString>,
}

/// Where leaders are, as the client's listener reaches them; each once.
pub(super) fn leader_endpoints(
    context: &Context,
    leaders: impl Iterator<Item = BrokerId>,
) -> Vec<LeaderEndpoint> {
    let leaders: BTreeSet<BrokerId> = leaders.collect();
    if leaders.is_empty() {
        return Vec::new();
    }
    let image = context.node.metadata.image();
    let endpoint = |id: BrokerId| {
        let broker = image.brokers.get(&id)?;
        let at = broker.endpoint(&context.client.listener)?;
        let (host, port) = (at.host.clone(), i32::from(at.port));
        Some(LeaderEndpoint { id, host, port, rack: broker.rack.clone() })
    };
    leaders.into_iter().filter_map(endpoint).collect()
}

/// Compares the leader epoch that a client believes in with the partition's; -1 is not compared.
pub(super) fn check_leader_epoch(partition: &Partition, believed: i32) -> Result<(), ErrorCode> {
    match believed.cmp(&partition.leader_epoch().0) {
        _ if believed == -1 => Ok(()),
        Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
        Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
        Ordering::Equal => Ok(()),
    }
}

/// Kinds of resources that have configurations, as the wire numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceType {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
    Unknown,
}

impl ResourceType {
    pub fn from_code(code: i8) -> Self {
        match code {
            2 => Self::Topic,
            4 => Self::Broker,
            8 => Self::BrokerLogger,
            16 => Self::ClientMetrics,
            32 => Self::Group,
            _ => Self::Unknown,
        }
    }
}

/// The broker that a resource name stands for: empty for all, otherwise the id of this one.
pub(super) fn broker_resource(name: &str, own: BrokerId) -> Result<Resource, Rejection> {
    if name.is_empty() {
        return Ok(Resource::Broker(None));
    }
    match name.parse::<i32>() {
        Ok(id) if id == own.0 => Ok(Resource::Broker(Some(own))),
        Ok(id) => Err(Rejection::new(
            ErrorCode::InvalidRequest,
            format!("Unexpected broker id, expected {own} or empty string, but received {id}"),
        )),
        Err(_) => Err(Rejection::new(
            ErrorCode::InvalidRequest,
            format!("Broker id must be an integer, but it is: {name}"),
        )),
    }
}

/// A resource whose configuration may be changed.
pub(super) fn alterable_resource(context: &Context, code: i8, name: &str) -> Result<Resource, Rejection> {
    match ResourceType::from_code(code) {
        ResourceType::Topic if name.is_empty() => {
            Err(Rejection::new(ErrorCode::InvalidRequest, "Default topic resources are not allowed."))
        }
        ResourceType::Topic => Ok(Resource::Topic(own(name))),
        ResourceType::Broker => broker_resource(name, context.node.settings.node_id),
        ResourceType::Group if name.is_empty() => {
            Err(Rejection::new(ErrorCode::InvalidRequest, "Default group resources are not allowed."))
        }
        ResourceType::Group => Ok(Resource::Group(own(name))),
        ResourceType::ClientMetrics if name.is_empty() => {
            Err(Rejection::new(ErrorCode::InvalidRequest, "Subscription name can't be empty"))
        }
        ResourceType::ClientMetrics => Ok(Resource::ClientMetrics(own(name))),
        _ => Err(Rejection::new(ErrorCode::InvalidRequest, format!("Unexpected resource type {code}"))),
    }
}

/// Whether the client may read or change the configuration of a resource, by `operation`. Types that nobody can
/// configure are not a matter of permission.
pub(super) fn may_use_config(
    context: &Context,
    operation: Operation,
    code: i8,
    name: &str,
) -> Result<(), Rejection> {
    use ResourceType::*;
    let (allowed, denial) = match ResourceType::from_code(code) {
        Topic => (context.allows_topic(operation, name), ErrorCode::TopicAuthorizationFailed),
        Group => (context.allows_group(operation, name), ErrorCode::GroupAuthorizationFailed),
        Broker | BrokerLogger | ClientMetrics => {
            (context.allows_cluster(operation), ErrorCode::ClusterAuthorizationFailed)
        }
        Unknown => (true, ErrorCode::None),
    };
    if allowed { Ok(()) } else { Err(Rejection::new(denial, denial.message())) }
}

/// Carries out one command, or only finds out whether it could be.
pub(super) async fn apply(context: &Context, command: Command, validate_only: bool) -> Result<(), Rejection> {
    let metadata = &context.node.metadata;
    check_in_force(&context.node, &command)?;
    if validate_only {
        return check(&metadata.image(), &command).map(drop);
    }
    match metadata.submit(vec![command]).await.pop() {
        Some(Err(error)) => {
            let (code, message) = failure(error);
            Err(Rejection::new(code, message))
        }
        _ => {
            context.node.live.refresh(&metadata.image());
            context.node.partitions.apply_configs(&metadata.image());
            Ok(())
        }
    }
}

/// What would come of a command, by the rules of whoever decides on it.
pub(super) fn check(image: &MetadataImage, command: &Command) -> Result<Outcome, Rejection> {
    if !image.is_controlled() {
        return decide(image, command).map(|(_, outcome)| outcome);
    }
    let mut controller = Controller::new(image.clone(), ControllerSettings::default(), 0);
    match controller.handle(0, Request::Command(command.clone())).1? {
        Reply::Command(outcome) => Ok(outcome),
        _ => Ok(Outcome::Done),
    }
}

/// Finds out whether this broker can work with what a command would set for it, or allows it for a group.
fn check_in_force(node: &Node, command: &Command) -> Result<(), Rejection> {
    let (Command::AlterConfig { resource, .. } | Command::ReplaceConfig { resource, .. }) = command else {
        return Ok(());
    };
    if !matches!(resource, Resource::Broker(_) | Resource::Group(_)) {
        return Ok(());
    }
    let mut image = MetadataImage::clone(&node.metadata.image());
    let (records, _) = decide(&image, command)?;
    records.iter().for_each(|record| image.apply(record));
    let checked = match resource {
        Resource::Group(_) => match image.config(resource) {
            Some(values) => {
                let effective = node.effective(&image);
                let code = ErrorCode::InvalidConfig;
                group_keys::validate_bounds(values, |key| effective.broker_value(key)?.trim().parse().ok())
                    .map_err(|error| (code, error))
            }
            None => Ok(()),
        },
        _ => node.live.check(&image).map(drop).map_err(|error| (ErrorCode::InvalidRequest, error)),
    };
    checked.map_err(|(code, error)| Rejection::new(code, error.to_string()))
}

/// What an API that alters configs is asked to change.
pub(super) enum Change {
    Metadata(Command),
    /// Levels of logging of this process.
    Loggers(Vec<(ByteString, ConfigOp)>),
}

/// Carries out one change of configs after the other, each of a resource of its own, and gives the code and the text for
/// each, in order. A resource that is named twice is refused wherever it stands.
pub(super) async fn alter_each<R>(
    context: &Context,
    asked: &[R],
    validate_only: bool,
    identity: impl Fn(&R) -> (i8, ByteString),
    command: impl Fn(&Context, &R) -> Result<Change, Rejection>,
) -> Vec<(i16, Option<ByteString>)> {
    let mut named = HashMap::with_capacity(asked.len());
    for resource in asked {
        *named.entry(identity(resource)).or_insert(0) += 1;
    }
    let mut results = Vec::with_capacity(asked.len());
    for resource in asked {
        let decided = match named.get(&identity(resource)) {
            Some(1) => {
                let (kind, name) = identity(resource);
                may_use_config(context, Operation::AlterConfigs, kind, &name)
                    .and_then(|()| command(context, resource))
            }
            _ => Err(Rejection::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")),
        };
        let done = match decided {
            Ok(Change::Metadata(command)) => apply(context, command, validate_only).await,
            Ok(Change::Loggers(ops)) => context.node.loggers.alter(&ops, validate_only),
            Err(rejection) => Err(rejection),
        };
        results.push(match done {
            Ok(()) => (ErrorCode::None.code(), None),
            Err(rejection) => (rejection.code.code(), Some(rejection.message.into())),
        });
    }
    results
}
