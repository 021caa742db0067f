//! `ExtractNewRecordState`: the row out of a change event.

use std::sync::Arc;

use aqueduct_connect_api::config::{ConfigType, Importance, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Factory, Field, Header, Plugin, Record, Result, Schema,
    SchemaAndValue, SchemaRef, Struct, Transformation, Type, Value,
};

/// What becomes of deletes and of the tombstones behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Deletes {
    /// Neither goes on.
    Drop,
    /// The delete goes on with a null value and the row's schema; the tombstone behind it is dropped.
    #[default]
    Tombstone,
    /// The delete goes on as the last row with `__deleted`.
    Rewrite,
    /// As `Rewrite`, and the tombstone too.
    RewriteWithTombstone,
    /// The delete goes on as a tombstone without a schema.
    DeleteToTombstone,
}

const DELETES: &[&str] = &["drop", "tombstone", "rewrite", "rewrite-with-tombstone", "delete-to-tombstone"];

impl Deletes {
    fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "drop" => Self::Drop,
            "rewrite" => Self::Rewrite,
            "rewrite-with-tombstone" => Self::RewriteWithTombstone,
            "delete-to-tombstone" => Self::DeleteToTombstone,
            _ => Self::Tombstone,
        }
    }

    fn rewrites(self) -> bool {
        matches!(self, Self::Rewrite | Self::RewriteWithTombstone)
    }
}

/// A member of the envelope that is added to the row or to the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    /// The envelope's struct that holds it; `None` for the envelope itself.
    part: Option<String>,
    name: String,
    /// What it is called in the output.
    output: String,
}

impl Reference {
    /// Reads `op`, `table`, `source.ts_ms` or `path:newname`.
    fn parse(text: &str, prefix: &str) -> Self {
        let (path, rename) = match text.split_once(':') {
            Some((path, rename)) => (path.trim(), Some(rename.trim())),
            None => (text.trim(), None),
        };
        let (part, name, plain) = match path.split_once('.') {
            Some((part, name)) => (Some(part.to_owned()), name, format!("{part}_{name}")),
            None => (home_of(path).map(str::to_owned), path, path.to_owned()),
        };
        Self { part, name: name.to_owned(), output: format!("{prefix}{}", rename.unwrap_or(&plain)) }
    }

    fn parse_all(config: &Config, key: &str) -> Vec<Self> {
        let prefix = config.text(&format!("{key}.prefix"));
        config.list(key).iter().filter(|t| !t.is_empty()).map(|t| Self::parse(t, prefix)).collect()
    }

    fn find<'e>(&self, envelope: &'e Struct) -> Option<(&'e Field, &'e Value)> {
        let within = match &self.part {
            Some(part) => envelope.get_without_default(part)?.as_struct()?,
            None => envelope,
        };
        let (index, field) = within.schema().field(&self.name)?;
        Some((field, &within.values()[index]))
    }
}

/// Where a bare name stands.
fn home_of(name: &str) -> Option<&'static str> {
    match name {
        "op" | "ts_ms" | "ts_us" | "ts_ns" => None,
        "id" | "data_collection_order" | "total_order" => Some("transaction"),
        _ => Some("source"),
    }
}

/// Takes the row out of a change event; records of other kinds pass as they are.
#[derive(Debug, Default)]
pub struct ExtractNewRecordState {
    deletes: Deletes,
    add_fields: Vec<Reference>,
    add_headers: Vec<Reference>,
    route_by_field: Option<String>,
    replace_null_with_default: bool,
    /// The row schema last seen with the fields that were added to it, and the schema of both.
    last: Option<(SchemaRef, Vec<Field>, SchemaRef)>,
}

impl ExtractNewRecordState {
    /// The row with what is added to it.
    fn widen(&mut self, row: Struct, envelope: &Struct, deleted: bool) -> Struct {
        let mut fields = Vec::new();
        let mut values = Vec::new();
        for (reference, (field, value)) in self.add_fields.iter().filter_map(|r| Some((r, r.find(envelope)?)))
        {
            fields.push(Field { name: reference.output.as_str().into(), schema: field.schema.clone() });
            values.push(value.clone());
        }
        if self.deletes.rewrites() {
            fields.push(Field { name: "__deleted".into(), schema: Schema::optional_of(Type::String) });
            values.push(if deleted { "true" } else { "false" }.into());
        }
        if fields.is_empty() {
            return row;
        }
        let known = self
            .last
            .as_ref()
            .is_some_and(|(of, added, _)| Arc::ptr_eq(of, row.schema()) && *added == fields);
        if !known {
            let mut builder = row.schema().to_builder();
            for field in &fields {
                builder = builder.field(field.name.clone(), field.schema.clone());
            }
            self.last = Some((row.schema().clone(), fields, builder.build()));
        }
        let (_, _, schema) = self.last.as_ref().expect("set above");
        let schema = schema.clone();
        let mut all = row.into_values();
        all.append(&mut values);
        Struct::from_values(schema, all)
    }

    fn route(&self, record: &mut Record, row: &Struct) -> Result<()> {
        let Some(by) = &self.route_by_field else { return Ok(()) };
        let topic = row.get(by).and_then(Value::as_str).ok_or_else(|| {
            Error::data(format!(
                "route.by.field: the row has no text in field \"{by}\", so its topic is not known"
            ))
        })?;
        record.topic = topic.into();
        Ok(())
    }

    fn member(&self, envelope: &Struct, name: &str) -> Option<(SchemaRef, Struct)> {
        let (index, field) = envelope.schema().field(name)?;
        let row = envelope.values()[index].as_struct()?;
        Some((field.schema.clone(), self.with_defaults(row)))
    }

    /// Null members take their defaults where the setting asks for it.
    fn with_defaults(&self, row: &Struct) -> Struct {
        let mut row = row.clone();
        if self.replace_null_with_default {
            let schema = row.schema().clone();
            for (index, field) in schema.fields().iter().enumerate() {
                if let (true, Some(default)) = (row.values()[index].is_null(), field.schema.default_value()) {
                    row.set(index, default.clone());
                }
            }
        }
        row
    }

    fn deleted(&mut self, mut record: Record, envelope: &Struct) -> Result<Option<Record>> {
        let before = self.member(envelope, "before");
        if let Some((_, row)) = &before {
            self.route(&mut record, row)?;
        }
        match self.deletes {
            Deletes::Drop => Ok(None),
            Deletes::Tombstone => {
                let schema = envelope.schema().field("after").map(|(_, f)| f.schema.clone());
                record.value = SchemaAndValue::new(schema, Value::Null);
                Ok(Some(record))
            }
            Deletes::DeleteToTombstone => {
                record.value = SchemaAndValue::NULL;
                Ok(Some(record))
            }
            Deletes::Rewrite | Deletes::RewriteWithTombstone => {
                let Some((_, row)) = before else { return Ok(None) };
                let row = self.widen(row, envelope, true);
                record.value = SchemaAndValue::new(Some(row.schema().clone()), row.into());
                Ok(Some(record))
            }
        }
    }
}

impl Transformation for ExtractNewRecordState {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.deletes = Deletes::named(config.text("delete.tombstone.handling.mode"));
        self.add_fields = Reference::parse_all(config, "add.fields");
        self.add_headers = Reference::parse_all(config, "add.headers");
        self.route_by_field = config.string("route.by.field").filter(|s| !s.is_empty()).map(str::to_owned);
        self.replace_null_with_default = config.boolean("replace.null.with.default");
        if let Some(header) = config.string("drop.fields.header.name").filter(|s| !s.is_empty()) {
            return Err(Error::config(
                "drop.fields.header.name",
                header,
                "dropping fields that a header names is not supported; remove the setting",
            ));
        }
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if record.value.value.is_null() {
            return Ok((self.deletes == Deletes::RewriteWithTombstone).then_some(record));
        }
        let is_envelope =
            record.value.schema.as_deref().and_then(Schema::name).is_some_and(|n| n.ends_with("Envelope"));
        let envelope = match std::mem::take(&mut record.value) {
            SchemaAndValue { value: Value::Struct(envelope), .. } if is_envelope => envelope,
            other => {
                record.value = other;
                return Ok(Some(record));
            }
        };
        for reference in &self.add_headers {
            if let Some((field, value)) = reference.find(&envelope) {
                let value = SchemaAndValue::new(Some(field.schema.clone()), value.clone());
                record.headers.push(Header { key: reference.output.as_str().into(), value });
            }
        }
        let Some((schema, row)) = self.member(&envelope, "after") else {
            let is_delete = envelope.get_without_default("before").is_some_and(|b| !b.is_null());
            // Neither row: a truncated table, which has nothing to go on.
            return if is_delete { self.deleted(record, &envelope) } else { Ok(None) };
        };
        self.route(&mut record, &row)?;
        let row = self.widen(row, &envelope, false);
        let unchanged = row.schema().fields().len() == schema.fields().len();
        let schema = if unchanged { schema } else { row.schema().clone() };
        record.value = SchemaAndValue::new(Some(schema), row.into());
        Ok(Some(record))
    }
}

fn config() -> ConfigDef {
    let text = |name: &'static str, default: &'static str, doc| {
        ConfigKey::with_default(name, ConfigType::String, default, doc)
    };
    let list = |name: &'static str, doc| ConfigKey::with_default(name, ConfigType::List, "", doc);
    ConfigDef::new()
        .key(
            text(
                "delete.tombstone.handling.mode",
                "tombstone",
                "What becomes of deletes: drop, tombstone, rewrite, rewrite-with-tombstone or delete-to-tombstone.",
            )
            .validator(Validator::OneOfIgnoreCase(DELETES)),
        )
        .key(list("add.fields", "Members of the event to add to the row, such as op, table, source.ts_ms or op:action."))
        .key(text("add.fields.prefix", "__", "What the names of added fields start with."))
        .key(list("add.headers", "Members of the event to add as headers."))
        .key(text("add.headers.prefix", "__", "What the names of added headers start with."))
        .key(text("route.by.field", "", "Field of the row whose text becomes the topic.").importance(Importance::Low))
        .key(text("drop.fields.header.name", "", "Not supported.").importance(Importance::Low))
        .key(ConfigKey::with_default(
            "replace.null.with.default",
            ConfigType::Boolean,
            "true",
            "Whether a null field that has a default becomes that default.",
        ))
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "io.debezium.transforms.ExtractNewRecordState",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        factory: Factory::Transformation(|| Box::new(ExtractNewRecordState::default())),
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_connect_api::ConfigMap;

    use super::*;

    fn transform(settings: &[(&str, &str)]) -> ExtractNewRecordState {
        let map: ConfigMap = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut transform = ExtractNewRecordState::default();
        transform.configure(&config().parse(&map).expect("good settings")).expect("configured");
        transform
    }

    fn event(op: &str, before: Option<i32>, after: Option<i32>) -> Record {
        let row =
            Schema::struct_builder("s.db.t.Value").optional().field("id", Schema::of(Type::Int32)).build();
        let source =
            Schema::struct_builder("source").field("table", Schema::optional_of(Type::String)).build();
        let schema = Schema::struct_builder("s.db.t.Envelope")
            .field("before", row.clone())
            .field("after", row.clone())
            .field("source", source.clone())
            .field("op", Schema::of(Type::String))
            .build();
        let of = |id: Option<i32>| id.map(|id| Struct::from_values(row.clone(), vec![id.into()]));
        let values = vec![
            of(before).into(),
            of(after).into(),
            Struct::from_values(source, vec!["t".into()]).into(),
            op.into(),
        ];
        let value = SchemaAndValue::new(Some(schema.clone()), Struct::from_values(schema, values).into());
        Record { topic: "s.db.t".into(), value, ..Record::default() }
    }

    fn fields(record: &Record) -> Vec<(String, Value)> {
        let row = record.value.value.as_struct().expect("a struct");
        let names = row.schema().fields().iter().map(|f| f.name.to_string());
        names.zip(row.values().iter().cloned()).collect()
    }

    #[test]
    fn rows_come_out_of_events() {
        let mut t = transform(&[]);
        let out = t.apply(event("u", Some(1), Some(2))).expect("applied").expect("kept");
        assert_eq!(fields(&out), [("id".to_owned(), Value::Int32(2))]);
        assert_eq!(out.value.schema.as_deref().and_then(Schema::name), Some("s.db.t.Value"));
        let out = t.apply(event("d", Some(1), None)).expect("applied").expect("kept");
        assert!(out.value.value.is_null());
        assert_eq!(t.apply(Record::default()).expect("applied"), None, "the tombstone behind a delete");
        assert_eq!(t.apply(event("t", None, None)).expect("applied"), None);
    }

    #[test]
    fn deletes_can_be_rewritten() {
        let mut t = transform(&[
            ("delete.tombstone.handling.mode", "rewrite-with-tombstone"),
            ("add.fields", "op,table:tab"),
        ]);
        let out = t.apply(event("d", Some(1), None)).expect("applied").expect("kept");
        let expected =
            [("id", 1.into()), ("__op", "d".into()), ("__tab", "t".into()), ("__deleted", "true".into())];
        assert_eq!(fields(&out), expected.map(|(n, v): (&str, Value)| (n.to_owned(), v)));
        let out = t.apply(event("c", None, Some(5))).expect("applied").expect("kept");
        assert_eq!(fields(&out)[3].1, Value::from("false"));
        assert!(t.apply(Record::default()).expect("applied").is_some());
        assert_eq!(
            transform(&[("delete.tombstone.handling.mode", "drop")])
                .apply(event("d", Some(1), None))
                .expect("applied"),
            None
        );
        let out = transform(&[("delete.tombstone.handling.mode", "delete-to-tombstone")]).apply(event(
            "d",
            Some(1),
            None,
        ));
        assert_eq!(out.expect("applied").expect("kept").value, SchemaAndValue::NULL);
    }

    #[test]
    fn other_records_pass() {
        let record = Record { value: SchemaAndValue::schemaless("x".into()), ..Record::default() };
        assert_eq!(transform(&[]).apply(record.clone()).expect("applied"), Some(record));
        let mut t = transform(&[("add.headers", "op,source.table")]);
        let out = t.apply(event("c", None, Some(5))).expect("applied").expect("kept");
        let names: Vec<&str> = out.headers.iter().map(|h| &*h.key).collect();
        assert_eq!(names, ["__op", "__source_table"]);
    }
}
