//! Validation of a connector's settings, and the tables behind it.

mod classes;
mod exactly_once;

use std::collections::BTreeMap;

use aqueduct_connect_api::config::{ConfigType, ConfigValue, ConfigValueInfo, Importance, Validator, Width};
use aqueduct_connect_api::{ConfigDef, ConfigKey, ConfigMap, Connector, Factory, Plugin};
use serde::Serialize;

use crate::config::{
    WorkerConfig, base_table, classes as known_classes, condition_table, find_connector_plugin,
};
use crate::error::{Error, Result};

/// Settings as they came in: null is possible, and always wrong.
pub type RawConfig = BTreeMap<String, Option<String>>;

/// One setting of a table.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub required: bool,
    pub default_value: Option<String>,
    pub importance: &'static str,
    pub documentation: String,
    pub group: Option<String>,
    pub order_in_group: i32,
    pub width: &'static str,
    pub display_name: String,
    pub dependents: Vec<String>,
}

/// What validation says of one setting.
#[derive(Clone, Debug, Serialize)]
pub struct ValueInfo {
    pub name: String,
    pub value: Option<String>,
    pub recommended_values: Vec<String>,
    pub errors: Vec<String>,
    pub visible: bool,
}

/// A setting and what validation says of it.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigInfo {
    pub definition: KeyInfo,
    pub value: ValueInfo,
}

/// The result of a validation.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigInfos {
    pub name: String,
    pub error_count: usize,
    pub groups: Vec<String>,
    pub configs: Vec<ConfigInfo>,
}

impl From<&ConfigKey> for KeyInfo {
    fn from(key: &ConfigKey) -> Self {
        let default = key.default.as_ref().and_then(Option::as_deref);
        Self {
            name: key.name.to_string(),
            kind: key.kind.name(),
            required: key.default.is_none(),
            default_value: default.map(str::to_owned),
            importance: key.importance.name(),
            documentation: key.documentation.to_string(),
            group: key.group.as_ref().map(ToString::to_string),
            order_in_group: key.order_in_group,
            width: key.width.name(),
            display_name: key.display_name.to_string(),
            dependents: key.dependents.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Text of a value as REST shows it.
fn shown(value: &ConfigValue) -> Option<String> {
    match value {
        ConfigValue::Null => None,
        ConfigValue::Boolean(b) => Some(b.to_string()),
        ConfigValue::Int(n) => Some(n.to_string()),
        ConfigValue::Double(n) => Some(n.to_string()),
        ConfigValue::String(s) => Some(s.clone()),
        ConfigValue::List(items) => Some(items.join(",")),
        ConfigValue::Password(_) => Some("[hidden]".to_owned()),
    }
}

impl From<ConfigValueInfo> for ConfigInfo {
    fn from(info: ConfigValueInfo) -> Self {
        let mut errors = info.errors;
        let value = info.value.as_deref().map(|text| ConfigValue::parse(info.key.kind, text));
        let value = match value {
            Some(Ok(value)) => shown(&value),
            Some(Err(_)) => {
                // Java's range checks also run on what could not be read.
                if matches!(info.key.validator, Some(Validator::AtLeast(_) | Validator::Between(..))) {
                    let name = &info.key.name;
                    errors
                        .push(format!("Invalid value null for configuration {name}: Value must be non-null"));
                }
                None
            }
            None => None,
        };
        Self {
            definition: KeyInfo::from(&info.key),
            value: ValueInfo {
                name: info.key.name.to_string(),
                value,
                recommended_values: info.recommended_values,
                errors,
                visible: info.visible,
            },
        }
    }
}

/// The reference's range checks also run on what could not be read.
fn null_in_range(key: &ConfigKey) -> Option<String> {
    matches!(key.validator, Some(Validator::AtLeast(_) | Validator::Between(..)))
        .then(|| format!("Invalid value null for configuration {}: Value must be non-null", key.name))
}

pub fn connector_not_found(name: &str) -> Error {
    Error::not_found(format!("Connector {name} not found"))
}

/// Settings without the nulls.
pub fn present(config: &RawConfig) -> ConfigMap {
    config.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?))).collect()
}

/// Checks settings of a connector as far as possible without starting it.
///
/// # Errors
/// [`Error::BadRequest`] where they name no known class.
pub async fn validate(worker: &WorkerConfig, raw: &RawConfig) -> Result<ConfigInfos> {
    let config = worker.providers().resolve(&present(raw));
    if !config.contains_key("connector.class") {
        return Err(no_class(raw));
    }
    let plugin = find_connector_plugin(&config).await.map_err(Error::invalid)?;
    let base = base_table(worker, plugin, &config);
    let mut infos = base.validate(&config);
    classes::mark_converters(&mut infos);
    enrich(&config, &mut infos);
    let mut own = (plugin.config)().validate(&config);
    instance(plugin).validate(&config, &mut own).await;
    // A connector may describe again what every connector has; its own word counts.
    for info in own {
        match infos.iter_mut().find(|known| known.key.name == info.key.name) {
            Some(known) => *known = info,
            None => infos.push(info),
        }
    }
    overrides(worker, plugin, &config, &mut infos);
    if matches!(plugin.factory, Factory::Sink { .. }) {
        check_sink(worker, &config, &mut infos);
    } else {
        exactly_once::check(worker, &*instance(plugin), &config, &mut infos);
    }
    converters(&config, &mut infos);
    nulls(raw, &mut infos);
    let mut groups: Vec<String> = Vec::new();
    for info in &infos {
        if let Some(group) = info.key.group.as_deref()
            && !groups.iter().any(|g| g == group)
        {
            groups.push(group.to_owned());
        }
    }
    let configs: Vec<ConfigInfo> = infos.into_iter().map(ConfigInfo::from).collect();
    let error_count = configs.iter().map(|c| c.value.errors.len()).sum();
    let name = config.get("connector.class").cloned().unwrap_or_default();
    Ok(ConfigInfos { name, error_count, groups, configs })
}

/// The answer to settings without a class; values that may be secret are left out.
fn no_class(raw: &RawConfig) -> Error {
    let shown = |(key, value): (&String, &Option<String>)| {
        let value = if is_secret(key) { "[hidden]" } else { value.as_deref().unwrap_or("null") };
        format!("{key}={value}")
    };
    let members: Vec<String> = raw.iter().map(shown).collect();
    Error::invalid(format!("Connector config {{{}}} contains no connector type", members.join(", ")))
}

/// Whether a setting of this name is likely to hold a secret.
fn is_secret(name: &str) -> bool {
    ["password", "jaas", "secret", "credential", "token"].iter().any(|word| name.contains(word))
}

fn instance(plugin: &Plugin) -> Box<dyn Connector> {
    match plugin.factory {
        Factory::Source { connector, .. } | Factory::Sink { connector, .. } => connector(),
        _ => unreachable!("only connectors are found by their class"),
    }
}

fn error_at(infos: &mut [ConfigValueInfo], name: &str, error: &str) {
    if let Some(info) = infos.iter_mut().find(|info| info.key.name == name) {
        info.errors.push(error.to_owned());
    }
}

/// The aliases in a list, each once.
fn aliases(config: &ConfigMap, infos: &mut [ConfigValueInfo], key: &str) -> Vec<String> {
    let list = config.get(key).map_or("", |list| list.trim());
    let all: Vec<&str> = list.split(',').map(str::trim).filter(|_| !list.is_empty()).collect();
    let mut once: Vec<String> = Vec::new();
    for alias in &all {
        if !once.iter().any(|known| known == alias) {
            once.push((*alias).to_owned());
        }
    }
    if once.len() < all.len() {
        let all = all.join(", ");
        let error = format!("Invalid value [{all}] for configuration {key}: Duplicate alias provided.");
        error_at(infos, key, &error);
    }
    once
}

/// Settings of transforms and predicates, as their aliases name them.
fn enrich(config: &ConfigMap, infos: &mut Vec<ConfigValueInfo>) {
    let predicates = aliases(config, infos, "predicates");
    for alias in aliases(config, infos, "transforms") {
        let nested = Nested { kind: "transformation", list: "transforms", group: "Transforms", alias };
        let condition = nested.add(config, infos);
        if let Some(condition) = condition.filter(|c| !predicates.contains(c)) {
            let key = format!("transforms.{}.predicate", nested.alias);
            let error = format!(
                "Invalid value {condition} for configuration {key}: The name of the predicate is not in predicates"
            );
            error_at(infos, &key, &error);
        }
    }
    for alias in predicates {
        Nested { kind: "predicate", list: "predicates", group: "Predicates", alias }.add(config, infos);
    }
}

/// Settings under an alias.
struct Nested {
    kind: &'static str,
    list: &'static str,
    group: &'static str,
    alias: String,
}

impl Nested {
    /// Adds them; gives the predicate that a transform names.
    fn add(&self, config: &ConfigMap, infos: &mut Vec<ConfigValueInfo>) -> Option<String> {
        let Self { kind, list, alias, .. } = self;
        let prefix = format!("{list}.{alias}.");
        let group = format!("{}: {alias}", self.group);
        let shown = format!("{}{}", kind[..1].to_ascii_uppercase(), &kind[1..]);
        let settings: ConfigMap = config
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())))
            .collect();
        let mut class_key =
            ConfigKey::required(format!("{prefix}type"), ConfigType::Class, "Class of this alias.")
                .group(group.clone(), 0)
                .width(Width::Long)
                .display_name(format!("{shown} type for {alias}"))
                .recommended(known_classes(&[kind]));
        class_key.documentation = format!("Class for the '{alias}' {kind}.").into();
        let class = settings.get("type").map(|c| c.trim());
        let plugin = class.and_then(Plugin::by_class).filter(|p| p.factory.type_name() == *kind);
        let mut table = ConfigDef::new().key(class_key);
        let version_key = format!("{prefix}plugin.version");
        let doc = "Version of this alias's class.";
        let mut version = match plugin {
            Some(p) => ConfigKey::with_default(version_key, ConfigType::String, p.version, doc)
                .recommended([p.version]),
            None => ConfigKey::optional(version_key, ConfigType::String, doc),
        };
        version = version
            .importance(Importance::High)
            .group(group.clone(), 1)
            .width(Width::Long)
            .display_name(format!("{shown} version for {alias}"));
        table.add(version);
        if let Some(plugin) = plugin {
            let mut own: Vec<ConfigKey> = (plugin.config)().keys().to_vec();
            if *kind == "transformation" {
                own.extend(condition_table().keys().iter().cloned());
            }
            for (order, key) in (2..).zip(own) {
                let mut key = key;
                key.name = format!("{prefix}{}", key.name).into();
                key.group = Some(group.clone().into());
                key.order_in_group = order;
                table.add(key);
            }
        }
        let mut found = table.validate(config);
        let wrong = class.and_then(|class| classes::judge(&format!("{prefix}type"), class, &[*kind]));
        let negates = *kind == "transformation" && settings.contains_key("negate");
        match wrong {
            Some(wrong) if wrong.is_missing => {
                found[0].errors.push(wrong.text);
                found[0].value = None;
            }
            _ if negates && !settings.contains_key("predicate") => found[0].errors.push(format!(
                "Config '{prefix}negate' was provided but there is no config '{prefix}predicate' defining a predicate to be negated."
            )),
            Some(wrong) => found[0].errors.push(wrong.text),
            None => {}
        }
        infos.extend(found);
        plugin.and_then(|_| settings.get("predicate").map(|p| p.trim().to_owned()))
    }
}

/// What a sink's common settings must satisfy together.
fn check_sink(worker: &WorkerConfig, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
    let text = |key: &str| config.get(key).map_or("", |v| v.trim());
    let (topics, pattern) = (text("topics"), text("topics.regex"));
    let error = match (topics.is_empty(), pattern.is_empty()) {
        (true, true) => Some("Must configure one of topics or topics.regex"),
        (false, false) => Some("topics and topics.regex are mutually exclusive options, but both are set."),
        _ => None,
    };
    if let Some(error) = error {
        error_at(infos, "topics", error);
        error_at(infos, "topics.regex", error);
    }
    let dead_letters = text("errors.deadletterqueue.topic.name");
    if !dead_letters.is_empty() {
        let topics: Vec<&str> = topics.split(',').map(str::trim).filter(|t| !t.is_empty()).collect();
        if topics.contains(&dead_letters) {
            let error = format!(
                "The DLQ topic '{dead_letters}' may not be included in the list of topics ('topics=[{}]') consumed by the connector",
                topics.join(", ")
            );
            error_at(infos, "topics", &error);
        }
        if !pattern.is_empty()
            && regex::Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|r| r.is_match(dead_letters))
        {
            let error = format!(
                "The DLQ topic '{dead_letters}' may not be matched by the regex for the topics ('topics.regex={pattern}') consumed by the connector"
            );
            error_at(infos, "topics.regex", &error);
        }
    }
    let own_group = format!("connect-{}", text("name"));
    let (key, group) = match config.get("consumer.override.group.id") {
        Some(group) => ("consumer.override.group.id", group),
        None => ("name", &own_group),
    };
    if !worker.group_id().is_empty() && group == worker.group_id() {
        let error = format!(
            "Consumer group {group} of sink connector {} conflicts with Connect worker group {group}; rename the connector \
             or set another consumer.override.group.id",
            text("name"),
        );
        error_at(infos, key, &error);
    }
}

/// Client settings that the connector overrides.
fn overrides(worker: &WorkerConfig, plugin: &Plugin, config: &ConfigMap, infos: &mut Vec<ConfigValueInfo>) {
    let prefixes: &[&str] = match plugin.factory {
        Factory::Sink { .. } => &["consumer.override.", "producer.override.", "admin.override."],
        _ => &["producer.override.", "consumer.override.", "admin.override."],
    };
    for prefix in prefixes {
        for (name, value) in config {
            let Some(client_key) = name.strip_prefix(prefix) else { continue };
            let kind = if is_secret(client_key) { ConfigType::Password } else { ConfigType::String };
            let key =
                ConfigKey::optional(name.clone(), kind, "A setting of the connector's own Kafka client.")
                    .importance(Importance::Low)
                    .display_name(client_key.to_owned());
            let errors = match worker.override_policy().check(client_key) {
                Ok(()) => Vec::new(),
                Err(why) => {
                    let shown = if is_secret(client_key) { "[hidden]" } else { value };
                    vec![format!("Invalid value {shown} for configuration {name}: {why}")]
                }
            };
            infos.push(ConfigValueInfo {
                key,
                value: Some(value.clone()),
                recommended_values: Vec::new(),
                errors,
                visible: true,
            });
        }
    }
}

/// Settings of converters that the connector names itself.
fn converters(config: &ConfigMap, infos: &mut Vec<ConfigValueInfo>) {
    for which in ["key.converter", "value.converter", "header.converter"] {
        let Some(plugin) = config.get(which).and_then(|class| Plugin::by_class(class.trim())) else {
            continue;
        };
        let prefix = format!("{which}.");
        let mut settings: ConfigMap = config
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())))
            .collect();
        let kind = which.trim_end_matches(".converter");
        settings.entry("converter.type".to_owned()).or_insert_with(|| kind.to_owned());
        for mut info in (plugin.config)().validate(&settings) {
            info.key.name = format!("{prefix}{}", info.key.name).into();
            infos.push(info);
        }
    }
}

fn nulls(raw: &RawConfig, infos: &mut Vec<ConfigValueInfo>) {
    const NULL: &str = "Null value can not be supplied as the configuration value.";
    for (name, _) in raw.iter().filter(|(_, value)| value.is_none()) {
        match infos.iter_mut().find(|info| info.key.name == *name) {
            Some(info) => {
                info.value = None;
                if let Some(error) = null_in_range(&info.key) {
                    info.errors.push(error);
                }
                info.errors.push(NULL.to_owned());
            }
            None => infos.push(ConfigValueInfo {
                key: ConfigKey::optional(name.clone(), ConfigType::String, ""),
                value: None,
                recommended_values: Vec::new(),
                errors: vec![NULL.to_owned()],
                visible: true,
            }),
        }
    }
}

/// The answer to settings with errors; `None` where there are none.
pub fn refusal(infos: &ConfigInfos) -> Option<Error> {
    let errors: Vec<&str> =
        infos.configs.iter().flat_map(|c| c.value.errors.iter().map(String::as_str)).collect();
    (!errors.is_empty()).then(|| {
        Error::invalid(format!(
            "Connector configuration is invalid and contains the following {} error(s):\n{}\n\
             You can also find the above list of errors at the endpoint `/connector-plugins/{{connectorType}}/config/validate`",
            errors.len(),
            errors.join("\n")
        ))
    })
}
