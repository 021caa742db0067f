//! The settings that every connector has, whatever it connects to.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Importance, Validator, Width};
use aqueduct_connect_api::{ConfigDef, ConfigKey, Plugin};

use ConfigType::{Boolean, Class, Int, List, Long, Short, String};

use super::WorkerConfig;

const COMMON: &str = "Common";
const ERRORS: &str = "Error Handling";
const EXACTLY_ONCE: &str = "Exactly Once Support";

/// What the tables take from the worker and from the connector's class.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// The worker's class, and the version of the one in force.
    pub key_converter: (&'a str, Option<&'static str>),
    pub value_converter: (&'a str, Option<&'static str>),
    pub header_converter: (&'a str, Option<&'static str>),
    /// Version of the connector's plugin.
    pub version: Option<&'static str>,
}

impl<'a> Defaults<'a> {
    /// Those of a connector that says nothing itself.
    pub fn of_worker(worker: &'a WorkerConfig) -> Self {
        let converter = |key: &str| {
            let class = worker.text(key);
            (class, Plugin::by_class(class).map(|plugin| plugin.version))
        };
        Self {
            key_converter: converter("key.converter"),
            value_converter: converter("value.converter"),
            header_converter: converter("header.converter"),
            version: None,
        }
    }
}

/// A setting in the middle of a table: name, type, default (`None` for null), shown name, doc.
struct Row(&'static str, ConfigType, Option<&'static str>, &'static str, &'static str);

impl Row {
    fn key(self, group: &'static str, order: i32, importance: Importance, width: Width) -> ConfigKey {
        let Self(name, kind, default, shown, doc) = self;
        let key = match default {
            Some(default) => ConfigKey::with_default(name, kind, default, doc),
            None => ConfigKey::optional(name, kind, doc),
        };
        key.display_name(shown).group(group, order).importance(importance).width(width)
    }
}

fn name_rule(value: &ConfigValue) -> Result<(), std::string::String> {
    let ConfigValue::String(name) = value else { return Ok(()) };
    if name.is_empty() {
        return Err("String may not be empty".to_owned());
    }
    let controls: Vec<std::string::String> =
        name.chars().filter(|c| c.is_control()).map(|c| u32::from(c).to_string()).collect();
    if !controls.is_empty() {
        return Err(format!(
            "String may not contain control sequences but had the following ASCII chars: {}",
            controls.join(", ")
        ));
    }
    Ok(())
}

fn version_key(
    name: &'static str,
    of: &'static str,
    shown: &'static str,
    version: Option<&'static str>,
    order: i32,
    importance: Importance,
    width: Width,
) -> ConfigKey {
    let mut key = Row(name, String, version, shown, of).key(COMMON, order, importance, width);
    if let Some(version) = version {
        key = key.recommended([version]);
    }
    key
}

/// Full class names of the plugins of these types, sorted.
pub fn classes(types: &[&str]) -> Vec<&'static str> {
    let mut classes: Vec<_> =
        Plugin::all().filter(|p| types.contains(&p.factory.type_name())).map(|p| p.class).collect();
    classes.sort_unstable();
    classes
}

fn common(defaults: &Defaults<'_>) -> ConfigDef {
    use Importance::{High, Low, Medium};
    let converter = |name: &'static str, class: &str, shown, order, types: &[&str], doc| {
        ConfigKey::with_default(name, Class, class.to_owned(), doc)
            .display_name(shown)
            .group(COMMON, order)
            .importance(Low)
            .width(Width::Short)
            .recommended(classes(types))
    };
    ConfigDef::new()
        .key(
            ConfigKey::required("name", String, "Name of this connector, unique among all of the cluster.")
                .display_name("Connector name")
                .group(COMMON, 1)
                .width(Width::Medium)
                .validator(Validator::Check(name_rule)),
        )
        .key(
            ConfigKey::required(
                "connector.class",
                String,
                "Class of this connector: its full name, or the last part of it, with or without \"Connector\".",
            )
            .display_name("Connector class")
            .group(COMMON, 2)
            .width(Width::Long),
        )
        .key(version_key(
            "connector.plugin.version",
            "Version of the connector's plugin.",
            "Connector version",
            defaults.version,
            3,
            Medium,
            Width::Medium,
        ))
        .key(
            Row("tasks.max", Int, Some("1"), "Tasks max", "How many tasks may share the work at most.")
                .key(COMMON, 4, High, Width::Short)
                .validator(Validator::AtLeast(1)),
        )
        .key(
            Row(
                "tasks.max.enforce",
                Boolean,
                Some("true"),
                "Enforce tasks max",
                "(Deprecated) Whether a connector that makes more tasks than tasks.max fails.",
            )
            .key(COMMON, 5, Low, Width::Short),
        )
        .key(converter(
            "key.converter",
            defaults.key_converter.0,
            "Key converter class",
            6,
            &["converter"],
            "Class that turns record keys into bytes and back; the format of the keys in the topic.",
        ))
        .key(version_key(
            "key.converter.plugin.version",
            "Version of the key converter.",
            "Key converter version",
            defaults.key_converter.1,
            7,
            Low,
            Width::Short,
        ))
        .key(converter(
            "value.converter",
            defaults.value_converter.0,
            "Value converter class",
            8,
            &["converter"],
            "Class that turns record values into bytes and back; the format of the values in the topic.",
        ))
        .key(version_key(
            "value.converter.plugin.version",
            "Version of the value converter.",
            "Value converter version",
            defaults.value_converter.1,
            9,
            Low,
            Width::Short,
        ))
        .key(converter(
            "header.converter",
            defaults.header_converter.0,
            "Header converter class",
            10,
            &["converter", "header_converter"],
            "Class that turns header values into bytes and back.",
        ))
        .key(version_key(
            "header.converter.plugin.version",
            "Version of the header converter.",
            "Header converter version",
            defaults.header_converter.1,
            11,
            Low,
            Width::Short,
        ))
        .key(
            Row("transforms", List, Some(""), "Transforms", "Aliases of the transforms, in the order in which they run.")
                .key("Transforms", 12, Low, Width::Long),
        )
        .key(
            Row("predicates", List, Some(""), "Predicates", "Aliases of the predicates that transforms may name.")
                .key("Predicates", 13, Low, Width::Long),
        )
        .key(
            Row(
                "config.action.reload",
                String,
                Some("restart"),
                "Reload Action",
                "What happens when a config provider says that a setting has changed: restart or none.",
            )
            .key(COMMON, 14, Low, Width::Medium)
            .validator(Validator::OneOf(&["none", "restart"])),
        )
        .key(
            Row(
                "errors.retry.timeout",
                Long,
                Some("0"),
                "Retry Timeout for Errors",
                "How many milliseconds a failed operation is tried again: 0 for not at all, -1 for ever.",
            )
            .key(ERRORS, 1, Medium, Width::Medium),
        )
        .key(
            Row(
                "errors.retry.delay.max.ms",
                Long,
                Some("60000"),
                "Maximum Delay Between Retries for Errors",
                "Longest wait between two tries, in milliseconds; from there on it varies at random.",
            )
            .key(ERRORS, 2, Medium, Width::Medium),
        )
        .key(
            Row(
                "errors.tolerance",
                String,
                Some("none"),
                "Error Tolerance",
                "none: the first record that cannot be handled fails the task; all: such records are skipped.",
            )
            .key(ERRORS, 3, Medium, Width::Short)
            .validator(Validator::OneOf(&["none", "all"])),
        )
        .key(
            Row("errors.log.enable", Boolean, Some("false"), "Log Errors", "Whether errors that are tolerated are logged.")
                .key(ERRORS, 4, Medium, Width::Short),
        )
        .key(
            Row(
                "errors.log.include.messages",
                Boolean,
                Some("false"),
                "Log Error Details",
                "Whether such log lines say which record it was.",
            )
            .key(ERRORS, 5, Medium, Width::Short),
        )
}

/// Settings of every source.
pub fn source_table(defaults: &Defaults<'_>) -> ConfigDef {
    use Importance::{Low, Medium};
    common(defaults)
        .key(
            Row(
                "topic.creation.groups",
                List,
                Some(""),
                "Topic Creation Groups",
                "Names of groups of rules for topics that this source creates.",
            )
            .key("Topic Creation", 1, Low, Width::Long),
        )
        .key(
            Row(
                "exactly.once.support",
                String,
                Some("requested"),
                "Exactly once support",
                "required: refuse to run unless each record is certain to be written exactly once; requested: do not ask.",
            )
            .key(EXACTLY_ONCE, 2, Medium, Width::Short)
            .validator(Validator::OneOfIgnoreCase(&["REQUIRED", "REQUESTED"])),
        )
        .key(
            Row(
                "transaction.boundary",
                String,
                Some("poll"),
                "Transaction Boundary",
                "What ends a transaction: poll (each batch), interval (time), connector (the task says).",
            )
            .key(EXACTLY_ONCE, 3, Medium, Width::Short)
            .validator(Validator::OneOfIgnoreCase(&["INTERVAL", "POLL", "CONNECTOR"])),
        )
        .key(
            Row(
                "transaction.boundary.interval.ms",
                Long,
                None,
                "Transaction boundary interval",
                "Milliseconds between commits where transaction.boundary is interval; offset.flush.interval.ms where not set.",
            )
            .key(EXACTLY_ONCE, 4, Low, Width::Short)
            .validator(Validator::AtLeast(0)),
        )
        .key(
            Row(
                "offsets.storage.topic",
                String,
                None,
                "Offsets topic",
                "Topic for the offsets of this connector, where they are not to be kept in the worker's.",
            )
            .key("offsets.topic", 1, Low, Width::Long)
            .validator(Validator::NonEmpty),
        )
}

/// Settings of every sink.
pub fn sink_table(defaults: &Defaults<'_>) -> ConfigDef {
    use Importance::{High, Medium};
    common(defaults)
        .key(
            Row("topics", List, Some(""), "Topics", "Topics to read, separated by commas.")
                .key(COMMON, 4, High, Width::Long),
        )
        .key(
            Row(
                "topics.regex",
                String,
                Some(""),
                "Topics regex",
                "Pattern that the whole name of a topic must match to be read; instead of topics.",
            )
            .key(COMMON, 4, High, Width::Long)
            .validator(Validator::Check(pattern_rule)),
        )
        .key(
            Row(
                "errors.deadletterqueue.topic.name",
                String,
                Some(""),
                "Dead Letter Queue Topic Name",
                "Topic for records that could not be handled; empty for none.",
            )
            .key(ERRORS, 6, Medium, Width::Medium),
        )
        .key(
            Row(
                "errors.deadletterqueue.topic.replication.factor",
                Short,
                Some("3"),
                "Dead Letter Queue Topic Replication Factor",
                "Replicas of that topic where it has to be created.",
            )
            .key(ERRORS, 7, Medium, Width::Medium),
        )
        .key(
            Row(
                "errors.deadletterqueue.context.headers.enable",
                Boolean,
                Some("false"),
                "Enable Error Context Headers",
                "Whether records in that topic carry headers, all named __connect.errors.*, that say what went wrong.",
            )
            .key(ERRORS, 8, Medium, Width::Medium),
        )
}

fn pattern_rule(value: &ConfigValue) -> Result<(), std::string::String> {
    match value {
        ConfigValue::String(pattern) => {
            regex::Regex::new(pattern).map(drop).map_err(|e| format!("Invalid regex: {e}"))
        }
        _ => Ok(()),
    }
}
