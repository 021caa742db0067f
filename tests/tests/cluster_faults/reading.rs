//! Whole topics as a reader sees them at the end, for all loads whose logs are held against the ledger.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aqueduct_client::{Client, ConsumerRecord, OffsetSpec, PartitionConsumer, TopicPartition};

use crate::ledger::{Found, Transaction, parse};

/// The first partitions of a topic.
#[derive(Clone, Copy)]
pub struct Topic {
    pub name: &'static str,
    pub partitions: i32,
}

impl Topic {
    pub fn partitions(self) -> impl Iterator<Item = TopicPartition> {
        (0..self.partitions).map(move |partition| TopicPartition::new(self.name, partition))
    }

    /// All records of idempotent producers, by partition.
    pub async fn records(self, open: impl Open) -> Result<BTreeMap<i32, Vec<Found>>> {
        let mut logs: BTreeMap<i32, Vec<Found>> =
            (0..self.partitions).map(|partition| (partition, Vec::new())).collect();
        let mut bad = 0;
        self.read_all(open, "read_uncommitted", |record| match parse(&text(&record)) {
            Some((series, number)) => {
                let found = Found { offset: record.offset.0, series, number };
                logs.entry(record.partition.0).or_default().push(found);
            }
            None => bad += 1,
        })
        .await?;
        ensure!(bad == 0, "{bad} records are not what was sent");
        Ok(logs)
    }

    /// What a reader of committed records sees of transactions: partition, transaction, and the place in it.
    pub async fn committed(self, open: impl Open) -> Result<Vec<(i32, Transaction, u32)>> {
        let mut seen = Vec::new();
        self.read_all(open, "read_committed", |record| {
            let text = text(&record);
            let numbers: Vec<u64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
            if let [producer, number, place] = numbers[..] {
                let transaction = Transaction { producer: producer as u32, number };
                seen.push((record.partition.0, transaction, place as u32));
            }
        })
        .await?;
        Ok(seen)
    }

    /// Reads all partitions from their starts to the ends that they have now.
    pub async fn read_all(
        self,
        open: impl Open,
        isolation: &str,
        each: impl FnMut(ConsumerRecord),
    ) -> Result<()> {
        let client = open(&[("isolation.level", isolation), ("auto.offset.reset", "earliest")])?;
        let mut consumer = PartitionConsumer::new(client.clone());
        consumer.assign(self.partitions())?;
        for partition in self.partitions() {
            consumer.seek_to(&partition, OffsetSpec::Earliest)?;
        }
        consumer.read_to_end(each).await.with_context(|| format!("topic {}", self.name))?;
        client.close().await;
        Ok(())
    }
}

/// Opens a client of the cluster with these settings.
pub trait Open: Fn(&[(&str, &str)]) -> Result<Client> {}

impl<F: Fn(&[(&str, &str)]) -> Result<Client>> Open for F {}

/// The value of a record.
pub fn text(record: &ConsumerRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}
