//! DescribeConfigs (KIP-133, KIP-226, KIP-569), versions 1 to 4: what is set, where, and what it means.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_configs_request::DescribeConfigsResource;
use aqueduct_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use aqueduct_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use bytestring::ByteString;

use super::Context;
use super::shared::{ResourceType, broker_resource, may_use_config, own};
use crate::config::definition::{Key, Kind, Scope};
use crate::config::dynamic::{self, Named};
use crate::config::{broker_keys, client_metrics_keys, group_keys, topic_keys};
use crate::metadata::{
    EffectiveConfig, MetadataImage, Rejection, Resource, Source, Synonym, refuse_bad_topic_name,
};
use crate::node::Node;
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = context.node.metadata.image();
    let asked = Asked {
        node: &context.node,
        image: &image,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation && context.version >= 3,
    };
    let result = |resource: DescribeConfigsResource| {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let allowed = may_use_config(&context, Operation::DescribeConfigs, kind, name);
        let (error_code, error_message, configs) = match allowed.and_then(|()| asked.describe(&resource)) {
            Ok(configs) => (0, Some(ByteString::new()), configs),
            Err(rejection) => (rejection.code.code(), Some(rejection.message.into()), Vec::new()),
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
        }
    };
    DescribeConfigsResponse {
        results: request.resources.into_iter().map(result).collect(),
        ..Default::default()
    }
}

struct Asked<'a> {
    node: &'a Node,
    image: &'a MetadataImage,
    synonyms: bool,
    documentation: bool,
}

impl Asked<'_> {
    fn describe(
        &self,
        asked: &DescribeConfigsResource,
    ) -> Result<Vec<DescribeConfigsResourceResult>, Rejection> {
        let wanted = |key: &Key| {
            asked.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|wanted| *wanted == key.name))
        };
        let name = &asked.resource_name;
        match ResourceType::from_code(asked.resource_type) {
            ResourceType::Topic => {
                refuse_bad_topic_name(name)?;
                if self.image.topic(name).is_none() {
                    return Err(Rejection::new(ErrorCode::UnknownTopicOrPartition, ""));
                }
                let effective = self.node.effective(self.image);
                let row = |row: &topic_keys::TopicKey| {
                    self.row(&row.key, effective.topic_synonyms(name, row), false)
                };
                Ok(topic_keys::KEYS.iter().filter(|row| wanted(&row.key)).map(row).collect())
            }
            ResourceType::Broker => match broker_resource(name, self.node.settings.node_id)? {
                Resource::Broker(None) => Ok(self.default_broker(wanted)),
                _ => {
                    let effective = self.node.effective(self.image);
                    let row = |key: &'static Key| self.row(key, effective.broker_synonyms(key), true);
                    let mut rows: Vec<_> = broker_keys::all().filter(|key| wanted(key)).map(row).collect();
                    rows.extend(self.prefixed(&effective, asked));
                    Ok(rows)
                }
            },
            ResourceType::Group if name.is_empty() => {
                Err(Rejection::new(ErrorCode::InvalidRequest, "Group name must not be empty"))
            }
            ResourceType::Group => {
                let effective = self.node.effective(self.image);
                let row = |row: &group_keys::GroupKey| {
                    self.row(&row.key, effective.group_synonyms(name, row), false)
                };
                Ok(group_keys::KEYS.iter().filter(|row| wanted(&row.key)).map(row).collect())
            }
            ResourceType::ClientMetrics if name.is_empty() => Err(Rejection::new(
                ErrorCode::InvalidRequest,
                "Client metrics subscription name must not be empty",
            )),
            ResourceType::ClientMetrics => {
                let set = self.image.config(&Resource::ClientMetrics(name.clone()));
                let row = |key: &Key| {
                    let value = set.and_then(|values| values.get(key.name)).map(ToString::to_string);
                    let synonym =
                        |value| Synonym { name: key.name, value: Some(value), source: Source::ClientMetrics };
                    self.row(key, value.map(synonym).into_iter().collect(), false)
                };
                Ok(client_metrics_keys::KEYS.iter().filter(|key| wanted(key)).map(row).collect())
            }
            ResourceType::BrokerLogger => match broker_resource(name, self.node.settings.node_id)? {
                Resource::Broker(Some(_)) => {
                    let levels = self.node.loggers.levels();
                    let is_wanted = |name: &str| {
                        asked
                            .configuration_keys
                            .as_ref()
                            .is_none_or(|keys| keys.iter().any(|key| **key == *name))
                    };
                    Ok(levels.into_iter().filter(|(name, _)| is_wanted(name)).map(logger).collect())
                }
                _ => Err(Rejection::new(
                    ErrorCode::InvalidRequest,
                    "Broker id must be an integer, but it is empty",
                )),
            },
            ResourceType::Unknown => Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Unsupported resource type: {}", asked.resource_type),
            )),
        }
    }

    /// What is set for all brokers; there are no defaults to show at this level.
    fn default_broker(&self, wanted: impl Fn(&Key) -> bool) -> Vec<DescribeConfigsResourceResult> {
        let Some(set) = self.image.config(&Resource::Broker(None)) else { return Vec::new() };
        let row = |(name, value): (&ByteString, &ByteString)| {
            let Some(key) = broker_keys::find_known(name) else {
                return Some(self.named(name, vec![(name.clone(), value.clone(), Source::DefaultBroker)]));
            };
            if !wanted(key) {
                return None;
            }
            let synonym =
                Synonym { name: key.name, value: Some(value.to_string()), source: Source::DefaultBroker };
            Some(self.row(key, vec![synonym], true))
        };
        set.iter().filter_map(row).collect()
    }

    /// What this broker has under names for one listener, or under names that only a plug-in knows.
    fn prefixed(
        &self,
        effective: &EffectiveConfig<'_>,
        asked: &DescribeConfigsResource,
    ) -> Vec<DescribeConfigsResourceResult> {
        let mut found: BTreeMap<ByteString, Vec<(ByteString, ByteString, Source)>> = BTreeMap::new();
        let mut note = |name: &str, value: &str, source| {
            let is_wanted =
                asked.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| **key == *name));
            if is_wanted && broker_keys::find_known(name).is_none() {
                found.entry(own(name)).or_default().push((own(name), own(value), source));
            }
        };
        let places = [(Some(effective.broker), Source::Broker), (None, Source::DefaultBroker)];
        for (broker, source) in places {
            if let Some(values) = self.image.config(&Resource::Broker(broker)) {
                values.iter().for_each(|(name, value)| note(name, value, source));
            }
        }
        effective.file.iter().for_each(|(name, value)| note(name, value, Source::StaticBroker));
        found.into_iter().map(|(name, set)| self.named(&name, set)).collect()
    }

    /// A key that has no row of its own; as it is set, the strongest place first.
    fn named(
        &self,
        name: &str,
        mut set: Vec<(ByteString, ByteString, Source)>,
    ) -> DescribeConfigsResourceResult {
        let is_sensitive = dynamic::is_secret(name);
        let named = Named::parse(name);
        let key = named.key();
        if let (Some(key), Some(_)) = (key, named.listener) {
            let behind = self.node.effective(self.image).broker_synonyms(key);
            set.extend(
                behind
                    .into_iter()
                    .filter_map(|synonym| Some((synonym.name.into(), synonym.value?.into(), synonym.source))),
            );
        }
        let synonym = |(name, value, source): &(ByteString, ByteString, Source)| DescribeConfigsSynonym {
            name: name.clone(),
            value: (!is_sensitive).then(|| value.clone()),
            source: *source as i8,
        };
        DescribeConfigsResourceResult {
            name: own(name),
            value: set.first().filter(|_| !is_sensitive).map(|(_, value, _)| value.clone()),
            read_only: true,
            config_source: set.first().map_or(Source::Default, |(_, _, source)| *source) as i8,
            is_sensitive,
            synonyms: if self.synonyms { set.iter().map(synonym).collect() } else { Vec::new() },
            config_type: key.map_or(0, |key| key.kind.code()),
            documentation: self.documentation.then(|| key.map_or("", |key| key.doc).into()),
        }
    }

    fn row(&self, key: &Key, synonyms: Vec<Synonym>, of_broker: bool) -> DescribeConfigsResourceResult {
        let sensitive = key.kind == Kind::Password;
        let first = synonyms.first().cloned();
        let source = first.as_ref().map_or(Source::Default, |synonym| synonym.source);
        let value = match first {
            Some(synonym) => synonym.value,
            None => key.default.map(str::to_owned),
        };
        let synonym = |synonym: Synonym| DescribeConfigsSynonym {
            name: synonym.name.into(),
            value: synonym.value.map(Into::into),
            source: synonym.source as i8,
        };
        DescribeConfigsResourceResult {
            name: key.name.into(),
            value: value.filter(|_| !sensitive).map(Into::into),
            read_only: of_broker && dynamic::scope(key.name) == Scope::ReadOnly,
            config_source: source as i8,
            is_sensitive: sensitive,
            synonyms: if self.synonyms { synonyms.into_iter().map(synonym).collect() } else { Vec::new() },
            config_type: key.kind.code(),
            documentation: self.documentation.then(|| key.doc.into()),
        }
    }
}

fn logger((name, level): (&'static str, &'static str)) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.into(),
        value: Some(level.into()),
        config_source: Source::Logger as i8,
        ..Default::default()
    }
}
