//! The predicates that every worker has: they decide for which records a transform runs.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Importance, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Factory, Plugin, Predicate, Record, Result, inventory,
};
use regex::Regex;

const PACKAGE: &str = "org.apache.kafka.connect.transforms.predicates";

inventory::submit! {
    Plugin { class: "org.apache.kafka.connect.transforms.predicates.TopicNameMatches", aliases: &[],
             version: env!("CARGO_PKG_VERSION"), config: &pattern_table,
             factory: Factory::Predicate(|| Box::<TopicNameMatches>::default()) }
}

inventory::submit! {
    Plugin { class: "org.apache.kafka.connect.transforms.predicates.HasHeaderKey", aliases: &[],
             version: env!("CARGO_PKG_VERSION"), config: &name_table,
             factory: Factory::Predicate(|| Box::<HasHeaderKey>::default()) }
}

inventory::submit! {
    Plugin { class: "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone", aliases: &[],
             version: env!("CARGO_PKG_VERSION"), config: &ConfigDef::new,
             factory: Factory::Predicate(|| Box::new(RecordIsTombstone)) }
}

fn pattern_rule(value: &ConfigValue) -> std::result::Result<(), String> {
    match value {
        ConfigValue::String(pattern) => {
            Regex::new(pattern).map(drop).map_err(|e| format!("Invalid regex: {e}"))
        }
        _ => Ok(()),
    }
}

fn pattern_table() -> ConfigDef {
    ConfigDef::new().key(
        ConfigKey::required(
            "pattern",
            ConfigType::String,
            "Pattern that the whole name of the topic must match.",
        )
        .importance(Importance::Medium)
        .validator(Validator::Check(pattern_rule)),
    )
}

fn name_table() -> ConfigDef {
    ConfigDef::new().key(
        ConfigKey::required("name", ConfigType::String, "Key of a header that the record must have.")
            .importance(Importance::Medium)
            .validator(Validator::NonEmpty),
    )
}

/// True for records whose topic's whole name matches `pattern`.
#[derive(Debug, Default)]
pub struct TopicNameMatches(Option<Regex>);

impl Predicate for TopicNameMatches {
    fn configure(&mut self, config: &Config) -> Result<()> {
        let pattern = config.text("pattern");
        let regex = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|e| Error::config("pattern", pattern, format!("for {PACKAGE}.TopicNameMatches: {e}")))?;
        self.0 = Some(regex);
        Ok(())
    }

    fn test(&self, record: &Record) -> bool {
        self.0.as_ref().is_some_and(|pattern| pattern.is_match(&record.topic))
    }
}

/// True for records with at least one header called `name`.
#[derive(Debug, Default)]
pub struct HasHeaderKey(String);

impl Predicate for HasHeaderKey {
    fn configure(&mut self, config: &Config) -> Result<()> {
        config.text("name").clone_into(&mut self.0);
        Ok(())
    }

    fn test(&self, record: &Record) -> bool {
        record.headers.iter().any(|header| header.key == self.0.as_str())
    }
}

/// True for records whose value is null.
#[derive(Debug)]
pub struct RecordIsTombstone;

impl Predicate for RecordIsTombstone {
    fn configure(&mut self, _config: &Config) -> Result<()> {
        Ok(())
    }

    fn test(&self, record: &Record) -> bool {
        record.value.value.is_null()
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_connect_api::{Header, SchemaAndValue};

    use super::*;

    fn made(class: &str, settings: &[(&str, &str)]) -> Box<dyn Predicate> {
        let plugin = Plugin::by_class(&format!("{PACKAGE}.{class}")).expect("it is registered");
        let Factory::Predicate(make) = plugin.factory else { panic!("not a predicate") };
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut predicate = make();
        predicate.configure(&(plugin.config)().parse(&settings).expect("valid")).expect("configured");
        predicate
    }

    #[test]
    fn each_tells_its_records_apart() {
        let mut record = Record { topic: "orders.eu".into(), ..Record::default() };
        assert!(made("TopicNameMatches", &[("pattern", "orders\\..*")]).test(&record));
        assert!(!made("TopicNameMatches", &[("pattern", "orders")]).test(&record), "the whole name counts");
        let (headers, tombstone) = (made("HasHeaderKey", &[("name", "h")]), made("RecordIsTombstone", &[]));
        assert!(!headers.test(&record) && tombstone.test(&record));
        record.headers.push(Header { key: "h".into(), value: SchemaAndValue::NULL });
        record.value = SchemaAndValue::schemaless("v".into());
        assert!(headers.test(&record) && !tombstone.test(&record));
    }
}
