//! Answers as text that can be compared: what is another on each broker is left out, lists are in order.

use anyhow::{Context as _, Result, bail, ensure};

use crate::answer::Answer;
use crate::schema::{Field, Message};

/// The body of an answer in words.
pub fn response(message: &Message, version: i16, mut bytes: &[u8]) -> Result<Answer> {
    let mut reader = Reader { version, flexible: message.flexible.has(version), bytes: &mut bytes };
    let fields = reader.fields(&message.fields).with_context(|| format!("{} {version}", message.name))?;
    ensure!(bytes.is_empty(), "{} {version}: {} bytes are left", message.name, bytes.len());
    Ok(Answer::Struct(fields))
}

struct Reader<'a, 'b> {
    version: i16,
    flexible: bool,
    bytes: &'a mut &'b [u8],
}

impl<'b> Reader<'_, 'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).context("cut short")?;
        *self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self, width: usize) -> Result<i64> {
        let bytes = self.take(width)?;
        let mut wide = [if bytes[0] & 0x80 == 0 { 0 } else { 0xff }; 8];
        wide[8 - width..].copy_from_slice(bytes);
        Ok(i64::from_be_bytes(wide))
    }

    fn varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a varint that does not end")
    }

    /// Length of an array, of a string or of bytes; `None` for null.
    fn length(&mut self, width: usize) -> Result<Option<usize>> {
        let length = if self.flexible { i64::from(self.varint()?) - 1 } else { self.number(width)? };
        Ok(usize::try_from(length).ok())
    }

    fn fields(&mut self, fields: &[Field]) -> Result<Vec<(String, Answer)>> {
        let mut all = Vec::new();
        let version = self.version;
        for field in fields.iter().filter(|f| f.versions.has(version) && f.tag.is_none()) {
            let value = match self.field(field).with_context(|| field.name.clone())? {
                Answer::Word(word) => Answer::Word(comparable(&field.name, word)),
                other => other,
            };
            all.push((field.name.clone(), value));
        }
        if self.flexible {
            for _ in 0..self.varint()? {
                let (_, size) = (self.varint()?, self.varint()?);
                self.take(size as usize)?;
            }
        }
        Ok(all)
    }

    fn field(&mut self, field: &Field) -> Result<Answer> {
        if !field.array {
            if !field.fields.is_empty() && field.nullable.has(self.version) && self.number(1)? < 0 {
                return Ok(Answer::Word("null".to_owned()));
            }
            return self.one(field);
        }
        let Some(count) = self.length(4)? else { return Ok(Answer::Word("null".to_owned())) };
        let mut all = (0..count).map(|_| self.one(field)).collect::<Result<Vec<_>>>()?;
        all.sort();
        Ok(Answer::List(all))
    }

    fn one(&mut self, field: &Field) -> Result<Answer> {
        if !field.fields.is_empty() {
            return Ok(Answer::Struct(self.fields(&field.fields)?));
        }
        Ok(Answer::Word(match field.kind.as_str() {
            "string" => match self.length(2)? {
                Some(length) => format!("{:?}", String::from_utf8_lossy(self.take(length)?)),
                None => "null".to_owned(),
            },
            "bytes" | "records" => match self.length(4)? {
                Some(length) => format!("{} bytes", self.take(length)?.len()),
                None => "null".to_owned(),
            },
            "uuid" => if self.take(16)? == [0; 16] { "no id" } else { "an id" }.to_owned(),
            "bool" | "int8" => self.number(1)?.to_string(),
            "int16" | "uint16" => self.number(2)?.to_string(),
            "int32" | "uint32" => self.number(4)?.to_string(),
            "float64" => f64::from_bits(self.number(8)? as u64).to_string(),
            _ => self.number(8)?.to_string(),
        }))
    }
}

/// Ids and times are by chance, and the words of messages are compared where tools show them.
fn comparable(name: &str, value: String) -> String {
    let unset = matches!(value.as_str(), "null" | "-1" | "0" | "\"\"");
    match name {
        "ThrottleTimeMs" | "Port" => "any".to_owned(),
        "ErrorMessage" | "MemberId" | "Leader" | "ClusterId" | "ProducerId" | "SessionId"
        | "LogAppendTimeMs" | "LastTimestamp"
            if !unset =>
        {
            "some".to_owned()
        }
        // Whether nothing is null or empty is not told apart by any client.
        "ErrorMessage" | "ProtocolName" if unset => "none".to_owned(),
        _ => value,
    }
}
