//! Which settings the clients of a connector get: the worker's defaults for its kind, then `producer.*`, `consumer.*` or
//! `admin.*` of the worker, then what the connector overrides, as far as the policy allows.

use std::collections::BTreeMap;

use aqueduct_connect_api::ConfigMap;

use super::WorkerConfig;
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    SourceProducer,
    SinkConsumer,
    DeadLetterProducer,
    /// Reads the offsets topic that a source has to itself.
    OffsetsConsumer,
    Admin,
}

impl ClientKind {
    /// Prefix of such settings in the worker's configuration.
    fn prefix(self) -> &'static str {
        match self {
            Self::SourceProducer | Self::DeadLetterProducer => "producer.",
            Self::SinkConsumer | Self::OffsetsConsumer => "consumer.",
            Self::Admin => "admin.",
        }
    }

    fn override_prefix(self) -> &'static str {
        match self {
            Self::SourceProducer | Self::DeadLetterProducer => "producer.override.",
            Self::SinkConsumer | Self::OffsetsConsumer => "consumer.override.",
            Self::Admin => "admin.override.",
        }
    }

    fn client_id(self, id: &TaskId) -> String {
        let kind = match self {
            Self::SourceProducer => "producer",
            Self::SinkConsumer | Self::OffsetsConsumer => "consumer",
            Self::DeadLetterProducer => "dlq-producer",
            Self::Admin => "adminclient",
        };
        format!("connector-{kind}-{id}")
    }
}

/// Which client settings a connector may override (`connector.client.config.override.policy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverridePolicy {
    All,
    None,
    Principal,
    Allowlist(Vec<String>),
}

const PRINCIPAL: &[&str] = &["sasl.jaas.config", "sasl.mechanism", "security.protocol"];

impl OverridePolicy {
    pub(super) fn from_config(name: &str, allowlist: &[String]) -> Result<Self> {
        let simple = name.rsplit('.').next().unwrap_or(name);
        let simple = simple.strip_suffix("ConnectorClientConfigOverridePolicy").unwrap_or(simple);
        match simple {
            "All" => Ok(Self::All),
            "None" => Ok(Self::None),
            "Principal" => Ok(Self::Principal),
            "Allowlist" => Ok(Self::Allowlist(allowlist.to_vec())),
            _ => Err(Error::invalid(format!(
                "connector.client.config.override.policy={name}: must be one of All, None, Principal, Allowlist"
            ))),
        }
    }

    /// Whether a connector may set `key` of a client.
    ///
    /// # Errors
    /// Why it may not, as the validation of a connector shows it.
    pub fn check(&self, key: &str) -> std::result::Result<(), String> {
        let (allowed, name) = match self {
            Self::All => (true, "All"),
            Self::None => (false, "None"),
            Self::Principal => (PRINCIPAL.contains(&key), "Principal"),
            Self::Allowlist(keys) => (keys.iter().any(|k| k == key), "Allowlist"),
        };
        if allowed {
            return Ok(());
        }
        Err(format!(
            "The '{name}' policy does not allow '{key}' to be overridden in the connector configuration."
        ))
    }
}

/// Settings of a client of a task, as Kafka properties.
pub fn client_properties(
    worker: &WorkerConfig,
    kind: ClientKind,
    id: &TaskId,
    connector: &ConfigMap,
) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let mut set = |key: &str, value: &str| {
        properties.insert(key.to_owned(), value.to_owned());
    };
    if let Some(servers) = worker.originals().get("bootstrap.servers") {
        set("bootstrap.servers", servers);
    }
    set("client.id", &kind.client_id(id));
    match kind {
        ClientKind::SourceProducer | ClientKind::DeadLetterProducer => {
            set("acks", "all");
            set("max.block.ms", "2147483647");
            set("delivery.timeout.ms", "2147483647");
        }
        ClientKind::SinkConsumer => {
            set("group.id", &format!("connect-{}", id.connector));
            set("auto.offset.reset", "earliest");
        }
        ClientKind::OffsetsConsumer | ClientKind::Admin => {}
    }
    let mut overlay = |prefix: &str, settings: &ConfigMap| {
        let with_prefix = settings.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
        for (key, value) in with_prefix {
            properties.insert(key.to_owned(), value.clone());
        }
    };
    overlay(kind.prefix(), worker.originals());
    overlay(kind.override_prefix(), connector);
    properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_connector_has_the_last_word() {
        let worker = WorkerConfig::from_properties(
            &map(&[
                ("bootstrap.servers", "b:1"),
                ("key.converter", "K"),
                ("value.converter", "V"),
                ("offset.storage.file.filename", "f"),
                ("consumer.max.poll.records", "10"),
                ("consumer.fetch.min.bytes", "2"),
                ("connector.client.config.override.policy", "Principal"),
            ]),
            Mode::Standalone,
        )
        .expect("valid");
        let connector = map(&[("consumer.override.max.poll.records", "99")]);
        let properties =
            client_properties(&worker, ClientKind::SinkConsumer, &TaskId::new("s", 1), &connector);
        assert_eq!(properties["max.poll.records"], "99");
        assert_eq!(properties["fetch.min.bytes"], "2");
        assert_eq!(properties["group.id"], "connect-s");
        assert_eq!(properties["client.id"], "connector-consumer-s-1");
        assert!(worker.override_policy().check("max.poll.records").is_err());
        assert!(worker.override_policy().check("sasl.mechanism").is_ok());
    }
}
