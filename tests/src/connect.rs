//! The REST API of a Connect worker, ours or the JVM's, as tests call it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::aqueduct::{Answer, curl};

/// The API at a base URL.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
}

impl Api {
    /// `base` is such as `http://127.0.0.1:8083`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into() }
    }

    /// Sends a request.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        curl(method, &format!("{}{path}", self.base), body)
    }

    /// The body of a GET.
    ///
    /// # Errors
    /// Where the status is not 200.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = self.call("GET", path, None)?;
        if answer.status != 200 {
            bail!("GET {path}: {} {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }

    /// Sends a request that has to succeed; repeats it for a while where a rebalance is in its way, or a leader that has
    /// just stopped.
    pub fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let from = Instant::now();
        loop {
            let answer = self.call(method, path, body)?;
            if (200..300).contains(&answer.status) {
                return Ok(answer.body);
            }
            let text = answer.body.to_string();
            let busy = match answer.status {
                409 => ["rebalance", "stale configuration"].iter().any(|why| text.contains(why)),
                500 => text.contains("IO Error trying to forward"),
                _ => false,
            };
            if !busy || from.elapsed() > Duration::from_secs(60) {
                bail!("{method} {path}: {} {}", answer.status, answer.body);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Creates a connector or replaces its settings.
    pub fn put(&self, name: &str, config: &Value) -> Result<Value> {
        self.done("PUT", &format!("/connectors/{name}/config"), Some(config))
    }

    /// States of the connector and of its tasks, in order: `RUNNING RUNNING RUNNING`.
    pub fn states(&self, name: &str) -> Result<String> {
        let answer = self.call("GET", &format!("/connectors/{name}/status"), None)?;
        let mut states = vec![answer.body["connector"]["state"].as_str().unwrap_or("none").to_owned()];
        for task in answer.body["tasks"].as_array().into_iter().flatten() {
            states.push(task["state"].as_str().unwrap_or("none").to_owned());
        }
        Ok(states.join(" "))
    }

    /// Waits until [`Api::states`] are `wanted`.
    ///
    /// # Errors
    /// With the whole status, where they are not after `limit`.
    pub fn wait_states(&self, name: &str, wanted: &str, limit: Duration) -> Result<()> {
        let from = Instant::now();
        while self.states(name)? != wanted {
            if from.elapsed() > limit {
                let status = self.call("GET", &format!("/connectors/{name}/status"), None)?;
                bail!("connector {name} is not {wanted} after {limit:?}: {:#}", status.body);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}
