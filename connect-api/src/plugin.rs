//! The registry of plugins that are compiled in.

use crate::config::ConfigDef;
use crate::connector::{Connector, SinkTask, SourceTask};
use crate::convert::{Converter, HeaderConverter, Predicate, Transformation};

/// How to make an instance.
#[derive(Clone, Copy)]
pub enum Factory {
    Source { connector: fn() -> Box<dyn Connector>, task: fn() -> Box<dyn SourceTask> },
    Sink { connector: fn() -> Box<dyn Connector>, task: fn() -> Box<dyn SinkTask> },
    Converter(fn() -> Box<dyn Converter>),
    HeaderConverter(fn() -> Box<dyn HeaderConverter>),
    Transformation(fn() -> Box<dyn Transformation>),
    Predicate(fn() -> Box<dyn Predicate>),
}

impl Factory {
    /// The `type` that the REST API shows.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Source { .. } => "source",
            Self::Sink { .. } => "sink",
            Self::Converter(_) => "converter",
            Self::HeaderConverter(_) => "header_converter",
            Self::Transformation(_) => "transformation",
            Self::Predicate(_) => "predicate",
        }
    }
}

/// A plugin as it presents itself.
///
/// ```text
/// inventory::submit! {
///     Plugin { class: "org.example.ThingSourceConnector", aliases: &[], version: env!("CARGO_PKG_VERSION"), config: config_def,
///              factory: Factory::Source { connector: || Box::new(..), task: || Box::new(..) } }
/// }
/// ```
pub struct Plugin {
    /// Full class name that users put in configurations and that the REST API lists.
    pub class: &'static str,
    /// Other full class names that mean the same.
    pub aliases: &'static [&'static str],
    pub version: &'static str,
    /// The table of its settings, the worker's own not included.
    pub config: fn() -> ConfigDef,
    pub factory: Factory,
}

inventory::collect!(Plugin);

impl Plugin {
    /// Every plugin that is linked in, in no particular order.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        inventory::iter::<Self>.into_iter()
    }

    /// Whether `name` means this plugin: a full class name, or for connectors also its last part with or without
    /// `Connector`.
    pub fn is_named(&self, name: &str) -> bool {
        let is_connector = matches!(self.factory, Factory::Source { .. } | Factory::Sink { .. });
        std::iter::once(&self.class).chain(self.aliases).any(|class| {
            let simple = class.rsplit('.').next().unwrap_or(class);
            *class == name
                || (is_connector
                    && (simple == name || simple.strip_suffix("Connector").is_some_and(|s| s == name)))
        })
    }

    /// The connector that `name` means.
    pub fn connector(name: &str) -> Option<&'static Self> {
        Self::all()
            .filter(|p| matches!(p.factory, Factory::Source { .. } | Factory::Sink { .. }))
            .find(|p| p.is_named(name))
    }

    /// The plugin of any kind whose full class name is `class`.
    pub fn by_class(class: &str) -> Option<&'static Self> {
        Self::all().find(|p| p.class == class || p.aliases.contains(&class))
    }
}
