//! Which plugins and versions the tasks on this worker run with, as labels.

use aqueduct_connect_worker::{NamedPlugin, TaskPlugins};

use super::super::ConnectApi;
use super::TASK;
use super::text::Text;

const TRANSFORM: &str = "connector-transform-metrics";
const PREDICATE: &str = "connector-predicate-metrics";

/// The alias and the plugin of each transform, or predicate, of a task.
type Chosen = fn(&TaskPlugins) -> &[(String, NamedPlugin)];

pub fn write(api: &ConnectApi, text: &mut Text) {
    let tasks = api.herder.metrics().tasks();
    let known: Vec<_> = tasks
        .iter()
        .filter_map(|(id, counters)| {
            Some((id.connector.to_string(), id.task.to_string(), counters.plugins()?))
        })
        .collect();
    text.head(
        TASK,
        "info",
        "gauge",
        "Classes and versions of the connector, the task and its converters, as labels",
    );
    for (connector, task, plugins) in &known {
        let kind = api.herder.connector(connector).map_or("unknown", |info| info.kind);
        let TaskPlugins { key_converter, value_converter, header_converter, .. } = plugins;
        let labels = [
            ("connector", connector.as_str()),
            ("task", task),
            ("connector_class", &plugins.connector.class),
            ("connector_type", kind),
            ("connector_version", &plugins.connector.version),
            ("task_class", &plugins.task_class),
            ("task_version", &plugins.connector.version),
            ("key_converter_class", &key_converter.class),
            ("key_converter_version", &key_converter.version),
            ("value_converter_class", &value_converter.class),
            ("value_converter_version", &value_converter.version),
            ("header_converter_class", &header_converter.class),
            ("header_converter_version", &header_converter.version),
        ];
        text.series(TASK, "info", &labels, 1.0);
    }
    let transforms: Chosen = |plugins| &plugins.transforms;
    let predicates: Chosen = |plugins| &plugins.predicates;
    for (mbean, kind, class, version, chosen) in [
        (TRANSFORM, "transform", "transform_class", "transform_version", transforms),
        (PREDICATE, "predicate", "predicate_class", "predicate_version", predicates),
    ] {
        text.head(mbean, "info", "gauge", &format!("Class and version of each {kind} of a task, as labels"));
        for (connector, task, plugins) in &known {
            for (alias, plugin) in chosen(plugins) {
                let labels = [
                    ("connector", connector.as_str()),
                    ("task", task),
                    (kind, alias),
                    (class, &plugin.class),
                    (version, &plugin.version),
                ];
                text.series(mbean, "info", &labels, 1.0);
            }
        }
    }
}
