//! The data model: schemas and values, as Kafka Connect defines them.

mod decimal;
mod display;
mod schema;
mod structs;
mod value;

pub use decimal::Decimal;
pub use schema::{DATE, DECIMAL, Field, Schema, SchemaBuilder, SchemaRef, TIME, TIMESTAMP, Type};
pub use structs::Struct;
pub use value::{SchemaAndValue, Value};
