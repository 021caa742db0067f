//! Tables and their columns, from wherever they are learned.

pub mod declared;
pub mod mapped;

use std::fmt;

use bytestring::ByteString;

use crate::value::charset::Charset;

/// Name of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    pub database: ByteString,
    pub table: ByteString,
}

impl TableId {
    pub fn new(database: &str, table: &str) -> Self {
        Self { database: database.into(), table: table.into() }
    }

    /// For statements.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.database), quote(&self.table))
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// An identifier for statements.
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Bit(u32),
    TinyInt,
    SmallInt,
    MediumInt,
    Int,
    BigInt,
    /// `scaled` where digits were declared: FLOAT(7,3).
    Float {
        scaled: bool,
    },
    Double,
    Decimal {
        precision: u32,
        scale: u32,
    },
    Text(Charset),
    /// A fixed length is padded with zeros.
    Binary {
        fixed: Option<usize>,
    },
    Json,
    Enum(Vec<ByteString>),
    Set(Vec<ByteString>),
    Year,
    Date,
    /// With this many digits of a second.
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    Point,
    Geometry,
    Vector,
    /// A type that this connector has no form for.
    Unsupported,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: ByteString,
    /// In capitals with attributes: `INT UNSIGNED`.
    pub type_name: String,
    pub length: Option<i32>,
    pub scale: Option<i32>,
    pub kind: Kind,
    pub unsigned: bool,
    pub charset: Option<String>,
    pub optional: bool,
    /// The default as a literal without quotes; a moment such as CURRENT_TIMESTAMP is the epoch.
    pub default: Option<String>,
    pub auto_increment: bool,
    pub generated: bool,
    pub comment: Option<String>,
}

/// A table as it was at some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub id: TableId,
    pub charset: Option<String>,
    pub columns: Vec<Column>,
    /// Indexes of the primary key's columns, in the key's order.
    pub primary_key: Vec<usize>,
    pub comment: Option<String>,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }
}
