//! A limit, measured from outside: what a producer gets through once its first burst is over.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_protocol::messages::*;
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_tests::server::Kind;

use super::client::Client;

/// Bytes a second.
const LIMIT: f64 = 200_000.0;
const RECORD: usize = 20_000;
const MEASURED: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 10;

pub fn run(kind: Kind, bootstrap: &str) -> Result<()> {
    let mut admin = Client::login(bootstrap, "admin")?;
    let topic = create_topics_request::CreatableTopic {
        name: "limited".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    admin.call(&CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() }, 7)?;
    let entity = alter_client_quotas_request::EntityData {
        entity_type: "user".into(),
        entity_name: Some("admin".into()),
    };
    let op =
        alter_client_quotas_request::OpData { key: "producer_byte_rate".into(), value: LIMIT, remove: false };
    let entry = alter_client_quotas_request::EntryData { entity: vec![entity], ops: vec![op] };
    let set = admin.call(&AlterClientQuotasRequest { entries: vec![entry], validate_only: false }, 1)?;
    ensure!(set.entries[0].error_code == 0, "{set:?}");
    while send(&mut admin)? == 0 {}
    // From here on each request waits until the pause of the one before it is over. A busy machine makes it slower for a
    // while, and faster when it makes up for that.
    let (mut rates, mut told) = (Vec::new(), 0);
    while rates.len() < ATTEMPTS {
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < MEASURED {
            told += send(&mut admin)?;
            sent += RECORD;
        }
        rates.push(sent as f64 / begun.elapsed().as_secs_f64());
        if rates.last().is_some_and(|rate| is_kept(*rate)) {
            break;
        }
    }
    let kept = rates.last().is_some_and(|rate| is_kept(*rate));
    ensure!(kept, "{kind:?}: {rates:?} bytes a second, the limit is {LIMIT}");
    ensure!(told > 1000, "{kind:?}: told to pause {told} ms in all");
    Ok(())
}

fn is_kept(rate: f64) -> bool {
    (rate / LIMIT - 1.0).abs() < 0.1
}

/// Sends one record; the pause that is told.
fn send(client: &mut Client) -> Result<i32> {
    let mut builder = BatchBuilder::new(Compression::None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    builder.append(now as i64, None, Some(&[7; RECORD - 150]), &[])?;
    let partition = produce_request::PartitionProduceData { index: 0, records: Some(builder.finish()?) };
    let topic = produce_request::TopicProduceData {
        name: "limited".into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request =
        ProduceRequest { transactional_id: None, acks: 1, timeout_ms: 5000, topic_data: vec![topic] };
    let answer = client.call(&request, 9)?;
    let code = answer.responses[0].partition_responses[0].error_code;
    // A topic that was just created may not have its leader yet.
    ensure!(matches!(code, 0 | 3 | 6), "produce: {code}");
    Ok(answer.throttle_time_ms)
}
