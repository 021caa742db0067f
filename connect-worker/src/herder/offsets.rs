//! Offsets of connectors: shown, altered and reset (KIP-875).

use std::collections::HashMap;

use aqueduct_client::{Admin, Client, ClientConfig, OffsetAndMetadata, Producer, TopicPartition};
use aqueduct_connect_api::{ConfigMap, Factory, OffsetMap};
use aqueduct_protocol::ids::Offset;
use bytestring::ByteString;
use serde_json::{Value, json};

use super::commands::Request;
use super::handle::{Herder, Shared};
use super::validate::connector_not_found;
use crate::config::{ClientKind, client_properties, connector_plugin};
use crate::entities::ConnectorOffset;
use crate::error::{Error, Result};
use crate::ids::{ConnectorName, TargetState, TaskId};
use crate::store::{ConnectorOffsets, OffsetPair};

/// How long a request waits for the cluster.
const MAX_BLOCK_MS: &str = "60000";

/// A partition and the offset it is to get; `None` resets it.
pub type WantedOffset = (OffsetMap, Option<OffsetMap>);

const ONLY_THE_LEADER: &str = "Only the leader can process external offsets modification requests";

enum Kind {
    Source(Box<dyn aqueduct_connect_api::Connector>),
    Sink,
}

impl Herder {
    /// Where a connector is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Kafka`]
    pub async fn offsets(&self, name: &str) -> Result<Vec<ConnectorOffset>> {
        let config = self.resolved_config(name)?;
        match self.kind(&config)? {
            Kind::Source(_) => {
                let offsets = self.shared.list_offsets(&name.into(), &config).await?;
                let shown = |(partition, offset): (OffsetMap, OffsetMap)| ConnectorOffset {
                    partition: Value::Object(partition),
                    offset: Value::Object(offset),
                };
                Ok(offsets.into_iter().map(shown).collect())
            }
            Kind::Sink => {
                let (admin, group) = self.sink_admin(name, &config)?;
                let found = admin
                    .list_consumer_group_offsets(&group)
                    .await
                    .map_err(Error::kafka(format!("reading the offsets of consumer group {group}")))?;
                let mut found: Vec<_> = found.into_iter().collect();
                found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                let shown = |(tp, at): (TopicPartition, OffsetAndMetadata)| ConnectorOffset {
                    partition: json!({"kafka_partition": tp.partition.0, "kafka_topic": &*tp.topic}),
                    offset: json!({"kafka_offset": at.offset.0}),
                };
                Ok(found.into_iter().map(shown).collect())
            }
        }
    }

    fn resolved_config(&self, name: &str) -> Result<ConfigMap> {
        let config = self.shared.config.read(|state| state.connector_config(name).cloned());
        let config = config.ok_or_else(|| connector_not_found(name))?;
        Ok(self.shared.environment.config.providers().resolve(&config))
    }

    fn kind(&self, config: &ConfigMap) -> Result<Kind> {
        let plugin = connector_plugin(config).map_err(Error::invalid)?;
        match plugin.factory {
            Factory::Source { connector, .. } => Ok(Kind::Source(connector())),
            _ => Ok(Kind::Sink),
        }
    }

    fn sink_admin(&self, name: &str, config: &ConfigMap) -> Result<(Admin, String)> {
        let worker = &self.shared.environment.config;
        let id = TaskId::new(name, 0);
        let properties = client_properties(worker, ClientKind::Admin, &id, config);
        let (client, _) = ClientConfig::from_properties(&properties)
            .map_err(Error::kafka(format!("admin settings of connector {name}")))?;
        let consumer = client_properties(worker, ClientKind::SinkConsumer, &id, config);
        let group = consumer.get("group.id").cloned().unwrap_or_default();
        Ok((Admin::new(Client::new(client)), group))
    }

    fn check_stopped(&self, name: &str) -> Result<()> {
        let stopped = self.shared.config.read(|state| {
            state.target_state(name) == Some(TargetState::Stopped) && state.tasks(name).is_empty()
        });
        if stopped {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified \
             connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
        )))
    }

    /// Sets offsets of a stopped connector; the answer is a message for the user.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::BadRequest`] where it is not stopped or the offsets are wrong.
    pub async fn alter_offsets(&self, name: &str, wanted: Vec<WantedOffset>) -> Result<String> {
        if wanted.is_empty() {
            return Err(Error::invalid(
                "Partitions / offsets need to be provided for an alter offsets request",
            ));
        }
        self.check_leads(ONLY_THE_LEADER).await?;
        let config = self.resolved_config(name)?;
        self.check_stopped(name)?;
        match self.kind(&config)? {
            Kind::Source(connector) => self.alter_source(name, &config, &*connector, wanted, "altered").await,
            Kind::Sink => self.alter_sink(name, &config, wanted).await,
        }
    }

    /// Forgets all offsets of a stopped connector; the answer is a message for the user.
    ///
    /// # Errors
    /// As for [`Herder::alter_offsets`].
    pub async fn reset_offsets(&self, name: &str) -> Result<String> {
        self.check_leads(ONLY_THE_LEADER).await?;
        let config = self.resolved_config(name)?;
        self.check_stopped(name)?;
        match self.kind(&config)? {
            Kind::Source(connector) => {
                let known = self.shared.list_offsets(&name.into(), &config).await?;
                let wanted = known.into_iter().map(|(partition, _)| (partition, None)).collect();
                self.alter_source(name, &config, &*connector, wanted, "reset").await
            }
            Kind::Sink => {
                let (admin, group) = self.sink_admin(name, &config)?;
                let what = format!("deleting consumer group {group}");
                let deleted = admin
                    .delete_groups(&[ByteString::from(group.as_str())])
                    .await
                    .map_err(Error::kafka(what.clone()))?;
                for result in deleted.into_values() {
                    match result {
                        Ok(()) => {}
                        // A group that never committed is as good as reset.
                        Err(error) if error.to_string().contains("GROUP_ID_NOT_FOUND") => {}
                        Err(error) => return Err(Error::kafka(what)(error)),
                    }
                }
                Ok(message("reset", true))
            }
        }
    }

    async fn alter_source(
        &self,
        name: &str,
        config: &ConfigMap,
        connector: &dyn aqueduct_connect_api::Connector,
        wanted: Vec<WantedOffset>,
        done: &str,
    ) -> Result<String> {
        let checked =
            connector.alter_offsets(config, &wanted).await.map_err(|e| Error::internal(e.to_string()))?;
        if self.shared.environment.config.exactly_once_enabled() {
            // A task that was given up may still write offsets.
            self.shared.fence_zombies(&name.into()).await?;
            self.check_stopped(name)?;
        }
        if !wanted.is_empty() {
            self.ask(|reply| Request::StoreOffsets { name: name.into(), offsets: wanted, reply }).await?;
        }
        Ok(message(done, checked))
    }

    async fn alter_sink(&self, name: &str, config: &ConfigMap, wanted: Vec<WantedOffset>) -> Result<String> {
        let mut set = HashMap::new();
        let mut forget = Vec::new();
        for (partition, offset) in &wanted {
            let tp = sink_partition(partition)?;
            match offset {
                Some(offset) => drop(set.insert(tp, sink_offset(offset)?.into())),
                None => forget.push(tp),
            }
        }
        let (admin, group) = self.sink_admin(name, config)?;
        let what = format!("altering the offsets of consumer group {group}");
        let mut results = Vec::new();
        if !set.is_empty() {
            let altered =
                admin.alter_consumer_group_offsets(&group, &set).await.map_err(Error::kafka(what.clone()))?;
            results.extend(altered.into_values());
        }
        if !forget.is_empty() {
            let deleted = admin
                .delete_consumer_group_offsets(&group, &forget)
                .await
                .map_err(Error::kafka(what.clone()))?;
            results.extend(deleted.into_values());
        }
        for result in results {
            result.map_err(Error::kafka(what.clone()))?;
        }
        Ok(message("altered", true))
    }
}

impl Shared {
    async fn open_offsets(&self, name: &ConnectorName, config: &ConfigMap) -> Result<ConnectorOffsets> {
        let environment = &self.environment;
        ConnectorOffsets::open(&environment.config, &environment.offsets, name.clone(), config).await
    }

    async fn list_offsets(
        &self,
        name: &ConnectorName,
        config: &ConfigMap,
    ) -> Result<Vec<(OffsetMap, OffsetMap)>> {
        let offsets = self.open_offsets(name, config).await?;
        let listed = offsets.list().await;
        offsets.close().await;
        listed
    }

    /// Writes offsets of a stopped source where its tasks will read them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Kafka`]
    pub async fn write_offsets(&self, name: &ConnectorName, wanted: &[WantedOffset]) -> Result<()> {
        let config = self.config.read(|state| state.connector_config(name).cloned());
        let config = config.ok_or_else(|| connector_not_found(name))?;
        let config = self.environment.config.providers().resolve(&config);
        let offsets = self.open_offsets(name, &config).await?;
        let pairs: Vec<OffsetPair<'_>> = wanted.iter().map(|(p, o)| (p, o.as_ref())).collect();
        let written = if self.environment.config.exactly_once_enabled() {
            self.write_in_transaction(name, &config, &offsets, &pairs).await
        } else {
            offsets.commit(&pairs).await
        };
        offsets.close().await;
        written
    }

    /// With the transactional id of the first task, as the reference does: that fences one that was started meanwhile.
    async fn write_in_transaction(
        &self,
        name: &ConnectorName,
        config: &ConfigMap,
        offsets: &ConnectorOffsets,
        pairs: &[OffsetPair<'_>],
    ) -> Result<()> {
        offsets.forget_first(pairs).await?;
        let what = format!("writing offsets of connector {name}");
        let (worker, id) = (&self.environment.config, TaskId { connector: name.clone(), task: 0 });
        let mut properties = client_properties(worker, ClientKind::SourceProducer, &id, config);
        properties.insert("transactional.id".to_owned(), worker.task_transactional_id(&id));
        properties.insert("enable.idempotence".to_owned(), "true".to_owned());
        properties.insert("max.block.ms".to_owned(), MAX_BLOCK_MS.to_owned());
        let (client, _) = ClientConfig::from_properties(&properties).map_err(Error::kafka(what.clone()))?;
        let producer = Producer::new(Client::new(client));
        let write = async {
            producer.init_transactions().await?;
            producer.begin_transaction()?;
            drop(producer.send_all(offsets.records(pairs)).await?);
            producer.commit_transaction().await
        };
        let written = write.await.map_err(Error::kafka(what));
        producer.close().await;
        written?;
        offsets.copy(pairs).await;
        Ok(())
    }
}

fn message(done: &str, checked: bool) -> String {
    if checked {
        return format!("The offsets for this connector have been {done} successfully");
    }
    format!(
        "The Connect framework-managed offsets for this connector have been {done} successfully. However, if this connector \
         manages offsets externally, they will need to be manually {done} in the system that the connector uses."
    )
}

fn sink_partition(partition: &OffsetMap) -> Result<TopicPartition> {
    let (Some(topic), Some(number)) = (partition.get("kafka_topic"), partition.get("kafka_partition")) else {
        return Err(Error::invalid(
            "The partition for a sink connector offset must contain the keys 'kafka_topic' and 'kafka_partition'",
        ));
    };
    let topic = shown(topic);
    let parsed = integer(number).and_then(|n| i32::try_from(n).ok()).ok_or_else(|| {
        Error::invalid(format!(
            "Failed to parse the following Kafka partition value in the provided offsets: '{}'. Partition values for \
             sink connectors need to be integers.",
            shown(number)
        ))
    })?;
    Ok(TopicPartition::new(topic, parsed))
}

fn sink_offset(offset: &OffsetMap) -> Result<Offset> {
    let Some(value) = offset.get("kafka_offset") else {
        return Err(Error::invalid(
            "The offset for a sink connector should either be null or contain the key 'kafka_offset'",
        ));
    };
    integer(value).map(Offset).ok_or_else(|| {
        Error::invalid(format!(
            "Failed to parse the following Kafka offset value in the provided offsets: '{}'. Offset values for sink \
             connectors need to be integers.",
            shown(value)
        ))
    })
}

/// Text without its quotes, anything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number, or text that is one.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
