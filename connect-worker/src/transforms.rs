//! The transforms that every worker has.

mod cast;
mod date_format;
mod drop_headers;
mod extract_field;
mod extract_new_record_state;
mod filter;
mod flatten;
mod header_from;
mod hoist_field;
mod insert_field;
mod insert_header;
mod mask_field;
mod regex_router;
mod replace_field;
mod set_schema_metadata;
mod timestamp_converter;
mod timestamp_router;
mod value_to_key;

use std::sync::Arc;

use aqueduct_connect_api::config::ConfigType;
use aqueduct_connect_api::{
    ConfigKey, Error, Record, Result, Schema, SchemaAndValue, SchemaRef, Struct, Type, Value,
    data::SchemaBuilder,
};

pub(crate) use date_format::{DAY, DateFormat, of_its_look};

/// Registers a transform that has a `$Key` and a `$Value` form; its type has `fn new(Side) -> Self`.
macro_rules! both_sides {
    ($name:literal, $transform:ident) => {
        both_sides!($name, "$Key", $transform, $crate::transforms::Side::Key);
        both_sides!($name, "$Value", $transform, $crate::transforms::Side::Value);
    };
    ($name:literal, $suffix:literal, $transform:ident, $side:expr) => {
        aqueduct_connect_api::inventory::submit! {
            aqueduct_connect_api::Plugin {
                class: concat!("org.apache.kafka.connect.transforms.", $name, $suffix),
                aliases: &[],
                version: env!("CARGO_PKG_VERSION"),
                config: &config,
                factory: aqueduct_connect_api::Factory::Transformation(|| Box::new($transform::new($side))),
            }
        }
    };
}
use both_sides;

/// Registers a transform that works on whole records; its type has a default.
macro_rules! whole_record {
    ($name:literal, $transform:ident) => {
        aqueduct_connect_api::inventory::submit! {
            aqueduct_connect_api::Plugin {
                class: concat!("org.apache.kafka.connect.transforms.", $name),
                aliases: &[],
                version: env!("CARGO_PKG_VERSION"),
                config: &config,
                factory: aqueduct_connect_api::Factory::Transformation(|| Box::new($transform::default())),
            }
        }
    };
}
use whole_record;

/// Which half of a record a transform works on: the `$Key` or the `$Value` of its class name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Key,
    Value,
}

impl Side {
    fn of(self, record: &mut Record) -> &mut SchemaAndValue {
        match self {
            Self::Key => &mut record.key,
            Self::Value => &mut record.value,
        }
    }
}

/// What was made from the schema that came last: records with the same schema come in long runs.
#[derive(Debug)]
struct Last<T>(Option<(SchemaRef, T)>);

impl<T> Last<T> {
    const NONE: Self = Self(None);

    fn get(&mut self, of: &SchemaRef, make: impl FnOnce(&SchemaRef) -> Result<T>) -> Result<&T> {
        if !self.0.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, of) || last == of) {
            self.0 = Some((of.clone(), make(of)?));
        }
        Ok(&self.0.as_ref().expect("set above").1)
    }
}

/// Entries of a map without a schema.
type Entries = Vec<(Value, Value)>;

fn require_map(value: Value, purpose: &str) -> Result<Entries> {
    match value {
        Value::Map(entries) => Ok(entries),
        other => Err(Error::data(format!(
            "Only Map objects supported in absence of schema for [{purpose}], found: {}",
            other.class_name()
        ))),
    }
}

fn require_struct(value: Value, purpose: &str) -> Result<Struct> {
    match value {
        Value::Struct(members) => Ok(*members),
        other => Err(Error::data(format!(
            "Only Struct objects supported for [{purpose}], found: {}",
            other.class_name()
        ))),
    }
}

/// Sets the entry `name`, in its place where there is one.
fn put(entries: &mut Entries, name: &str, value: Value) {
    match entries.iter_mut().find(|(key, _)| key.as_str() == Some(name)) {
        Some((_, old)) => *old = value,
        None => entries.push((name.into(), value)),
    }
}

/// A new schema of `kind` with the name, version, doc and parameters of another.
fn basics(of: &Schema, kind: Type) -> SchemaBuilder {
    let mut builder = Schema::builder(kind);
    if let Some(name) = of.name() {
        builder = builder.name(name);
    }
    if let Some(version) = of.version() {
        builder = builder.version(version);
    }
    if let Some(doc) = of.doc() {
        builder = builder.doc(doc);
    }
    of.parameters().iter().fold(builder, |b, (name, value)| b.parameter(name.clone(), value.clone()))
}

/// The schema, whose fields must have different names.
fn unambiguous(schema: SchemaRef) -> Result<SchemaRef> {
    let fields = schema.fields();
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|earlier| earlier.name == field.name) {
            return Err(Error::data(format!(
                "Cannot create field because of field name duplication {}",
                field.name
            )));
        }
    }
    Ok(schema)
}

/// A member as it is, or its default in place of null.
fn or_default(value: Value, schema: &Schema, use_default: bool) -> Value {
    match value {
        Value::Null if use_default => schema.default_value().cloned().unwrap_or_default(),
        value => value,
    }
}

const REPLACE_NULL: &str = "replace.null.with.default";

fn replace_null_key() -> ConfigKey {
    ConfigKey::with_default(
        REPLACE_NULL,
        ConfigType::Boolean,
        "true",
        "Whether a null field that has a default is taken as that default.",
    )
}

#[cfg(test)]
mod tests {
    use aqueduct_connect_api::Plugin;

    #[test]
    fn all_of_kafkas_transforms_are_there() {
        let sided = [
            "Cast",
            "ExtractField",
            "Flatten",
            "HeaderFrom",
            "HoistField",
            "InsertField",
            "MaskField",
            "ReplaceField",
            "SetSchemaMetadata",
            "TimestampConverter",
        ];
        let whole = ["DropHeaders", "Filter", "InsertHeader", "RegexRouter", "TimestampRouter", "ValueToKey"];
        let sided = sided.iter().flat_map(|name| [format!("{name}$Key"), format!("{name}$Value")]);
        for class in sided.chain(whole.iter().map(|name| (*name).to_owned())) {
            assert!(
                Plugin::by_class(&format!("org.apache.kafka.connect.transforms.{class}")).is_some(),
                "{class}"
            );
        }
    }
}
