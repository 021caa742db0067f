//! The pure decisions on configurations: what a resource may set, and what that leaves set.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::error_code::ErrorCode;
use bytestring::ByteString;

use super::features::ELIGIBLE_LEADER_REPLICAS_VERSION;
use super::image::is_internal;
use super::{ConfigOp, MetadataImage, Outcome, Record, Rejection, Resource, refuse_bad_topic_name};
use crate::config::dynamic::{self, Named};
use crate::config::{Kind, Scope, client_metrics_keys, definition, group_keys, topic_keys};

type Decision = Result<(Vec<Record>, Outcome), Rejection>;
type Values = BTreeMap<ByteString, ByteString>;

/// The default of `metric.reporters`.
const JMX_REPORTER: &str = "org.apache.kafka.common.metrics.JmxReporter";

/// Changes single values.
pub(super) fn alter(image: &MetadataImage, resource: &Resource, ops: &[(ByteString, ConfigOp)]) -> Decision {
    let mut values = image.config(resource).map(|map| (**map).clone()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (key, op) in ops {
        if !seen.insert(key) {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Error due to duplicate config keys: {key}"),
            ));
        }
        match op {
            ConfigOp::Set(value) => {
                values.insert(key.clone(), value.clone());
            }
            ConfigOp::Delete => {
                values.remove(key);
            }
            ConfigOp::Append(words) | ConfigOp::Subtract(words) => {
                let appends = matches!(op, ConfigOp::Append(_));
                let list = change_list(image, resource, key, words, appends)?;
                values.insert(key.clone(), list.into());
            }
        }
    }
    check(image, resource, ops.iter().map(|(key, _)| key), &values)?;
    Ok((vec![Record::Config { resource: resource.clone(), values }], Outcome::Done))
}

/// Sets all values; those left out go back to their defaults.
pub(super) fn replace(image: &MetadataImage, resource: &Resource, values: &Values) -> Decision {
    let had = image.config(resource).map(|map| (**map).clone()).unwrap_or_default();
    let changed = values.keys().filter(|key| had.get(*key) != values.get(*key));
    // Told before whether there is such a topic, other than where single values are changed.
    if let Resource::Topic(name) = resource {
        refuse_bad_topic_name(name)?;
        topic_keys::validate(values)
            .map_err(|error| Rejection::new(ErrorCode::InvalidConfig, error.to_string()))?;
    }
    check(image, resource, changed, values)?;
    Ok((vec![Record::Config { resource: resource.clone(), values: values.clone() }], Outcome::Done))
}

fn change_list(
    image: &MetadataImage,
    resource: &Resource,
    key: &ByteString,
    words: &str,
    appends: bool,
) -> Result<String, Rejection> {
    let known = definition_of(resource, key)?;
    if known.is_none_or(|known| known.kind != Kind::List) {
        let what = if appends { "append" } else { "subtract" };
        return Err(Rejection::new(
            ErrorCode::InvalidConfig,
            format!("Config value {what} is not allowed for config key: {key}"),
        ));
    }
    let now = super::EffectiveConfig::without_file(image, resource, key)
        .or_else(|| known?.default.map(str::to_owned))
        .unwrap_or_default();
    let mut list: Vec<&str> = definition::list(&now);
    for word in definition::list(words) {
        match appends {
            true if !list.contains(&word) => list.push(word),
            true => {}
            false => list.retain(|have| *have != word),
        }
    }
    Ok(list.join(","))
}

/// The row of a key; `None` for a broker key that nobody knows, as plug-ins may have.
fn definition_of(resource: &Resource, key: &str) -> Result<Option<&'static definition::Key>, Rejection> {
    let unknown = |what: &str| {
        Err(Rejection::new(ErrorCode::InvalidConfig, format!("Unknown {what} config name: {key}")))
    };
    match resource {
        Resource::Topic(_) => match topic_keys::find(key) {
            Some(row) => Ok(Some(&row.key)),
            None => unknown("topic"),
        },
        Resource::Group(_) => match group_keys::find(key) {
            Some(row) => Ok(Some(&row.key)),
            None => unknown("group"),
        },
        Resource::ClientMetrics(_) => Ok(client_metrics_keys::find(key)),
        Resource::Broker(_) => Ok(Named::parse(key).key()),
    }
}

fn check<'a>(
    image: &MetadataImage,
    resource: &Resource,
    changed: impl Iterator<Item = &'a ByteString>,
    values: &Values,
) -> Result<(), Rejection> {
    let invalid =
        |error: definition::ConfigError| Rejection::new(ErrorCode::InvalidConfig, error.to_string());
    match resource {
        Resource::Topic(name) => {
            refuse_bad_topic_name(name)?;
            if image.topic(name).is_none() {
                return Err(Rejection::new(
                    ErrorCode::UnknownTopicOrPartition,
                    format!("The topic '{name}' does not exist."),
                ));
            }
            if is_internal(name)
                && values.get("cleanup.policy").is_some_and(|policy| !policy.contains("compact"))
            {
                let why = format!("the internal topic {name} must stay compacted");
                return Err(Rejection::new(ErrorCode::InvalidConfig, why));
            }
            topic_keys::validate(values).map_err(invalid)
        }
        Resource::Broker(id) => {
            if let Some(id) = id
                && !image.brokers.contains_key(id)
            {
                return Err(Rejection::new(
                    ErrorCode::InvalidRequest,
                    format!("no broker with id {id} is registered"),
                ));
            }
            let changed: Vec<&str> = changed.map(|key| &**key).collect();
            check_scopes(image, id.is_some(), &changed)?;
            if let Some(reporters) = values.get("metric.reporters")
                && changed.contains(&"metric.reporters")
                && definition::list(reporters).iter().any(|class| *class != JMX_REPORTER)
            {
                return Err(Rejection::new(
                    ErrorCode::InvalidRequest,
                    format!(
                        "metric.reporters={reporters}: reporters are Java classes, which this broker does not load; read its metrics from aqueduct.http.listener"
                    ),
                ));
            }
            for (name, value) in values {
                if let Some(key) = Named::parse(name).key() {
                    key.validate(value)
                        .map_err(|error| Rejection::new(ErrorCode::InvalidRequest, error.to_string()))?;
                }
            }
            Ok(())
        }
        Resource::Group(_) => group_keys::validate(values).map_err(invalid),
        Resource::ClientMetrics(_) => client_metrics_keys::validate(values),
    }
}

/// Refuses keys that do not change at run time, or not at this level.
fn check_scopes(image: &MetadataImage, of_one: bool, changed: &[&str]) -> Result<(), Rejection> {
    let refuse = |why: &str, keys: Vec<&str>| match keys.is_empty() {
        true => Ok(()),
        false => Err(Rejection::new(ErrorCode::InvalidRequest, format!("{why}: [{}]", keys.join(", ")))),
    };
    let is_fixed = |name: &&str| {
        let named = Named::parse(name);
        named.key().is_some() && named.listener.is_none() && dynamic::scope(named.base) == Scope::ReadOnly
    };
    refuse("Cannot update these configs dynamically", changed.iter().copied().filter(is_fixed).collect())?;
    let is_bare = |name: &&str| {
        Named::parse(name).listener.is_none() && dynamic::scope(Named::parse(name).base) == Scope::PerListener
    };
    refuse(
        "These security configs can be dynamically updated only per-listener using the listener prefix",
        changed.iter().copied().filter(is_bare).collect(),
    )?;
    let of_listener = |name: &&str| {
        Named::parse(name).listener.is_some() && dynamic::scope(Named::parse(name).base) == Scope::PerListener
    };
    if !of_one {
        refuse(
            "Cannot update these configs at default cluster level, broker id must be specified",
            changed.iter().copied().filter(of_listener).collect(),
        )?;
    } else if changed.contains(&"min.insync.replicas") && image.level(&ELIGIBLE_LEADER_REPLICAS_VERSION) > 0 {
        return Err(Rejection::new(
            ErrorCode::InvalidConfig,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{BrokerId, Uuid};

    use super::*;
    use crate::metadata::{BrokerImage, Command, decide};

    fn image() -> MetadataImage {
        let mut image = MetadataImage::new("c".into());
        let broker =
            BrokerImage { id: BrokerId(1), incarnation: Uuid([1; 16]), endpoints: Vec::new(), rack: None };
        image.apply(&Record::BrokerRegistered(broker));
        image
    }

    fn set(resource: Resource, key: &str, value: &str) -> Result<(), (ErrorCode, String)> {
        let ops = vec![(key.into(), ConfigOp::Set(value.into()))];
        match decide(&image(), &Command::AlterConfig { resource, ops }) {
            Ok(_) => Ok(()),
            Err(rejection) => Err((rejection.code, rejection.message)),
        }
    }

    #[test]
    fn broker_keys_are_refused_as_kafka_refuses_them() {
        let one = || Resource::Broker(Some(BrokerId(1)));
        let all = || Resource::Broker(None);
        let text = |result: Result<(), (ErrorCode, String)>| {
            let (code, why) = result.unwrap_err();
            assert_eq!(code, ErrorCode::InvalidRequest, "{why}");
            why
        };
        assert_eq!(set(one(), "no.such.key", "1"), Ok(()));
        assert_eq!(text(set(one(), "log.dirs", "/x")), "Cannot update these configs dynamically: [log.dirs]");
        assert_eq!(
            text(set(all(), "ssl.keystore.location", "/x")),
            "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.location]"
        );
        let prefixed = "listener.name.plaintext.ssl.keystore.location";
        assert_eq!(set(one(), prefixed, "/x"), Ok(()));
        assert_eq!(
            text(set(all(), prefixed, "/x")),
            format!(
                "Cannot update these configs at default cluster level, broker id must be specified: [{prefixed}]"
            )
        );
        assert_eq!(set(all(), "listener.name.plaintext.max.connections", "5"), Ok(()));
        text(set(all(), "listener.name.plaintext.max.connections", "x"));
        text(set(all(), "log.cleaner.threads", "x"));
        text(set(all(), "metric.reporters", "org.example.Reporter"));
        assert_eq!(set(one(), "min.insync.replicas", "1").unwrap_err().0, ErrorCode::InvalidConfig);
        assert_eq!(set(all(), "min.insync.replicas", "1"), Ok(()));
    }

    #[test]
    fn names_of_topics_are_judged_before_whether_they_exist() {
        let topic = |name: &str| Resource::Topic(name.into());
        let code = |name, key| set(topic(name), key, "1").unwrap_err().0;
        assert_eq!(code("*", "no.such.key"), ErrorCode::InvalidTopicException);
        assert_eq!(code("none", "no.such.key"), ErrorCode::UnknownTopicOrPartition);
        let replaced = |name: &str, key: &str| {
            let values = [(key.into(), "1".into())].into();
            decide(&image(), &Command::ReplaceConfig { resource: topic(name), values }).unwrap_err().code
        };
        assert_eq!(replaced("*", "no.such.key"), ErrorCode::InvalidTopicException);
        assert_eq!(replaced("none", "no.such.key"), ErrorCode::InvalidConfig);
        assert_eq!(replaced("none", "retention.ms"), ErrorCode::UnknownTopicOrPartition);
        let ops = vec![("retention.ms".into(), ConfigOp::Subtract("1".into()))];
        let subtracted = decide(&image(), &Command::AlterConfig { resource: topic("*"), ops });
        assert_eq!(subtracted.unwrap_err().code, ErrorCode::InvalidConfig);
    }

    #[test]
    fn groups_and_subscriptions_have_keys_of_their_own() {
        let group = || Resource::Group("g".into());
        assert_eq!(set(group(), "consumer.session.timeout.ms", "50000"), Ok(()));
        let refused = set(group(), "no.key", "1").unwrap_err();
        assert_eq!(refused, (ErrorCode::InvalidConfig, "Unknown group config name: no.key".into()));
        let metrics = || Resource::ClientMetrics("m".into());
        assert_eq!(set(metrics(), "interval.ms", "5000"), Ok(()));
        assert_eq!(set(metrics(), "x", "1").unwrap_err().0, ErrorCode::InvalidRequest);
    }
}
