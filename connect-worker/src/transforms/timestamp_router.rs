//! `TimestampRouter`: a record's topic by its timestamp.

use aqueduct_connect_api::config::{ConfigType, Importance};
use aqueduct_connect_api::{Config, ConfigDef, ConfigKey, Error, Record, Result, Transformation};

use super::date_format::DateFormat;
use super::whole_record;

/// Renames topics.
#[derive(Debug, Default)]
pub struct TimestampRouter {
    topic: String,
    timestamp: DateFormat,
}

impl Transformation for TimestampRouter {
    fn configure(&mut self, config: &Config) -> Result<()> {
        config.text("topic.format").clone_into(&mut self.topic);
        let format = config.text("timestamp.format");
        self.timestamp =
            DateFormat::new(format).map_err(|why| Error::config("timestamp.format", format, why))?;
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Some(timestamp) = record.timestamp else {
            return Err(Error::data(format!(
                "Timestamp missing on record of topic {}, which TimestampRouter needs for the new topic's name",
                record.topic
            )));
        };
        let timestamp = self.timestamp.format(timestamp);
        record.topic =
            self.topic.replace("${topic}", &record.topic).replace("${timestamp}", &timestamp).into();
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::with_default(
                "topic.format",
                ConfigType::String,
                "${topic}-${timestamp}",
                "The new topic; ${topic} and ${timestamp} stand for the record's.",
            )
            .importance(Importance::High),
        )
        .key(
            ConfigKey::with_default(
                "timestamp.format",
                ConfigType::String,
                "yyyyMMdd",
                "Pattern of the timestamp, in the letters of Java's SimpleDateFormat; in UTC.",
            )
            .importance(Importance::High),
        )
}

whole_record!("TimestampRouter", TimestampRouter);
