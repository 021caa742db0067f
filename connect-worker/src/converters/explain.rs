//! Says in a sentence why a converter cannot read or write a record, and which setting to change.

mod look;

pub use self::look::may_be_secret;

use aqueduct_connect_api::{Schema, Type, Value};

use self::look::{Look, Registered};

/// Which part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Key,
    Value,
    /// The value of the header of this name.
    Header(&'a str),
}

impl Part<'_> {
    /// The setting that names its converter.
    fn setting(self) -> &'static str {
        match self {
            Self::Key => "key.converter",
            Self::Value => "value.converter",
            Self::Header(_) => "header.converter",
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Key => "the key".to_owned(),
            Self::Value => "the value".to_owned(),
            Self::Header(name) => format!("the header \"{name}\""),
        }
    }
}

/// Bytes of a record that its converter cannot read.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub part: Part<'a>,
    /// Class of the converter.
    pub converter: &'a str,
    pub bytes: Option<&'a [u8]>,
}

const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";
const RAW: &str = "org.apache.kafka.connect.converters.ByteArrayConverter";

/// Where the bytes are, how they begin, what they seem to be and which setting to change. `is_known` says whether this
/// worker has a class.
pub fn explain(record: &Unreadable<'_>, is_known: &dyn Fn(&str) -> bool) -> String {
    let Unreadable { topic, partition, offset, part, converter, bytes } = *record;
    let place = format!("{} of {topic}-{partition}@{offset}", part.shown());
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
        return format!(
            "{place} is empty, which {} does not read. Have the producer write null instead, or set {}={RAW}",
            simple(converter),
            part.setting()
        );
    };
    let look = Look::of(bytes);
    format!("{place} ({}) looks like {look}. {}", beginning(bytes), advice(&look, part, converter, is_known))
}

fn simple(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

/// The first bytes as hex and as text, unless they may be a secret.
fn beginning(bytes: &[u8]) -> String {
    const HEX: usize = 16;
    const TEXT: usize = 40;
    let size = match bytes.len() {
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    };
    if may_be_secret(bytes) {
        return format!("{size}, not shown because they may hold a secret");
    }
    let hex: Vec<String> = bytes.iter().take(HEX).map(|b| format!("{b:02x}")).collect();
    let text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT)]).escape_debug().to_string();
    // Quotes and backslashes of JSON stay readable.
    let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
    let more = |shown: usize| if bytes.len() > shown { "…" } else { "" };
    format!("{size}: {}{}, \"{text}{}\"", hex.join(" "), more(HEX), more(TEXT))
}

fn advice(look: &Look, part: Part<'_>, converter: &str, is_known: &dyn Fn(&str) -> bool) -> String {
    let key = part.setting();
    let is_json = converter == JSON;
    match look {
        Look::Registered { format, .. } => {
            let class = format.converter();
            if is_known(class) {
                return format!("Set {key}={class} and {key}.schema.registry.url");
            }
            format!(
                "{class} reads it, which this worker does not have: run the connector on a worker that does, or set {key}={RAW} \
                 to pass the bytes on as they are"
            )
        }
        Look::Envelope if is_json => {
            "Its payload does not fit its schema, or the schema is wrong: correct what writes the \
             record; errors.tolerance=all passes such records over"
                .to_owned()
        }
        Look::Envelope => format!("Set {key}={JSON} and {key}.schemas.enable=true"),
        Look::Json(_) if is_json => format!("Set {key}.schemas.enable=false"),
        Look::Json("a number" | "a string in quotes" | "true or false") => {
            format!("Set {key}={STRING}, or {key}={JSON} and {key}.schemas.enable=false")
        }
        Look::Json(_) => format!("Set {key}={JSON} and {key}.schemas.enable=false"),
        Look::BrokenJson(_) => format!(
            "Correct what writes the record; errors.tolerance=all passes such records over, {key}={STRING} takes them as text"
        ),
        Look::Text => format!("Set {key}={STRING}"),
        Look::Number { .. } | Look::Boolean => {
            let class = match bytes_of(look) {
                1 => "BooleanConverter",
                2 => "ShortConverter",
                4 => "IntegerConverter",
                _ => "LongConverter",
            };
            let class = format!("org.apache.kafka.connect.converters.{class}");
            let float = match bytes_of(look) {
                4 => " (or FloatConverter)",
                8 => " (or DoubleConverter)",
                _ => "",
            };
            if converter == class {
                return format!("Set {key}={RAW} to pass the bytes on as they are");
            }
            format!("Set {key}={class}{float}")
        }
        Look::Known(_) | Look::Protobuf | Look::Binary => {
            format!(
                "No converter of this worker reads that: set {key}={RAW} to pass the bytes on as they are"
            )
        }
    }
}

fn bytes_of(look: &Look) -> usize {
    match look {
        Look::Number { size, .. } => *size,
        _ => 1,
    }
}

/// Why a value cannot be written, and which setting to change.
pub fn explain_unwritable(
    topic: &str,
    part: Part<'_>,
    converter: &str,
    schema: Option<&Schema>,
    value: &Value,
) -> String {
    let kind = match schema {
        Some(schema) => schema.kind().name().to_owned(),
        None => format!("{} without a schema", value.class_name()),
    };
    let name = schema.and_then(Schema::name).map(|name| format!(" ({name})")).unwrap_or_default();
    let what = format!("{} for topic {topic} is of type {kind}{name}", part.shown());
    if schema.is_some_and(|schema| value.validate(schema, "").is_err()) {
        return format!(
            "{what}, but what is in it is not: a defect of the connector or of a transform before the converter"
        );
    }
    let key = part.setting();
    let class = match schema.map(Schema::kind) {
        Some(Type::String) => STRING,
        Some(Type::Bytes) if matches!(value, Value::Bytes(_)) => RAW,
        None if matches!(value, Value::String(_)) => STRING,
        None if matches!(value, Value::Bytes(_)) => RAW,
        _ => JSON,
    };
    match (converter == class, converter == JSON) {
        (true, true) => {
            format!("{what}, which JSON cannot hold; change it with a transform, or set {key}={STRING}")
        }
        (true, false) | (false, true) => format!("{what}; change it with a transform"),
        (false, false) => format!("{what}, which {} does not write. Set {key}={class}", simple(converter)),
    }
}

impl Registered {
    fn converter(self) -> &'static str {
        match self {
            Self::Avro => "io.confluent.connect.avro.AvroConverter",
            Self::Protobuf => "io.confluent.connect.protobuf.ProtobufConverter",
            Self::JsonSchema => "io.confluent.connect.json.JsonSchemaConverter",
        }
    }
}

#[cfg(test)]
mod tests;
