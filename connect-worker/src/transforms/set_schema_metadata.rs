//! `SetSchemaMetadata`: another name or version of the schema.

use aqueduct_connect_api::config::{ConfigType, Importance};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Record, Result, SchemaRef, Struct, Transformation, Value,
};

use super::{Last, Side, both_sides};

/// Names schemas.
#[derive(Debug)]
pub struct SetSchemaMetadata {
    side: Side,
    name: Option<String>,
    version: Option<i32>,
    schemas: Last<SchemaRef>,
}

impl SetSchemaMetadata {
    fn new(side: Side) -> Self {
        Self { side, name: None, version: None, schemas: Last::NONE }
    }
}

impl Transformation for SetSchemaMetadata {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.name = config.string("schema.name").map(str::to_owned);
        self.version = config.integer("schema.version").map(|version| version as i32);
        if self.name.is_none() && self.version.is_none() {
            return Err(Error::connect("Neither schema name nor version configured"));
        }
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let half = self.side.of(&mut record);
        let Some(schema) = &half.schema else {
            if half.value.is_null() {
                return Ok(Some(record));
            }
            return Err(Error::data("Schema required for [updating schema metadata]"));
        };
        let updated = self.schemas.get(schema, |schema| {
            let mut builder = schema.to_builder();
            if let Some(name) = &self.name {
                builder = builder.name(name.as_str());
            }
            if let Some(version) = self.version {
                builder = builder.version(version);
            }
            Ok(builder.build())
        })?;
        half.schema = Some(updated.clone());
        half.value = match std::mem::take(&mut half.value) {
            Value::Struct(members) => Struct::from_values(updated.clone(), members.into_values()).into(),
            value => value,
        };
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::optional("schema.name", ConfigType::String, "Name to give the schema.")
                .importance(Importance::High),
        )
        .key(
            ConfigKey::optional("schema.version", ConfigType::Int, "Version to give the schema.")
                .importance(Importance::High),
        )
}

both_sides!("SetSchemaMetadata", SetSchemaMetadata);
