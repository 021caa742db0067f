//! Converters in the place of header converters.

use aqueduct_connect_api::data::{Schema, SchemaAndValue, Value};
use aqueduct_connect_api::{Config, Converter, HeaderConverter, Result};
use bytes::Bytes;

/// A converter of values that serves headers: each header value is converted as a record value would be.
pub struct ConverterForHeaders(pub Box<dyn Converter>);

impl HeaderConverter for ConverterForHeaders {
    fn configure(&mut self, config: &Config) -> Result<()> {
        self.0.configure(config, false)
    }

    fn encode(
        &mut self,
        topic: &str,
        _key: &str,
        schema: Option<&Schema>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        let schema = schema.map(|s| s.to_builder().build());
        self.0.encode(topic, &[], schema.as_ref(), value)
    }

    fn decode(&mut self, topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        self.0.decode(topic, &[], bytes)
    }
}
