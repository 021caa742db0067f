//! The chain of transforms of a task.

use aqueduct_connect_api::Record;

use super::errors::{Failure, Stage};
use crate::config::TransformStep;

/// Transforms in the order in which they run.
pub struct TransformChain(Vec<TransformStep>);

impl TransformChain {
    pub fn new(steps: Vec<TransformStep>) -> Self {
        Self(steps)
    }

    /// The record as the last transform leaves it; `None` where one drops it.
    ///
    /// # Errors
    /// The first transform that fails.
    pub fn apply(&mut self, mut record: Record) -> Result<Option<Record>, Failure> {
        for step in &mut self.0 {
            let runs =
                step.condition.as_ref().is_none_or(|(predicate, negate)| predicate.test(&record) != *negate);
            if !runs {
                continue;
            }
            match step.transform.apply(record) {
                Ok(Some(changed)) => record = changed,
                Ok(None) => return Ok(None),
                Err(error) => return Err(Failure::new(Stage::Transformation, step.class, error)),
            }
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_connect_api::ConfigMap;

    use super::*;
    use crate::config::{ConnectorSettings, Mode, WorkerConfig, sink_table};

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn chain(more: &[(&str, &str)]) -> Result<TransformChain, aqueduct_connect_api::Error> {
        let worker = map(&[
            ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("offset.storage.file.filename", "f"),
        ]);
        let worker = WorkerConfig::from_properties(&worker, Mode::Standalone).expect("valid");
        let mut settings = map(&[
            ("name", "c"),
            ("connector.class", "X"),
            ("transforms", "route"),
            ("transforms.route.type", "org.apache.kafka.connect.transforms.RegexRouter"),
            ("transforms.route.regex", "(.*)"),
            ("transforms.route.replacement", "new-$1"),
            ("predicates", "old"),
            ("predicates.old.type", "org.apache.kafka.connect.transforms.predicates.TopicNameMatches"),
            ("predicates.old.pattern", "old.*"),
        ]);
        settings.extend(map(more));
        ConnectorSettings::from_table(&worker, &sink_table_of(&worker), &settings)?
            .transforms()
            .map(TransformChain::new)
    }

    fn sink_table_of(worker: &WorkerConfig) -> aqueduct_connect_api::ConfigDef {
        sink_table(&crate::config::Defaults::of_worker(worker))
    }

    fn topic(chain: &mut TransformChain, topic: &str) -> String {
        let record = Record { topic: topic.into(), ..Record::default() };
        let changed = chain.apply(record).expect("it works").expect("it stays");
        changed.topic.to_string()
    }

    #[test]
    fn predicates_choose_records_and_negate_turns_them_round() {
        let mut always = chain(&[]).expect("valid");
        assert_eq!(topic(&mut always, "x"), "new-x");
        let mut old = chain(&[("transforms.route.predicate", "old")]).expect("valid");
        assert_eq!(topic(&mut old, "old-x"), "new-old-x");
        assert_eq!(topic(&mut old, "x"), "x");
        let negate = [("transforms.route.predicate", "old"), ("transforms.route.negate", "true")];
        let mut others = chain(&negate).expect("valid");
        assert_eq!(topic(&mut others, "old-x"), "old-x");
        assert_eq!(topic(&mut others, "x"), "new-x");
    }

    #[test]
    fn wrong_settings_name_their_whole_key() {
        for (key, value, part) in [
            ("transforms.route.predicate", "nope", "transforms.route.predicate"),
            ("transforms.route.type", "Nope", "transforms.route.type"),
            ("transforms.route.negate", "maybe", "negate"),
            ("predicates.old.pattern", "(", "predicates.old.pattern"),
        ] {
            let settings = [("transforms.route.predicate", "old"), (key, value)];
            let error = chain(&settings).err().expect(key).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
