//! How far groups are behind, from their committed offsets. Looked up from time to time, not when somebody asks: the
//! coordinators are asked, and may be busy.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::ids::PartitionIndex;
use parking_lot::Mutex;

use super::text::Text;
use crate::node::Node;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Partitions of groups that are told; the groups after them are left out.
const MOST: usize = 10_000;

/// One partition of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lag {
    group: String,
    topic: Arc<str>,
    partition: i32,
    committed: i64,
    /// `None` where the log is not open, so that nobody has written to it or read from it.
    lag: Option<i64>,
}

/// What was found last.
#[derive(Debug, Default)]
pub(crate) struct Lags(Mutex<Vec<Lag>>);

impl Lags {
    pub(super) fn write(&self, text: &mut Text) {
        let lags = self.0.lock();
        let mut family = |name: &str, help: &str, value: fn(&Lag) -> Option<i64>| {
            text.family(name, "gauge", help);
            for lag in lags.iter() {
                let Some(value) = value(lag) else { continue };
                let partition = lag.partition.to_string();
                let labels = [("group", &*lag.group), ("topic", &lag.topic), ("partition", &partition)];
                text.sample("", &labels, value as f64);
            }
        };
        family(
            "kafka_consumergroup_group_lag",
            "kafka-consumer-groups LAG. Records between a group's committed offset and the end of the partition",
            |lag| lag.lag,
        );
        family(
            "kafka_consumergroup_group_offset",
            "kafka-consumer-groups CURRENT-OFFSET. Offset that a group committed",
            |lag| Some(lag.committed),
        );
    }
}

/// Looks until the node stops.
pub(crate) async fn follow(node: Arc<Node>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = node.tasks.stopping() => return,
        }
        let found = look(&node).await;
        *node.metrics.lags.0.lock() = found;
    }
}

async fn look(node: &Node) -> Vec<Lag> {
    let mut found = Vec::new();
    let image = node.metadata.image();
    for shard in node.groups.shards() {
        let committed = shard.look(|groups| {
            let mut committed = Vec::new();
            for group in groups.list() {
                if committed.len() >= MOST {
                    break;
                }
                let topics = groups.fetch(group.id.as_str(), None);
                committed.push((group.id.as_str().to_owned(), topics));
            }
            committed
        });
        let Ok(committed) = committed.await else { continue };
        for (group, topics) in committed {
            for topic in topics {
                let Some(known) = image.topic(&topic.name) else { continue };
                for (partition, at) in &topic.partitions {
                    if found.len() >= MOST {
                        return found;
                    }
                    let Some(at) = at else { continue };
                    let open = node.partitions.opened(known.id, PartitionIndex(*partition));
                    let end = open.map(|open| open.log().high_watermark().0);
                    found.push(Lag {
                        group: group.clone(),
                        topic: topic.name.clone(),
                        partition: *partition,
                        committed: at.offset,
                        lag: end.map(|end| (end - at.offset).max(0)),
                    });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_has_group_topic_and_partition() {
        let lags = Lags::default();
        let lag = Lag { group: "g".into(), topic: "t".into(), partition: 2, committed: 5, lag: Some(7) };
        *lags.0.lock() = vec![lag.clone(), Lag { partition: 3, lag: None, ..lag }];
        let mut text = Text::default();
        lags.write(&mut text);
        let text = text.finish(String::new());
        assert!(
            text.contains("kafka_consumergroup_group_lag{group=\"g\",topic=\"t\",partition=\"2\"} 7"),
            "{text}"
        );
        assert!(!text.contains("group_lag{group=\"g\",topic=\"t\",partition=\"3\"}"), "{text}");
    }
}
