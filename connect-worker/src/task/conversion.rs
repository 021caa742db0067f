//! The converters and transforms of a task, source or sink.

use aqueduct_connect_api::{Converter, HeaderConverter, Result as PluginResult};

use super::transforms::TransformChain;
use crate::config::ConnectorSettings;

/// Converters and transforms, with the converters' class names for errors.
pub(super) struct Conversion {
    pub transforms: TransformChain,
    pub key: Box<dyn Converter>,
    pub value: Box<dyn Converter>,
    pub headers: Box<dyn HeaderConverter>,
    pub key_class: String,
    pub value_class: String,
    pub header_class: String,
}

impl Conversion {
    pub fn new(settings: &ConnectorSettings) -> PluginResult<Self> {
        let class = |key: &str| settings.config().text(key).to_owned();
        Ok(Self {
            transforms: TransformChain::new(settings.transforms()?),
            key: settings.converter(true)?,
            value: settings.converter(false)?,
            headers: settings.header_converter()?,
            key_class: class("key.converter"),
            value_class: class("value.converter"),
            header_class: class("header.converter"),
        })
    }
}
