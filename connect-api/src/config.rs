//! Settings: one table a plugin, from which parsing, validation over REST and the docs are read.

mod def;
mod values;

use std::collections::BTreeMap;

pub use def::{ConfigDef, ConfigKey, ConfigType, ConfigValueInfo, Importance, Validator, Width};
pub use values::{Config, ConfigValue, Password, trim};

/// Settings as the user wrote them.
pub type ConfigMap = BTreeMap<String, String>;
