//! `ReplaceField`: fewer fields, or fields under other names.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Importance, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Record, Result, SchemaAndValue, SchemaRef, Struct, Transformation, Type,
    Value,
};

use super::{
    Last, REPLACE_NULL, Side, basics, both_sides, or_default, replace_null_key, require_map, require_struct,
    unambiguous,
};

const PURPOSE: &str = "field replacement";

/// Leaves fields out and renames them.
#[derive(Debug)]
pub struct ReplaceField {
    side: Side,
    rules: Rules,
    use_default: bool,
    schemas: Last<SchemaRef>,
}

#[derive(Debug, Default)]
struct Rules {
    exclude: Vec<String>,
    include: Vec<String>,
    renames: Vec<(String, String)>,
}

impl Rules {
    /// The name that a field gets; `None` where it is left out.
    fn rename<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let names = |list: &[String]| list.iter().any(|entry| entry == name);
        if names(&self.exclude) || !(self.include.is_empty() || names(&self.include)) {
            return None;
        }
        Some(self.renames.iter().find(|(from, _)| from == name).map_or(name, |(_, to)| to))
    }
}

impl ReplaceField {
    fn new(side: Side) -> Self {
        Self { side, rules: Rules::default(), use_default: true, schemas: Last::NONE }
    }

    fn with_schema(&mut self, schema: &SchemaRef, value: Value) -> Result<SchemaAndValue> {
        let members = require_struct(value, PURPOSE)?.into_values();
        let rules = &self.rules;
        let updated = self.schemas.get(schema, |schema| {
            let kept = schema.fields().iter().filter_map(|field| Some((rules.rename(&field.name)?, field)));
            let basics = basics(schema, Type::Struct);
            unambiguous(kept.fold(basics, |b, (name, field)| b.field(name, field.schema.clone())).build())
        })?;
        let values = members
            .into_iter()
            .zip(schema.fields())
            .filter(|(_, field)| rules.rename(&field.name).is_some())
            .map(|(value, field)| or_default(value, &field.schema, self.use_default));
        let value = Struct::from_values(updated.clone(), values.collect()).into();
        Ok(SchemaAndValue::new(Some(updated.clone()), value))
    }
}

fn pairs(items: &[String]) -> std::result::Result<Vec<(String, String)>, String> {
    items
        .iter()
        .map(|item| match item.split(':').collect::<Vec<_>>()[..] {
            [from, to] => Ok((from.to_owned(), to.to_owned())),
            _ => Err(format!("Invalid rename mapping: {item}")),
        })
        .collect()
}

impl Transformation for ReplaceField {
    fn configure(&mut self, config: &Config) -> Result<()> {
        let renames = config.list("renames");
        self.rules = Rules {
            exclude: config.list("exclude").to_vec(),
            include: config.list("include").to_vec(),
            renames: pairs(renames)
                .map_err(|why| aqueduct_connect_api::Error::config("renames", renames.join(","), why))?,
        };
        self.use_default = config.boolean(REPLACE_NULL);
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if self.side.of(&mut record).value.is_null() {
            return Ok(Some(record));
        }
        let half = std::mem::take(self.side.of(&mut record));
        *self.side.of(&mut record) = match &half.schema {
            Some(schema) => self.with_schema(schema, half.value)?,
            None => {
                let kept = require_map(half.value, PURPOSE)?.into_iter().filter_map(|(key, value)| {
                    let name = key.to_string();
                    Some((self.rules.rename(&name)?.into(), value))
                });
                SchemaAndValue::schemaless(Value::Map(kept.collect()))
            }
        };
        Ok(Some(record))
    }
}

fn renames_rule(value: &ConfigValue) -> std::result::Result<(), String> {
    match value {
        ConfigValue::List(items) => pairs(items).map(drop),
        _ => Ok(()),
    }
}

fn config() -> ConfigDef {
    let list =
        |name, doc| ConfigKey::with_default(name, ConfigType::List, "", doc).importance(Importance::Medium);
    ConfigDef::new()
        .key(list("exclude", "Fields to leave out; this goes before include."))
        .key(list("include", "Fields to keep; with none, all are kept."))
        .key(list("renames", "OLD:NEW pairs of names.").validator(Validator::Check(renames_rule)))
        .key(replace_null_key())
}

both_sides!("ReplaceField", ReplaceField);
