//! The Connect REST API, called as a user calls it.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// A worker's REST API.
pub struct Rest {
    base: String,
    http: reqwest::Client,
}

impl Rest {
    /// For the worker at `address`, `host:port`.
    pub fn new(address: &str) -> Self {
        Self { base: format!("http://{address}"), http: reqwest::Client::new() }
    }

    /// Creates or changes a connector.
    pub async fn put_connector(&self, name: &str, config: &Map<String, Value>) -> Result<()> {
        let url = format!("{}/connectors/{name}/config", self.base);
        let answer = self.http.put(&url).json(config).send().await.with_context(|| url.clone())?;
        let status = answer.status();
        let body: Value = answer.json().await.with_context(|| url.clone())?;
        if !status.is_success() {
            bail!("PUT {url} was answered with {status}: {}", body["message"].as_str().unwrap_or_default());
        }
        Ok(())
    }

    /// Fails, with the trace, where the connector or one of its tasks has.
    pub async fn check(&self, name: &str) -> Result<()> {
        let url = format!("{}/connectors/{name}/status", self.base);
        let status: Value = self.http.get(&url).send().await?.json().await?;
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        for part in std::iter::once(&status["connector"]).chain(&tasks) {
            if part["state"] == "FAILED" {
                bail!("{name} failed: {}", part["trace"].as_str().unwrap_or("no reason given"));
            }
        }
        Ok(())
    }
}
