//! `ValueToKey`: a key made of fields of the value.

use std::sync::Arc;

use aqueduct_connect_api::config::{ConfigType, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Factory, Plugin, Record, Result, Schema, SchemaAndValue, SchemaRef,
    Struct, Transformation, Type, Value,
};

/// Replaces the key by a struct or map of the value's fields.
#[derive(Debug, Default)]
pub struct ValueToKey {
    fields: Vec<String>,
    replace_null_with_default: bool,
    /// The value schema last seen, the key schema made from it, and where its fields stand in the value.
    last: Option<(SchemaRef, SchemaRef, Vec<usize>)>,
}

impl ValueToKey {
    fn key_schema(&mut self, of: &SchemaRef) -> Result<(SchemaRef, &[usize])> {
        if !self.last.as_ref().is_some_and(|(value, ..)| Arc::ptr_eq(value, of) || value == of) {
            let mut builder = Schema::builder(Type::Struct);
            let mut indexes = Vec::with_capacity(self.fields.len());
            for name in &self.fields {
                let (index, field) =
                    of.field(name).ok_or_else(|| Error::data(format!("Field does not exist: {name}")))?;
                indexes.push(index);
                builder = builder.field(name.as_str(), field.schema.clone());
            }
            self.last = Some((of.clone(), builder.build(), indexes));
        }
        let (_, key, indexes) = self.last.as_ref().expect("set above");
        Ok((key.clone(), indexes))
    }

    fn key(&mut self, value: &SchemaAndValue) -> Result<SchemaAndValue> {
        match (&value.schema, &value.value) {
            (None, map @ Value::Map(_)) => {
                let entry =
                    |name: &String| (name.as_str().into(), map.map_get(name).cloned().unwrap_or_default());
                Ok(SchemaAndValue::schemaless(Value::Map(self.fields.iter().map(entry).collect())))
            }
            (None, other) => Err(Error::data(format!(
                "Only Map objects supported in absence of schema for [copying fields from value to key], found: {}",
                other.class_name()
            ))),
            (Some(schema), Value::Struct(members)) => {
                let use_default = self.replace_null_with_default;
                let (key_schema, indexes) = self.key_schema(schema)?;
                let values = indexes.iter().zip(key_schema.fields()).map(|(&index, field)| {
                    match members.values().get(index).unwrap_or(&Value::Null) {
                        Value::Null if use_default => {
                            field.schema.default_value().cloned().unwrap_or_default()
                        }
                        value => value.clone(),
                    }
                });
                let key = Struct::from_values(key_schema.clone(), values.collect());
                Ok(SchemaAndValue::new(Some(key_schema), key.into()))
            }
            (Some(_), other) => Err(Error::data(format!(
                "Only Struct objects supported for [copying fields from value to key], found: {}",
                other.class_name()
            ))),
        }
    }
}

impl Transformation for ValueToKey {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.fields = config.list("fields").to_vec();
        self.replace_null_with_default = config.boolean("replace.null.with.default");
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        record.key = self.key(&record.value)?;
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::required("fields", ConfigType::List, "Fields of the value that make up the key.")
                .validator(Validator::NonEmpty),
        )
        .key(ConfigKey::with_default(
            "replace.null.with.default",
            ConfigType::Boolean,
            "true",
            "Whether a null field that has a default goes into the key as that default.",
        ))
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.transforms.ValueToKey",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        factory: Factory::Transformation(|| Box::new(ValueToKey::default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transform(fields: &str) -> ValueToKey {
        let map = [("fields".to_owned(), fields.to_owned())].into_iter().collect();
        let mut transform = ValueToKey::default();
        transform.configure(&config().parse(&map).expect("good settings")).expect("configured");
        transform
    }

    #[test]
    fn keys_are_made_of_the_values_fields() {
        let schema = Schema::struct_builder("row")
            .field("a", Schema::of(Type::Int32))
            .field("b", Schema::builder(Type::String).optional().default_value("d".into()).build())
            .build();
        let mut row = Struct::new(schema.clone());
        row.put("a", 1).expect("fits");
        let record = Record { value: SchemaAndValue::new(Some(schema), row.into()), ..Record::default() };
        let mut by_both = transform("b, a");
        for _ in 0..2 {
            let out = by_both.apply(record.clone()).expect("keyed").expect("kept");
            let key = out.key.value.as_struct().expect("a struct").clone();
            assert_eq!(key.values(), [Value::from("d"), Value::Int32(1)]);
            assert_eq!(out.key.schema.as_deref().and_then(Schema::name), None);
        }
        let error = transform("c").apply(record).expect_err("no such field");
        assert_eq!(error.to_string(), "Field does not exist: c");
    }

    #[test]
    fn maps_give_maps() {
        let value = Value::Map(vec![("a".into(), Value::Int64(1))]);
        let record = Record { value: SchemaAndValue::schemaless(value), ..Record::default() };
        let out = transform("a,z").apply(record).expect("keyed").expect("kept");
        assert_eq!(out.key.value, Value::Map(vec![("a".into(), Value::Int64(1)), ("z".into(), Value::Null)]));
    }
}
