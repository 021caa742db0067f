//! Schemas.

use std::sync::Arc;

use bytestring::ByteString;

use crate::data::Value;

/// Schema name of a [`crate::data::Decimal`]; parameter `scale`.
pub const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
/// Schema name of days since 1970-01-01.
pub const DATE: &str = "org.apache.kafka.connect.data.Date";
/// Schema name of milliseconds since midnight.
pub const TIME: &str = "org.apache.kafka.connect.data.Time";
/// Schema name of milliseconds since 1970-01-01T00:00:00Z.
pub const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";

/// A schema, shared by the records that have it. Compare with [`Arc::ptr_eq`] first: equal schemas are usually the same.
pub type SchemaRef = Arc<Schema>;

/// The shape of a schema's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Boolean,
    String,
    Bytes,
    Array,
    Map,
    Struct,
}

impl Type {
    /// Kafka's name for the type in messages, such as `INT32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Float32 => "FLOAT32",
            Self::Float64 => "FLOAT64",
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Bytes => "BYTES",
            Self::Array => "ARRAY",
            Self::Map => "MAP",
            Self::Struct => "STRUCT",
        }
    }
}

/// A member of a struct schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: ByteString,
    pub schema: SchemaRef,
}

/// What values look like, and what they mean: `name`, `version` and `parameters` carry the meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub(crate) kind: Type,
    pub(crate) optional: bool,
    pub(crate) name: Option<ByteString>,
    pub(crate) version: Option<i32>,
    pub(crate) doc: Option<ByteString>,
    pub(crate) parameters: Vec<(ByteString, ByteString)>,
    pub(crate) default: Option<Value>,
    pub(crate) fields: Vec<Field>,
    pub(crate) key: Option<SchemaRef>,
    pub(crate) value: Option<SchemaRef>,
}

impl Schema {
    /// Starts a schema of `kind`.
    pub fn builder(kind: Type) -> SchemaBuilder {
        SchemaBuilder(Self {
            kind,
            optional: false,
            name: None,
            version: None,
            doc: None,
            parameters: Vec::new(),
            default: None,
            fields: Vec::new(),
            key: None,
            value: None,
        })
    }

    /// A required schema of `kind` with nothing else set.
    pub fn of(kind: Type) -> SchemaRef {
        Self::builder(kind).build()
    }

    /// An optional schema of `kind` with nothing else set.
    pub fn optional_of(kind: Type) -> SchemaRef {
        Self::builder(kind).optional().build()
    }

    /// Starts a struct schema named `name`.
    pub fn struct_builder(name: impl Into<ByteString>) -> SchemaBuilder {
        Self::builder(Type::Struct).name(name)
    }

    /// Starts an array schema with `items`.
    pub fn array_builder(items: SchemaRef) -> SchemaBuilder {
        let mut b = Self::builder(Type::Array);
        b.0.value = Some(items);
        b
    }

    /// Starts a map schema.
    pub fn map_builder(keys: SchemaRef, values: SchemaRef) -> SchemaBuilder {
        let mut b = Self::builder(Type::Map);
        b.0.key = Some(keys);
        b.0.value = Some(values);
        b
    }

    /// Starts a logical decimal with `scale` digits after the point.
    pub fn decimal_builder(scale: i32) -> SchemaBuilder {
        Self::builder(Type::Bytes).name(DECIMAL).version(1).parameter("scale", scale.to_string())
    }

    /// Starts a logical date.
    pub fn date_builder() -> SchemaBuilder {
        Self::builder(Type::Int32).name(DATE).version(1)
    }

    /// Starts a logical time of day.
    pub fn time_builder() -> SchemaBuilder {
        Self::builder(Type::Int32).name(TIME).version(1)
    }

    /// Starts a logical timestamp.
    pub fn timestamp_builder() -> SchemaBuilder {
        Self::builder(Type::Int64).name(TIMESTAMP).version(1)
    }

    pub fn kind(&self) -> Type {
        self.kind
    }

    pub fn is_optional(&self) -> bool {
        self.optional
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn version(&self) -> Option<i32> {
        self.version
    }

    pub fn doc(&self) -> Option<&str> {
        self.doc.as_deref()
    }

    /// Parameters in the order in which they were set.
    pub fn parameters(&self) -> &[(ByteString, ByteString)] {
        &self.parameters
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref()
    }

    /// Members of a struct, in order; empty for other types.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Position and definition of the member `name`.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, f)| f.name == name)
    }

    /// Schema of a map's keys.
    pub fn key_schema(&self) -> Option<&SchemaRef> {
        self.key.as_ref()
    }

    /// Schema of a map's values or an array's items.
    pub fn value_schema(&self) -> Option<&SchemaRef> {
        self.value.as_ref()
    }

    /// Starts a schema that is this one, to change some of it.
    pub fn to_builder(&self) -> SchemaBuilder {
        SchemaBuilder(self.clone())
    }
}

/// Builds a [`Schema`].
#[derive(Clone, Debug)]
pub struct SchemaBuilder(Schema);

impl SchemaBuilder {
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.0.optional = true;
        self
    }

    #[must_use]
    pub fn required(mut self) -> Self {
        self.0.optional = false;
        self
    }

    #[must_use]
    pub fn name(mut self, name: impl Into<ByteString>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    #[must_use]
    pub fn version(mut self, version: i32) -> Self {
        self.0.version = Some(version);
        self
    }

    #[must_use]
    pub fn doc(mut self, doc: impl Into<ByteString>) -> Self {
        self.0.doc = Some(doc.into());
        self
    }

    #[must_use]
    pub fn parameter(mut self, name: impl Into<ByteString>, value: impl Into<ByteString>) -> Self {
        self.0.parameters.push((name.into(), value.into()));
        self
    }

    /// The value that stands for a missing one.
    #[must_use]
    pub fn default_value(mut self, value: Value) -> Self {
        self.0.default = Some(value);
        self
    }

    #[must_use]
    pub fn field(mut self, name: impl Into<ByteString>, schema: SchemaRef) -> Self {
        self.0.fields.push(Field { name: name.into(), schema });
        self
    }

    pub fn build(self) -> SchemaRef {
        Arc::new(self.0)
    }
}
