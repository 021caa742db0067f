//! `InsertHeader`: a header with a fixed value.

use aqueduct_connect_api::config::{ConfigType, Importance};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Header, Record, Result, SchemaAndValue, Transformation,
};

use super::whole_record;
use crate::values;

/// Adds a header to every record.
#[derive(Debug, Default)]
pub struct InsertHeader {
    name: String,
    value: SchemaAndValue,
}

impl Transformation for InsertHeader {
    fn configure(&mut self, config: &Config) -> Result<()> {
        config.text("header").clone_into(&mut self.name);
        self.value = values::parse(config.text("value.literal"));
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        record.headers.push(Header { key: self.name.as_str().into(), value: self.value.clone() });
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    let key = |name, doc| ConfigKey::required(name, ConfigType::String, doc).importance(Importance::High);
    ConfigDef::new()
        .key(key("header", "Name of the header."))
        .key(key("value.literal", "The header's value; its type is the one that the text looks like."))
}

whole_record!("InsertHeader", InsertHeader);
