//! A connector's settings, read, with the plugins that they name.

use std::time::Duration;

use aqueduct_connect_api::config::ConfigType;
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, ConfigMap, Converter, Error as PluginError, Factory, HeaderConverter,
    Plugin, Predicate, Result as PluginResult, Transformation,
};

use super::tables::Defaults;
use super::{WorkerConfig, sink_table, source_table};
use crate::headers::ConverterForHeaders;

/// What happens with errors (`errors.*`).
#[derive(Clone, Debug)]
pub struct ErrorSettings {
    /// How long an operation is tried again; `None` for ever.
    pub retry_timeout: Option<Duration>,
    pub retry_delay_max: Duration,
    pub tolerance: Tolerance,
    pub log: bool,
    pub log_messages: bool,
    /// Sinks only.
    pub dead_letter_topic: Option<String>,
    pub dead_letter_replication: i16,
    pub dead_letter_headers: bool,
}

/// What becomes of a record that cannot be handled (`errors.tolerance`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// The task fails.
    None,
    /// The record is skipped.
    All,
}

/// A connector's settings: those of every connector, read; those of its class are read by its own table.
#[derive(Clone, Debug)]
pub struct ConnectorSettings {
    config: Config,
    worker: WorkerConfig,
}

/// The class that a connector names.
///
/// # Errors
/// In the reference's words, where there is none or it is unknown.
pub fn connector_plugin(settings: &ConfigMap) -> Result<&'static Plugin, String> {
    let Some(class) = settings.get("connector.class") else {
        let members: Vec<String> = settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
        return Err(format!("Connector config {{{}}} contains no connector type", members.join(", ")));
    };
    Plugin::connector(class.trim()).ok_or_else(|| {
        let mut known: Vec<&str> = super::tables::classes(&["sink"]);
        known.extend(super::tables::classes(&["source"]));
        format!(
            "Failed to find any class that implements Connector and which name matches {class}, available connectors are: {}",
            known.join(", ")
        )
    })
}

/// The same; where the class is unknown while plugins are still being looked for, it waits for the end of that.
///
/// # Errors
/// As [`connector_plugin`].
pub async fn find_connector_plugin(settings: &ConfigMap) -> Result<&'static Plugin, String> {
    if let Ok(plugin) = connector_plugin(settings) {
        return Ok(plugin);
    }
    Plugin::searched().await;
    connector_plugin(settings)
}

/// The table of what every connector of this class has.
pub fn base_table(worker: &WorkerConfig, plugin: &Plugin, settings: &ConfigMap) -> ConfigDef {
    let mut defaults = Defaults::of_worker(worker);
    defaults.version = Some(plugin.version);
    for (key, default) in [
        ("key.converter", &mut defaults.key_converter),
        ("value.converter", &mut defaults.value_converter),
        ("header.converter", &mut defaults.header_converter),
    ] {
        if let Some(class) = settings.get(key) {
            default.1 = Plugin::by_class(class.trim()).map(|plugin| plugin.version);
        }
    }
    match plugin.factory {
        Factory::Sink { .. } => sink_table(&defaults),
        _ => source_table(&defaults),
    }
}

impl ConnectorSettings {
    /// Reads what every connector has; `settings` have their variables resolved.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn read(worker: &WorkerConfig, plugin: &Plugin, settings: &ConfigMap) -> PluginResult<Self> {
        Self::from_table(worker, &base_table(worker, plugin, settings), settings)
    }

    /// Reads the settings of `table`, one of those that every connector has.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn from_table(worker: &WorkerConfig, table: &ConfigDef, settings: &ConfigMap) -> PluginResult<Self> {
        Ok(Self { config: table.parse(settings)?, worker: worker.clone() })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn tasks_max(&self) -> usize {
        usize::try_from(self.config.number("tasks.max")).unwrap_or(1)
    }

    pub fn tasks_max_enforced(&self) -> bool {
        self.config.boolean("tasks.max.enforce")
    }

    pub fn errors(&self) -> ErrorSettings {
        let millis =
            |key: &str| u64::try_from(self.config.number(key)).map(Duration::from_millis).unwrap_or_default();
        let topic = self.config.text("errors.deadletterqueue.topic.name");
        ErrorSettings {
            retry_timeout: (self.config.number("errors.retry.timeout") >= 0)
                .then(|| millis("errors.retry.timeout")),
            retry_delay_max: millis("errors.retry.delay.max.ms"),
            tolerance: match self.config.text("errors.tolerance") {
                "all" => Tolerance::All,
                _ => Tolerance::None,
            },
            log: self.config.boolean("errors.log.enable"),
            log_messages: self.config.boolean("errors.log.include.messages"),
            dead_letter_topic: (!topic.is_empty()).then(|| topic.to_owned()),
            dead_letter_replication: i16::try_from(
                self.config.number("errors.deadletterqueue.topic.replication.factor"),
            )
            .unwrap_or(3),
            dead_letter_headers: self.config.boolean("errors.deadletterqueue.context.headers.enable"),
        }
    }

    /// The converter for keys or values, configured.
    ///
    /// # Errors
    /// An unknown class, or settings that it refuses.
    pub fn converter(&self, is_key: bool) -> PluginResult<Box<dyn Converter>> {
        let which = if is_key { "key.converter" } else { "value.converter" };
        let (plugin, settings) = self.converter_plugin(which)?;
        let Factory::Converter(make) = plugin.factory else {
            return Err(not_a(which, plugin.class, "a converter"));
        };
        let mut converter = make();
        converter.configure(&(plugin.config)().parse(&settings)?, is_key)?;
        Ok(converter)
    }

    /// The converter for headers, configured.
    ///
    /// # Errors
    /// As for [`ConnectorSettings::converter`].
    pub fn header_converter(&self) -> PluginResult<Box<dyn HeaderConverter>> {
        let which = "header.converter";
        let (plugin, settings) = self.converter_plugin(which)?;
        let config = (plugin.config)().parse(&settings)?;
        match plugin.factory {
            Factory::HeaderConverter(make) => {
                let mut converter = make();
                converter.configure(&config)?;
                Ok(converter)
            }
            Factory::Converter(make) => {
                let mut converter = make();
                converter.configure(&config, false)?;
                Ok(Box::new(ConverterForHeaders(converter)))
            }
            _ => Err(not_a(which, plugin.class, "a header converter")),
        }
    }

    /// Class and settings of a converter: the connector's own, or else all of the worker's.
    fn converter_plugin(&self, which: &str) -> PluginResult<(&'static Plugin, ConfigMap)> {
        let own = self.config.originals();
        let worker = self.worker.originals();
        let source = if own.contains_key(which) { own } else { worker };
        let class = source.get(which).map_or_else(|| self.worker.text(which), String::as_str);
        let prefix = format!("{which}.");
        let mut settings: ConfigMap = source
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())))
            .collect();
        settings.insert("converter.type".to_owned(), which.trim_end_matches(".converter").to_owned());
        Ok((known_class(which, class)?, settings))
    }

    /// The transforms in order, each with its condition.
    ///
    /// # Errors
    /// An unknown class or alias, or settings that a plugin refuses.
    pub fn transforms(&self) -> PluginResult<Vec<TransformStep>> {
        self.config.list("transforms").iter().map(|alias| self.transform(alias)).collect()
    }

    fn transform(&self, alias: &str) -> PluginResult<TransformStep> {
        let prefix = format!("transforms.{alias}.");
        let settings = self.config.originals_with_prefix(&prefix);
        let type_key = format!("{prefix}type");
        let plugin = known_class(&type_key, settings.get("type").map_or("", String::as_str))?;
        let Factory::Transformation(make) = plugin.factory else {
            return Err(not_a(&type_key, plugin.class, "a transformation"));
        };
        let mut transform = make();
        transform.configure(&prefixed((plugin.config)().parse(&settings), &prefix)?)?;
        let condition = match settings.get("predicate").map(|p| p.trim()) {
            Some(name) => {
                let negate = condition_table().parse(&settings)?.boolean("negate");
                Some((self.predicate(name, &format!("{prefix}predicate"))?, negate))
            }
            None => None,
        };
        Ok(TransformStep { class: plugin.class, transform, condition })
    }

    fn predicate(&self, alias: &str, key: &str) -> PluginResult<Box<dyn Predicate>> {
        if !self.config.list("predicates").iter().any(|known| known == alias) {
            return Err(PluginError::config(key, alias, "it is not one of the aliases in predicates"));
        }
        let prefix = format!("predicates.{alias}.");
        let settings = self.config.originals_with_prefix(&prefix);
        let type_key = format!("{prefix}type");
        let plugin = known_class(&type_key, settings.get("type").map_or("", String::as_str))?;
        let Factory::Predicate(make) = plugin.factory else {
            return Err(not_a(&type_key, plugin.class, "a predicate"));
        };
        let mut predicate = make();
        predicate.configure(&prefixed((plugin.config)().parse(&settings), &prefix)?)?;
        Ok(predicate)
    }
}

/// A transform with the condition under which it runs.
pub struct TransformStep {
    pub class: &'static str,
    pub transform: Box<dyn Transformation>,
    /// The predicate, and whether it has to be false.
    pub condition: Option<(Box<dyn Predicate>, bool)>,
}

/// What a transform has beside its own settings.
pub fn condition_table() -> ConfigDef {
    ConfigDef::new()
        .key(ConfigKey::with_default(
            "negate",
            ConfigType::Boolean,
            "false",
            "Whether the transform runs where its predicate is false.",
        ))
        .key(ConfigKey::optional(
            "predicate",
            ConfigType::String,
            "Alias of the predicate that decides for which records the transform runs.",
        ))
}

/// Names the whole key in the error of a nested table.
fn prefixed(read: PluginResult<Config>, prefix: &str) -> PluginResult<Config> {
    read.map_err(|error| match error {
        PluginError::Config { name, value, message } => {
            PluginError::Config { name: format!("{prefix}{name}"), value, message }
        }
        other => {
            let text =
                other.to_string().replacen("configuration \"", &format!("configuration \"{prefix}"), 1);
            PluginError::connect(text)
        }
    })
}

fn known_class(key: &str, class: &str) -> PluginResult<&'static Plugin> {
    Plugin::by_class(class)
        .ok_or_else(|| PluginError::config(key, class, format!("Class {class} could not be found.")))
}

fn not_a(key: &str, class: &str, kind: &str) -> PluginError {
    PluginError::config(key, class, format!("it is not {kind}"))
}
