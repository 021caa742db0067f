//! `DropHeaders`: records without some of their headers.

use aqueduct_connect_api::config::{ConfigType, Importance, Validator};
use aqueduct_connect_api::{Config, ConfigDef, ConfigKey, Record, Result, Transformation};

use super::whole_record;

/// Removes every header of the given names.
#[derive(Debug, Default)]
pub struct DropHeaders {
    names: Vec<String>,
}

impl Transformation for DropHeaders {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.names = config.list("headers").to_vec();
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        record.headers.retain(|header| !self.names.iter().any(|name| header.key == name.as_str()));
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    ConfigDef::new().key(
        ConfigKey::required("headers", ConfigType::List, "Names of the headers to remove.")
            .importance(Importance::High)
            .validator(Validator::NonEmpty),
    )
}

whole_record!("DropHeaders", DropHeaders);
