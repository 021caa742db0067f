//! Answers of a worker held against its own description, `/openapi.json`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::aqueduct::Answer;
use crate::connect::Api;

/// What the HTTP server says before an endpoint is asked, so that no operation describes it.
const OF_THE_SERVER: [u16; 5] = [401, 406, 413, 414, 415];

/// A description (OpenAPI 3.0), and which of its answers have been seen.
#[derive(Debug)]
pub struct Description {
    document: Value,
    seen: RefCell<BTreeSet<Described>>,
}

/// Method, path and status of an answer that is described.
pub type Described = (String, String, u16);

impl Description {
    /// What the worker says of itself.
    pub fn of(api: &Api) -> Result<Self> {
        Ok(Self { document: api.get("/openapi.json")?, seen: RefCell::default() })
    }

    /// All paths with their methods.
    ///
    /// # Errors
    /// Where it is no description.
    pub fn paths(&self) -> Result<BTreeMap<&str, BTreeSet<String>>> {
        let paths = self.document["paths"].as_object().context("no paths")?;
        let upper = |methods: &Value| -> Option<BTreeSet<String>> {
            Some(methods.as_object()?.keys().map(|method| method.to_ascii_uppercase()).collect())
        };
        paths.iter().map(|(path, methods)| Ok((&**path, upper(methods).context("no methods")?))).collect()
    }

    /// The answers of success that are described and were not seen.
    ///
    /// # Errors
    /// Where it is no description.
    pub fn unseen(&self) -> Result<BTreeSet<Described>> {
        let mut unseen = BTreeSet::new();
        for (path, methods) in self.paths()? {
            for method in methods {
                let operation = &self.document["paths"][path][method.to_ascii_lowercase()];
                let responses = operation["responses"].as_object().context("no responses")?;
                let statuses = responses.keys().filter_map(|status| status.parse().ok());
                let good = statuses.filter(|status| (200..300).contains(status));
                unseen.extend(good.map(|status| (method.clone(), path.to_owned(), status)));
            }
        }
        Ok(&unseen - &*self.seen.borrow())
    }

    /// Why an answer is not as described; `None` where it is.
    pub fn judge(&self, method: &str, path: &str, answer: &Answer) -> Option<String> {
        if matches!(method, "OPTIONS" | "HEAD") {
            return None;
        }
        let wrong = match self.described(method, path, answer.status) {
            Ok(Some(response)) => self.judge_body(response, &answer.body),
            Ok(None) => self.mismatch(&error_message(), &answer.body, ""),
            Err(why) => Some(why),
        };
        wrong.map(|why| format!("{method} {path}: {} is not as /openapi.json says: {why}", answer.status))
    }

    /// The response that is described, or none where the server itself answers.
    fn described(&self, method: &str, path: &str, status: u16) -> Result<Option<&Value>, String> {
        let path = path.split('?').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~:;=+,'".contains(c);
        let odd =
            path.contains("//") || path.contains("..") || path.contains("/./") || !path.chars().all(plain);
        if OF_THE_SERVER.contains(&status) || (status == 400 && odd) {
            return Ok(None);
        }
        let segments: Vec<&str> = path
            .trim_end_matches('/')
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default())
            .collect();
        let fits = |template: &str| {
            let parts: Vec<&str> = template.trim_end_matches('/').split('/').collect();
            let alike = |(part, segment): (&&str, &&str)| part.starts_with('{') || part == segment;
            parts.len() == segments.len() && parts.iter().zip(&segments).all(alike)
        };
        let paths = self.document["paths"].as_object().ok_or("it has no paths")?;
        let Some((template, methods)) = paths.iter().find(|(template, _)| fits(template)) else {
            return if status == 404 { Ok(None) } else { Err("there is no such path".to_owned()) };
        };
        let Some(operation) = methods.get(method.to_ascii_lowercase()) else {
            return if status == 405 { Ok(None) } else { Err(format!("{template} has no {method}")) };
        };
        let response = operation["responses"].get(status.to_string());
        let response = response.ok_or_else(|| format!("{template} does not have this status"))?;
        self.seen.borrow_mut().insert((method.to_owned(), template.clone(), status));
        Ok(Some(response))
    }

    fn judge_body(&self, response: &Value, body: &Value) -> Option<String> {
        let content = &response["content"];
        match (content.get("application/json"), content.get("text/plain")) {
            (Some(json), _) => self.mismatch(&json["schema"], body, ""),
            (None, Some(_)) => (!body.is_string()).then(|| format!("it is no text: {body}")),
            (None, None) => (!body.is_null()).then(|| format!("it has a body: {body}")),
        }
    }

    /// Where a value is not as a schema says. Stricter than schemas are: what they do not name must not be there.
    fn mismatch(&self, schema: &Value, value: &Value, at: &str) -> Option<String> {
        let differs = |why: &str| Some(format!("at {at}/ {why}: {value}"));
        let Some(words) = schema.as_object() else { return differs("the schema is no object") };
        if let Some(unknown) = words.keys().find(|word| !WORDS.contains(&word.as_str())) {
            return differs(&format!("the schema has {unknown}, which this does not know"));
        }
        if let Some(name) = words.get("$ref").and_then(Value::as_str) {
            let Some(schema) = self.document.pointer(name.trim_start_matches('#')) else {
                return differs(&format!("there is no {name}"));
            };
            return self.mismatch(schema, value, at);
        }
        if value.is_null() && words.get("nullable") == Some(&Value::Bool(true)) {
            return None;
        }
        if let Some(any) = words.get("oneOf").and_then(Value::as_array) {
            let wrong: Vec<String> = any.iter().filter_map(|one| self.mismatch(one, value, at)).collect();
            return if wrong.len() + 1 == any.len() { None } else { differs(&wrong.join("; or ")) };
        }
        if let Some(all) = words.get("enum").and_then(Value::as_array)
            && !all.contains(value)
        {
            return differs("it is none of those that may be");
        }
        match (words.get("type").and_then(Value::as_str), value) {
            (Some("string"), Value::String(_)) | (Some("boolean"), Value::Bool(_)) => None,
            (Some("integer"), Value::Number(n)) if n.is_i64() || n.is_u64() => None,
            (Some("number"), Value::Number(_)) => None,
            (Some("array"), Value::Array(items)) => {
                let of = words.get("items")?;
                items.iter().enumerate().find_map(|(n, item)| self.mismatch(of, item, &format!("{at}/{n}")))
            }
            (Some("object"), Value::Object(members)) => self.members(words, members, at),
            (kind, _) => {
                differs(&format!("it has to be of type {}", kind.unwrap_or("that the schema lacks")))
            }
        }
    }

    fn members(&self, words: &Map<String, Value>, members: &Map<String, Value>, at: &str) -> Option<String> {
        let required = words.get("required").and_then(Value::as_array).into_iter().flatten();
        let missing = required.filter_map(Value::as_str).find(|name| !members.contains_key(*name));
        if let Some(name) = missing {
            return Some(format!("at {at}/ there is no {name}"));
        }
        let named = words.get("properties").and_then(Value::as_object);
        let others = words.get("additionalProperties");
        if named.is_none() && others.is_none() {
            return None;
        }
        members.iter().find_map(|(name, value)| match named.and_then(|named| named.get(name)).or(others) {
            Some(schema) => self.mismatch(schema, value, &format!("{at}/{name}")),
            None => Some(format!("at {at}/ {name} is not described")),
        })
    }
}

/// The words of schemas that the description uses.
const WORDS: [&str; 9] =
    ["$ref", "type", "nullable", "enum", "oneOf", "properties", "required", "items", "additionalProperties"];

fn error_message() -> Value {
    serde_json::json!({"$ref": "#/components/schemas/ErrorMessage"})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn description() -> Description {
        let thing = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "nullable": true}, "kind": {"type": "string", "enum": ["a", "b"]}, "n": {"type": "integer"},
        }});
        let document = json!({
            "paths": {"/things/{name}": {
                "get": {"responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "404": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorMessage"}}}},
                }},
                "put": {"responses": {"204": {}}},
            }},
            "components": {"schemas": {"Thing": thing, "ErrorMessage": {"type": "object", "properties": {"message": {"type": "string"}}}}},
        });
        Description { document, seen: RefCell::default() }
    }

    #[test]
    fn answers_are_held_against_the_description() {
        let description = description();
        let message = json!({"message": "m"});
        for (method, path, status, body, right) in [
            ("GET", "/things/a?x=y", 200, json!({"name": null, "kind": "a", "n": 1}), true),
            ("GET", "/things/a;b/", 200, json!({"name": "n"}), true),
            ("GET", "/things/a", 200, json!({"kind": "a"}), false),
            ("GET", "/things/a", 200, json!({"name": "n", "kind": "c"}), false),
            ("GET", "/things/a", 200, json!({"name": "n", "n": 1.5}), false),
            ("GET", "/things/a", 200, json!({"name": "n", "more": 1}), false),
            ("GET", "/things/a", 404, message.clone(), true),
            ("GET", "/things/a", 404, json!("page"), false),
            ("GET", "/things/a", 500, message.clone(), false),
            ("GET", "/things/a", 406, message.clone(), true),
            ("PUT", "/things/a", 204, Value::Null, true),
            ("PUT", "/things/a", 204, message.clone(), false),
            ("POST", "/things/a", 405, message.clone(), true),
            ("POST", "/things/a", 404, message.clone(), false),
            ("GET", "/nowhere", 404, message.clone(), true),
            ("GET", "/nowhere", 200, message.clone(), false),
            ("GET", "/things/%00", 400, message.clone(), true),
            ("GET", "/things/a", 400, message, false),
        ] {
            let wrong = description.judge(method, path, &Answer { status, body });
            assert_eq!(wrong.is_none(), right, "{method} {path} {status}: {wrong:?}");
        }
        assert!(description.unseen().expect("paths").is_empty());
    }
}
