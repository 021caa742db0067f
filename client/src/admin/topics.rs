//! Topics: create, delete, describe, list.

use std::collections::BTreeSet;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use aqueduct_protocol::messages::delete_topics_request::DeleteTopicState;
use aqueduct_protocol::messages::metadata_request::MetadataRequestTopic;
use aqueduct_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest};
use bytestring::ByteString;

use super::{Admin, Each, NewTopic, TopicDescription, complete};
use crate::client::missing;
use crate::error::{Error, Result};
use crate::metadata::{Metadata, TopicMetadata, of_response};

impl Admin {
    /// Creates topics. One that exists gives the inner code `TOPIC_ALREADY_EXISTS`.
    pub async fn create_topics(&self, topics: &[NewTopic], validate_only: bool) -> Result<Each<ByteString>> {
        let mut retry = self.retry("CreateTopics");
        let mut results = Each::new();
        let mut left: Vec<&NewTopic> = topics.iter().collect();
        loop {
            let error = match self.create_once(&left, validate_only).await {
                Ok(answers) => {
                    results.extend(answers);
                    let again = |topic: &&NewTopic| {
                        results.get(&topic.name).is_some_and(|r| r.as_ref().is_err_and(Error::is_retriable))
                    };
                    left.retain(again);
                    match left.first().and_then(|topic| results.get(&topic.name)) {
                        Some(Err(error)) => error.clone(),
                        _ => return Ok(results),
                    }
                }
                Err(error) => error,
            };
            match self.again(&mut retry, error).await {
                Ok(()) => {}
                Err(_) if !results.is_empty() => return Ok(results),
                Err(error) => return Err(error),
            }
        }
    }

    async fn create_once(&self, topics: &[&NewTopic], validate_only: bool) -> Result<Each<ByteString>> {
        let topic = |new: &&NewTopic| CreatableTopic {
            name: new.name.clone(),
            num_partitions: new.partitions,
            replication_factor: new.replication_factor,
            assignments: Vec::new(),
            configs: new.configs.iter().map(config).collect(),
        };
        let request = |_| CreateTopicsRequest {
            topics: topics.iter().map(topic).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
        };
        let (broker, answer) = self.client.call_any(i16::MAX, request).await?;
        let address = broker.address();
        let results = answer.topics.into_iter().map(|result| {
            let what = || format!("topic {}", result.name);
            let message = result.error_message.as_deref();
            let checked = Error::check(&address, "CreateTopics", what, result.error_code, message);
            (result.name.clone(), checked)
        });
        let asked = topics.iter().map(|topic| topic.name.clone());
        Ok(complete(asked, results.collect(), &broker, "CreateTopics"))
    }

    /// Creates a topic unless it exists; returns whether it was created. In both cases this client knows its leaders
    /// afterwards.
    pub async fn ensure_topic(&self, topic: &NewTopic) -> Result<bool> {
        let known = self.describe_topics(std::slice::from_ref(&topic.name)).await?;
        let mut created = false;
        if !known.values().all(Result::is_ok) {
            let result = self.create_topics(std::slice::from_ref(topic), false).await?.remove(&topic.name);
            match result {
                Some(Ok(())) => created = true,
                Some(Err(error)) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        self.client.topic(&topic.name, self.client.config().default_api_timeout).await?;
        Ok(created)
    }

    /// Deletes topics by name. One that does not exist gives the inner code `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn delete_topics(&self, topics: &[ByteString]) -> Result<Each<ByteString>> {
        let mut retry = self.retry("DeleteTopics");
        loop {
            match self.delete_once(topics).await {
                Ok(results) => return Ok(results),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn delete_once(&self, topics: &[ByteString]) -> Result<Each<ByteString>> {
        let timeout_ms = self.timeout_ms();
        let state = |name: &ByteString| DeleteTopicState { name: Some(name.clone()), ..Default::default() };
        let request = |version: i16| match version {
            6.. => {
                let topics = topics.iter().map(state).collect();
                DeleteTopicsRequest { topics, timeout_ms, ..Default::default() }
            }
            _ => DeleteTopicsRequest { topic_names: topics.to_vec(), timeout_ms, ..Default::default() },
        };
        let (broker, answer) = self.client.call_any(i16::MAX, request).await?;
        let address = broker.address();
        let results = answer.responses.into_iter().filter_map(|result| {
            let name = result.name?;
            let message = result.error_message.as_deref();
            let what = || format!("topic {name}");
            let checked = Error::check(&address, "DeleteTopics", what, result.error_code, message);
            Some((name, checked))
        });
        Ok(complete(topics.iter().cloned(), results.collect(), &broker, "DeleteTopics"))
    }

    /// Describes topics; one that does not exist gives the inner [`Error::UnknownTopic`]. Never creates any.
    pub async fn describe_topics(&self, topics: &[ByteString]) -> Result<Each<ByteString, TopicDescription>> {
        let image = self.ask(Some(topics)).await?;
        let describe = |name: &ByteString| match image.topic(name) {
            Some(topic) => Ok(description(topic)),
            None => Err(missing(&image, name)),
        };
        Ok(topics.iter().map(|name| (name.clone(), describe(name))).collect())
    }

    /// Names of all topics, internal ones included.
    pub async fn list_topics(&self) -> Result<BTreeSet<ByteString>> {
        Ok(self.ask(None).await?.topics.into_keys().collect())
    }

    /// Metadata past the cache, so that nothing is created and nothing tracked.
    async fn ask(&self, topics: Option<&[ByteString]>) -> Result<Metadata> {
        let mut retry = self.retry("Metadata");
        let named =
            |name: &ByteString| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
        loop {
            let request = |_| MetadataRequest {
                topics: topics.map(|names| names.iter().map(named).collect()),
                allow_auto_topic_creation: false,
                ..Default::default()
            };
            match self.client.call_any(i16::MAX, request).await {
                Ok((_, answer)) => return Ok(of_response(answer)),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }
}

fn config((name, value): (&String, &String)) -> CreatableTopicConfig {
    CreatableTopicConfig { name: name.as_str().into(), value: Some(value.as_str().into()) }
}

fn description(topic: &TopicMetadata) -> TopicDescription {
    TopicDescription {
        name: topic.name.clone(),
        id: topic.id,
        internal: topic.internal,
        partitions: topic.partitions.clone(),
    }
}
