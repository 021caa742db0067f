//! `ExtractField`: one field instead of the whole key or value.

use aqueduct_connect_api::config::{ConfigType, Importance, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Factory, Plugin, Record, Result, SchemaAndValue, Transformation,
    Value,
};

use super::Side;

/// Replaces a struct or map by one of its fields.
#[derive(Debug)]
pub struct ExtractField {
    side: Side,
    path: Vec<String>,
    replace_null_with_default: bool,
}

impl ExtractField {
    fn new(side: Side) -> Self {
        Self { side, path: Vec::new(), replace_null_with_default: true }
    }

    fn extract(&self, from: SchemaAndValue) -> Result<SchemaAndValue> {
        let mut current = from;
        for name in &self.path {
            current = self.step(current, name)?;
        }
        Ok(current)
    }

    fn step(&self, from: SchemaAndValue, name: &str) -> Result<SchemaAndValue> {
        let Some(schema) = &from.schema else {
            return match from.value {
                Value::Null => Ok(SchemaAndValue::NULL),
                Value::Map(entries) => {
                    let found = entries.into_iter().find(|(k, _)| k.as_str() == Some(name));
                    Ok(SchemaAndValue::schemaless(found.map_or(Value::Null, |(_, v)| v)))
                }
                other => Err(Error::data(format!(
                    "Only Map objects supported in absence of schema for [field extraction], found: {}",
                    other.class_name()
                ))),
            };
        };
        let Some((index, field)) = schema.field(name) else {
            if from.value.is_null() {
                return Ok(SchemaAndValue::NULL);
            }
            let known: Vec<&str> = schema.fields().iter().map(|f| &*f.name).collect();
            return Err(Error::connect(format!(
                "Unknown field: {name}; the fields are {}",
                known.join(", ")
            )));
        };
        let of = field.schema.clone();
        let value = match from.value {
            Value::Null => Value::Null,
            Value::Struct(members) => {
                let mut values = members.into_values();
                match values.swap_remove(index) {
                    Value::Null if self.replace_null_with_default => {
                        of.default_value().cloned().unwrap_or_default()
                    }
                    value => value,
                }
            }
            other => {
                return Err(Error::data(format!(
                    "Only Struct objects supported for [field extraction], found: {}",
                    other.class_name()
                )));
            }
        };
        Ok(SchemaAndValue::new(Some(of), value))
    }
}

impl Transformation for ExtractField {
    fn configure(&mut self, config: &Config) -> Result<()> {
        let field = config.text("field");
        self.path = if config.text("field.syntax.version").eq_ignore_ascii_case("V2") {
            nested_path(field)?
        } else {
            vec![field.to_owned()]
        };
        self.replace_null_with_default = config.boolean("replace.null.with.default");
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let half = std::mem::take(self.side.of(&mut record));
        *self.side.of(&mut record) = self.extract(half)?;
        Ok(Some(record))
    }
}

/// Splits a path at its dots; backticks keep a name with dots whole.
fn nested_path(text: &str) -> Result<Vec<String>> {
    let mut path = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = if let Some(quoted) = rest.strip_prefix('`') {
            let end = quoted.find("`.").or_else(|| quoted.strip_suffix('`').map(str::len));
            let end = end.ok_or_else(|| {
                Error::config("field", text, format!("Incomplete backtick pair in path: [{text}]"))
            })?;
            (&quoted[..end], quoted[end + 1..].strip_prefix('.').unwrap_or_default())
        } else {
            rest.split_once('.').unwrap_or((rest, ""))
        };
        path.push(name.to_owned());
        rest = after;
    }
    Ok(path)
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::required("field", ConfigType::String, "Name of the field to take.")
                .importance(Importance::Medium),
        )
        .key(
            ConfigKey::with_default(
                "field.syntax.version",
                ConfigType::String,
                "V1",
                "V1: the name is one field's. V2: dots in it lead into nested fields; backticks keep a name with dots whole.",
            )
            .importance(Importance::High)
            .validator(Validator::OneOfIgnoreCase(&["V1", "V2"])),
        )
        .key(ConfigKey::with_default(
            "replace.null.with.default",
            ConfigType::Boolean,
            "true",
            "Whether a null field that has a default is taken as that default.",
        ))
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.transforms.ExtractField$Key",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        factory: Factory::Transformation(|| Box::new(ExtractField::new(Side::Key))),
    }
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.transforms.ExtractField$Value",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        factory: Factory::Transformation(|| Box::new(ExtractField::new(Side::Value))),
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_connect_api::{ConfigMap, Schema, Struct, Type};

    use super::*;

    fn extract(settings: &[(&str, &str)]) -> ExtractField {
        let map: ConfigMap = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut transform = ExtractField::new(Side::Key);
        transform.configure(&config().parse(&map).expect("good settings")).expect("configured");
        transform
    }

    fn keyed(key: SchemaAndValue) -> Record {
        Record { key, ..Record::default() }
    }

    #[test]
    fn takes_the_field_of_a_struct_and_its_schema() {
        let schema = Schema::struct_builder("k").field("id", Schema::of(Type::Int64)).build();
        let mut key = Struct::new(schema.clone());
        key.put("id", 9i64).expect("fits");
        let record = keyed(SchemaAndValue::new(Some(schema.clone()), key.into()));
        let out = extract(&[("field", "id")]).apply(record.clone()).expect("extracted").expect("kept");
        assert_eq!(out.key, SchemaAndValue::new(Some(Schema::of(Type::Int64)), Value::Int64(9)));
        let error = extract(&[("field", "nope")]).apply(record).expect_err("no such field");
        assert!(error.to_string().contains("Unknown field: nope"), "{error}");
        let null = keyed(SchemaAndValue::new(Some(schema), Value::Null));
        assert_eq!(
            extract(&[("field", "id")]).apply(null).expect("null").expect("kept").key.value,
            Value::Null
        );
    }

    #[test]
    fn takes_the_entry_of_a_map() {
        let inner = Value::Map(vec![("c.d".into(), Value::Int64(1))]);
        let record = keyed(SchemaAndValue::schemaless(Value::Map(vec![("a".into(), inner)])));
        let out = extract(&[("field", "a.`c.d`"), ("field.syntax.version", "V2")]).apply(record.clone());
        assert_eq!(out.expect("extracted").expect("kept").key.value, Value::Int64(1));
        let out = extract(&[("field", "missing")]).apply(record).expect("extracted").expect("kept");
        assert_eq!(out.key, SchemaAndValue::NULL);
        let scalar = keyed(SchemaAndValue::schemaless("x".into()));
        assert!(extract(&[("field", "a")]).apply(scalar).is_err());
    }
}
