//! Configs of topics, brokers and groups.

use std::fmt;

use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::describe_configs_request::DescribeConfigsResource;
use aqueduct_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use bytestring::ByteString;

use super::{Admin, ConfigEntry, ConfigOp, ConfigResource, ConfigSource, Each, complete};
use crate::error::{Error, Result};
use crate::metadata::Broker;
use crate::net::Lane;

const DESCRIBE: &str = "DescribeConfigs";
const ALTER: &str = "IncrementalAlterConfigs";

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Changes of one resource's configs.
type Changes = (ConfigResource, Vec<(String, ConfigOp)>);

impl ConfigResource {
    fn wire(&self) -> (i8, ByteString) {
        match self {
            Self::Topic(name) => (TOPIC, name.clone()),
            Self::Broker(id) => (BROKER, id.to_string().into()),
            Self::BrokerDefault => (BROKER, ByteString::new()),
            Self::Group(id) => (GROUP, id.clone()),
            Self::ClientMetrics(name) => (CLIENT_METRICS, name.clone()),
            Self::BrokerLogger(id) => (LOGGER, id.to_string().into()),
        }
    }

    fn from_wire(kind: i8, name: ByteString) -> Option<Self> {
        match kind {
            TOPIC => Some(Self::Topic(name)),
            BROKER if name.is_empty() => Some(Self::BrokerDefault),
            BROKER => name.parse().ok().map(|id| Self::Broker(BrokerId(id))),
            GROUP => Some(Self::Group(name)),
            CLIENT_METRICS => Some(Self::ClientMetrics(name)),
            LOGGER => name.parse().ok().map(|id| Self::BrokerLogger(BrokerId(id))),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::BrokerDefault => write!(f, "the default of all brokers"),
            Self::Group(id) => write!(f, "group {id}"),
            Self::ClientMetrics(name) => write!(f, "client metrics {name}"),
            Self::BrokerLogger(id) => write!(f, "loggers of broker {id}"),
        }
    }
}

impl ConfigSource {
    fn from_wire(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicBrokerDefault,
            4 => Self::StaticBroker,
            5 => Self::Default,
            6 => Self::BrokerLogger,
            7 => Self::ClientMetrics,
            8 => Self::Group,
            _ => Self::Unknown,
        }
    }
}

impl Admin {
    /// All configs of these resources. Those of a broker are asked of that broker. A topic that does not exist gives the
    /// inner code `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<Each<ConfigResource, Vec<ConfigEntry>>> {
        let mut results = Each::new();
        let (of_brokers, others): (Vec<_>, Vec<_>) = resources.iter().partition(|resource| {
            matches!(resource, ConfigResource::Broker(_) | ConfigResource::BrokerLogger(_))
        });
        if !others.is_empty() {
            results.extend(self.describe_configs_at(None, &others).await?);
        }
        for resource in of_brokers {
            if let ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) = resource {
                results.extend(self.describe_configs_at(Some(*id), &[resource]).await?);
            }
        }
        Ok(results)
    }

    async fn describe_configs_at(
        &self,
        broker: Option<BrokerId>,
        resources: &[&ConfigResource],
    ) -> Result<Each<ConfigResource, Vec<ConfigEntry>>> {
        let mut retry = self.retry(DESCRIBE);
        loop {
            match self.describe_configs_once(broker, resources).await {
                Ok(results) => return Ok(results),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn describe_configs_once(
        &self,
        broker: Option<BrokerId>,
        resources: &[&ConfigResource],
    ) -> Result<Each<ConfigResource, Vec<ConfigEntry>>> {
        let resource = |resource: &&ConfigResource| {
            let (resource_type, resource_name) = resource.wire();
            DescribeConfigsResource { resource_type, resource_name, configuration_keys: None }
        };
        let request = |_| DescribeConfigsRequest {
            resources: resources.iter().map(resource).collect(),
            ..Default::default()
        };
        let (broker, answer) = match broker {
            Some(id) => {
                let broker = self.broker(id).await?;
                let answer = self.client.call(Lane::SHARED, &broker, i16::MAX, request).await?;
                (broker, answer)
            }
            None => self.client.call_any(i16::MAX, request).await?,
        };
        let address = broker.address();
        let results = answer.results.into_iter().filter_map(|result| {
            let resource = ConfigResource::from_wire(result.resource_type, result.resource_name)?;
            let message = result.error_message.as_deref();
            let checked =
                Error::check(&address, DESCRIBE, || resource.to_string(), result.error_code, message);
            let entries = result.configs.into_iter().map(entry).collect();
            Some((resource, checked.map(|()| entries)))
        });
        let asked = resources.iter().map(|resource| (*resource).clone());
        Ok(complete(asked, results.collect(), &broker, DESCRIBE))
    }

    /// Changes single configs and leaves the others.
    pub async fn incremental_alter_configs(&self, changes: &[Changes]) -> Result<Each<ConfigResource>> {
        let mut retry = self.retry(ALTER);
        loop {
            match self.alter_configs_once(changes).await {
                Ok(results) => return Ok(results),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn alter_configs_once(&self, changes: &[Changes]) -> Result<Each<ConfigResource>> {
        let resource = |(resource, ops): &Changes| {
            let (resource_type, resource_name) = resource.wire();
            let configs = ops.iter().map(alteration).collect();
            AlterConfigsResource { resource_type, resource_name, configs }
        };
        let request = |_| IncrementalAlterConfigsRequest {
            resources: changes.iter().map(resource).collect(),
            validate_only: false,
        };
        // What concerns one broker alone is asked of that broker.
        let of_broker = changes.iter().find_map(|(resource, _)| match resource {
            ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) => Some(*id),
            _ => None,
        });
        let (broker, answer) = match of_broker {
            Some(id) => {
                let broker = self.broker(id).await?;
                let answer = self.client.call(Lane::SHARED, &broker, i16::MAX, request).await?;
                (broker, answer)
            }
            None => self.client.call_any(i16::MAX, request).await?,
        };
        let address = broker.address();
        let results = answer.responses.into_iter().filter_map(|result| {
            let resource = ConfigResource::from_wire(result.resource_type, result.resource_name)?;
            let message = result.error_message.as_deref();
            let checked = Error::check(&address, ALTER, || resource.to_string(), result.error_code, message);
            Some((resource, checked))
        });
        let asked = changes.iter().map(|(resource, _)| resource.clone());
        Ok(complete(asked, results.collect(), &broker, ALTER))
    }

    async fn broker(&self, id: BrokerId) -> Result<Broker> {
        let image = self.client.metadata(&[]).await?;
        let known = image.brokers.get(&id).cloned();
        known.ok_or_else(|| Error::Invalid(format!("the cluster has no live broker {id}")))
    }
}

fn entry(config: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name,
        value: config.value,
        source: ConfigSource::from_wire(config.config_source),
        read_only: config.read_only,
        sensitive: config.is_sensitive,
    }
}

fn alteration((name, op): &(String, ConfigOp)) -> AlterableConfig {
    let (config_operation, value) = match op {
        ConfigOp::Set(value) => (0, Some(value)),
        ConfigOp::Delete => (1, None),
        ConfigOp::Append(value) => (2, Some(value)),
        ConfigOp::Subtract(value) => (3, Some(value)),
    };
    let value = value.map(|value| value.as_str().into());
    AlterableConfig { name: name.as_str().into(), config_operation, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_round_trip() {
        for resource in [
            ConfigResource::Topic("t".into()),
            ConfigResource::Broker(BrokerId(7)),
            ConfigResource::BrokerDefault,
            ConfigResource::Group("g".into()),
        ] {
            let (kind, name) = resource.wire();
            assert_eq!(ConfigResource::from_wire(kind, name), Some(resource));
        }
        assert_eq!(ConfigResource::from_wire(64, "unknown".into()), None);
    }
}
