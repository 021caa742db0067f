//! Records of changed table definitions.

use aqueduct_connect_api::{Schema, SchemaAndValue, SchemaRef, Struct, Type, Value};
use bytestring::ByteString;

use crate::config::Settings;
use crate::table::{Column, Kind, Table, TableId};

/// What happened to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Create,
    Alter,
    Drop,
}

impl ChangeKind {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Alter => "ALTER",
            Self::Drop => "DROP",
        }
    }
}

/// One table of a statement; the definition is that behind it.
#[derive(Clone, Debug)]
pub struct TableChange {
    pub kind: ChangeKind,
    pub id: TableId,
    pub table: Option<Table>,
}

/// Schemas of these records.
#[derive(Clone, Debug)]
pub struct SchemaChanges {
    key: SchemaRef,
    value: SchemaRef,
    change: SchemaRef,
    table: SchemaRef,
    column: SchemaRef,
    comments: bool,
}

impl SchemaChanges {
    pub fn new(settings: &Settings, source: &SchemaRef) -> Self {
        let required = |kind| Schema::builder(kind).build();
        let optional = |kind| Schema::builder(kind).optional().build();
        let texts = Schema::array_builder(required(Type::String)).optional().build();
        let named = |name: &str| {
            Schema::builder(Type::Struct).name(format!("io.debezium.connector.{name}")).version(1)
        };
        let column = named("schema.Column")
            .field("name", required(Type::String))
            .field("jdbcType", required(Type::Int32))
            .field("nativeType", optional(Type::Int32))
            .field("typeName", required(Type::String))
            .field("typeExpression", optional(Type::String))
            .field("charsetName", optional(Type::String))
            .field("length", optional(Type::Int32))
            .field("scale", optional(Type::Int32))
            .field("position", required(Type::Int32))
            .field("optional", optional(Type::Boolean))
            .field("autoIncremented", optional(Type::Boolean))
            .field("generated", optional(Type::Boolean))
            .field("comment", optional(Type::String))
            .field("defaultValueExpression", optional(Type::String))
            .field("enumValues", texts.clone())
            .build();
        let table = named("schema.Table")
            .optional()
            .field("defaultCharsetName", optional(Type::String))
            .field("primaryKeyColumnNames", texts)
            .field("columns", Schema::array_builder(column.clone()).build())
            .field("comment", optional(Type::String))
            .build();
        let change = named("schema.Change")
            .field("type", required(Type::String))
            .field("id", required(Type::String))
            .field("table", table.clone())
            .build();
        let flavor = settings.flavor.name();
        let key = named(&format!("{flavor}.SchemaChangeKey")).field("databaseName", required(Type::String));
        let value = named(&format!("{flavor}.SchemaChangeValue"))
            .field("source", source.clone())
            .field("ts_ms", required(Type::Int64))
            .field("databaseName", optional(Type::String))
            .field("schemaName", optional(Type::String))
            .field("ddl", optional(Type::String))
            .field("tableChanges", Schema::array_builder(change.clone()).build());
        let comments = settings.modes.comments;
        Self { key: key.build(), value: value.build(), change, table, column, comments }
    }

    /// Key and value of the record of statement `ddl`, processed at `now` in nanoseconds.
    pub fn record(
        &self,
        source: Value,
        database: &str,
        ddl: &str,
        changes: &[TableChange],
        now: i64,
    ) -> (SchemaAndValue, SchemaAndValue) {
        let of = |schema: &SchemaRef, values| {
            SchemaAndValue::new(Some(schema.clone()), Struct::from_values(schema.clone(), values).into())
        };
        let key = of(&self.key, vec![database.into()]);
        let changes = changes.iter().map(|change| self.change(change)).collect();
        let value = vec![
            source,
            (now / 1_000_000).into(),
            database.into(),
            Value::Null,
            ddl.into(),
            Value::Array(changes),
        ];
        (key, of(&self.value, value))
    }

    fn change(&self, change: &TableChange) -> Value {
        let id = format!("\"{}\".\"{}\"", change.id.database, change.id.table);
        let table = change.table.as_ref().filter(|_| change.kind != ChangeKind::Drop);
        let values = vec![change.kind.name().into(), id.into(), table.map_or(Value::Null, |t| self.table(t))];
        Struct::from_values(self.change.clone(), values).into()
    }

    fn table(&self, table: &Table) -> Value {
        let key = table.primary_key.iter().map(|i| table.columns[*i].name.clone().into()).collect();
        let columns = table.columns.iter().enumerate().map(|(i, c)| self.column(i, c)).collect();
        let values = vec![
            table.charset.clone().into(),
            Value::Array(key),
            Value::Array(columns),
            self.comment(&table.comment),
        ];
        Struct::from_values(self.table.clone(), values).into()
    }

    fn comment(&self, comment: &Option<String>) -> Value {
        comment.clone().filter(|_| self.comments).into()
    }

    fn column(&self, index: usize, column: &Column) -> Value {
        let options = match &column.kind {
            Kind::Enum(options) | Kind::Set(options) => Value::Array(
                options.iter().map(|o: &ByteString| format!("'{}'", o.replace('\'', "''")).into()).collect(),
            ),
            _ => Value::Null,
        };
        let values = vec![
            column.name.clone().into(),
            jdbc_type(column).into(),
            Value::Null,
            column.type_name.as_str().into(),
            column.type_name.as_str().into(),
            column.charset.clone().into(),
            column.length.into(),
            column.scale.into(),
            (index as i32 + 1).into(),
            column.optional.into(),
            column.auto_increment.into(),
            column.generated.into(),
            self.comment(&column.comment),
            column.default.clone().into(),
            options,
        ];
        Struct::from_values(self.column.clone(), values).into()
    }
}

/// The numbers of `java.sql.Types`.
fn jdbc_type(column: &Column) -> i32 {
    match &column.kind {
        Kind::Bit(_) => -7,
        Kind::TinyInt | Kind::SmallInt => 5,
        Kind::MediumInt | Kind::Int | Kind::Year => 4,
        Kind::BigInt => -5,
        Kind::Float { .. } => 6,
        Kind::Double => 8,
        Kind::Decimal { .. } => 3,
        Kind::Text(_) if column.type_name == "CHAR" => 1,
        Kind::Text(_) => 12,
        Kind::Binary { fixed: Some(_) } => -2,
        Kind::Binary { .. } if column.type_name == "VARBINARY" => -3,
        Kind::Binary { .. } => 2004,
        Kind::Enum(_) | Kind::Set(_) => 1,
        Kind::Date => 91,
        Kind::Time(_) => 92,
        Kind::DateTime(_) => 93,
        Kind::Timestamp(_) => 2014,
        Kind::Json | Kind::Point | Kind::Geometry | Kind::Vector | Kind::Unsupported => 1111,
    }
}
