//! Writes random messages straight from the facts, without the generated code.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::facts::{Field, Message};

/// SplitMix64: small, and the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Small numbers and extremes more often than chance has them.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next() % 3,
            1 => (self.next() % 3).wrapping_neg(),
            2 => [i64::MAX, i64::MIN, i32::MAX.into(), i32::MIN.into()][self.below(4)] as u64,
            _ => self.next(),
        }
    }
}

/// The bytes of one random message. Equal arguments give equal bytes.
pub fn message(message: &Message, version: i16, seed: u64) -> Bytes {
    let name: u64 = message.name.bytes().fold(0, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let random = Random::new(name ^ (seed << 32) ^ ((version as u64) << 16));
    let mut writer = Writer { message, version, random: Some(random) };
    let mut out = BytesMut::new();
    writer.fields(&mut out, &message.fields);
    out.freeze()
}

struct Writer<'a> {
    message: &'a Message,
    version: i16,
    /// Absent where default values are written.
    random: Option<Random>,
}

impl<'a> Writer<'a> {
    fn fields(&mut self, out: &mut BytesMut, fields: &'a [Field]) {
        let present = |f: &&Field| f.versions.contains(&self.version);
        let present: Vec<&Field> = fields.iter().filter(present).collect();
        for field in present.iter().filter(|f| f.tag.is_none()) {
            self.field(out, field);
        }
        if !self.message.flexible.contains(&self.version) {
            return;
        }
        let mut tagged: Vec<(u32, BytesMut)> = Vec::new();
        for field in present.iter().filter(|f| f.tag.is_some()) {
            let mut value = BytesMut::new();
            self.field(&mut value, field);
            let mut default = BytesMut::new();
            Writer { message: self.message, version: self.version, random: None }.field(&mut default, field);
            // A value that happens to be the default is not on the wire.
            if value != default {
                tagged.push((field.tag.expect("filtered"), value));
            }
        }
        tagged.sort_by_key(|(tag, _)| *tag);
        varint(out, tagged.len() as u64);
        for (tag, value) in tagged {
            varint(out, tag.into());
            varint(out, value.len() as u64);
            out.put_slice(&value);
        }
    }

    fn field(&mut self, out: &mut BytesMut, field: &'a Field) {
        let flexible = field.flexible.as_ref().unwrap_or(&self.message.flexible).contains(&self.version);
        let nullable = field.nullable.contains(&self.version);
        let null = match &mut self.random {
            Some(random) => nullable && random.below(4) == 0,
            None => nullable && (field.default.as_deref() == Some("null") || field.ty == "records"),
        };
        if let Some(element) = field.ty.strip_prefix("[]") {
            let count = if null { None } else { Some(self.random.as_mut().map_or(0, |r| r.below(4))) };
            length(out, flexible, false, count);
            for _ in 0..count.unwrap_or(0) {
                self.value(out, field, element, flexible);
            }
        } else if null {
            match field.ty.as_str() {
                "string" => length(out, flexible, true, None),
                "bytes" | "records" => length(out, flexible, false, None),
                // A varint in a tagged field, a byte elsewhere.
                _ if field.tag.is_some() => out.put_u8(0),
                _ => out.put_i8(-1),
            }
        } else {
            if nullable && field.ty.starts_with(|c: char| c.is_ascii_uppercase()) {
                out.put_i8(1);
            }
            self.value(out, field, &field.ty, flexible);
        }
    }

    fn value(&mut self, out: &mut BytesMut, field: &'a Field, ty: &str, flexible: bool) {
        match ty {
            "bool" => {
                let value = match &mut self.random {
                    Some(random) => random.below(2) == 1,
                    None => field.default.as_deref() == Some("true"),
                };
                out.put_u8(value.into());
            }
            "int8" => out.put_i8(self.number(field) as i8),
            "int16" | "uint16" => out.put_i16(self.number(field) as i16),
            "int32" | "uint32" => out.put_i32(self.number(field) as i32),
            "int64" => out.put_i64(self.number(field) as i64),
            "float64" => out.put_f64(self.number(field) as i32 as f64 / 8.0),
            "uuid" => {
                for _ in 0..2 {
                    out.put_u64(self.random.as_mut().map_or(0, Random::next));
                }
            }
            "string" => {
                let text = match &mut self.random {
                    Some(random) => {
                        "aé漢🦀b".chars().cycle().skip(random.below(5)).take(random.below(9)).collect()
                    }
                    None => field.default.clone().unwrap_or_default(),
                };
                length(out, flexible, true, Some(text.len()));
                out.put_slice(text.as_bytes());
            }
            "bytes" | "records" => {
                let count =
                    self.random.as_mut().map_or(0, |r| if r.below(8) == 0 { 300 } else { r.below(20) });
                length(out, flexible, false, Some(count));
                for _ in 0..count {
                    out.put_u8(self.number(field) as u8);
                }
            }
            name => {
                let message = self.message;
                let fields = if field.fields.is_empty() { &message.shared[name] } else { &field.fields };
                self.fields(out, fields);
            }
        }
    }

    fn number(&mut self, field: &Field) -> u64 {
        match (&mut self.random, field.default.as_deref()) {
            (Some(random), _) => random.number(),
            (None, None) => 0,
            (None, Some(text)) => match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).expect("a hexadecimal default"),
                None => text.parse::<i64>().expect("a default number") as u64,
            },
        }
    }
}

fn length(out: &mut BytesMut, flexible: bool, short: bool, length: Option<usize>) {
    match (flexible, length) {
        (true, length) => varint(out, length.map_or(0, |l| l as u64 + 1)),
        (false, length) if short => out.put_i16(length.map_or(-1, |l| l as i16)),
        (false, length) => out.put_i32(length.map_or(-1, |l| l as i32)),
    }
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 128 {
        out.put_u8((value % 128) as u8 + 128);
        value /= 128;
    }
    out.put_u8(value as u8);
}
