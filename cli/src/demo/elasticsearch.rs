//! An index of documents.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Table, object, order};

/// An index of the demo's own in a cluster of the user's.
pub struct Index {
    url: Url,
    user: Option<(String, String)>,
    name: String,
    http: reqwest::Client,
}

impl Index {
    pub fn new(url: &Url, run: &str) -> Result<Self> {
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            bail!("--elasticsearch must look like http://HOST:9200");
        }
        let mut bare = url.clone();
        let user = (!url.username().is_empty())
            .then(|| (url.username().to_owned(), url.password().unwrap_or_default().to_owned()));
        if user.is_some() {
            let _ = bare.set_username("");
            let _ = bare.set_password(None);
        }
        Ok(Self { url: bare, user, name: format!("aqueduct-demo-{run}"), http: reqwest::Client::new() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn search_url(&self) -> String {
        format!("{}{}/_search?pretty", self.url, self.name)
    }

    pub fn connector(&self, topic: &str) -> Map<String, Value> {
        let mut config = object(json!({
            "connector.class": "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
            "connection.url": self.url.as_str().trim_end_matches('/'),
            "topics": topic,
            "schema.ignore": "true",
            "behavior.on.null.values": "delete",
            "transforms": "id,index",
            "transforms.id.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
            "transforms.id.field": "id",
            "transforms.index.type": "org.apache.kafka.connect.transforms.RegexRouter",
            "transforms.index.regex": ".*",
            "transforms.index.replacement": self.name,
        }));
        if let Some((user, password)) = &self.user {
            config.insert("connection.username".into(), json!(user));
            config.insert("connection.password".into(), json!(password));
        }
        config
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Option<Value>> {
        let url = format!("{}{}{path}", self.url, self.name);
        let mut request = self.http.request(method, &url);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer =
            request.send().await.with_context(|| format!("cannot reach Elasticsearch at {}", self.url))?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.error_for_status()?;
        Ok(Some(answer.json().await?))
    }

    /// All documents.
    pub async fn read(&self) -> Result<Table> {
        if self.call(reqwest::Method::POST, "/_refresh", None).await?.is_none() {
            return Ok(Table::new());
        }
        let mut table = Table::new();
        let mut after = json!(null);
        loop {
            let mut search =
                json!({"size": 5000, "sort": [{"id": {"order": "asc", "unmapped_type": "long"}}]});
            if !after.is_null() {
                search["search_after"] = after;
            }
            let Some(page) = self.call(reqwest::Method::POST, "/_search", Some(search)).await? else {
                return Ok(table);
            };
            let hits = page["hits"]["hits"].as_array().cloned().unwrap_or_default();
            let Some(last) = hits.last() else { return Ok(table) };
            after = last["sort"].clone();
            for hit in &hits {
                let (id, row) = order(&hit["_source"])?;
                table.insert(id, row);
            }
        }
    }
}
