//! Structs: values with named members.

use crate::data::{SchemaRef, Type, Value};
use crate::error::{Error, Result};

/// Members of a struct schema, in the schema's order. A member that was not set is null.
#[derive(Clone, Debug, PartialEq)]
pub struct Struct {
    schema: SchemaRef,
    values: Vec<Value>,
}

impl Struct {
    /// A struct with every member null.
    ///
    /// # Panics
    /// Where `schema` is not a struct's: the caller chose it.
    pub fn new(schema: SchemaRef) -> Self {
        assert_eq!(schema.kind(), Type::Struct, "a struct needs a struct schema");
        let values = vec![Value::Null; schema.fields().len()];
        Self { schema, values }
    }

    /// A struct of `values`, one for each field in order; missing ones are null, surplus ones dropped. Unchecked: call
    /// [`Struct::validate`] where the values come from outside.
    pub fn from_values(schema: SchemaRef, mut values: Vec<Value>) -> Self {
        assert_eq!(schema.kind(), Type::Struct, "a struct needs a struct schema");
        values.resize(schema.fields().len(), Value::Null);
        Self { schema, values }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Values in the order of the schema's fields.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// The member `name`, or `None` where the schema has no such field. A null member with a default is the default.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let (index, field) = self.schema.field(name)?;
        match &self.values[index] {
            Value::Null => Some(field.schema.default_value().unwrap_or(&Value::Null)),
            value => Some(value),
        }
    }

    /// The member `name` as it was set: a null stays null even where the schema has a default.
    pub fn get_without_default(&self, name: &str) -> Option<&Value> {
        self.schema.field(name).map(|(index, _)| &self.values[index])
    }

    /// Sets the member `name`.
    ///
    /// # Errors
    /// [`Error::Data`] where there is no such field or the value is not one of its schema's.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) -> Result<&mut Self> {
        let value = value.into();
        let Some((index, field)) = self.schema.field(name) else {
            return Err(Error::data(format!("{name} is not a valid field name")));
        };
        value.validate(&field.schema, name)?;
        self.values[index] = value;
        Ok(self)
    }

    /// Sets the member at `index` without a check.
    pub fn set(&mut self, index: usize, value: Value) {
        self.values[index] = value;
    }

    /// Checks every member against its schema.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in self.schema.fields().iter().zip(&self.values) {
            value.validate(&field.schema, &field.name)?;
        }
        Ok(())
    }
}
