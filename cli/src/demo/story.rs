//! What the demo prints while it works.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use aqueduct_client::{Admin, Client, ClientConfig, OffsetSpec, TopicPartition};

/// Lines with the seconds since the start, and the count of records in a topic.
pub struct Story {
    from: Instant,
    admin: Admin,
}

impl Story {
    /// For the cluster at `bootstrap`.
    pub fn begin(bootstrap: &str) -> Result<Self> {
        let settings = [("bootstrap.servers".to_owned(), bootstrap.to_owned())];
        let (config, _) = ClientConfig::from_properties(settings)?;
        Ok(Self { from: Instant::now(), admin: Admin::new(Client::new(config)) })
    }

    pub fn say(&self, line: &str) {
        println!("  {:>6.1} s  {line}", self.from.elapsed().as_secs_f64());
    }

    pub fn seconds(&self) -> String {
        format!("{:.1}", self.from.elapsed().as_secs_f64())
    }

    /// Records in the one partition of `topic`.
    pub async fn records(&self, topic: &str) -> Result<i64> {
        let partition = TopicPartition::new(topic, 0);
        let wanted = HashMap::from([(partition.clone(), OffsetSpec::Latest)]);
        let end = self
            .admin
            .list_offsets(&wanted)
            .await?
            .remove(&partition)
            .context("no answer for the topic")??;
        Ok(end.offset.0)
    }
}
