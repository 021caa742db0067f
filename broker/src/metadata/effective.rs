//! Which value of a config key counts, and where it comes from.

use aqueduct_protocol::ids::BrokerId;

use super::{MetadataImage, Resource};
use crate::config::definition::{Key, Kind};
use crate::config::group_keys::{self, GroupKey};
use crate::config::topic_keys::{self, TopicKey, Unit};
use crate::config::{Properties, TopicConfig, broker_keys};

/// Where a value was set, numbered as DescribeConfigs does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Topic = 1,
    Broker = 2,
    DefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    Logger = 6,
    ClientMetrics = 7,
    Group = 8,
}

/// One place where a value is set, under the name that it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

/// Looks values up in the image and in one broker's file.
#[derive(Debug, Clone, Copy)]
pub struct EffectiveConfig<'a> {
    pub image: &'a MetadataImage,
    pub broker: BrokerId,
    pub file: &'a Properties,
}

impl EffectiveConfig<'_> {
    /// What is set in the image, for operations that add to it.
    pub(super) fn without_file(image: &MetadataImage, resource: &Resource, key: &str) -> Option<String> {
        image.config(resource)?.get(key).map(ToString::to_string)
    }

    /// The places where a topic's key is set, the strongest first; ends with the default of the broker key behind it.
    pub fn topic_synonyms(&self, topic: &str, row: &TopicKey) -> Vec<Synonym> {
        let mut found = Vec::new();
        let set = self.image.config(&Resource::Topic(topic.into())).and_then(|map| map.get(row.key.name));
        if let Some(value) = set {
            found.push(Synonym { name: row.key.name, value: Some(value.to_string()), source: Source::Topic });
        }
        for (name, unit) in row.synonyms {
            self.push_set(name, *unit, &mut found);
        }
        let behind = row.synonyms.first().and_then(|(name, _)| broker_keys::find_known(name));
        if let Some(Key { name, default: Some(default), .. }) = behind {
            found.push(Synonym { name, value: Some((*default).to_owned()), source: Source::Default });
        }
        found
    }

    /// The value of a topic's key in force, and where it comes from.
    pub fn topic_value(&self, topic: &str, row: &TopicKey) -> (String, Source) {
        match self.topic_synonyms(topic, row).into_iter().next() {
            Some(Synonym { value: Some(value), source, .. }) => (value, source),
            _ => (row.key.default.unwrap_or_default().to_owned(), Source::Default),
        }
    }

    /// The typed configuration of a topic.
    pub fn topic_config(&self, topic: &str) -> TopicConfig {
        TopicConfig::resolve(|row| self.topic_value(topic, row).0)
    }

    /// The configuration that a new topic would have, given what it sets itself.
    pub fn new_topic_value(
        &self,
        set: &std::collections::BTreeMap<bytestring::ByteString, bytestring::ByteString>,
        row: &TopicKey,
    ) -> (String, Source) {
        match set.get(row.key.name) {
            Some(value) => (value.to_string(), Source::Topic),
            // No topic has an empty name, so nothing is found under it.
            None => self.topic_value("", row),
        }
    }

    /// The places where a broker's key is set, the strongest first; ends with the default.
    pub fn broker_synonyms(&self, key: &'static Key) -> Vec<Synonym> {
        let mut found = Vec::new();
        self.push_set(key.name, Unit::Same, &mut found);
        // The age limits are one setting in several units.
        let units = topic_keys::KEYS
            .iter()
            .find(|row| row.synonyms.first().is_some_and(|(name, _)| *name == key.name))
            .map_or(&[][..], |row| row.synonyms);
        for (name, _) in units.iter().skip(1) {
            self.push_set(name, Unit::Same, &mut found);
        }
        // As Apache Kafka: what is not set has no value, whatever stands in for it under another name.
        let is_set = found.first().is_some_and(|synonym| synonym.name == key.name);
        let others =
            units.iter().skip(1).filter(|_| is_set).filter_map(|(name, _)| broker_keys::find_known(name));
        for Key { name, default, .. } in std::iter::once(key).chain(others) {
            if let Some(default) = default {
                found.push(Synonym { name, value: Some((*default).to_owned()), source: Source::Default });
            }
        }
        found
    }

    /// The value of a broker's key in force, converted to no other unit; `None` where nothing sets it.
    pub fn broker_value(&self, name: &str) -> Option<String> {
        let of = |id| {
            self.image.config(&Resource::Broker(id)).and_then(|map| map.get(name)).map(|v| v.to_string())
        };
        of(Some(self.broker))
            .or_else(|| of(None))
            .or_else(|| self.file.get(name).map(str::to_owned))
            .or_else(|| broker_keys::find_known(name)?.default.map(str::to_owned))
    }

    /// The places where a group's key is set, the strongest first; ends with the default.
    pub fn group_synonyms(&self, group: &str, row: &GroupKey) -> Vec<Synonym> {
        let mut found = Vec::new();
        let set = self.image.config(&Resource::Group(group.into())).and_then(|map| map.get(row.key.name));
        if let Some(value) = set {
            found.push(Synonym { name: row.key.name, value: Some(value.to_string()), source: Source::Group });
        }
        let name = row.synonym.unwrap_or(row.key.name);
        if row.synonym.is_some() {
            self.push_set(name, Unit::Same, &mut found);
        }
        let value = row.key.default.map(str::to_owned);
        found.push(Synonym { name, value, source: Source::Default });
        found
    }

    /// The value of a group's key in force, such as `consumer.session.timeout.ms`.
    ///
    /// # Panics
    /// Where no group key has that name.
    pub fn group_value(&self, group: &str, name: &str) -> String {
        let row = group_keys::find(name).expect("a key of the table");
        let first = self.group_synonyms(group, row).into_iter().next();
        first.and_then(|synonym| synonym.value).unwrap_or_default()
    }

    fn push_set(&self, name: &'static str, unit: Unit, found: &mut Vec<Synonym>) {
        let secret = broker_keys::find_known(name).is_some_and(|key| key.kind == Kind::Password);
        let mut push = |value: &str, source| {
            let value = (!secret).then(|| unit.convert(value));
            found.push(Synonym { name, value, source });
        };
        let of = |id| self.image.config(&Resource::Broker(id)).and_then(|map| map.get(name));
        if let Some(value) = of(Some(self.broker)) {
            push(value, Source::Broker);
        }
        if let Some(value) = of(None) {
            push(value, Source::DefaultBroker);
        }
        if let Some(value) = self.file.get(name) {
            push(value, Source::StaticBroker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metadata::Record;

    fn set(image: &mut MetadataImage, resource: Resource, key: &str, value: &str) {
        let values = BTreeMap::from([(key.into(), value.into())]);
        image.apply(&Record::Config { resource, values });
    }

    #[test]
    fn the_strongest_place_wins() {
        let mut image = MetadataImage::default();
        let mut file = Properties::default();
        let row = topic_keys::find("retention.ms").unwrap();
        let value = |image: &MetadataImage, file: &Properties| {
            EffectiveConfig { image, broker: BrokerId(1), file }.topic_value("t", row)
        };
        assert_eq!(value(&image, &file), ("604800000".into(), Source::Default));
        file.set("log.retention.hours", "1");
        assert_eq!(value(&image, &file), ("3600000".into(), Source::StaticBroker));
        file.set("log.retention.minutes", "1");
        assert_eq!(value(&image, &file), ("60000".into(), Source::StaticBroker));
        set(&mut image, Resource::Broker(None), "log.retention.ms", "7");
        assert_eq!(value(&image, &file), ("7".into(), Source::DefaultBroker));
        set(&mut image, Resource::Broker(Some(BrokerId(1))), "log.retention.ms", "8");
        assert_eq!(value(&image, &file), ("8".into(), Source::Broker));
        set(&mut image, Resource::Topic("t".into()), "retention.ms", "-1");
        assert_eq!(value(&image, &file), ("-1".into(), Source::Topic));
        let config = EffectiveConfig { image: &image, broker: BrokerId(1), file: &file }.topic_config("t");
        assert_eq!(config.retention_ms, -1);
        assert_eq!(config.segment_bytes, 1 << 30);
    }
}
