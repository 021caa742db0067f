//! What clients do meanwhile: idempotent and transactional producers, a consumer group, and one who watches the ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use aqueduct_client::{
    Admin, Client, ClientConfig, ConsumerEvent, Delivery, GroupConsumer, NewTopic, OffsetAndMetadata,
    OffsetSpec, Producer, ProducerRecord, Subscription, TopicPartition,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::{Acknowledged, Ends, Found, Outcome, Series, Transaction, value};
use crate::random::Random;
use crate::reading::Topic;

pub const PARTITIONS: i32 = 3;
const RECORDS: Topic = Topic { name: "records", partitions: PARTITIONS };
const TRANSACTIONS: Topic = Topic { name: "transactions", partitions: PARTITIONS };
pub const GROUP: &str = "readers";
pub const PRODUCERS: u32 = 2;
pub const TRANSACTIONAL: u32 = 1;
pub const MEMBERS: u32 = 2;

fn client(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Client> {
    let mut all = BTreeMap::from([
        ("bootstrap.servers".to_owned(), bootstrap.to_owned()),
        ("request.timeout.ms".to_owned(), "1500".to_owned()),
        ("retry.backoff.max.ms".to_owned(), "300".to_owned()),
        ("reconnect.backoff.max.ms".to_owned(), "300".to_owned()),
        ("socket.connection.setup.timeout.ms".to_owned(), "1000".to_owned()),
    ]);
    all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Ok(Client::new(ClientConfig::from_properties(&all)?.0))
}

/// What the load has seen so far.
#[derive(Default)]
pub struct Seen {
    pub acknowledged: Vec<Acknowledged>,
    pub transactions: BTreeMap<Transaction, (Outcome, u32)>,
    pub delivered: BTreeMap<i32, BTreeSet<i64>>,
    pub ends: Ends,
    /// By partition: what the group has committed for certain, as its members know.
    pub committed: BTreeMap<i32, i64>,
    /// How often a member was told an offset from before what was committed.
    pub past_offsets: u32,
    pub wrong: Vec<String>,
    pub has_topics: bool,
    pub writers_stop: bool,
    pub readers_stop: bool,
    pub writers_left: u32,
    pub readers_left: u32,
    /// What the logs hold at the end.
    pub found: Option<Logs>,
}

/// The logs as they are at the end.
pub struct Logs {
    pub records: BTreeMap<i32, Vec<Found>>,
    pub transactions: Vec<(i32, Transaction, u32)>,
}

/// Clones share it.
pub type Shared = Arc<Mutex<Seen>>;

/// Creates the topics, once the cluster lets it.
pub async fn create_topics(bootstrap: String, seen: Shared) {
    while let Err(error) = try_create(&bootstrap).await {
        tracing::debug!(%error, "topics are not created yet");
        sleep(Duration::from_millis(100)).await;
    }
    seen.lock().has_topics = true;
}

async fn try_create(bootstrap: &str) -> Result<()> {
    let client = client(bootstrap, &[])?;
    let admin = Admin::new(client.clone());
    for topic in [RECORDS, TRANSACTIONS] {
        // Brokers whose clocks are set back would refuse records as being of the future.
        let topic = NewTopic::new(topic.name, PARTITIONS, 3)
            .config("min.insync.replicas", "2")
            .config("message.timestamp.after.max.ms", "9223372036854775807");
        admin.ensure_topic(&topic).await?;
    }
    // So that their own topics are there before anything goes wrong.
    let settings = [("transactional.id", "transactions-0")];
    let writer = Producer::new(self::client(bootstrap, &settings)?);
    writer.init_transactions().await?;
    writer.abandon();
    admin.list_consumer_group_offsets(GROUP).await?;
    client.close().await;
    Ok(())
}

/// A record under way.
struct Sent {
    series: Series,
    number: u64,
    delivery: Delivery,
}

/// Writes with an idempotent producer, and begins a new one whenever a record fails for good.
pub async fn write(bootstrap: String, producer: u32, mut random: Random, seen: Shared) {
    for life in 0.. {
        if seen.lock().writers_stop {
            break;
        }
        if let Err(error) = write_life(&bootstrap, producer, life, &mut random, &seen).await {
            seen.lock().wrong.push(format!("producer {producer}: {error}"));
            break;
        }
    }
    seen.lock().writers_left -= 1;
}

async fn write_life(
    bootstrap: &str,
    producer: u32,
    life: u32,
    random: &mut Random,
    seen: &Shared,
) -> Result<()> {
    const UNDER_WAY: usize = 40;
    let settings = [("acks", "all"), ("linger.ms", "2"), ("delivery.timeout.ms", "20000")];
    let client = client(bootstrap, &settings)?;
    let writer = Producer::new(client.clone());
    let mut numbers: HashMap<i32, u64> = HashMap::new();
    let mut under_way: VecDeque<Sent> = VecDeque::new();
    let mut failed = false;
    while !failed {
        let stop = seen.lock().writers_stop;
        if stop && under_way.is_empty() {
            break;
        }
        if under_way.len() < UNDER_WAY && !stop {
            for _ in 0..random.within(1, 4) {
                let partition = random.below(PARTITIONS as u64) as i32;
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
        }
        sleep(Duration::from_millis(random.within(10, 120))).await;
        while let Some(first) = under_way.front() {
            let Some(result) = first.delivery.try_result() else { break };
            let Some(Sent { series, number, .. }) = under_way.pop_front() else { break };
            match result {
                Ok(written) => {
                    let offset = written.offset.0;
                    seen.lock().acknowledged.push(Acknowledged { series, number, offset });
                }
                Err(error) => {
                    tracing::debug!(%error, producer, "a record failed");
                    failed = true;
                }
            }
        }
    }
    writer.abandon();
    client.close().await;
    Ok(())
}

/// Writes transactions of one to five records, and gives up every fourth.
pub async fn transact(bootstrap: String, producer: u32, mut random: Random, seen: Shared) {
    let id = format!("transactions-{producer}");
    let settings = [
        ("transactional.id", &*id),
        ("transaction.timeout.ms", "3000"),
        ("delivery.timeout.ms", "2900"),
        ("linger.ms", "0"),
        ("max.block.ms", "4000"),
    ];
    let mut number = 0;
    while !seen.lock().writers_stop {
        let Ok(client) = client(&bootstrap, &settings) else { break };
        let writer = Producer::new(client.clone());
        if writer.init_transactions().await.is_ok() {
            while !seen.lock().writers_stop {
                let transaction = Transaction { producer, number };
                number += 1;
                let (count, commit) = (random.within(1, 5) as u32, random.chance(75));
                seen.lock().transactions.insert(transaction, (Outcome::Unknown, count));
                let ended = one_transaction(&writer, transaction, count, commit, &mut random).await;
                let Some(outcome) = ended else { break };
                seen.lock().transactions.insert(transaction, (outcome, count));
                sleep(Duration::from_millis(random.within(20, 150))).await;
            }
        }
        writer.abandon();
        client.close().await;
        sleep(Duration::from_millis(100)).await;
    }
    seen.lock().writers_left -= 1;
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
        let partition = random.below(PARTITIONS as u64) as i32;
        let record = ProducerRecord::new(TRANSACTIONS.name, value).with_partition(partition);
        sent &= writer.send(record).await.is_ok();
    }
    if commit && sent {
        // Where it fails it may have come about.
        return writer.commit_transaction().await.ok().map(|()| Outcome::Committed);
    }
    writer.abort_transaction().await.ok().map(|()| Outcome::Aborted)
}

/// A member of the group: notes what it is given, commits now and then.
pub async fn read(bootstrap: String, seen: Shared) {
    let settings = [
        ("group.id", GROUP),
        ("auto.offset.reset", "earliest"),
        ("session.timeout.ms", "2000"),
        ("heartbeat.interval.ms", "300"),
        ("rebalance.timeout.ms", "3000"),
        ("max.poll.interval.ms", "4000"),
        ("default.api.timeout.ms", "4000"),
    ];
    while !seen.lock().readers_stop {
        let Ok(client) = client(&bootstrap, &settings) else { break };
        let topics = Subscription::Topics(vec![RECORDS.name.into()]);
        let Ok(mut consumer) = GroupConsumer::new(client.clone(), topics) else { break };
        let mut committed = Instant::now();
        while !seen.lock().readers_stop {
            match consumer.poll(Duration::from_millis(100)).await {
                Ok(ConsumerEvent::Records(records)) => {
                    let mut seen = seen.lock();
                    for record in records {
                        seen.delivered.entry(record.partition.0).or_default().insert(record.offset.0);
                    }
                }
                Ok(ConsumerEvent::Assigned(new)) => note_start(&client, &new, &seen).await,
                Ok(_) => {}
                Err(error) if error.is_retriable() => sleep(Duration::from_millis(50)).await,
                Err(_) => break,
            }
            if committed.elapsed() > Duration::from_millis(300) {
                committed = Instant::now();
                let positions = positions(&consumer);
                let commit = consumer.commit(positions.clone());
                if !positions.is_empty() && commit.await.is_ok() {
                    note_committed(&positions, &seen);
                }
            }
        }
        let _ = timeout(Duration::from_secs(5), consumer.close()).await;
        client.close().await;
    }
    seen.lock().readers_left -= 1;
}

/// Counts offsets that are behind what was committed for certain.
///
/// It is no fault by itself: a coordinator that is cut off from the others answers from what it knew until it hears that
/// it has been replaced, as Apache Kafka's does, and its members are given records again. None may be left out, which is
/// checked.
async fn note_start(client: &Client, new: &[TopicPartition], seen: &Shared) {
    let before = seen.lock().committed.clone();
    let Ok(found) = Admin::new(client.clone()).list_consumer_group_offsets(GROUP).await else { return };
    for partition in new {
        let index = partition.partition.0;
        let now = found.get(partition).map_or(-1, |at| at.offset.0);
        if let Some(before) = before.get(&index)
            && now < *before
        {
            tracing::info!(partition = index, before, now, "the group is told an offset of the past");
            seen.lock().past_offsets += 1;
        }
    }
}

/// Where a member has got to.
fn positions(consumer: &GroupConsumer) -> HashMap<TopicPartition, OffsetAndMetadata> {
    let at = |partition: TopicPartition| {
        let offset = consumer.position(&partition)?;
        Some((partition, OffsetAndMetadata::from(offset)))
    };
    consumer.assignment().into_iter().filter_map(at).collect()
}

fn note_committed(positions: &HashMap<TopicPartition, OffsetAndMetadata>, seen: &Shared) {
    let mut seen = seen.lock();
    for (partition, at) in positions {
        let last = seen.committed.entry(partition.partition.0).or_default();
        *last = at.offset.0.max(*last);
    }
}

/// Looks at the ends of all partitions, again and again.
pub async fn watch(bootstrap: String, seen: Shared) {
    let settings = [("default.api.timeout.ms", "2000"), ("request.timeout.ms", "1000")];
    let wanted: HashMap<TopicPartition, OffsetSpec> =
        RECORDS.partitions().map(|partition| (partition, OffsetSpec::Latest)).collect();
    if let Ok(client) = client(&bootstrap, &settings) {
        let admin = Admin::new(client.clone());
        while !seen.lock().readers_stop {
            if let Ok(found) = admin.list_offsets(&wanted).await {
                let mut found: Vec<_> = found.into_iter().collect();
                found.sort_by(|one, other| one.0.cmp(&other.0));
                let mut seen = seen.lock();
                for (partition, listed) in found {
                    if let Ok(listed) = listed {
                        seen.ends.note(partition.partition.0, listed.offset.0);
                    }
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        client.close().await;
    }
    seen.lock().readers_left -= 1;
}

/// Reads all logs to their ends.
pub async fn read_logs(bootstrap: String, seen: Shared) {
    for _ in 0..20 {
        match try_read(&bootstrap).await {
            Ok(found) => {
                seen.lock().found = Some(found);
                return;
            }
            Err(error) => tracing::debug!(%error, "the logs cannot be read yet"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn try_read(bootstrap: &str) -> Result<Logs> {
    let open = |settings: &[(&str, &str)]| client(bootstrap, settings);
    Ok(Logs { records: RECORDS.records(open).await?, transactions: TRANSACTIONS.committed(open).await? })
}
