//! Who leads whom: a client that asks each node alone to take records, whatever it has heard of leaders. Each record names
//! the node that it was sent to, so that the logs tell who took records in which epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aqueduct_client::{ClientConfig, Connection};
use aqueduct_protocol::messages::ProduceRequest;
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::records::{BatchBuilder, Compression};

use crate::load::{PARTITIONS, WITNESSES};
use crate::shared::Shared;

/// A record that a node has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub partition: i32,
    pub offset: i64,
    pub node: usize,
    pub number: u64,
}

/// A record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    pub offset: i64,
    pub epoch: i32,
    pub node: usize,
    pub number: u64,
}

pub fn parse(text: &str) -> Option<(usize, u64)> {
    let (node, number) = text.split_once(' ')?;
    Some((node.parse().ok()?, number.parse().ok()?))
}

/// What is wrong with a log, at most ten things: epochs in which two nodes took records, and records that are not where a node
/// said that they are.
pub fn wrong_leaders(partition: i32, log: &[Witness], taken: &[Taken]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut leaders: BTreeMap<i32, BTreeSet<usize>> = BTreeMap::new();
    for witness in log {
        leaders.entry(witness.epoch).or_default().insert(witness.node);
    }
    for (epoch, nodes) in leaders.iter().filter(|(_, nodes)| nodes.len() > 1) {
        wrong.push(format!("partition {partition}: nodes {nodes:?} took records in epoch {epoch}"));
    }
    let by_offset: BTreeMap<i64, &Witness> = log.iter().map(|witness| (witness.offset, witness)).collect();
    for taken in taken.iter().filter(|taken| taken.partition == partition) {
        match by_offset.get(&taken.offset) {
            Some(found) if (found.node, found.number) == (taken.node, taken.number) => {}
            found => wrong.push(format!("partition {partition}: {taken:?}, where there is {found:?}")),
        }
    }
    wrong.truncate(10);
    wrong
}

/// Asks one node again and again to take a record for each partition.
pub async fn ask(address: &str, node: usize, taken: &Shared<Vec<Taken>>, stop: &AtomicBool) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    let properties = BTreeMap::from([("bootstrap.servers".to_owned(), address.to_owned())]);
    let config = Arc::new(ClientConfig::from_properties(&properties)?.0);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let opened = tokio::time::timeout(
            Duration::from_secs(1),
            Connection::open(address.to_owned(), config.clone()),
        );
        let Ok(Ok(connection)) = opened.await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let request = produce(node, number)?;
            let Ok(answer) = connection.call(9, |_| request, Duration::from_secs(3)).await else { break };
            for answer in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
                if answer.error_code == 0 {
                    let (partition, offset) = (answer.index, answer.base_offset);
                    taken.lock().push(Taken { partition, offset, node, number });
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

fn produce(node: usize, number: u64) -> Result<ProduceRequest> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
    let mut partition_data = Vec::new();
    for index in 0..PARTITIONS {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(now, None, Some(format!("{node} {number}").as_bytes()), &[])?;
        partition_data.push(PartitionProduceData { index, records: Some(builder.finish()?) });
    }
    let topic_data =
        vec![TopicProduceData { name: WITNESSES.name.into(), partition_data, ..Default::default() }];
    Ok(ProduceRequest { acks: -1, timeout_ms: 2000, topic_data, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_in_an_epoch_are_noticed() {
        let witness = |offset, epoch, node| Witness { offset, epoch, node, number: offset as u64 };
        let taken = |offset, node| Taken { partition: 3, offset, node, number: offset as u64 };
        let log = [witness(0, 1, 0), witness(1, 2, 1), witness(2, 3, 0)];
        assert!(wrong_leaders(3, &log, &[taken(0, 0), taken(2, 0)]).is_empty());
        assert_eq!(wrong_leaders(3, &log, &[taken(1, 0), taken(7, 1)]).len(), 2, "lost");
        assert_eq!(wrong_leaders(3, &[witness(0, 1, 0), witness(1, 1, 1)], &[]).len(), 1, "two leaders");
        assert_eq!(parse("2 17"), Some((2, 17)));
        assert_eq!(parse("2"), None);
    }
}
