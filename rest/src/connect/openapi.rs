//! `GET /openapi.json`: the API's description (OpenAPI 3.0), made of the tables below. A test holds it against the routes.

use axum::Json;
use serde_json::{Map, Value, json};

use super::routes::{Endpoint, at};

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/openapi.json").get(|| async { Json(document()) })]
}

/// Method, path, what it does, query parameters, schema of the body, answers: status and schema.
type Operation = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static [(&'static str, &'static str)],
);

const CONFIG: &str = "Config";
const NONE: &str = "";

const OPERATIONS: &[Operation] = &[
    ("get", "/", "What runs here", &[], NONE, &[("200", "ServerInfo")]),
    (
        "get",
        "/health",
        "Whether the worker has joined its group",
        &[],
        NONE,
        &[("200", "WorkerStatus"), ("500", "WorkerStatus"), ("503", "WorkerStatus")],
    ),
    (
        "get",
        "/health/ready",
        "The same, for probes",
        &[],
        NONE,
        &[("200", "WorkerStatus"), ("500", "WorkerStatus"), ("503", "WorkerStatus")],
    ),
    ("get", "/health/live", "Whether the process answers", &[], NONE, &[("200", "Live")]),
    ("get", "/metrics", "Metrics in Prometheus' text format", &[], NONE, &[("200", "text")]),
    ("get", "/openapi.json", "This document", &[], NONE, &[("200", "object")]),
    (
        "get",
        "/connectors",
        "Names of all connectors, or with expand an object of them",
        &[("expand", "status or info; may be repeated")],
        NONE,
        &[("200", "Connectors")],
    ),
    (
        "post",
        "/connectors",
        "Create a connector",
        &[("forward", "Internal")],
        "CreateConnectorRequest",
        &[
            ("201", "ConnectorInfo"),
            ("400", "ErrorMessage"),
            ("409", "ErrorMessage"),
            ("500", "ErrorMessage"),
        ],
    ),
    (
        "get",
        "/connectors/{connector}",
        "A connector's settings and tasks",
        &[],
        NONE,
        &[("200", "ConnectorInfo"), ("404", "ErrorMessage")],
    ),
    (
        "delete",
        "/connectors/{connector}",
        "Delete a connector; its offsets stay",
        &[("forward", "Internal")],
        NONE,
        &[("204", NONE), ("404", "ErrorMessage"), ("409", "ErrorMessage")],
    ),
    (
        "get",
        "/connectors/{connector}/config",
        "A connector's settings",
        &[],
        NONE,
        &[("200", CONFIG), ("404", "ErrorMessage")],
    ),
    (
        "put",
        "/connectors/{connector}/config",
        "Create a connector, or replace its settings",
        &[("forward", "Internal")],
        CONFIG,
        &[
            ("200", "ConnectorInfo"),
            ("201", "ConnectorInfo"),
            ("400", "ErrorMessage"),
            ("409", "ErrorMessage"),
            ("500", "ErrorMessage"),
        ],
    ),
    (
        "patch",
        "/connectors/{connector}/config",
        "Change some settings; null takes one away",
        &[("forward", "Internal")],
        "ConfigPatch",
        &[
            ("200", "ConnectorInfo"),
            ("400", "ErrorMessage"),
            ("404", "ErrorMessage"),
            ("409", "ErrorMessage"),
            ("500", "ErrorMessage"),
        ],
    ),
    (
        "get",
        "/connectors/{connector}/status",
        "State of a connector and its tasks",
        &[],
        NONE,
        &[("200", "ConnectorStateInfo"), ("404", "ErrorMessage")],
    ),
    (
        "get",
        "/connectors/{connector}/explain",
        "What a connector and its tasks do, in plain words (not in Kafka)",
        &[("forward", "Internal")],
        NONE,
        &[("200", "Explanation"), ("404", "ErrorMessage")],
    ),
    (
        "get",
        "/connectors/{connector}/tasks",
        "Tasks and their settings",
        &[],
        NONE,
        &[("200", "TaskInfos"), ("404", "ErrorMessage")],
    ),
    (
        "post",
        "/connectors/{connector}/tasks",
        "Internal: settings of tasks, signed by another worker",
        &[("forward", "Internal")],
        "Configs",
        &[("204", NONE), ("400", "ErrorMessage"), ("403", "ErrorMessage"), ("409", "ErrorMessage")],
    ),
    (
        "put",
        "/connectors/{connector}/fence",
        "Internal: fence earlier producers of a source, signed by another worker",
        &[("forward", "Internal")],
        NONE,
        &[("204", NONE), ("400", "ErrorMessage"), ("403", "ErrorMessage"), ("409", "ErrorMessage")],
    ),
    (
        "get",
        "/connectors/{connector}/tasks/{task}/status",
        "State of a task",
        &[],
        NONE,
        &[("200", "TaskState"), ("404", "ErrorMessage")],
    ),
    (
        "post",
        "/connectors/{connector}/tasks/{task}/restart",
        "Restart a task",
        &[("forward", "Internal")],
        NONE,
        &[("204", NONE), ("404", "ErrorMessage"), ("409", "ErrorMessage")],
    ),
    (
        "put",
        "/connectors/{connector}/pause",
        "Pause a connector and its tasks",
        &[],
        NONE,
        &[("202", NONE), ("404", "ErrorMessage")],
    ),
    (
        "put",
        "/connectors/{connector}/resume",
        "Let a paused or stopped connector go on",
        &[],
        NONE,
        &[("202", NONE), ("404", "ErrorMessage")],
    ),
    (
        "put",
        "/connectors/{connector}/stop",
        "Stop a connector and shut its tasks down",
        &[("forward", "Internal")],
        NONE,
        &[("204", NONE), ("404", "ErrorMessage"), ("409", "ErrorMessage")],
    ),
    (
        "post",
        "/connectors/{connector}/restart",
        "Restart a connector and, with includeTasks, its tasks",
        &[
            ("includeTasks", "true: its tasks, too"),
            ("onlyFailed", "true: only what has failed"),
            ("forward", "Internal"),
        ],
        NONE,
        &[
            ("202", "ConnectorStateInfo"),
            ("204", NONE),
            ("404", "ErrorMessage"),
            ("409", "ErrorMessage"),
            ("500", "ErrorMessage"),
        ],
    ),
    (
        "get",
        "/connectors/{connector}/topics",
        "Topics that a connector has used",
        &[],
        NONE,
        &[("200", "object"), ("403", "ErrorMessage"), ("404", "ErrorMessage")],
    ),
    (
        "put",
        "/connectors/{connector}/topics/reset",
        "Forget these topics",
        &[],
        NONE,
        &[("202", NONE), ("403", "ErrorMessage"), ("404", "ErrorMessage")],
    ),
    (
        "get",
        "/connectors/{connector}/offsets",
        "Offsets of a connector",
        &[],
        NONE,
        &[("200", "ConnectorOffsets"), ("404", "ErrorMessage")],
    ),
    (
        "patch",
        "/connectors/{connector}/offsets",
        "Change offsets of a stopped connector",
        &[("forward", "Internal")],
        "ConnectorOffsets",
        &[
            ("200", "Message"),
            ("400", "ErrorMessage"),
            ("404", "ErrorMessage"),
            ("409", "ErrorMessage"),
            ("500", "ErrorMessage"),
        ],
    ),
    (
        "delete",
        "/connectors/{connector}/offsets",
        "Forget the offsets of a stopped connector",
        &[("forward", "Internal")],
        NONE,
        &[("200", "Message"), ("400", "ErrorMessage"), ("404", "ErrorMessage"), ("409", "ErrorMessage")],
    ),
    (
        "get",
        "/connector-plugins",
        "Plugins of this worker",
        &[("connectorsOnly", "false: converters, transforms and predicates, too")],
        NONE,
        &[("200", "PluginInfos")],
    ),
    (
        "get",
        "/connector-plugins/{plugin}/config",
        "Settings that a plugin has",
        &[("version", "Version of the plugin")],
        NONE,
        &[("200", "ConfigKeyInfos"), ("404", "ErrorMessage")],
    ),
    (
        "put",
        "/connector-plugins/{plugin}/config/validate",
        "Check settings of a connector; errors are in the answer",
        &[],
        CONFIG,
        &[("200", "ConfigInfos"), ("400", "ErrorMessage"), ("500", "ErrorMessage")],
    ),
    ("get", "/admin/loggers", "Levels of all loggers", &[], NONE, &[("200", "LoggerLevels")]),
    (
        "get",
        "/admin/loggers/{logger}",
        "Level of a logger",
        &[],
        NONE,
        &[("200", "LoggerLevel"), ("404", "ErrorMessage")],
    ),
    (
        "put",
        "/admin/loggers/{logger}",
        "Set the level of a logger",
        &[("scope", "worker or cluster")],
        "SetLevel",
        &[
            ("200", "Names"),
            ("204", NONE),
            ("400", "ErrorMessage"),
            ("404", "ErrorMessage"),
            ("500", "ErrorMessage"),
        ],
    ),
];

/// The whole description.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let (method, path, ..) = operation;
        let entry = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        entry[*method] = describe(operation);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Kafka Connect REST API, served by Aqueduct",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn describe((method, path, summary, query, body, answers): &Operation) -> Value {
    let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = query.iter().map(|(name, help)| {
        json!({"name": name, "in": "query", "description": help, "schema": {"type": "string"}})
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let mut responses = Map::new();
    for (status, schema) in *answers {
        let mut response = json!({"description": meaning(status)});
        match *schema {
            NONE => {}
            "text" => response["content"] = json!({"text/plain": {"schema": {"type": "string"}}}),
            schema => response["content"] = content(schema),
        }
        responses.insert((*status).to_owned(), response);
    }
    responses.insert(
        "default".to_owned(),
        json!({"description": "Anything else that went wrong", "content": content("ErrorMessage")}),
    );
    let mut described = json!({
        "operationId": operation_id(method, path),
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    });
    if *body != NONE {
        described["requestBody"] = json!({"required": true, "content": content(body)});
    }
    described
}

fn content(schema: &str) -> Value {
    let schema = match schema {
        "object" => json!({"type": "object"}),
        schema => json!({"$ref": format!("#/components/schemas/{schema}")}),
    };
    json!({"application/json": {"schema": schema}})
}

/// `get /connectors/{connector}/status`: `get_connectors_connector_status`
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "Done",
        "201" => "Created",
        "202" => "Accepted; it happens soon",
        "204" => "Done, no content",
        "400" => "The request is wrong",
        "403" => "Not permitted",
        "404" => "There is no such thing",
        "409" => "It exists already, or the group is being rebalanced",
        "500" => "The body cannot be read, or something went wrong",
        "503" => "Not ready yet",
        _ => "It failed",
    }
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let nullable = json!({"type": "string", "nullable": true});
    let number = json!({"type": "integer"});
    let object = |required: &[&str], properties: Value| json!({"type": "object", "required": required, "properties": properties});
    let list =
        |name: &str| json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}});
    let map = |values: &Value| json!({"type": "object", "additionalProperties": values});
    let refer = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let kind = json!({"type": "string", "enum": ["source", "sink", "unknown"]});
    let task_id = object(&["connector", "task"], json!({"connector": text, "task": number}));
    json!({
        "ErrorMessage": object(&["error_code", "message"], json!({"error_code": number, "message": nullable})),
        "Message": object(&["message"], json!({"message": text})),
        "ServerInfo": object(&["version", "commit", "kafka_cluster_id"], json!({"version": text, "commit": text, "kafka_cluster_id": nullable})),
        "WorkerStatus": object(&["status", "message"], json!({"status": {"type": "string", "enum": ["healthy", "starting", "unhealthy"]}, "message": text})),
        "Live": object(&["status"], json!({"status": text})),
        "Config": map(&text),
        "ConfigPatch": map(&nullable),
        "Configs": list("Config"),
        "Names": {"type": "array", "items": text},
        "Connectors": {"oneOf": [refer("Names"), map(&object(&[], json!({"info": refer("ConnectorInfo"), "status": refer("ConnectorStateInfo")})))]},
        "CreateConnectorRequest": object(&["name", "config"], json!({
            "name": text, "config": refer("Config"),
            "initial_state": {"type": "string", "enum": ["RUNNING", "PAUSED", "STOPPED"], "nullable": true},
        })),
        "ConnectorTaskId": task_id,
        "ConnectorInfo": object(&["name", "config", "tasks", "type"], json!({"name": text, "config": refer("Config"), "tasks": list("ConnectorTaskId"), "type": kind})),
        "TaskInfos": {"type": "array", "items": object(&["id", "config"], json!({"id": refer("ConnectorTaskId"), "config": refer("Config")}))},
        "State": object(&["state", "worker_id"], json!({"state": text, "worker_id": text, "trace": text, "version": text})),
        "TaskState": object(&["id", "state", "worker_id"], json!({"id": number, "state": text, "worker_id": text, "trace": text, "version": text})),
        "ConnectorStateInfo": object(&["name", "connector", "tasks", "type"], json!({"name": text, "connector": refer("State"), "tasks": list("TaskState"), "type": kind})),
        "Explanation": object(&["name", "type", "state", "worker_id", "summary", "tasks", "try"], json!({
            "name": text, "type": kind, "state": text, "worker_id": text, "summary": text,
            "tasks": list("TaskExplanation"), "try": refer("Names"),
        })),
        "TaskExplanation": object(&["id", "state", "worker_id", "doing", "last_error", "try"], json!({
            "id": number, "state": text, "worker_id": text, "doing": text, "try": refer("Names"), "since": text,
            "last_error": {"type": "object", "nullable": true, "properties": {"at": nullable, "text": text}},
            "stuck": {"type": "object", "nullable": true, "properties": {"lasts_ms": number, "waits_for": text}},
            "records_per_second": {"type": "object", "properties": {"in": {"type": "number"}, "out": {"type": "number"}}},
            "in_flight": number, "records_behind": number,
            "lag": {"type": "array", "items": object(&["topic", "partition", "position", "behind"], json!({
                "topic": text, "partition": number, "position": number, "end": {"type": "integer", "nullable": true}, "behind": number,
            }))},
        })),
        "ConnectorOffsets": object(&["offsets"], json!({"offsets": {"type": "array", "items": object(&["partition", "offset"], json!({
            "partition": {"type": "object"}, "offset": {"type": "object", "nullable": true},
        }))}})),
        "PluginInfos": {"type": "array", "items": object(&["class", "type"], json!({
            "class": text, "version": text,
            "type": {"type": "string", "enum": ["source", "sink", "converter", "header_converter", "transformation", "predicate"]},
        }))},
        "ConfigKeyInfo": object(&["name", "type", "required", "importance"], json!({
            "name": text, "type": text, "required": {"type": "boolean"}, "default_value": nullable, "importance": text,
            "documentation": text, "group": nullable, "order_in_group": number, "width": text, "display_name": text,
            "dependents": refer("Names"),
        })),
        "ConfigKeyInfos": list("ConfigKeyInfo"),
        "ConfigValueInfo": object(&["name", "errors", "visible"], json!({
            "name": text, "value": nullable, "recommended_values": refer("Names"), "errors": refer("Names"), "visible": {"type": "boolean"},
        })),
        "ConfigInfos": object(&["name", "error_count", "groups", "configs"], json!({
            "name": text, "error_count": number, "groups": refer("Names"),
            "configs": {"type": "array", "items": object(&["value"], json!({"definition": refer("ConfigKeyInfo"), "value": refer("ConfigValueInfo")}))},
        })),
        "LoggerLevel": object(&["level", "last_modified"], json!({"level": text, "last_modified": {"type": "integer", "nullable": true}})),
        "LoggerLevels": map(&refer("LoggerLevel")),
        "SetLevel": object(&["level"], json!({"level": text})),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::connect::{Part, endpoints};

    #[test]
    fn every_route_is_described_and_every_description_has_its_route() {
        let routes: BTreeSet<(String, String)> = endpoints(Part::All)
            .into_iter()
            .flat_map(|e| {
                e.methods.iter().map(|m| (e.path.to_owned(), m.as_str().to_lowercase())).collect::<Vec<_>>()
            })
            .collect();
        let document = document();
        let paths = document["paths"].as_object().expect("an object");
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("an object");
                methods.keys().map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(routes, described);
        assert_eq!(OPERATIONS.len(), described.len(), "an operation is described twice");
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        fn names(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                        found.insert(name.rsplit('/').next().expect("a part").to_owned());
                    }
                    members.values().for_each(|member| names(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| names(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut named = BTreeSet::new();
        names(&document, &mut named);
        let there: BTreeSet<String> =
            document["components"]["schemas"].as_object().expect("an object").keys().cloned().collect();
        assert_eq!(named, there);
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut seen = BTreeSet::new();
        for (method, path, ..) in OPERATIONS {
            assert!(seen.insert(operation_id(method, path)), "{method} {path}");
        }
    }
}
