//! `FileStreamSinkConnector`: appends each value's text and a line end.

mod task;

use std::path::Path;

use aqueduct_connect_api::config::{ConfigType, ConfigValueInfo, Importance};
use aqueduct_connect_api::inventory;
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, ConfigMap, Connector, ConnectorContext, Factory, Plugin, Result,
};
use async_trait::async_trait;

use crate::FILE;

pub use task::FileStreamSinkTask;

inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.file.FileStreamSinkConnector",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config_def,
        factory: Factory::Sink {
            connector: &|| Box::<FileStreamSink>::default(),
            task: &|| Box::<FileStreamSinkTask>::default(),
        },
    }
}

fn config_def() -> ConfigDef {
    ConfigDef::new().key(
        ConfigKey::optional(
            FILE,
            ConfigType::String,
            "File to append to; standard output where it is left out",
        )
        .importance(Importance::High),
    )
}

/// Every task appends to the same file.
#[derive(Debug, Default)]
pub struct FileStreamSink {
    settings: ConfigMap,
}

#[async_trait]
impl Connector for FileStreamSink {
    async fn validate(&self, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
        let Some(path) = file_of(config) else { return };
        if let Some(why) = cannot_hold(Path::new(path)).await
            && let Some(info) = infos.iter_mut().find(|i| i.key.name == FILE)
        {
            info.errors.push(why);
        }
    }

    async fn start(&mut self, _context: ConnectorContext, config: &Config) -> Result<()> {
        self.settings = config.originals().clone();
        Ok(())
    }

    async fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<ConfigMap>> {
        Ok(vec![self.settings.clone(); max_tasks])
    }
}

/// The file that is named; `None` for standard output.
fn file_of(config: &ConfigMap) -> Option<&str> {
    config.get(FILE).map(|path| path.trim()).filter(|path| !path.is_empty())
}

/// Why there can be no file at `path`, if so.
async fn cannot_hold(path: &Path) -> Option<String> {
    if tokio::fs::metadata(path).await.is_ok_and(|m| m.is_dir()) {
        return Some(format!("{} is a directory; name a file in it", path.display()));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty())?;
    match tokio::fs::metadata(folder).await {
        Ok(m) if m.is_dir() => None,
        Ok(_) => Some(format!("{} is not a directory", folder.display())),
        Err(e) => Some(format!(
            "the directory {} cannot be used: {e}; create it on every worker, or name another file",
            folder.display()
        )),
    }
}
