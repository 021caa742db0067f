//! Columns as a database describes them, and the raw cells of a row.

use bytes::Bytes;
use bytestring::ByteString;

/// The type of a column, freed from the database's own names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlType {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    /// `NUMERIC`: `numeric.mapping` decides. `None` where the database does not limit the digits.
    Numeric {
        precision: Option<u32>,
        scale: Option<i32>,
    },
    /// `DECIMAL`: always a Decimal.
    Decimal {
        precision: Option<u32>,
        scale: Option<i32>,
    },
    Text,
    Binary,
    Date,
    Time,
    /// `zoned`: the database gives an instant in UTC; else a wall clock in `db.timezone`.
    Timestamp {
        zoned: bool,
    },
    /// No Connect type fits; the column is left out.
    Unsupported,
}

/// A column of a table or of a query's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub sql_type: SqlType,
    /// The database's own name of the type, for messages.
    pub type_name: String,
    pub nullable: bool,
    pub auto_increment: bool,
}

/// A value as the driver gave it. MySQL and PostgreSQL send text; SQLite its own storage classes.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(ByteString),
    Bytes(Bytes),
}

/// Cells in the order of the columns that were asked for.
pub type Row = Vec<Cell>;
