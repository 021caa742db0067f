//! Which plugins a task works with.

use aqueduct_connect_api::Plugin;

use crate::config::ConnectorSettings;

/// A plugin, as metrics name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedPlugin {
    pub class: String,
    /// Empty where the class is unknown.
    pub version: String,
}

impl NamedPlugin {
    fn of_class(class: &str) -> Self {
        let found = Plugin::by_class(class.trim());
        Self {
            class: found.map_or_else(|| class.trim().to_owned(), |plugin| plugin.class.to_owned()),
            version: found.map_or_else(String::new, |plugin| plugin.version.to_owned()),
        }
    }
}

/// The plugins of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskPlugins {
    pub connector: NamedPlugin,
    pub task_class: String,
    pub key_converter: NamedPlugin,
    pub value_converter: NamedPlugin,
    pub header_converter: NamedPlugin,
    /// By their aliases, in the order in which they run.
    pub transforms: Vec<(String, NamedPlugin)>,
    /// By their aliases.
    pub predicates: Vec<(String, NamedPlugin)>,
}

impl TaskPlugins {
    /// Those that a connector's settings name.
    pub fn read(connector: &Plugin, task_class: &str, settings: &ConnectorSettings) -> Self {
        let config = settings.config();
        let converter = |key: &str| NamedPlugin::of_class(config.text(key));
        let named = |list: &str| {
            let class = |alias: &String| {
                let class = config.originals().get(&format!("{list}.{alias}.type"));
                (alias.clone(), NamedPlugin::of_class(class.map_or("", String::as_str)))
            };
            config.list(list).iter().map(class).collect()
        };
        Self {
            connector: NamedPlugin {
                class: connector.class.to_owned(),
                version: connector.version.to_owned(),
            },
            task_class: task_class.to_owned(),
            key_converter: converter("key.converter"),
            value_converter: converter("value.converter"),
            header_converter: converter("header.converter"),
            transforms: named("transforms"),
            predicates: named("predicates"),
        }
    }
}
