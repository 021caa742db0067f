//! Rows events: from bytes to raw values.

use aqueduct_connect_api::Decimal;
use num_bigint::BigInt;

use super::event::RowsKind;
use super::reader::{Malformed, Reader, Result, bit};
use super::table_map::{MapColumn, types::*};
use crate::value::{CivilDate, CivilTime, Raw};

/// The fixed part of a rows event.
#[derive(Debug)]
pub struct RowsHeader<'a> {
    pub table_id: u64,
    pub columns: usize,
    /// Columns of the first image: before an update or delete, after a write.
    pub first: &'a [u8],
    /// Columns of an update's second image.
    pub second: &'a [u8],
    pub rows: Reader<'a>,
}

impl<'a> RowsHeader<'a> {
    pub fn parse(kind: RowsKind, has_extra: bool, body: &'a [u8]) -> Result<Self> {
        let mut r = Reader(body);
        let table_id = r.uint(6)?;
        r.bytes(2)?;
        if has_extra {
            let len = r.uint(2)? as usize;
            r.bytes(len.checked_sub(2).ok_or_else(|| Malformed("extra header too short".to_owned()))?)?;
        }
        let columns = r.packed()? as usize;
        let width = columns.div_ceil(8);
        let first = r.bytes(width)?;
        let second = if kind == RowsKind::Update { r.bytes(width)? } else { first };
        Ok(Self { table_id, columns, first, second, rows: r })
    }
}

/// Whether all of `columns` columns are in the image.
pub fn is_full_image(bitmap: &[u8], columns: usize) -> bool {
    (0..columns).all(|index| bit(bitmap, index))
}

/// Reads one full row image; `unsigned` says which columns have no sign.
pub fn read_row<'a>(
    r: &mut Reader<'a>,
    columns: &[MapColumn],
    unsigned: impl Fn(usize) -> bool,
    row: &mut Vec<Raw<'a>>,
) -> Result<()> {
    row.clear();
    let nulls = r.bytes(columns.len().div_ceil(8))?;
    for (index, column) in columns.iter().enumerate() {
        row.push(if bit(nulls, index) {
            Raw::Null
        } else {
            read_value(r, column, unsigned(index))
                .map_err(|e| Malformed(format!("column {} (type {}): {e}", index + 1, column.kind)))?
        });
    }
    Ok(())
}

fn read_value<'a>(r: &mut Reader<'a>, column: &MapColumn, unsigned: bool) -> Result<Raw<'a>> {
    let integer = |r: &mut Reader<'a>, width| {
        if unsigned { r.uint(width).map(Raw::UInt) } else { r.int(width).map(Raw::Int) }
    };
    let (low, high) = (column.meta & 0xff, column.meta >> 8);
    Ok(match column.kind {
        TINY => integer(r, 1)?,
        SHORT => integer(r, 2)?,
        INT24 => integer(r, 3)?,
        LONG => integer(r, 4)?,
        LONGLONG => integer(r, 8)?,
        FLOAT => Raw::Float(f32::from_bits(r.uint(4)? as u32)),
        DOUBLE => Raw::Double(f64::from_bits(r.uint(8)?)),
        NEWDECIMAL => Raw::Decimal(read_decimal(r, low.into(), high.into())?),
        YEAR => match r.u8()? {
            0 => Raw::Int(0),
            year => Raw::Int(1900 + i64::from(year)),
        },
        DATE => {
            let packed = r.uint(3)? as u32;
            Raw::Date(CivilDate {
                year: packed >> 9,
                month: (packed >> 5 & 15) as u8,
                day: (packed & 31) as u8,
            })
        }
        TIME => {
            let packed = r.int(3)?;
            let hms = packed.unsigned_abs() as i64;
            let seconds = hms / 10_000 * 3600 + hms / 100 % 100 * 60 + hms % 100;
            Raw::Time(packed.signum() * seconds * 1_000_000)
        }
        DATETIME => {
            let packed = r.uint(8)?;
            let (date, time) = (packed / 1_000_000, packed % 1_000_000);
            Raw::DateTime(
                CivilDate {
                    year: (date / 10_000) as u32,
                    month: (date / 100 % 100) as u8,
                    day: (date % 100) as u8,
                },
                CivilTime {
                    hour: (time / 10_000) as u8,
                    minute: (time / 100 % 100) as u8,
                    second: (time % 100) as u8,
                    micros: 0,
                },
            )
        }
        TIMESTAMP => Raw::Timestamp { seconds: r.uint(4)? as i64, micros: 0 },
        TIMESTAMP2 => {
            let seconds = r.uint_be(4)? as i64;
            Raw::Timestamp { seconds, micros: read_fraction(r, low)? }
        }
        DATETIME2 => {
            let packed = (r.uint_be(5)? as i64 - 0x80_0000_0000).unsigned_abs();
            let (ymd, hms) = (packed >> 17, packed & 0x1_ffff);
            let months = ymd >> 5;
            Raw::DateTime(
                CivilDate { year: (months / 13) as u32, month: (months % 13) as u8, day: (ymd & 31) as u8 },
                CivilTime {
                    hour: (hms >> 12) as u8,
                    minute: (hms >> 6 & 63) as u8,
                    second: (hms & 63) as u8,
                    micros: read_fraction(r, low)?,
                },
            )
        }
        TIME2 => {
            let width = fraction_width(low);
            let bits = 24 + 8 * width as u32;
            let packed = r.uint_be(3 + width)? as i64 - (1 << (bits - 1));
            let size = packed.unsigned_abs();
            let hms = size >> (8 * width);
            let fraction = (size & ((1 << (8 * width)) - 1)) * fraction_unit(width);
            let seconds = (hms >> 12) * 3600 + (hms >> 6 & 63) * 60 + (hms & 63);
            Raw::Time(packed.signum() * (seconds * 1_000_000 + fraction) as i64)
        }
        BIT => {
            let bits = usize::from(low) + 8 * usize::from(high);
            Raw::Bytes(r.bytes(bits.div_ceil(8))?)
        }
        ENUM | SET => Raw::UInt(r.uint(usize::from(high).clamp(1, 8))?),
        VARCHAR | VAR_STRING => read_counted(r, if column.meta < 256 { 1 } else { 2 })?,
        STRING => read_counted(r, if column.fixed_len() < 256 { 1 } else { 2 })?,
        TINY_BLOB | BLOB | MEDIUM_BLOB | LONG_BLOB | GEOMETRY | VECTOR => read_counted(r, width_of(low)?)?,
        JSON => {
            let Raw::Bytes(bytes) = read_counted(r, width_of(low)?)? else { return Ok(Raw::Null) };
            Raw::Json(bytes)
        }
        BLOB_COMPRESSED | VARCHAR_COMPRESSED => {
            return Err(Malformed("COMPRESSED columns cannot be read from the binlog".to_owned()));
        }
        kind => return Err(Malformed(format!("unknown type {kind}"))),
    })
}

fn width_of(meta: u16) -> Result<usize> {
    match meta {
        1..=4 => Ok(meta.into()),
        _ => Err(Malformed(format!("{meta} bytes of length"))),
    }
}

fn read_counted<'a>(r: &mut Reader<'a>, width: usize) -> Result<Raw<'a>> {
    let len = r.uint(width)? as usize;
    r.bytes(len).map(Raw::Bytes)
}

fn fraction_width(precision: u16) -> usize {
    usize::from(precision).div_ceil(2).min(3)
}

fn fraction_unit(width: usize) -> u64 {
    [0, 10_000, 100, 1][width.min(3)]
}

fn read_fraction(r: &mut Reader<'_>, precision: u16) -> Result<u32> {
    let width = fraction_width(precision);
    Ok((r.uint_be(width)? * fraction_unit(width)) as u32)
}

/// Bytes that 0 to 9 digits take.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

pub fn read_decimal(r: &mut Reader<'_>, precision: usize, scale: usize) -> Result<Decimal> {
    let whole = precision
        .checked_sub(scale)
        .filter(|_| precision <= 81)
        .ok_or_else(|| Malformed(format!("DECIMAL({precision},{scale})")))?;
    // groups of nine digits take four bytes; the odd ones stand at the outer ends
    let mut groups = Vec::with_capacity(12);
    groups.push(whole % 9);
    groups.extend(std::iter::repeat_n(9, whole / 9 + scale / 9));
    groups.push(scale % 9);
    let size: usize = groups.iter().map(|g| DIGIT_BYTES[*g]).sum();
    let mut bytes = r.bytes(size)?.to_vec();
    let Some(first) = bytes.first_mut() else {
        return Ok(Decimal::new(0, 0));
    };
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        bytes.iter_mut().for_each(|b| *b = !*b);
    }
    let mut r = Reader(&bytes);
    let mut unscaled = Unscaled::Small(0);
    for group in groups {
        let digits = r.uint_be(DIGIT_BYTES[group])?;
        unscaled = unscaled.append(digits, group as u32);
    }
    let value = match unscaled {
        Unscaled::Small(n) => BigInt::from(n),
        Unscaled::Big(n) => n,
    };
    Ok(Decimal::new(if negative { -value } else { value }, scale as i32))
}

/// Most decimals fit a machine integer.
enum Unscaled {
    Small(u128),
    Big(BigInt),
}

impl Unscaled {
    fn append(self, digits: u64, count: u32) -> Self {
        let unit = 10u64.pow(count);
        match self {
            Self::Small(n) => match n.checked_mul(unit.into()).and_then(|n| n.checked_add(digits.into())) {
                Some(n) => Self::Small(n),
                None => Self::Big(BigInt::from(n) * unit + digits),
            },
            Self::Big(n) => Self::Big(n * unit + digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: u8, meta: u16) -> MapColumn {
        MapColumn { kind, meta, nullable: true }
    }

    #[test]
    fn decimals_of_both_signs_and_any_size() {
        for (bytes, precision, scale, text) in [
            (&[0x80, 0, 0x7b, 45][..], 7, 2, "123.45"),
            (&[0x7f, 0xff, 0x84, !45], 7, 2, "-123.45"),
            (&[0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2], 14, 4, "1234567890.1234"),
            (&[0x80], 1, 0, "0"),
        ] {
            let decimal = read_decimal(&mut Reader(bytes), precision, scale).unwrap();
            assert_eq!(decimal.to_plain_string(), text);
        }
        let wide = [0xff; 30];
        assert!(read_decimal(&mut Reader(&wide), 65, 30).is_ok());
        assert!(read_decimal(&mut Reader(&wide[..4]), 65, 30).is_err());
        assert!(read_decimal(&mut Reader(&wide), 5, 6).is_err());
    }

    #[test]
    fn times_may_be_negative_with_fractions() {
        fn read(bytes: &[u8], meta: u16) -> Raw<'_> {
            read_value(&mut Reader(bytes), &column(TIME2, meta), false).unwrap()
        }
        assert_eq!(read(&[0x80, 0x10, 0x83], 0), Raw::Time(3_723_000_000));
        assert_eq!(read(&[0x7f, 0xef, 0x7d], 0), Raw::Time(-3_723_000_000));
        // -00:00:00.01 as TIME(2)
        assert_eq!(read(&[0x7f, 0xff, 0xff, 0xff], 2), Raw::Time(-10_000));
        assert_eq!(read(&[0x80, 0, 1, 0x0f, 0x42, 0x3f], 6), Raw::Time(1_999_999));
    }

    #[test]
    fn truncated_rows_are_an_error() {
        let mut row = Vec::new();
        let columns = [column(LONG, 0), column(VARCHAR, 20)];
        assert!(read_row(&mut Reader(&[0, 1, 0, 0, 0, 5, b'a']), &columns, |_| false, &mut row).is_err());
        assert!(read_row(&mut Reader(&[2, 1, 0, 0, 0]), &columns, |_| false, &mut row).is_ok());
        assert_eq!(row, [Raw::Int(1), Raw::Null]);
    }
}
