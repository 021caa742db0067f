//! REST contracts as data: requests and the answers that they must get, from us and from the reference alike.
//!
//! A scenario is a JSON file with `steps`, and perhaps with names of connectors that are `watched`: what is refused must
//! leave all connectors' settings as they were, and of these also states and offsets. A step has
//!
//! | member | meaning |
//! |---|---|
//! | `call` | method and path |
//! | `body`, `raw` | body as JSON, or as text that need not be JSON |
//! | `headers` | more headers of the request |
//! | `status` | expected status |
//! | `answer` | expected body, a pattern; without it the answers of all peers must be the same |
//! | `until` | `true`: ask again until the answer is as expected |
//! | `ours` | `status` and `answer` of ours where they must differ from the reference's |
//! | `except` | the answers are validations, the same on all peers but for these attributes, `KEY/ATTRIBUTE` |
//! | `difference` | with `ours` or such attributes: the heading in `docs/compatibility.md` that gives the reason |
//!
//! In bodies `<dir>` is a folder of the peer's own; in these and in `call` `<3*ab>` is `ababab`. In patterns `<...>` in a text stands for any text, `"<any>"` for any
//! value, `"<text>"` and `"<number>"` for any of their kind, a member `"..."` for any others, a last element `"..."` of an
//! array for any more. In answers the worker's address is `<worker>`, its folder `<dir>`, and versions are `<version>`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::aqueduct::{Answer, send_with};
use crate::connect::Api;
use crate::openapi::Description;

/// A file of steps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    pub watched: Vec<String>,
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub call: String,
    pub body: Option<Value>,
    pub raw: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub status: u16,
    #[serde(default, deserialize_with = "given")]
    pub answer: Option<Value>,
    #[serde(default)]
    pub until: bool,
    pub ours: Option<Expected>,
    pub except: Option<Vec<String>>,
    pub difference: Option<String>,
}

/// What ours answers where that differs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub status: u16,
    pub answer: Option<Value>,
}

/// Null is an answer to expect, unlike none.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// A worker under test.
pub struct Peer {
    pub name: &'static str,
    pub port: u16,
    pub dir: String,
    /// Whether it is the one whose differences are allowed.
    pub ours: bool,
    /// Its own description, which every answer has to fit.
    pub description: Option<Description>,
}

impl Peer {
    /// What a request that is refused must not change: the settings of all connectors; states and offsets of those that
    /// are watched.
    pub fn state(&self, watched: &[String]) -> Result<Value> {
        let api = Api::new(format!("http://127.0.0.1:{}", self.port));
        let all = api.get("/connectors?expand=info")?;
        let config = |(name, expanded): (&String, &Value)| (name.clone(), expanded["info"]["config"].clone());
        let configs: Map<String, Value> = all.as_object().into_iter().flatten().map(config).collect();
        let mut state = json!({"configs": configs});
        for name in watched.iter().filter(|name| configs.contains_key(*name)) {
            state[name] = json!({
                "status": api.get(&format!("/connectors/{name}/status"))?,
                "offsets": api.get(&format!("/connectors/{name}/offsets"))?,
                "topics": api.get(&format!("/connectors/{name}/topics"))?,
            });
        }
        Ok(state)
    }
}

impl Step {
    /// Asks a peer, again and again where the step says so, and checks the answer.
    ///
    /// # Errors
    /// What was asked, what came, and where it is not as expected.
    pub fn run(&self, peer: &Peer) -> Result<Answer> {
        let status = self.status(peer);
        let own = self.ours.as_ref().filter(|_| peer.ours);
        let pattern = own.map_or(self.answer.as_ref(), |o| o.answer.as_ref());
        let from = Instant::now();
        loop {
            let answer = self.ask(peer)?;
            if let Some(description) = &peer.description {
                let (method, path) = self.call.split_once(' ').context("call: METHOD PATH")?;
                if let Some(wrong) = description.judge(method, &expanded(path), &answer) {
                    bail!("{}: {wrong}", peer.name);
                }
            }
            let wrong = check(status, pattern, &answer);
            let Some(wrong) = wrong else { return Ok(answer) };
            let text = answer.body.to_string();
            let busy = answer.status == 409
                && ["rebalance", "stale configuration"].iter().any(|why| text.contains(why));
            if !(self.until || busy) || from.elapsed() > Duration::from_secs(60) {
                let body: String = answer.body.to_string().chars().take(2000).collect();
                bail!("{}: {}: {wrong}\nthe answer is {} {body}", peer.name, self.call, answer.status);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn status(&self, peer: &Peer) -> u16 {
        self.ours.as_ref().filter(|_| peer.ours).map_or(self.status, |own| own.status)
    }

    /// Whether the request asks for a change.
    pub fn changes(&self) -> bool {
        ["POST ", "PUT ", "PATCH ", "DELETE "].iter().any(|method| self.call.starts_with(method))
    }

    /// Whether it does, and the peer has to refuse it.
    pub fn is_refused(&self, peer: &Peer) -> bool {
        self.changes() && self.status(peer) >= 400
    }

    fn ask(&self, peer: &Peer) -> Result<Answer> {
        let (method, path) = self.call.split_once(' ').context("call: METHOD PATH")?;
        let path = expanded(path);
        let body = self.raw.clone().or_else(|| self.body.as_ref().map(Value::to_string));
        let body = body.map(|text| expanded(&text.replace("<dir>", &peer.dir)));
        let answer = send_with(
            method,
            &format!("http://127.0.0.1:{}{path}", peer.port),
            body.as_deref(),
            &self.headers,
        )?;
        Ok(Answer { status: answer.status, body: neutral(answer.body, peer) })
    }
}

/// `<3*ab>` becomes `ababab`.
fn expanded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let repeated = after.split_once('>').and_then(|(inside, behind)| {
            let (count, what) = inside.split_once('*')?;
            Some((what.repeat(count.parse().ok()?), behind))
        });
        rest = match repeated {
            Some((all, behind)) => {
                out.push_str(&all);
                behind
            }
            None => {
                out.push('<');
                after
            }
        };
    }
    out + rest
}

fn check(status: u16, pattern: Option<&Value>, answer: &Answer) -> Option<String> {
    if answer.status != status {
        return Some(format!("status {status} is expected"));
    }
    pattern.and_then(|p| mismatch(p, &answer.body, ""))
}

/// Takes out of an answer what differs from worker to worker.
fn neutral(value: Value, peer: &Peer) -> Value {
    match value {
        Value::String(text) => {
            let text =
                text.replace(&format!("127.0.0.1:{}", peer.port), "<worker>").replace(&peer.dir, "<dir>");
            Value::String(text)
        }
        Value::Array(items) => items.into_iter().map(|item| neutral(item, peer)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let version = name == "version" && value.is_string();
                let value = if version { "<version>".into() } else { neutral(value, peer) };
                (name, value)
            })
            .collect(),
        other => other,
    }
}

/// Where and how `actual` differs from the pattern; `None` where it does not.
pub fn mismatch(pattern: &Value, actual: &Value, at: &str) -> Option<String> {
    let differs = || Some(format!("at {at}/ {pattern} is expected, and it is {actual}"));
    match (pattern, actual) {
        (Value::String(p), _) if p == "<any>" => None,
        (Value::String(p), Value::String(_)) if p == "<text>" => None,
        (Value::String(p), Value::Number(_)) if p == "<number>" => None,
        (Value::String(p), Value::String(a)) => {
            if text_matches(p, a) {
                None
            } else {
                differs()
            }
        }
        (Value::Array(p), Value::Array(a)) => {
            let open = p.last().is_some_and(|last| last == "...");
            let fixed = p.len() - usize::from(open);
            if a.len() < fixed || (a.len() > fixed && !open) {
                return differs();
            }
            p.iter()
                .zip(a)
                .take(fixed)
                .enumerate()
                .find_map(|(i, (p, a))| mismatch(p, a, &format!("{at}/{i}")))
        }
        (Value::Object(p), Value::Object(a)) => {
            if !p.contains_key("...")
                && let Some(name) = a.keys().find(|name| !p.contains_key(*name))
            {
                return Some(format!("at {at}/ no member {name} is expected"));
            }
            p.iter().filter(|(name, _)| *name != "...").find_map(|(name, p)| match a.get(name) {
                Some(a) => mismatch(p, a, &format!("{at}/{name}")),
                None => Some(format!("at {at}/ a member {name} is expected")),
            })
        }
        (p, a) => {
            if p == a {
                None
            } else {
                differs()
            }
        }
    }
}

fn text_matches(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split("<...>").collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Where two answers to a validation differ, each setting's attributes by its name; versions, documentation, and the
/// classes that a worker recommends are its own.
pub fn validations_differ(reference: &Value, ours: &Value, except: &[String]) -> Vec<String> {
    let (mut reference, mut ours) = (attributes(reference), attributes(ours));
    for map in [&mut reference, &mut ours] {
        map.retain(|name, _| !except.contains(name));
    }
    let missing = reference.iter().filter(|(name, _)| !ours.contains_key(*name));
    let mut all: Vec<String> = missing.map(|(name, value)| format!("{name} is missing: {value}")).collect();
    for (name, value) in &ours {
        match reference.get(name) {
            Some(other) if other == value => {}
            Some(other) => all.push(format!("{name}: ours {value}, the reference's {other}")),
            None => all.push(format!("{name}: only ours has it: {value}")),
        }
    }
    all
}

fn attributes(infos: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for member in ["name", "error_count", "groups"] {
        all.insert(format!("/{member}"), infos[member].clone());
    }
    for config in infos["configs"].as_array().into_iter().flatten() {
        let name = config["value"]["name"].as_str().unwrap_or_default();
        let class = config["definition"]["type"] == "CLASS";
        let version = name.ends_with("plugin.version");
        for part in ["definition", "value"] {
            for (attribute, value) in config[part].as_object().into_iter().flatten() {
                let own = match attribute.as_str() {
                    "documentation" | "name" => true,
                    "recommended_values" => class || version,
                    "default_value" | "value" => version,
                    _ => false,
                };
                if !own {
                    all.insert(format!("{name}/{attribute}"), value.clone());
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn repetitions() {
        assert_eq!(expanded("a<3*bc>d<2*<>e<dir><x*3>"), "abcbcbcd<<e<dir><x*3>");
    }

    #[test]
    fn patterns() {
        for (pattern, actual, fits) in [
            (json!("a<...>c<...>"), json!("abcd"), true),
            (json!("a<...>c"), json!("abcd"), false),
            (json!("<number>"), json!(4), true),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), false),
            (json!({"a": 1, "...": 0}), json!({"a": 1, "b": 2}), true),
            (json!([1, "..."]), json!([1, 2, 3]), true),
            (json!([1, 2]), json!([1]), false),
        ] {
            assert_eq!(mismatch(&pattern, &actual, "").is_none(), fits, "{pattern} {actual}");
        }
    }
}
