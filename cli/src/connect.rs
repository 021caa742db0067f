//! `aqueduct connect`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aqueduct_broker::config::Properties;
use aqueduct_connect_api::ConfigMap;
use aqueduct_connect_worker::config::LOGIN_CONFIG;
use aqueduct_connect_worker::{Error, Handle, Herder, Mode, Worker, WorkerConfig};
use aqueduct_rest::{ConnectApi, HttpPeers, ListenError, Listeners, Loggers};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::logging::Levels;
use crate::options::BadConfig;
use crate::plugins;
use crate::shutdown;

#[derive(clap::Args)]
pub struct Args {
    /// Kafka's connect-distributed.properties or connect-standalone.properties.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One more line of the file; may be repeated, and wins over it.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// One worker alone: connectors come from files, source offsets are kept in one.
    #[arg(long)]
    standalone: bool,
    /// Connectors of a standalone worker: .properties, or .json with a configuration or with name and config.
    #[arg(value_name = "CONNECTOR")]
    connectors: Vec<PathBuf>,
}

/// Called before there is much memory to speak of: huge pages for the small objects of many tasks would treble what an idle
/// worker takes, and make it no faster.
pub fn do_without_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay as they are");
    }
}

/// Runs a worker until it is told to stop.
pub async fn run(args: Args, levels: Levels) -> Result<()> {
    if !args.standalone && !args.connectors.is_empty() {
        let why = "connector files are for --standalone; a distributed worker takes connectors over REST";
        return Err(BadConfig(why.to_owned()).into());
    }
    let mut properties = Properties::load(&args.config).map_err(|e| BadConfig(e.to_string()))?;
    for pair in &args.set {
        properties.set_pair(pair).map_err(|e| BadConfig(e.to_string()))?;
    }
    let mode = if args.standalone { Mode::Standalone } else { Mode::Distributed };
    let mut settings: ConfigMap = properties.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    if let Some(login) = login_config(&std::env::var("KAFKA_OPTS").unwrap_or_default()) {
        settings.entry(LOGIN_CONFIG.to_owned()).or_insert(login);
    }
    let connectors = args.connectors.iter().map(|path| connector(path)).collect::<Result<Vec<_>>>()?;
    let service = Service::start(&settings, mode, levels).await?;
    let result = create(&service.herder(), connectors).await;
    if result.is_ok() {
        shutdown::requested().await?;
    }
    service.stop().await;
    result
}

async fn create(herder: &Herder, connectors: Vec<(String, ConfigMap)>) -> Result<()> {
    for (name, config) in connectors {
        let config = config.into_iter().map(|(key, value)| (key, Some(value))).collect();
        herder
            .put_config(&name, config)
            .await
            .map_err(explain)
            .with_context(|| format!("connector {name}"))?;
    }
    Ok(())
}

/// Name and settings out of a file.
fn connector(path: &Path) -> Result<(String, ConfigMap)> {
    let bad = |why: String| BadConfig(format!("{}: {why}", path.display()));
    let mut config = ConfigMap::new();
    if path.extension().is_some_and(|e| e == "json") {
        let text = std::fs::read_to_string(path).map_err(|e| bad(format!("cannot be read: {e}")))?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| bad(format!("is not JSON: {e}")))?;
        let settings = if json["config"].is_object() { &json["config"] } else { &json };
        let settings =
            settings.as_object().ok_or_else(|| bad("is not a JSON object of settings".to_owned()))?;
        for (key, value) in settings {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            config.insert(key.clone(), value);
        }
        if let Some(name) = json["name"].as_str() {
            config.entry("name".to_owned()).or_insert_with(|| name.to_owned());
        }
    } else {
        let properties = Properties::load(path).map_err(|e| BadConfig(e.to_string()))?;
        config.extend(properties.iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
    match config.get("name").cloned() {
        Some(name) => Ok((name, config)),
        None => Err(bad("the setting name is missing: add a line name=NAME".to_owned()).into()),
    }
}

/// The file of login modules that the JVM worker's start script would give to it.
fn login_config(options: &str) -> Option<String> {
    let property = format!("-D{LOGIN_CONFIG}=");
    options.split_whitespace().find_map(|option| option.strip_prefix(&property)).map(str::to_owned)
}

/// A worker with its REST API.
pub struct Service {
    worker: Handle,
    address: String,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    search: Option<JoinHandle<()>>,
}

impl Service {
    /// Listens, starts the worker and serves.
    pub async fn start(settings: &ConfigMap, mode: Mode, levels: Levels) -> Result<Self> {
        let config = WorkerConfig::from_properties(settings, mode).map_err(explain)?;
        // Each task has its connections, and often a file: a thousand tasks are more than the usual soft limit.
        aqueduct_broker::raise_file_limit();
        let search = plugins::search(&config);
        let listeners = Listeners::bind(&config).await.map_err(|error| match error {
            ListenError::Setting(why) => BadConfig(why).into(),
            other => anyhow::Error::from(other),
        })?;
        let addresses = listeners.addresses();
        let advertised = config.advertised(&addresses);
        let peers = HttpPeers::new(&config).map_err(|error| BadConfig(error.to_string()))?;
        let started = Worker::start_among(config, advertised.clone(), Arc::new(peers.clone())).await;
        let worker = started.map_err(explain)?;
        let loggers = Loggers::new(move |directives| levels.set(directives));
        for admin in listeners.admin_addresses() {
            tracing::info!(address = %admin, "the admin part of the Connect REST API is served");
        }
        let stop = CancellationToken::new();
        let servers = listeners.serve(&ConnectApi::new(worker.herder(), loggers, peers), &stop);
        for address in &addresses {
            tracing::info!(%address, url = advertised.url(), "Connect REST API is served");
        }
        let address = addresses.first().map(ToString::to_string).unwrap_or_default();
        Ok(Self { worker, address, stop, servers, search })
    }

    pub fn herder(&self) -> Herder {
        self.worker.herder()
    }

    /// Where the first listener is bound, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops connectors and tasks, stores what they have done, and stops serving.
    pub async fn stop(self) {
        self.worker.shutdown().await;
        if let Some(search) = self.search {
            search.abort();
        }
        aqueduct_connector_process::all_ended(Duration::from_secs(5)).await;
        self.stop.cancel();
        for server in self.servers {
            let _ = server.await;
        }
    }
}

fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::BadRequest(why) => BadConfig(why).into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_file_of_the_start_script_is_found() {
        let options = "-Xmx1g -Djava.security.auth.login.config=/etc/jaas.conf -Da=b";
        assert_eq!(login_config(options).as_deref(), Some("/etc/jaas.conf"));
        assert_eq!(login_config("-Xmx1g"), None);
    }
}
