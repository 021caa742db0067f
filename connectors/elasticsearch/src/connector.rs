//! The connector: every task writes what it is given.

use aqueduct_connect_api::config::ConfigValueInfo;
use aqueduct_connect_api::inventory;
use aqueduct_connect_api::{
    Config, ConfigMap, Connector, ConnectorContext, Error, Factory, Notice, Plugin, Result,
};
use async_trait::async_trait;
use elasticsearch::http::Method;

use crate::client::Client;
use crate::config::{CONNECTION_PASSWORD, CONNECTION_URL, CONNECTION_USERNAME, Settings, config_def};
use crate::task::ElasticsearchSinkTask;

inventory::submit! {
    Plugin {
        class: "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
        aliases: &["io.aiven.connect.elasticsearch.ElasticsearchSinkConnector"],
        version: env!("CARGO_PKG_VERSION"),
        config: &config_def,
        factory: Factory::Sink {
            connector: &|| Box::<ElasticsearchSink>::default(),
            task: &|| Box::<ElasticsearchSinkTask>::default(),
        },
    }
}

/// The oldest major version of Elasticsearch whose calls have no document types.
const OLDEST: u64 = 7;

/// Writes documents to Elasticsearch or OpenSearch.
#[derive(Default)]
pub struct ElasticsearchSink {
    originals: ConfigMap,
}

#[async_trait]
impl Connector for ElasticsearchSink {
    async fn validate(&self, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
        if infos.iter().any(|info| !info.errors.is_empty()) {
            return;
        }
        let checked = match config_def().parse(config).and_then(|parsed| Settings::read(&parsed)) {
            Ok(settings) => check(&settings).await,
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            ConfigValueInfo::report(infos, &error, CONNECTION_URL);
        }
    }

    async fn start(&mut self, _context: ConnectorContext, config: &Config) -> Result<()> {
        self.originals = config.originals().clone();
        Ok(())
    }

    async fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<ConfigMap>> {
        Ok(vec![self.originals.clone(); max_tasks])
    }
}

/// Asks a server who it is.
async fn check(settings: &Settings) -> Result<()> {
    let client = Client::new(settings, Notice::default())?;
    let at_url = |why: String| Error::config(CONNECTION_URL, settings.places(), why);
    let answer = client.call_once(Method::Get, "").await.map_err(|cause| {
        at_url(format!("no answer: {cause}; check that the server runs and that the address is right"))
    })?;
    match answer.status {
        200..300 => {}
        401 | 403 => {
            let key = if settings.credentials.is_some() { CONNECTION_PASSWORD } else { CONNECTION_USERNAME };
            let why = format!("the server refuses with status {}: {}", answer.status, answer.text());
            return Err(Error::config(key, "[hidden]", why));
        }
        status => return Err(at_url(format!("the server answers with status {status}: {}", answer.text()))),
    }
    let version = answer.json()["version"].clone();
    let number = version["number"].as_str().unwrap_or_default();
    // OpenSearch counts from 1 anew, and says what it is.
    let is_opensearch = version["distribution"].as_str() == Some("opensearch");
    match number.split('.').next().and_then(|major| major.parse::<u64>().ok()) {
        None => Err(at_url(
            "the server does not say a version: it is neither Elasticsearch nor OpenSearch".to_owned(),
        )),
        Some(major) if major < OLDEST && !is_opensearch => {
            Err(at_url(format!("Elasticsearch {number} is too old: version {OLDEST} or newer is needed")))
        }
        Some(_) => Ok(()),
    }
}
