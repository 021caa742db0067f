//! Finds the shard of a transactional id, and starts and ends shards as partitions come and go.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex, ProducerEpoch, ProducerId};
use aqueduct_storage::TopicPartition;

use super::effect::Reply;
use super::markers::MarkerWriter;
use super::producer_ids::ProducerIds;
use super::request::{End, Filter, Init};
use super::shard::{Shard, Surroundings};
use super::transaction::Place;
use super::{Described, Listed, TransactionOptions, TransactionalId, Transactions};
use crate::config::{Settings, TransactionSettings};
use crate::coordinator::ids::partition_of;
use crate::coordinator::reigns::{Reign, Reigns};
use crate::coordinator::shard::OpenLog;
use crate::metadata::MetadataImage;
use crate::node::TRANSACTIONS_TOPIC;
use crate::tasks::Tasks;

/// The transaction coordinator of one broker: the shards of the partitions of `__transaction_state` that it leads.
#[derive(Clone)]
pub(crate) struct TransactionCoordinator {
    shared: Arc<Shared>,
}

struct Shared {
    node_id: BrokerId,
    settings: TransactionSettings,
    around: Surroundings,
    reigns: Reigns<Shard>,
}

impl TransactionCoordinator {
    /// Begins to load what is on disk. Must be called within a tokio runtime.
    pub fn start(settings: &Settings, markers: MarkerWriter, ids: ProducerIds, tasks: Tasks) -> Self {
        let load_buffer = settings.transactions.load_buffer_bytes;
        let shared = Shared {
            node_id: settings.node_id,
            settings: settings.transactions.clone(),
            around: Surroundings { markers, ids, tasks, load_buffer },
            reigns: Reigns::default(),
        };
        let this = Self { shared: Arc::new(shared) };
        this.load(&this.shared.around.markers.metadata.image());
        let following = this.clone().follow_metadata();
        this.shared.around.tasks.spawn(following);
        this
    }

    /// Writes markers here on behalf of any coordinator.
    pub fn markers(&self) -> &MarkerWriter {
        &self.shared.around.markers
    }

    /// How long, and how often, a client's request waits for the end of the transaction before.
    pub(super) fn patience(&self) -> (Duration, Duration) {
        (self.shared.settings.add_retry_backoff, self.shared.settings.add_retry_limit)
    }

    /// Whether the first record of a transaction in a partition has to be verified.
    pub fn verifies(&self) -> bool {
        self.shared.settings.verify_partitions
    }

    /// The shard that coordinates an id. One whose partition nobody has used yet is started here.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`: another broker is, or nobody yet. The client asks FindCoordinator then.
    pub fn shard(&self, id: &str) -> Result<Shard, ErrorCode> {
        let image = self.shared.around.markers.metadata.image();
        let topic = image.topic(TRANSACTIONS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let index = partition_of(id, topic.partitions.len() as i32);
        self.lead(Reign::of(&image, TRANSACTIONS_TOPIC, index, self.shared.node_id)?)
    }

    /// The partition that an id belongs to.
    pub(super) fn seat(&self, id: &str) -> Place {
        let image = self.shared.around.markers.metadata.image();
        let count = image.topic(TRANSACTIONS_TOPIC).map_or(0, |topic| topic.partitions.len() as i32);
        (TRANSACTIONS_TOPIC.into(), partition_of(id, count))
    }

    /// The other broker that coordinates an id, `None` where this one does.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` where nobody does.
    pub(super) fn elsewhere(&self, id: &str) -> Result<Option<BrokerId>, ErrorCode> {
        let (topic, index) = self.seat(id);
        let image = self.shared.around.markers.metadata.image();
        let partition = image.topic(&topic).and_then(|topic| topic.partition(PartitionIndex(index)));
        match partition.map(|partition| partition.leader) {
            Some(leader) if leader == self.shared.node_id => Ok(None),
            Some(leader) if leader.0 >= 0 => Ok(Some(leader)),
            _ => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Gives a producer its id and epoch.
    pub async fn init(&self, mut init: Init) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
        loop {
            let (shard, asked) = (self.shard(init.id.as_str())?, init.clone());
            let reply = shard.ask(move |transactions, now, token| transactions.on_init(now, token, &asked));
            match reply.await? {
                Reply::Producer(id, epoch) => return Ok((id, epoch)),
                Reply::Code(code) => return Err(code),
                Reply::NeedsId => init.fresh = Some(self.fresh().await?),
            }
        }
    }

    /// Ends a transaction; gives the producer's id and epoch from then on.
    pub async fn end(&self, mut end: End) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
        loop {
            let (shard, asked) = (self.shard(end.who.id.as_str())?, end.clone());
            let reply = shard.ask(move |transactions, now, token| transactions.on_end(now, token, &asked));
            match reply.await? {
                Reply::Producer(id, epoch) => return Ok((id, epoch)),
                Reply::Code(code) => return Err(code),
                Reply::NeedsId => end.fresh = Some(self.fresh().await?),
            }
        }
    }

    /// A producer id that nobody has had.
    pub async fn fresh(&self) -> Result<ProducerId, ErrorCode> {
        self.shared.around.ids.next().await.map_err(|error| {
            tracing::warn!(%error, "no producer id can be given out");
            ErrorCode::CoordinatorLoadInProgress
        })
    }

    /// One transaction; `None` where the id is not known.
    pub async fn describe(&self, id: &str) -> Result<Option<Described>, ErrorCode> {
        let shard = self.shard(id)?;
        let id = TransactionalId::from(id);
        shard.look(move |transactions| transactions.describe(&id)).await
    }

    /// The transactions that this broker coordinates.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while some are still being read.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Listed>, ErrorCode> {
        let now_ms = self.shared.around.markers.clock.now_ms();
        let mut listed = Vec::new();
        for shard in self.shared.reigns.shards() {
            let filter = filter.clone();
            match shard.look(move |transactions| transactions.list(now_ms, &filter)).await {
                Ok(found) => listed.extend(found),
                Err(ErrorCode::NotCoordinator) => {}
                Err(code) => return Err(code),
            }
        }
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    fn lead(&self, reign: Reign) -> Result<Shard, ErrorCode> {
        let begin = |end| {
            let partitions = self.shared.around.markers.partitions.clone();
            let open: OpenLog = Box::new(move || {
                let partitions = partitions.clone();
                Box::pin(
                    async move { partitions.state_log(TRANSACTIONS_TOPIC, reign.index, reign.epoch).await },
                )
            });
            let options = options(&self.shared.settings);
            let begin = move || Transactions::new(options.clone(), reign.epoch.0);
            Shard::start(reign.index, open, !self.is_on_disk(reign), begin, end, self.shared.around.clone())
        };
        self.shared.reigns.hold(reign, begin)
    }

    fn is_on_disk(&self, reign: Reign) -> bool {
        let partition = TopicPartition::new(TRANSACTIONS_TOPIC, reign.index);
        self.shared.around.markers.partitions.directories().has(reign.topic, &partition)
    }

    /// Starts the shards whose partitions have something on disk: outcomes that were decided are carried through. The
    /// others are empty, and cost nothing until they are asked.
    fn load(&self, image: &MetadataImage) {
        for reign in Reign::all(image, TRANSACTIONS_TOPIC, self.shared.node_id) {
            if !self.shared.reigns.has(reign) && self.is_on_disk(reign) {
                // A later reign has its shard already.
                let _ = self.lead(reign);
            }
        }
    }

    /// Takes over partitions that this broker has come to lead, and gives up those that it leads no more.
    async fn follow_metadata(self) {
        let mut images = self.shared.around.markers.metadata.watch();
        let tasks = self.shared.around.tasks.clone();
        loop {
            tokio::select! {
                changed = images.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tasks.stopping() => return,
            }
            let image = images.borrow_and_update().clone();
            self.shared.reigns.keep_only(&image, self.shared.node_id);
            self.load(&image);
        }
    }
}

fn options(settings: &TransactionSettings) -> TransactionOptions {
    TransactionOptions {
        max_timeout_ms: settings.max_timeout_ms,
        id_expiration_ms: settings.id_expiration_ms,
        timeout_check_interval_ms: settings.timeout_check_interval.as_millis() as i64,
        expiry_check_interval_ms: settings.expiry_check_interval.as_millis() as i64,
        ..TransactionOptions::default()
    }
}
