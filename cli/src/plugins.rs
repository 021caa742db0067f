//! Plugins in processes of their own: looked for while the worker starts.

use aqueduct_connect_api::Plugin;
use aqueduct_connect_worker::WorkerConfig;
use aqueduct_connector_process::{Discovery, Limits};
use tokio::task::JoinHandle;

/// Starts to look for the plugins of `plugin.path`; `None` where there is no such path. The worker does not wait: a
/// connector whose class is unknown does, until the search is over.
pub fn search(config: &WorkerConfig) -> Option<JoinHandle<()>> {
    let directories = config.plugin_path();
    if directories.is_empty() {
        return None;
    }
    let limits = Limits {
        start: config.millis("aqueduct.plugin.start.timeout.ms"),
        request: config.millis("aqueduct.plugin.request.timeout.ms"),
        frame: usize::try_from(config.number("aqueduct.plugin.frame.max.bytes")).unwrap_or(16 << 20),
    };
    let search = Plugin::search();
    Some(tokio::spawn(async move {
        let scanned = tokio::task::spawn_blocking(move || Discovery::start(&directories, &limits)).await;
        match scanned {
            Ok(discovery) => discovery.finish().await,
            Err(error) => tracing::error!(%error, "looking for plugins failed"),
        }
        drop(search);
    }))
}
