//! Table maps: what the rows that follow look like.

use std::sync::Arc;

use super::reader::{Malformed, Reader, Result, bit};

/// Column types as the binlog numbers them.
pub mod types {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}
use types::*;

/// A column as the event describes it. `kind` is the real type: ENUM and SET are taken out of STRING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapColumn {
    pub kind: u8,
    /// The type's two metadata bytes, the first in the low half.
    pub meta: u16,
    pub nullable: bool,
}

impl MapColumn {
    /// Bytes that a full CHAR or BINARY column takes.
    pub fn fixed_len(&self) -> usize {
        let (high, low) = (self.meta & 0xff, self.meta >> 8);
        if high & 0x30 == 0x30 || high == 0 {
            low.into()
        } else {
            // lengths above 255 hide two bits in the type, inverted
            usize::from(low | ((high & 0x30) ^ 0x30) << 4)
        }
    }

    fn is_character(&self) -> bool {
        matches!(
            self.kind,
            VARCHAR
                | VAR_STRING
                | STRING
                | TINY_BLOB
                | BLOB
                | MEDIUM_BLOB
                | LONG_BLOB
                | BLOB_COMPRESSED
                | VARCHAR_COMPRESSED
        )
    }
}

/// What a server with `binlog_row_metadata=FULL` adds; signedness and charsets come with MINIMAL, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub names: Option<Vec<String>>,
    /// One for each column; false where the type has no sign.
    pub unsigned: Option<Vec<bool>>,
    /// Collation ids, one for each column; 0 where the type has none.
    pub collations: Option<Vec<u16>>,
    /// Options of each ENUM or SET column, in the column's charset.
    pub options: Vec<(usize, Vec<Vec<u8>>)>,
    /// Geometry types of each GEOMETRY column.
    pub geometries: Vec<(usize, u64)>,
    /// Columns of the primary key in its order.
    pub primary_key: Option<Vec<usize>>,
}

/// A parsed table map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    pub table_id: u64,
    pub database: String,
    pub table: String,
    pub columns: Vec<MapColumn>,
    pub metadata: Metadata,
    /// All of the event behind the names: equal bytes describe equal tables.
    pub fingerprint: Arc<[u8]>,
}

impl TableMap {
    /// Reads an event's body. `mariadb` tells whose rules hold for signs.
    pub fn parse(body: &[u8], mariadb: bool) -> Result<Self> {
        let mut r = Reader(body);
        let table_id = r.uint(6)?;
        r.bytes(2)?;
        let database = r.short_text()?;
        let table = r.short_text()?;
        let fingerprint = r.0.into();
        let count = r.packed_len()?;
        let kinds = r.bytes(count)?;
        let mut metas = Reader(r.packed_bytes()?);
        let nulls = r.bytes(count.div_ceil(8))?;
        let mut columns = Vec::with_capacity(count);
        for (index, kind) in kinds.iter().enumerate() {
            let meta = match *kind {
                FLOAT | DOUBLE | BLOB | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | GEOMETRY | JSON | VECTOR
                | TIMESTAMP2 | DATETIME2 | TIME2 | BLOB_COMPRESSED => metas.uint(1)?,
                VARCHAR | VAR_STRING | VARCHAR_COMPRESSED | BIT | NEWDECIMAL | STRING | ENUM | SET => {
                    metas.uint(2)?
                }
                // an array of values for an index over JSON; it has no place in rows
                20 => {
                    return Err(Malformed(format!("column {} is a typed array", index + 1)));
                }
                _ => 0,
            } as u16;
            let kind = match (*kind, (meta & 0xff) as u8) {
                (STRING, real @ (ENUM | SET)) => real,
                (kind, _) => kind,
            };
            columns.push(MapColumn { kind, meta, nullable: bit(nulls, index) });
        }
        let metadata = Metadata::parse(r.rest(), &columns, mariadb)?;
        Ok(Self { table_id, database, table, columns, metadata, fingerprint })
    }
}

impl Metadata {
    fn parse(bytes: &[u8], columns: &[MapColumn], mariadb: bool) -> Result<Self> {
        let mut found = Self::default();
        let mut r = Reader(bytes);
        let of = |test: &dyn Fn(&MapColumn) -> bool| -> Vec<usize> {
            columns.iter().enumerate().filter(|(_, c)| test(c)).map(|(i, _)| i).collect()
        };
        let characters = of(&MapColumn::is_character);
        let listed = of(&|c| matches!(c.kind, ENUM | SET));
        while !r.is_empty() {
            let tag = r.u8()?;
            let mut field = Reader(r.packed_bytes()?);
            match tag {
                1 => {
                    let signed = of(&|c| {
                        matches!(c.kind, TINY | SHORT | INT24 | LONG | LONGLONG | NEWDECIMAL | FLOAT | DOUBLE)
                            || (mariadb && c.kind == YEAR)
                    });
                    let mut unsigned = vec![false; columns.len()];
                    for (bit, column) in signed.into_iter().enumerate() {
                        unsigned[column] =
                            field.0.get(bit / 8).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1);
                    }
                    found.unsigned = Some(unsigned);
                }
                2 | 10 => {
                    let among = if tag == 2 { &characters } else { &listed };
                    let default = field.packed()? as u16;
                    let collations = found.collations.get_or_insert_with(|| vec![0; columns.len()]);
                    for column in among {
                        collations[*column] = default;
                    }
                    while !field.is_empty() {
                        let nth = field.packed()? as usize;
                        let collation = field.packed()? as u16;
                        if let Some(column) = among.get(nth) {
                            collations[*column] = collation;
                        }
                    }
                }
                3 | 11 => {
                    let among = if tag == 3 { &characters } else { &listed };
                    let collations = found.collations.get_or_insert_with(|| vec![0; columns.len()]);
                    for column in among {
                        collations[*column] = field.packed()? as u16;
                    }
                }
                4 => {
                    let mut names = Vec::with_capacity(columns.len());
                    while !field.is_empty() {
                        names.push(String::from_utf8_lossy(field.packed_bytes()?).into_owned());
                    }
                    if names.len() != columns.len() {
                        return Err(Malformed(format!(
                            "{} names for {} columns",
                            names.len(),
                            columns.len()
                        )));
                    }
                    found.names = Some(names);
                }
                5 | 6 => {
                    let kind = if tag == 5 { SET } else { ENUM };
                    for column in of(&|c| c.kind == kind) {
                        let count = field.packed_len()?;
                        let options = (0..count)
                            .map(|_| field.packed_bytes().map(<[u8]>::to_vec))
                            .collect::<Result<_>>()?;
                        found.options.push((column, options));
                    }
                }
                7 => {
                    for column in of(&|c| c.kind == GEOMETRY) {
                        found.geometries.push((column, field.packed()?));
                    }
                }
                8 | 9 => {
                    let mut key = Vec::new();
                    while !field.is_empty() {
                        let column = field.packed()? as usize;
                        if column >= columns.len() {
                            return Err(Malformed(format!("key column {column} of {}", columns.len())));
                        }
                        key.push(column);
                        if tag == 9 {
                            field.packed()?;
                        }
                    }
                    found.primary_key = Some(key);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}
