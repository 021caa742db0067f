//! DescribeConfigs (KIP-133, KIP-226, KIP-569), versions 1 to 4: what is set, where, and what it means.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_configs_request::DescribeConfigsResource;
use aqueduct_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use aqueduct_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::Context;
use super::shared::{ResourceType, broker_resource};
use crate::config::definition::{Key, Kind, Scope};
use crate::config::{broker_keys, topic_keys};
use crate::metadata::{MetadataImage, Rejection, Resource, Source, Synonym, check_topic_name};
use crate::node::Node;

pub(crate) async fn handle(context: Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = context.node.metadata.image();
    let asked = Asked {
        node: &context.node,
        image: &image,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation && context.version >= 3,
    };
    let result = |resource: DescribeConfigsResource| {
        let (error_code, error_message, configs) = match asked.describe(&resource) {
            Ok(configs) => (0, Some(bytestring::ByteString::new()), configs),
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
                check_topic_name(name).map_err(|why| {
                    Rejection::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}"))
                })?;
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
                    Ok(broker_keys::all().filter(|key| wanted(key)).map(row).collect())
                }
            },
            // Nothing can be set on these here, so nothing is.
            ResourceType::Group | ResourceType::ClientMetrics => Ok(Vec::new()),
            ResourceType::BrokerLogger | ResourceType::Unknown => Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Unsupported resource type: {}", asked.resource_type),
            )),
        }
    }

    /// What is set for all brokers; there are no defaults to show at this level.
    fn default_broker(&self, wanted: impl Fn(&Key) -> bool) -> Vec<DescribeConfigsResourceResult> {
        let Some(set) = self.image.config(&Resource::Broker(None)) else { return Vec::new() };
        let row = |(name, value): (&bytestring::ByteString, &bytestring::ByteString)| {
            let key = broker_keys::find_known(name).filter(|key| wanted(key))?;
            let synonym =
                Synonym { name: key.name, value: Some(value.to_string()), source: Source::DefaultBroker };
            Some(self.row(key, vec![synonym], true))
        };
        set.iter().filter_map(row).collect()
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
            read_only: of_broker && key.scope == Scope::ReadOnly,
            config_source: source as i8,
            is_sensitive: sensitive,
            synonyms: if self.synonyms { synonyms.into_iter().map(synonym).collect() } else { Vec::new() },
            config_type: key.kind.code(),
            documentation: self.documentation.then(|| key.doc.into()),
        }
    }
}
