//! `StringConverter`: any value as its text.

use std::sync::{Arc, LazyLock};

use aqueduct_connect_api::config::{ConfigType, Importance, Width};
use aqueduct_connect_api::convert::RawHeader;
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Converter, Error, Factory, Header, Plugin, Result, Schema, SchemaAndValue,
    SchemaRef, Type, Value,
};
use bytes::Bytes;
use bytestring::ByteString;

static OPTIONAL_STRING: LazyLock<SchemaRef> = LazyLock::new(|| Schema::optional_of(Type::String));

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    #[default]
    Utf8,
    Latin1,
    Ascii,
}

impl Encoding {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => Some(Self::Utf8),
            "ISO-8859-1" | "ISO8859_1" | "LATIN1" => Some(Self::Latin1),
            "US-ASCII" | "ASCII" => Some(Self::Ascii),
            _ => None,
        }
    }

    fn encode(self, text: &ByteString) -> Bytes {
        let limit = match self {
            Self::Utf8 => return text.clone().into_bytes(),
            Self::Latin1 => 0xff,
            Self::Ascii => 0x7f,
        };
        text.chars().map(|c| if u32::from(c) <= limit { c as u8 } else { b'?' }).collect()
    }

    fn decode(self, bytes: &Bytes) -> ByteString {
        match self {
            Self::Utf8 => ByteString::try_from(bytes.clone())
                .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into()),
            Self::Latin1 => bytes.iter().map(|b| char::from(*b)).collect::<String>().into(),
            Self::Ascii => bytes
                .iter()
                .map(|b| if b.is_ascii() { char::from(*b) } else { '\u{fffd}' })
                .collect::<String>()
                .into(),
        }
    }
}

/// Any value as its text; text as it is.
#[derive(Debug, Default)]
pub struct StringConverter {
    encoding: Encoding,
}

impl Converter for StringConverter {
    fn configure(&mut self, config: &Config, _is_key: bool) -> Result<()> {
        let name = config.string("converter.encoding").unwrap_or("UTF-8");
        self.encoding = Encoding::named(name).ok_or_else(|| {
            Error::config("converter.encoding", name, "not supported; use UTF-8, ISO-8859-1 or US-ASCII")
        })?;
        Ok(())
    }

    fn encode(
        &mut self,
        _: &str,
        _: &[Header],
        _: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        Ok(match value {
            Value::Null => None,
            Value::String(text) => Some(self.encoding.encode(text)),
            other => Some(self.encoding.encode(&other.to_string().into())),
        })
    }

    fn decode(&mut self, _: &str, _: &[RawHeader], bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        let text = bytes.map(|b| self.encoding.decode(b));
        Ok(SchemaAndValue::new(Some(Arc::clone(&OPTIONAL_STRING)), text.into()))
    }
}

fn config() -> ConfigDef {
    let encoding = ConfigKey::with_default(
        "converter.encoding",
        ConfigType::String,
        "UTF-8",
        "Character encoding of the bytes: UTF-8, ISO-8859-1 or US-ASCII.",
    );
    ConfigDef::new().key(encoding.importance(Importance::High).width(Width::Medium).display_name("Encoding"))
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.storage.StringConverter",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        factory: Factory::Converter(|| Box::new(StringConverter::default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_their_text() {
        let mut c = StringConverter::default();
        for (value, text) in [(Value::from("é"), "é"), (Value::Int32(7), "7"), (Value::Boolean(true), "true")]
        {
            assert_eq!(c.encode("t", &[], None, &value).expect("text"), Some(Bytes::from(text)));
        }
        assert_eq!(c.encode("t", &[], None, &Value::Null).expect("null"), None);
    }

    #[test]
    fn text_is_a_slice_of_the_bytes() {
        let mut c = StringConverter::default();
        let bytes = Bytes::from_static(b"plain");
        let Value::String(text) = c.decode("t", &[], Some(&bytes)).expect("text").value else {
            panic!("a string")
        };
        assert_eq!(text.as_bytes().as_ptr(), bytes.as_ptr());
        assert_eq!(
            c.decode("t", &[], Some(&Bytes::from_static(b"\xff"))).expect("text").value,
            Value::from("\u{fffd}")
        );
    }
}
