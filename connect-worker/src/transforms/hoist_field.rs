//! `HoistField`: the whole key or value as the only field of a new one.

use aqueduct_connect_api::config::{ConfigType, Importance};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Record, Result, Schema, SchemaAndValue, SchemaRef, Struct, Transformation,
    Type, Value,
};

use super::{Last, Side, both_sides};

/// Wraps the key or value.
#[derive(Debug)]
pub struct HoistField {
    side: Side,
    field: String,
    schemas: Last<SchemaRef>,
}

impl HoistField {
    fn new(side: Side) -> Self {
        Self { side, field: String::new(), schemas: Last::NONE }
    }
}

impl Transformation for HoistField {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.field = config.text("field").to_owned();
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let half = self.side.of(&mut record);
        let value = std::mem::take(&mut half.value);
        match &half.schema {
            None => half.value = Value::Map(vec![(self.field.as_str().into(), value)]),
            Some(schema) => {
                let field = &self.field;
                let hoisted = self.schemas.get(schema, |schema| {
                    Ok(Schema::builder(Type::Struct).field(field.as_str(), schema.clone()).build())
                })?;
                let value = Struct::from_values(hoisted.clone(), vec![value]).into();
                *half = SchemaAndValue::new(Some(hoisted.clone()), value);
            }
        }
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    ConfigDef::new().key(
        ConfigKey::required("field", ConfigType::String, "Name of the field that holds the key or value.")
            .importance(Importance::Medium),
    )
}

both_sides!("HoistField", HoistField);
