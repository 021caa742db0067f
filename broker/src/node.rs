//! What the handlers of one node share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use bytestring::ByteString;

use crate::api::own;
use crate::clock::Clock;
use crate::config::{LiveSettings, Settings};
use crate::coordinator::{Coordinator, TransactionCoordinator};
use crate::fetch::sessions::Sessions;
use crate::loggers::Loggers;
use crate::membership::Member;
use crate::metadata::{
    Command, EffectiveConfig, MetadataBackend, MetadataError, MetadataImage, Placement, is_internal,
};
use crate::metrics::Metrics;
use crate::network::Limits;
use crate::partitions::Partitions;
use crate::peers::Peers;
use crate::quotas::Usage;
use crate::security::Authorizer;
use crate::tasks::Tasks;

/// The topic that holds committed offsets and group state.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that holds the state of transactions.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// How long a request waits for the topics that are created for it; its client asks again.
const CREATION: Duration = Duration::from_secs(5);

/// One running node. Services are cheap handles; a component takes clones of those that it needs.
pub(crate) struct Node {
    /// As the file says.
    pub settings: Arc<Settings>,
    /// As they are in force, with what was set at run time.
    pub live: Arc<LiveSettings>,
    pub loggers: Loggers,
    pub metadata: Arc<dyn MetadataBackend>,
    /// This node's part in a cluster of several nodes; `None` where it is one by itself.
    pub member: Option<Arc<Member>>,
    /// The other brokers.
    pub peers: Peers,
    pub partitions: Arc<Partitions>,
    pub groups: Coordinator,
    pub fetch_sessions: Sessions,
    pub transactions: TransactionCoordinator,
    pub authorizer: Authorizer,
    pub usage: Arc<Usage>,
    pub limits: Arc<Limits>,
    pub metrics: Metrics,
    pub clock: Clock,
    pub tasks: Tasks,
}

impl Node {
    /// Whether a listener is one of controllers, where other APIs are served than on those for clients.
    pub fn is_of_controllers(&self, listener: &str) -> bool {
        self.member.is_some() && self.settings.listeners.controllers.iter().any(|own| own.name == listener)
    }

    /// Whether other nodes reach this one by a listener, for what only nodes say to each other.
    pub fn is_of_members(&self, listener: &str) -> bool {
        match &self.member {
            Some(member) if member.settings().is_controller => self.is_of_controllers(listener),
            Some(_) => self.settings.listeners.inter_broker == listener,
            None => false,
        }
    }

    /// Looks up which config value counts, in `image` and in this broker's file.
    pub fn effective<'a>(&'a self, image: &'a MetadataImage) -> EffectiveConfig<'a> {
        EffectiveConfig { image, broker: self.settings.node_id, file: &self.settings.properties }
    }

    /// Creates topics that were asked for and are missing, with the broker's defaults or, for internal ones, their own
    /// settings. What fails is logged: the client finds the topic missing still, and asks again.
    pub async fn create_missing_topics(&self, names: &[&str]) {
        let commands = names.iter().map(|name| self.creation(name)).collect();
        let submitted = tokio::time::timeout(CREATION, self.metadata.submit(commands));
        let Ok(outcomes) = submitted.await else {
            tracing::warn!(topics = ?names, "nobody has decided on topics that are missing");
            return;
        };
        for (name, outcome) in names.iter().zip(outcomes) {
            match outcome {
                Ok(_) => tracing::info!(topic = name, "topic created on demand"),
                // Another client asked for it at the same moment.
                Err(MetadataError::Rejected(rejection))
                    if rejection.code == ErrorCode::TopicAlreadyExists => {}
                Err(error) => tracing::warn!(topic = name, %error, "topic was not created on demand"),
            }
        }
    }

    fn creation(&self, name: &str) -> Command {
        let settings = &self.settings;
        let (mut partitions, mut replication_factor) =
            (settings.num_partitions, settings.default_replication_factor);
        let mut configs = BTreeMap::new();
        if is_internal(name) {
            let mut set = |key: &'static str, value: &str| {
                configs.insert(ByteString::from_static(key), own(value));
            };
            set("cleanup.policy", "compact");
            set("compression.type", "producer");
            // Kafka's default of 3 suits a cluster, which waits for its brokers; a node alone holds one replica.
            let most = most_replicas(&self.metadata.image());
            if name == TRANSACTIONS_TOPIC {
                let transactions = &settings.transactions;
                partitions = transactions.partitions;
                replication_factor = transactions.replication_factor.min(most);
                set("segment.bytes", &transactions.segment_bytes.to_string());
                let min_isr = transactions.min_isr.min(replication_factor.into());
                set("min.insync.replicas", &min_isr.to_string());
                set("compression.type", "uncompressed");
                set("unclean.leader.election.enable", "false");
            } else {
                set("segment.bytes", &settings.groups.offsets_segment_bytes.to_string());
            }
            if name == OFFSETS_TOPIC {
                partitions = settings.groups.offsets_partitions;
                replication_factor = settings.groups.offsets_replication_factor.min(most);
            }
        }
        Command::CreateTopic {
            name: own(name),
            id: random_uuid(),
            partitions: Placement::Count { partitions, replication_factor },
            configs,
        }
    }
}

/// How many replicas an internal topic may have. In a cluster the setting counts: were the topic created with fewer while
/// brokers are still starting, it would stay so.
fn most_replicas(image: &MetadataImage) -> i16 {
    match image.is_controlled() {
        true => i16::MAX,
        false => (image.brokers.len() as i16).max(1),
    }
}

/// A new identity, of the kind that Kafka gives topics: random, and its text never begins with a dash.
pub fn random_uuid() -> Uuid {
    loop {
        let mut id: [u8; 16] = rand::random();
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        let id = Uuid(id);
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}
