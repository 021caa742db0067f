//! Topics that a source writes to: created by its rules (KIP-158) where they are missing, and noted as used.

use std::collections::{BTreeMap, HashSet};

use aqueduct_client::{Admin, NewTopic};
use aqueduct_connect_api::{ConfigMap, Error as PluginError, Result as PluginResult};
use bytestring::ByteString;
use regex::Regex;

/// One group of rules.
#[derive(Debug)]
struct Group {
    name: String,
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    partitions: i32,
    replication_factor: i16,
    settings: BTreeMap<String, String>,
}

/// The rules by which a source creates topics.
#[derive(Debug)]
pub struct CreationRules(Vec<Group>);

impl CreationRules {
    /// Reads `topic.creation.*`; `None` where the connector leaves creation to the brokers.
    ///
    /// # Errors
    /// A setting that is missing or wrong.
    pub fn read(settings: &ConfigMap) -> PluginResult<Option<Self>> {
        // With any of them the default group has to be whole.
        if !settings.keys().any(|key| key.starts_with("topic.creation.")) {
            return Ok(None);
        }
        let names = settings.get("topic.creation.groups").map_or("", String::as_str);
        let names = names.split(',').map(str::trim).filter(|n| !n.is_empty() && *n != "default");
        // It is looked at first, for others inherit from it, and stands last, for it takes what no other wants.
        let default = Group::read(settings, "default")?;
        let mut groups = names.map(|name| Group::read(settings, name)).collect::<PluginResult<Vec<_>>>()?;
        groups.push(default);
        Ok(Some(Self(groups)))
    }

    /// The topic as the first group that fits wants it.
    fn topic(&self, name: &str) -> NewTopic {
        let fits = |group: &&Group| {
            group.include.iter().any(|p| p.is_match(name)) && !group.exclude.iter().any(|p| p.is_match(name))
        };
        let default = self.0.last().expect("the default group is always there");
        let group = self.0.iter().find(fits).unwrap_or(default);
        tracing::info!(topic = name, group = group.name, "creating a topic by the rules of its source");
        let mut topic = NewTopic::new(name, group.partitions, group.replication_factor);
        topic.configs.clone_from(&group.settings);
        topic
    }
}

impl Group {
    fn read(settings: &ConfigMap, name: &str) -> PluginResult<Self> {
        let prefix = format!("topic.creation.{name}.");
        let mut own: BTreeMap<String, String> = settings
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.trim().to_owned())))
            .collect();
        // Groups inherit what the default says.
        let default = |key: &str| settings.get(&format!("topic.creation.default.{key}")).cloned();
        let mut number = |key: &str| -> PluginResult<i32> {
            let full = format!("{prefix}{key}");
            let text = own.remove(key).or_else(|| default(key));
            let text = text.ok_or_else(|| {
                PluginError::connect(format!(
                    "Missing required configuration \"{full}\" which has no default value."
                ))
            })?;
            let wrong =
                || PluginError::config(&full, &text, "must be -1 (the broker's default) or at least 1");
            text.trim().parse().ok().filter(|n| *n == -1 || *n >= 1).ok_or_else(wrong)
        };
        let replication_factor = i16::try_from(number("replication.factor")?).unwrap_or(i16::MAX);
        let partitions = number("partitions")?;
        let mut patterns = |key: &str| -> PluginResult<Vec<Regex>> {
            let text = own.remove(key).unwrap_or_default();
            text.split(',')
                .map(str::trim)
                .filter(|p| !p.is_empty())
                .map(|p| {
                    Regex::new(&format!("^(?:{p})$"))
                        .map_err(|e| PluginError::config(format!("{prefix}{key}"), p, e.to_string()))
                })
                .collect()
        };
        let mut include = patterns("include")?;
        let exclude = patterns("exclude")?;
        if name == "default" {
            include = vec![Regex::new("").expect("an empty pattern is valid")];
        }
        Ok(Self { name: name.to_owned(), include, exclude, partitions, replication_factor, settings: own })
    }
}

/// Topics that a task has met.
pub struct TopicTracker {
    rules: Option<(CreationRules, Admin)>,
    known: HashSet<ByteString>,
}

impl TopicTracker {
    pub fn new(rules: Option<(CreationRules, Admin)>) -> Self {
        Self { rules, known: HashSet::new() }
    }

    /// Whether the topic is met for the first time; then it exists when this returns, as far as there are rules.
    ///
    /// # Errors
    /// Where it cannot be created.
    pub async fn meet(&mut self, topic: &ByteString) -> PluginResult<bool> {
        if self.known.contains(topic) {
            return Ok(false);
        }
        if let Some((rules, admin)) = &self.rules {
            let described = admin.describe_topics(std::slice::from_ref(topic)).await;
            let exists = described.is_ok_and(|found| matches!(found.get(topic), Some(Ok(_))));
            if !exists {
                admin.ensure_topic(&rules.topic(topic)).await.map_err(|e| {
                    PluginError::connect(format!("creating topic {topic} by topic.creation.* failed"))
                        .caused_by(e)
                })?;
            }
        }
        self.known.insert(topic.clone());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_first_group_that_fits_decides() {
        assert!(CreationRules::read(&ConfigMap::new()).expect("valid").is_none());
        let settings = map(&[
            ("topic.creation.default.partitions", "3"),
            ("topic.creation.default.replication.factor", "-1"),
            ("topic.creation.groups", "compacted"),
            ("topic.creation.compacted.include", "db\\..*, x"),
            ("topic.creation.compacted.exclude", "db\\.log"),
            ("topic.creation.compacted.partitions", "1"),
            ("topic.creation.compacted.cleanup.policy", "compact"),
        ]);
        let rules = CreationRules::read(&settings).expect("valid").expect("there are rules");
        let topic = rules.topic("db.users");
        assert_eq!((topic.partitions, topic.replication_factor), (1, -1));
        assert_eq!(topic.configs["cleanup.policy"], "compact");
        assert_eq!(rules.topic("db.log").partitions, 3);
        assert_eq!(rules.topic("xy").partitions, 3);
    }

    #[test]
    fn wrong_rules_are_named() {
        let settings = map(&[("topic.creation.groups", "g"), ("topic.creation.g.include", "x")]);
        let error = CreationRules::read(&settings).expect_err("no default").to_string();
        assert!(
            error.contains("\"topic.creation.default.replication.factor\" which has no default"),
            "{error}"
        );
        let settings = map(&[
            ("topic.creation.default.replication.factor", "1"),
            ("topic.creation.default.partitions", "0"),
        ]);
        let error = CreationRules::read(&settings).expect_err("wrong");
        assert!(error.to_string().contains("topic.creation.default.partitions"), "{error}");
    }
}
