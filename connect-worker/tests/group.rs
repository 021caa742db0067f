//! Several workers in one group: they share the work, and what one leaves the others take over.

mod plugins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use aqueduct_client::{Client, ClientConfig, PartitionConsumer, Producer, ProducerRecord};
use aqueduct_connect_worker::internal::{InternalRequest, Peers};
use aqueduct_connect_worker::{Error, Handle, Herder, Mode, NewConnector, TargetState, Worker, WorkerConfig};
use aqueduct_tests::kafka::Kafka;
use async_trait::async_trait;

/// Workers of this process, by their URLs: what HTTP is to others.
#[derive(Clone, Default)]
struct Local(Arc<Mutex<BTreeMap<String, Herder>>>);

#[async_trait]
impl Peers for Local {
    async fn send(&self, request: InternalRequest) -> Result<(), Error> {
        let parts: Vec<&str> = request.url.splitn(4, '/').collect();
        let base = format!("{}//{}/", parts[0], parts[2]);
        let herder = self.0.lock().expect("not poisoned").get(&base).cloned();
        let herder = herder.ok_or_else(|| Error::Internal(format!("nobody is at {base}")))?;
        let name = parts[3].trim_start_matches("connectors/").trim_end_matches("/tasks");
        herder.put_tasks(name, &request.body, Ok(request.signature)).await
    }
}

async fn start(bootstrap: &str, protocol: &str, port: u16, peers: &Local) -> Result<Handle> {
    let settings = [
        ("bootstrap.servers", bootstrap),
        ("group.id", protocol),
        ("config.storage.topic", &*format!("{protocol}-configs")),
        ("offset.storage.topic", &*format!("{protocol}-offsets")),
        ("status.storage.topic", &*format!("{protocol}-status")),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("offset.storage.partitions", "1"),
        ("status.storage.partitions", "1"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("connect.protocol", protocol),
        // Nobody vanishes: the first leads until it leaves, and who leaves says so.
        ("session.timeout.ms", "60000"),
        ("heartbeat.interval.ms", "500"),
        ("scheduled.rebalance.max.delay.ms", "0"),
    ];
    let settings = settings.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let config = WorkerConfig::from_properties(&settings, Mode::Distributed)?;
    let worker = Worker::start_among(config, ("127.0.0.1", port), Arc::new(peers.clone())).await?;
    peers.0.lock().expect("not poisoned").insert(format!("http://127.0.0.1:{port}/"), worker.herder());
    Ok(worker)
}

/// Which worker says that it runs what; `None` where something does not run.
fn spread(herder: &Herder) -> Option<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for name in herder.connectors() {
        let state = herder.status(&name).ok()?;
        if state.tasks.len() != 2 {
            return None;
        }
        for instance in std::iter::once(&state.connector).chain(state.tasks.iter().map(|t| &t.state)) {
            if instance.state != "RUNNING" {
                return None;
            }
            *counts.entry(instance.worker_id.clone()).or_default() += 1;
        }
    }
    Some(counts)
}

async fn wait_for_spread(herder: &Herder, ports: &[u16], total: usize) -> Result<()> {
    let from = Instant::now();
    let wanted: BTreeSet<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    loop {
        let found = spread(herder);
        let good = found.as_ref().is_some_and(|counts| {
            let (least, most) = (counts.values().min(), counts.values().max());
            counts.keys().cloned().collect::<BTreeSet<_>>() == wanted
                && counts.values().sum::<usize>() == total
                && least.zip(most).is_some_and(|(least, most)| most - least <= 2)
        });
        if good {
            return Ok(());
        }
        if from.elapsed() > Duration::from_secs(120) {
            let states: Vec<_> = herder.connectors().iter().map(|name| herder.status(name)).collect();
            bail!("wanted {total} on {wanted:?}, found {found:?}: {states:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a worker wrote while the brokers did not answer comes when others run its connectors already: they say so again.
async fn late_statuses_do_not_stay(bootstrap: &str, protocol: &str) -> Result<()> {
    let keys: Vec<String> =
        (0..4).flat_map(|n| [format!("status-connector-c{n}"), format!("status-task-c{n}-1")]).collect();
    let topic = format!("{protocol}-status");
    let properties = [("bootstrap.servers", bootstrap), ("auto.offset.reset", "earliest")];
    let client = Client::new(ClientConfig::from_properties(properties)?.0);
    let late =
        r#"{"state":"RUNNING","trace":null,"worker_id":"127.0.0.1:999","generation":0,"version":null}"#;
    let records = keys.iter().map(|key| ProducerRecord::keyed(&*topic, key.clone(), Some(late.into())));
    let producer = Producer::new(client.clone());
    producer.send_all(records.collect()).await?.all().await?;
    producer.close().await;
    let (from, mut last) = (Instant::now(), BTreeMap::new());
    let mut consumer = PartitionConsumer::new(client);
    consumer.assign_topic(&topic).await?;
    loop {
        consumer.read_to_end(|record| drop(last.insert(record.key, record.value))).await?;
        let is_late = |key: &&String| {
            let value = last.get(&Some(key.as_bytes().to_vec().into())).cloned().flatten();
            value.is_none_or(|value| value == late)
        };
        let Some(hidden) = keys.iter().find(is_late) else { return Ok(()) };
        ensure!(from.elapsed() < Duration::from_secs(60), "{hidden} is what a worker of the past said");
        let news = consumer.poll(Duration::from_secs(1)).await?;
        last.extend(news.into_iter().map(|record| (record.key, record.value)));
    }
}

async fn workers_share_and_take_over(bootstrap: &str, protocol: &str) -> Result<()> {
    let peers = Local::default();
    let first = start(bootstrap, protocol, 1001, &peers).await?;
    let herder = first.herder();
    for n in 0..4 {
        let topic = format!("{protocol}-{n}");
        let config = [
            ("connector.class", "test.Numbers"),
            ("topic", &topic),
            ("count", "1"),
            ("tasks", "2"),
            ("tasks.max", "2"),
        ];
        let config = config.into_iter().map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).collect();
        herder.create(NewConnector { name: format!("c{n}"), config, initial_state: None }).await?;
    }
    wait_for_spread(&herder, &[1001], 12).await?;
    let second = start(bootstrap, protocol, 1002, &peers).await?;
    wait_for_spread(&herder, &[1001, 1002], 12).await?;
    let third = start(bootstrap, protocol, 1003, &peers).await?;
    wait_for_spread(&herder, &[1001, 1002, 1003], 12).await?;

    late_statuses_do_not_stay(bootstrap, protocol).await?;
    wait_for_spread(&herder, &[1001, 1002, 1003], 12).await?;

    // What is asked of one worker happens on all.
    third.herder().set_target("c0", TargetState::Paused).await?;
    third.herder().set_target("c0", TargetState::Started).await?;
    let refused = third.herder().restart("c1", true, false).await;
    assert!(
        matches!(&refused, Err(Error::Elsewhere { url: Some(url), .. }) if url == "http://127.0.0.1:1001/")
    );
    first.herder().restart("c1", true, false).await?;
    wait_for_spread(&herder, &[1001, 1002, 1003], 12).await?;
    let config = [
        ("connector.class", "test.Numbers"),
        ("topic", "new"),
        ("count", "1"),
        ("tasks", "2"),
        ("tasks.max", "2"),
    ];
    let config = config.into_iter().map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).collect();
    first.herder().create(NewConnector { name: "c4".to_owned(), config, initial_state: None }).await?;
    wait_for_spread(&herder, &[1001, 1002, 1003], 15).await?;

    // A worker that leaves hands over at once, whether it led or not.
    first.shutdown().await;
    wait_for_spread(&second.herder(), &[1002, 1003], 15).await?;
    second.shutdown().await;
    wait_for_spread(&third.herder(), &[1003], 15).await?;
    third.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_and_take_over_with_every_protocol() -> Result<()> {
    let _ = tracing_subscriber::fmt().with_env_filter("info").with_test_writer().try_init();
    let kafka = Kafka::start()?;
    for protocol in ["sessioned", "compatible", "eager"] {
        workers_share_and_take_over(&kafka.bootstrap(), protocol).await?;
    }
    Ok(())
}
