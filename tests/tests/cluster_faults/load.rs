//! What clients do meanwhile: idempotent and transactional producers, a consumer group, and one who watches the ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_client::{
    Admin, Client, ClientConfig, ConsumerEvent, Delivery, GroupConsumer, NewTopic, OffsetAndMetadata,
    OffsetSpec, Producer, ProducerRecord, Subscription, TopicPartition,
};
use aqueduct_tests::random::Random;
use tokio::task::JoinHandle;

use crate::ledger::{Acknowledged, Ends, Found, Outcome, Series, Transaction, value};
use crate::reading::{Open, Topic, text};
use crate::shared::Shared;
use crate::witness::{self, Taken, Witness};

pub const PARTITIONS: i32 = 6;
const RECORDS: Topic = topic("records");
const TRANSACTIONS: Topic = topic("transactions");
/// What each node alone is asked to take.
pub const WITNESSES: Topic = topic("witnesses");
const PRODUCERS: u32 = 3;
const TRANSACTIONAL: u32 = 3;
const MEMBERS: usize = 3;

const fn topic(name: &'static str) -> Topic {
    Topic { name, partitions: PARTITIONS }
}

fn client(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Client> {
    let mut all = BTreeMap::from([("bootstrap.servers".to_owned(), bootstrap.to_owned())]);
    all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Ok(Client::new(ClientConfig::from_properties(&all)?.0))
}

/// Creates the topics, once the cluster lets it.
pub async fn create_topics(bootstrap: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let client = client(bootstrap, &[])?;
    let admin = Admin::new(client.clone());
    for topic in [RECORDS, TRANSACTIONS, WITNESSES] {
        let (topic, from) =
            (NewTopic::new(topic.name, PARTITIONS, 3).config("min.insync.replicas", "2"), Instant::now());
        // A node that has just started is not counted yet.
        while let Err(error) = admin.ensure_topic(&topic).await {
            anyhow::ensure!(from.elapsed() < LIMIT, "{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    client.close().await;
    Ok(())
}

/// Asks whether all replicas are in sync.
pub struct InSync(Client);

impl InSync {
    pub fn new(bootstrap: &str) -> Result<Self> {
        client(bootstrap, &[("default.api.timeout.ms", "2000"), ("request.timeout.ms", "1000")]).map(Self)
    }

    pub async fn ask(&self) -> bool {
        let topics =
            [RECORDS.name, TRANSACTIONS.name, WITNESSES.name, "__consumer_offsets", "__transaction_state"];
        let Ok(found) = Admin::new(self.0.clone()).describe_topics(&topics.map(Into::into)).await else {
            return false;
        };
        found.into_iter().all(|(_, topic)| {
            topic.is_ok_and(|topic| topic.partitions.iter().all(|partition| partition.isr.len() == 3))
        })
    }
}

/// What the load has seen so far.
#[derive(Clone, Default)]
pub struct Seen {
    pub acknowledged: Shared<Vec<Acknowledged>>,
    pub transactions: Shared<BTreeMap<Transaction, (Outcome, u32)>>,
    pub delivered: Shared<BTreeMap<i32, BTreeSet<i64>>>,
    pub ends: Shared<Ends>,
    pub taken: Shared<Vec<Taken>>,
    /// When a record was acknowledged last, and the longest time without.
    pub pauses: Shared<Pauses>,
}

#[derive(Debug, Default)]
pub struct Pauses {
    last: Option<Instant>,
    pub longest: Duration,
}

/// A pause that is worth a line.
const LONG: Duration = Duration::from_secs(5);

impl Pauses {
    fn acknowledged(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now - last);
            if now - last > LONG {
                println!("nothing was acknowledged for {:?} until now", now - last);
            }
        }
    }
}

/// The running load.
pub struct Load {
    bootstrap: String,
    pub seen: Seen,
    stop_writers: Arc<AtomicBool>,
    stop_readers: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<()>>>,
    readers: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Begins all of it; `nodes` are the addresses of each.
    pub fn start(bootstrap: &str, nodes: Vec<String>, seed: u64) -> Self {
        let (seen, stop_writers, stop_readers) =
            (Seen::default(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let own = || (bootstrap.to_owned(), seen.clone());
        let mut writers = Vec::new();
        for producer in 0..PRODUCERS {
            let ((bootstrap, seen), stop) = (own(), stop_writers.clone());
            writers.push(tokio::spawn(async move { write(&bootstrap, producer, &seen, &stop).await }));
        }
        for producer in 0..TRANSACTIONAL {
            let ((bootstrap, seen), stop) = (own(), stop_writers.clone());
            let random = Random::new(seed + u64::from(producer));
            writers.push(tokio::spawn(
                async move { transact(&bootstrap, producer, random, &seen, &stop).await },
            ));
        }
        for (node, address) in nodes.into_iter().enumerate() {
            let (taken, stop) = (seen.taken.clone(), stop_writers.clone());
            writers.push(tokio::spawn(async move { witness::ask(&address, node, &taken, &stop).await }));
        }
        let mut readers = Vec::new();
        for _ in 0..MEMBERS {
            let ((bootstrap, seen), stop) = (own(), stop_readers.clone());
            readers.push(tokio::spawn(async move { read(&bootstrap, &seen, &stop).await }));
        }
        let ((bootstrap_of_watch, watched), stop) = (own(), stop_readers.clone());
        readers.push(tokio::spawn(async move { watch(&bootstrap_of_watch, &watched, &stop).await }));
        Self { bootstrap: bootstrap.to_owned(), seen, stop_writers, stop_readers, writers, readers }
    }

    /// Ends the producers, each with its last record or transaction.
    pub async fn stop_writing(&mut self) -> Result<()> {
        self.stop_writers.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.await.context("a producer panicked")?.context("a producer")?;
        }
        Ok(())
    }

    /// Waits until the group has been given everything up to `ends`, then ends the readers.
    pub async fn drain(&mut self, logs: &BTreeMap<i32, Vec<Found>>, limit: Duration) -> Result<()> {
        let from = Instant::now();
        let is_drained = || {
            let delivered = self.seen.delivered.lock();
            logs.iter().all(|(partition, log)| {
                log.last().is_none_or(|last| {
                    delivered
                        .get(partition)
                        .and_then(BTreeSet::last)
                        .is_some_and(|given| *given >= last.offset)
                })
            })
        };
        while !is_drained() && from.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.stop_readers.store(true, Ordering::Relaxed);
        for reader in self.readers.drain(..) {
            reader.await.context("a reader panicked")?.context("a reader")?;
        }
        Ok(())
    }

    /// Opens clients that read.
    fn open(&self) -> impl Open {
        |settings: &[(&str, &str)]| client(&self.bootstrap, settings)
    }

    /// All records of the topic of idempotent producers, by partition.
    pub async fn records(&self) -> Result<BTreeMap<i32, Vec<Found>>> {
        RECORDS.records(self.open()).await
    }

    /// All records that nodes alone took, by partition.
    pub async fn witnesses(&self) -> Result<BTreeMap<i32, Vec<Witness>>> {
        let mut logs: BTreeMap<i32, Vec<Witness>> = BTreeMap::new();
        WITNESSES
            .read_all(self.open(), "read_uncommitted", |record| {
                if let Some((node, number)) = witness::parse(&text(&record)) {
                    let (offset, epoch) = (record.offset.0, record.leader_epoch.0);
                    let witness = Witness { offset, epoch, node, number };
                    logs.entry(record.partition.0).or_default().push(witness);
                }
            })
            .await?;
        Ok(logs)
    }

    /// What a reader of committed records sees of the transactions.
    pub async fn committed(&self) -> Result<Vec<(i32, Transaction, u32)>> {
        TRANSACTIONS.committed(self.open()).await
    }
}

/// A record under way.
struct Sent {
    series: Series,
    number: u64,
    delivery: Delivery,
}

/// Writes with an idempotent producer, and begins a new one whenever a record fails for good.
async fn write(bootstrap: &str, producer: u32, seen: &Seen, stop: &AtomicBool) -> Result<()> {
    const UNDER_WAY: usize = 400;
    for life in 0.. {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let client = client(
            bootstrap,
            &[
                ("acks", "all"),
                ("linger.ms", "2"),
                ("delivery.timeout.ms", "40000"),
                ("request.timeout.ms", "5000"),
            ],
        )?;
        let writer = Producer::new(client.clone());
        let mut numbers: HashMap<i32, u64> = HashMap::new();
        let mut under_way: std::collections::VecDeque<Sent> = std::collections::VecDeque::new();
        let mut partition = 0;
        let mut failed = false;
        while !(failed || stop.load(Ordering::Relaxed) && under_way.is_empty()) {
            if under_way.len() < UNDER_WAY && !stop.load(Ordering::Relaxed) {
                partition = (partition + 1) % PARTITIONS;
                let series = Series { producer, life, partition };
                let number = *numbers.entry(partition).or_default();
                let record =
                    ProducerRecord::new(RECORDS.name, value(series, number)).with_partition(partition);
                match writer.send(record).await {
                    Ok(delivery) => {
                        numbers.insert(partition, number + 1);
                        under_way.push_back(Sent { series, number, delivery });
                    }
                    Err(_) => failed = true,
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            while let Some(first) = under_way.front() {
                let Some(result) = first.delivery.try_result() else { break };
                let Some(Sent { series, number, .. }) = under_way.pop_front() else { break };
                match result {
                    Ok(written) => {
                        let offset = written.offset.0;
                        seen.acknowledged.lock().push(Acknowledged { series, number, offset });
                        seen.pauses.lock().acknowledged();
                    }
                    Err(_) => failed = true,
                }
            }
        }
        writer.abandon();
        client.close().await;
    }
    Ok(())
}

/// Writes transactions of one to five records, and gives up every fourth.
async fn transact(
    bootstrap: &str,
    producer: u32,
    mut random: Random,
    seen: &Seen,
    stop: &AtomicBool,
) -> Result<()> {
    let id = format!("transactions-{producer}");
    let settings = [
        ("transactional.id", &*id),
        ("transaction.timeout.ms", "10000"),
        ("delivery.timeout.ms", "8000"),
        ("request.timeout.ms", "4000"),
        ("max.block.ms", "8000"),
    ];
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let client = client(bootstrap, &settings)?;
        let writer = Producer::new(client.clone());
        if writer.init_transactions().await.is_ok() {
            while !stop.load(Ordering::Relaxed) {
                let transaction = Transaction { producer, number };
                number += 1;
                let (count, commit) = (1 + random.below(5) as u32, random.below(4) > 0);
                seen.transactions.lock().insert(transaction, (Outcome::Unknown, count));
                let ended = one_transaction(&writer, transaction, count, commit, &mut random).await;
                let Some(outcome) = ended else { break };
                seen.transactions.lock().insert(transaction, (outcome, count));
                tokio::time::sleep(Duration::from_millis(random.below(20))).await;
            }
        }
        writer.abandon();
        client.close().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// How it ended; `None` where that is not known.
async fn one_transaction(
    writer: &Producer,
    transaction: Transaction,
    count: u32,
    commit: bool,
    random: &mut Random,
) -> Option<Outcome> {
    writer.begin_transaction().ok()?;
    let mut sent = true;
    for place in 0..count {
        let value = format!("{} {} {place}", transaction.producer, transaction.number);
        let record = ProducerRecord::new(TRANSACTIONS.name, value)
            .with_partition(random.below(PARTITIONS as u64) as i32);
        match writer.send(record).await {
            Ok(delivery) => drop(delivery),
            Err(_) => sent = false,
        }
    }
    if commit && sent {
        return match writer.commit_transaction().await {
            Ok(()) => Some(Outcome::Committed),
            // It may have come about.
            Err(_) => None,
        };
    }
    writer.abort_transaction().await.ok().map(|()| Outcome::Aborted)
}

/// A member of the group: notes what it is given, commits now and then.
async fn read(bootstrap: &str, seen: &Seen, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let settings = [
            ("group.id", "readers"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "1000"),
            ("default.api.timeout.ms", "8000"),
        ];
        let client = client(bootstrap, &settings)?;
        let topics = Subscription::Topics(vec![RECORDS.name.into()]);
        let mut consumer = GroupConsumer::new(client.clone(), topics)?;
        let mut committed = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            match consumer.poll(Duration::from_millis(200)).await {
                Ok(ConsumerEvent::Records(records)) => {
                    let mut delivered = seen.delivered.lock();
                    for record in records {
                        delivered.entry(record.partition.0).or_default().insert(record.offset.0);
                    }
                }
                Ok(_) => {}
                Err(error) if error.is_retriable() => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(_) => break,
            }
            if committed.elapsed() > Duration::from_millis(700) {
                committed = Instant::now();
                let owned = consumer.assignment();
                let at = |partition: TopicPartition| {
                    let offset = consumer.position(&partition)?;
                    Some((partition, OffsetAndMetadata::from(offset)))
                };
                let positions: HashMap<_, _> = owned.into_iter().filter_map(at).collect();
                if !positions.is_empty() {
                    let _ = consumer.commit(positions).await;
                }
            }
        }
        let _ = tokio::time::timeout(Duration::from_secs(10), consumer.close()).await;
        client.close().await;
    }
    Ok(())
}

/// Looks at the ends of all partitions, again and again.
async fn watch(bootstrap: &str, seen: &Seen, stop: &AtomicBool) -> Result<()> {
    let client = client(bootstrap, &[("default.api.timeout.ms", "3000"), ("request.timeout.ms", "2000")])?;
    let admin = Admin::new(client.clone());
    let wanted: HashMap<TopicPartition, OffsetSpec> =
        RECORDS.partitions().map(|partition| (partition, OffsetSpec::Latest)).collect();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(found) = admin.list_offsets(&wanted).await {
            let mut ends = seen.ends.lock();
            for (partition, listed) in found {
                if let Ok(listed) = listed {
                    ends.note(partition.partition.0, listed.offset.0);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.close().await;
    Ok(())
}
