//! `JsonConverter`: JSON with its schema beside it, or without one.

mod encode;
mod payload;
mod schema;
mod write;

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_connect_api::config::{ConfigType, Importance, Validator, Width};
use aqueduct_connect_api::convert::RawHeader;
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Converter, Error, Factory, Header, Plugin, Result, SchemaAndValue,
    SchemaRef, Value,
};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::explain::may_be_secret;

/// How decimals are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DecimalFormat {
    #[default]
    Base64,
    Numeric,
}

/// The settings that shape a payload.
#[derive(Clone, Copy, Debug)]
struct Options {
    decimals: DecimalFormat,
    replace_null_with_default: bool,
}

/// JSON with or without schemas.
pub struct JsonConverter {
    schemas_enabled: bool,
    options: Options,
    cache_size: usize,
    /// One schema for every payload, from `schema.content`.
    fixed: Option<SchemaRef>,
    /// JSON text of schemas that were written, by address; the reference beside it keeps the address theirs.
    written: HashMap<usize, (SchemaRef, Arc<[u8]>)>,
    /// Schemas that were read, by their JSON text.
    read: HashMap<Box<str>, Option<SchemaRef>>,
}

impl Default for JsonConverter {
    fn default() -> Self {
        Self {
            schemas_enabled: true,
            options: Options { decimals: DecimalFormat::Base64, replace_null_with_default: true },
            cache_size: 1000,
            fixed: None,
            written: HashMap::new(),
            read: HashMap::new(),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

const ENVELOPE: &str = "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not contain \
     additional fields. If you are trying to deserialize plain JSON data, set schemas.enable=false in your converter \
     configuration.";

impl JsonConverter {
    fn schema_text(&mut self, schema: &SchemaRef) -> Result<Arc<[u8]>> {
        let address = Arc::as_ptr(schema) as usize;
        if let Some((_, text)) = self.written.get(&address) {
            return Ok(Arc::clone(text));
        }
        let mut text = Vec::with_capacity(256);
        encode::schema(&mut text, schema, None, self.options)?;
        let text: Arc<[u8]> = text.into();
        if self.written.len() >= self.cache_size {
            self.written.clear();
        }
        self.written.insert(address, (Arc::clone(schema), Arc::clone(&text)));
        Ok(text)
    }

    fn read_schema(&mut self, text: &str) -> Result<Option<SchemaRef>> {
        if let Some(schema) = self.read.get(text) {
            return Ok(schema.clone());
        }
        let schema = schema::parse(text, self.options)?;
        if self.read.len() >= self.cache_size {
            self.read.clear();
        }
        self.read.insert(text.into(), schema.clone());
        Ok(schema)
    }

    /// The schema and the text of the payload in `bytes`.
    fn open<'a>(&mut self, bytes: &'a [u8]) -> Result<(Option<SchemaRef>, Option<&'a RawValue>)> {
        let not_json = |e| {
            Error::data("Converting byte[] to Kafka Connect data failed due to serialization error")
                .caused_by(describe(bytes, e))
        };
        if let Some(fixed) = &self.fixed {
            return Ok((Some(Arc::clone(fixed)), Some(serde_json::from_slice(bytes).map_err(not_json)?)));
        }
        if !self.schemas_enabled {
            return Ok((None, Some(serde_json::from_slice(bytes).map_err(not_json)?)));
        }
        let raw: &RawValue = serde_json::from_slice(bytes).map_err(not_json)?;
        let is_envelope = raw.get().starts_with('{');
        let envelope: Envelope = match serde_json::from_str(raw.get()) {
            Ok(envelope) if is_envelope => envelope,
            _ => return Err(Error::data(ENVELOPE)),
        };
        // An absent member and a null one read alike, so ask the text.
        if (envelope.schema.is_none() && !raw.get().contains("\"schema\""))
            || (envelope.payload.is_none() && !raw.get().contains("\"payload\""))
        {
            return Err(Error::data(ENVELOPE));
        }
        let schema = match envelope.schema {
            Some(text) => self.read_schema(text.get())?,
            None => None,
        };
        Ok((schema, envelope.payload))
    }
}

/// The parser's complaint with the first bytes of what it read.
fn describe(bytes: &[u8], error: serde_json::Error) -> String {
    if may_be_secret(bytes) {
        return format!("{error}; the {} bytes may hold a secret and are not shown", bytes.len());
    }
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(48)]).escape_debug().to_string();
    format!("{error}; the {} bytes start with \"{start}\"", bytes.len())
}

impl Converter for JsonConverter {
    fn configure(&mut self, config: &Config, _is_key: bool) -> Result<()> {
        self.schemas_enabled = config.boolean("schemas.enable");
        self.cache_size = config.count("schemas.cache.size")?.max(1);
        self.options.replace_null_with_default = config.boolean("replace.null.with.default");
        self.options.decimals = if config.text("decimal.format").eq_ignore_ascii_case("NUMERIC") {
            DecimalFormat::Numeric
        } else {
            DecimalFormat::Base64
        };
        self.fixed = match config.string("schema.content").filter(|text| !text.is_empty()) {
            Some(text) => schema::parse(text, self.options)?,
            None => None,
        };
        Ok(())
    }

    fn encode(
        &mut self,
        _: &str,
        _: &[Header],
        schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        if schema.is_none() && value.is_null() {
            return Ok(None);
        }
        let mut text = Vec::with_capacity(256);
        if self.schemas_enabled {
            text.extend_from_slice(b"{\"schema\":");
            match schema {
                Some(schema) => {
                    let schema = self.schema_text(schema)?;
                    text.extend_from_slice(&schema);
                }
                None => text.extend_from_slice(b"null"),
            }
            text.extend_from_slice(b",\"payload\":");
            encode::payload(&mut text, schema, value, self.options)?;
            text.push(b'}');
        } else {
            encode::payload(&mut text, schema, value, self.options)?;
        }
        Ok(Some(text.into()))
    }

    fn decode(&mut self, _: &str, _: &[RawHeader], bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        let Some(bytes) = bytes else { return Ok(SchemaAndValue::NULL) };
        let (schema, text) = self.open(bytes)?;
        let value = payload::read(schema.as_ref(), text.map_or("null", RawValue::get), self.options)?;
        Ok(SchemaAndValue::new(schema, value))
    }
}

fn config() -> ConfigDef {
    use ConfigType::{Boolean, Int, String};
    use Importance::{High, Low};
    let shown = |key: ConfigKey, group: &'static str, order, importance, name: &'static str| {
        key.group(group, order).importance(importance).width(Width::Medium).display_name(name)
    };
    let enable = ConfigKey::with_default(
        "schemas.enable",
        Boolean,
        "true",
        "Whether each message carries its schema beside its payload.",
    );
    let cache =
        ConfigKey::with_default("schemas.cache.size", Int, "1000", "How many schemas are kept in memory.")
            .validator(Validator::AtLeast(0));
    let content = ConfigKey::optional(
        "schema.content",
        String,
        "A schema for every message, so that plain JSON can be read as typed data. Sinks only.",
    );
    let decimals = ConfigKey::with_default(
        "decimal.format",
        String,
        "BASE64",
        "How decimals are written: BASE64 for their bytes, NUMERIC for a JSON number.",
    )
    .validator(Validator::OneOfIgnoreCase(&["NUMERIC", "BASE64"]));
    let defaults = ConfigKey::with_default(
        "replace.null.with.default",
        Boolean,
        "true",
        "Whether a null member that has a default is written and read as that default.",
    );
    ConfigDef::new()
        .key(shown(enable, "Schemas", 0, High, "Enable Schemas"))
        .key(shown(cache, "Schemas", 1, High, "Schema Cache Size"))
        .key(shown(content, "Schemas", 2, High, "Schema Content"))
        .key(shown(decimals, "Serialization", 0, Low, "Decimal Format"))
        .key(shown(defaults, "Serialization", 1, Low, "Replace null with default"))
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.json.JsonConverter",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        factory: Factory::Converter(|| Box::new(JsonConverter::default())),
    }
}

#[cfg(test)]
mod tests;
