//! Columns as a table map describes them, and whether a known table fits one.

use bytestring::ByteString;

use super::{Column, Kind, Table, TableId};
use crate::binlog::table_map::{MapColumn, TableMap, types::*};
use crate::value::charset::{Charset, Collations};

/// Whether rows of `map` can be read with `table`: as many columns, of types that go together, and of the same names
/// where the event tells them.
pub fn fits(table: &Table, map: &TableMap) -> bool {
    let names = map.metadata.names.as_ref();
    table.columns.len() == map.columns.len()
        && table.columns.iter().zip(&map.columns).all(|(column, mapped)| kind_fits(column, mapped))
        && names.is_none_or(|names| table.columns.iter().zip(names).all(|(c, name)| c.name == *name))
}

fn kind_fits(column: &Column, mapped: &MapColumn) -> bool {
    let (low, high) = (u32::from(mapped.meta & 0xff), u32::from(mapped.meta >> 8));
    match (&column.kind, mapped.kind) {
        (Kind::Bit(n), BIT) => low + 8 * high == *n,
        (Kind::TinyInt, TINY)
        | (Kind::SmallInt, SHORT)
        | (Kind::MediumInt, INT24)
        | (Kind::Int, LONG)
        | (Kind::BigInt, LONGLONG)
        | (Kind::Float { .. }, FLOAT)
        | (Kind::Double, DOUBLE)
        | (Kind::Json, JSON)
        | (Kind::Year, YEAR)
        | (Kind::Date, DATE)
        | (Kind::Point | Kind::Geometry, GEOMETRY)
        | (Kind::Vector, VECTOR)
        | (Kind::Time(0), TIME)
        | (Kind::DateTime(0), DATETIME)
        | (Kind::Timestamp(0), TIMESTAMP) => true,
        (Kind::Decimal { precision, scale }, NEWDECIMAL) => (low, high) == (*precision, *scale),
        (Kind::Time(digits), TIME2)
        | (Kind::DateTime(digits), DATETIME2)
        | (Kind::Timestamp(digits), TIMESTAMP2) => low == u32::from(*digits),
        (Kind::Enum(_), ENUM) | (Kind::Set(_), SET) => true,
        (Kind::Binary { fixed: Some(len) }, STRING) => mapped.fixed_len() == *len,
        (Kind::Text(_), STRING | VARCHAR | VAR_STRING | TINY_BLOB | BLOB | MEDIUM_BLOB | LONG_BLOB)
        | (Kind::Binary { fixed: None }, VARCHAR | VAR_STRING | TINY_BLOB | BLOB | MEDIUM_BLOB | LONG_BLOB) => {
            true
        }
        (Kind::Text(_) | Kind::Binary { .. }, VARCHAR_COMPRESSED | BLOB_COMPRESSED)
        | (Kind::Unsupported, _) => true,
        _ => false,
    }
}

/// The table of an event that carries names; `None` where it does not. `known` lends what events never tell (defaults,
/// comments) for columns that it has alike.
pub fn table_of(map: &TableMap, collations: &Collations, known: Option<&Table>) -> Option<Table> {
    let names = map.metadata.names.as_ref()?;
    let columns = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let column = column_of(map, index, name, collations);
            match known.and_then(|t| t.column(name).map(|i| &t.columns[i])) {
                Some(old) if is_same(old, &column) => {
                    Column { optional: column.optional, unsigned: column.unsigned, ..old.clone() }
                }
                _ => column,
            }
        })
        .collect();
    Some(Table {
        id: TableId::new(&map.database, &map.table),
        charset: known.and_then(|t| t.charset.clone()),
        columns,
        primary_key: map.metadata.primary_key.clone().unwrap_or_default(),
        comment: known.and_then(|t| t.comment.clone()),
    })
}

/// Whether what the catalogue says of a column is what the event says, so far as the event can tell.
fn is_same(known: &Column, mapped: &Column) -> bool {
    match (&known.kind, &mapped.kind) {
        (Kind::Float { .. }, Kind::Float { .. }) => known.unsigned == mapped.unsigned,
        (Kind::Unsupported, _) => true,
        (a, b) => a == b && known.unsigned == mapped.unsigned,
    }
}

fn column_of(map: &TableMap, index: usize, name: &str, collations: &Collations) -> Column {
    let mapped = &map.columns[index];
    let meta = &map.metadata;
    let collation = meta.collations.as_ref().map_or(0, |c| c[index]);
    let charset = match collation {
        0 => None,
        id => Some(collations.charset_name(id).map_or_else(|| format!("collation {id}"), str::to_owned)),
    };
    let is_binary = charset.as_deref() == Some("binary");
    let text = || Kind::Text(charset.as_deref().map_or(Charset::Utf8, Charset::named));
    let options = || -> Vec<ByteString> {
        let charset = charset.as_deref().map_or(Charset::Utf8, Charset::named);
        let found = meta.options.iter().find(|(column, _)| *column == index);
        found.map_or_else(Vec::new, |(_, options)| {
            options
                .iter()
                .map(|o| charset.decode(o).unwrap_or_else(|_| String::from_utf8_lossy(o).into_owned().into()))
                .collect()
        })
    };
    let (low, high) = (i32::from(mapped.meta & 0xff), i32::from(mapped.meta >> 8));
    let digits = low.clamp(0, 6) as u8;
    let sized = |n: i32| (n > 0).then_some(n);
    let (kind, type_name, length, scale) = match mapped.kind {
        BIT => (Kind::Bit((low + 8 * high).max(1) as u32), "BIT", Some(low + 8 * high), None),
        TINY => (Kind::TinyInt, "TINYINT", None, None),
        SHORT => (Kind::SmallInt, "SMALLINT", None, None),
        INT24 => (Kind::MediumInt, "MEDIUMINT", None, None),
        LONG => (Kind::Int, "INT", None, None),
        LONGLONG => (Kind::BigInt, "BIGINT", None, None),
        FLOAT => (Kind::Float { scaled: false }, "FLOAT", None, None),
        DOUBLE => (Kind::Double, "DOUBLE", None, None),
        NEWDECIMAL => {
            let kind = Kind::Decimal { precision: low as u32, scale: high as u32 };
            (kind, "DECIMAL", Some(low), Some(high))
        }
        JSON => (Kind::Json, "JSON", None, None),
        YEAR => (Kind::Year, "YEAR", None, None),
        DATE => (Kind::Date, "DATE", None, None),
        TIME => (Kind::Time(0), "TIME", None, None),
        DATETIME => (Kind::DateTime(0), "DATETIME", None, None),
        TIMESTAMP => (Kind::Timestamp(0), "TIMESTAMP", None, None),
        TIME2 => (Kind::Time(digits), "TIME", sized(low), None),
        DATETIME2 => (Kind::DateTime(digits), "DATETIME", sized(low), None),
        TIMESTAMP2 => (Kind::Timestamp(digits), "TIMESTAMP", sized(low), None),
        ENUM => (Kind::Enum(options()), "ENUM", Some(1), None),
        SET => {
            let options = options();
            let length = Some((2 * options.len() as i32 - 1).max(0));
            (Kind::Set(options), "SET", length, None)
        }
        GEOMETRY => {
            let code = meta.geometries.iter().find(|(column, _)| *column == index).map_or(0, |(_, c)| *c);
            let name = match code {
                1 => "POINT",
                2 => "LINESTRING",
                3 => "POLYGON",
                4 => "MULTIPOINT",
                5 => "MULTILINESTRING",
                6 => "MULTIPOLYGON",
                7 => "GEOMETRYCOLLECTION",
                _ => "GEOMETRY",
            };
            (if code == 1 { Kind::Point } else { Kind::Geometry }, name, None, None)
        }
        VECTOR => (Kind::Vector, "VECTOR", None, None),
        STRING if is_binary => {
            let len = mapped.fixed_len();
            (Kind::Binary { fixed: Some(len) }, "BINARY", i32::try_from(len).ok(), None)
        }
        STRING => (text(), "CHAR", None, None),
        VARCHAR | VAR_STRING if is_binary => {
            (Kind::Binary { fixed: None }, "VARBINARY", Some(mapped.meta.into()), None)
        }
        VARCHAR | VAR_STRING => (text(), "VARCHAR", None, None),
        TINY_BLOB | BLOB | MEDIUM_BLOB | LONG_BLOB => {
            let name = match (low, is_binary) {
                (1, true) => "TINYBLOB",
                (2, true) => "BLOB",
                (3, true) => "MEDIUMBLOB",
                (_, true) => "LONGBLOB",
                (1, false) => "TINYTEXT",
                (2, false) => "TEXT",
                (3, false) => "MEDIUMTEXT",
                (_, false) => "LONGTEXT",
            };
            (if is_binary { Kind::Binary { fixed: None } } else { text() }, name, None, None)
        }
        _ => (Kind::Unsupported, "UNKNOWN", None, None),
    };
    let unsigned = meta.unsigned.as_ref().is_some_and(|u| u[index]);
    let is_number = !matches!(kind, Kind::Year);
    Column {
        name: name.into(),
        type_name: if unsigned && is_number { format!("{type_name} UNSIGNED") } else { type_name.to_owned() },
        length,
        scale,
        kind,
        unsigned: unsigned && is_number,
        charset: charset.filter(|c| c != "binary"),
        optional: mapped.nullable,
        default: None,
        auto_increment: false,
        generated: false,
        comment: None,
    }
}
