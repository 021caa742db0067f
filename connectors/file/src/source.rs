//! `FileStreamSourceConnector`: one task that reads lines.

mod follow;
mod lines;
mod stdin;
mod task;

use aqueduct_connect_api::config::{ConfigType, ConfigValueInfo, Importance, Validator};
use aqueduct_connect_api::inventory;
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, ConfigMap, Connector, ConnectorContext, Error, ExactlyOnceSupport, Factory,
    OffsetMap, Plugin, Result,
};
use async_trait::async_trait;

use crate::FILE;

pub use task::FileStreamSourceTask;

const TOPIC: &str = "topic";
const BATCH_SIZE: &str = "batch.size";
/// Key of the source partition.
const FILENAME_FIELD: &str = "filename";
/// Key of the source offset.
const POSITION_FIELD: &str = "position";

inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.file.FileStreamSourceConnector",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config_def,
        factory: Factory::Source {
            connector: &|| Box::<FileStreamSource>::default(),
            task: &|| Box::<FileStreamSourceTask>::default(),
        },
    }
}

fn config_def() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::optional(
                FILE,
                ConfigType::String,
                "File to read; standard input where it is left out",
            )
            .importance(Importance::High),
        )
        .key(
            ConfigKey::required(TOPIC, ConfigType::String, "Topic to write the lines to")
                .validator(Validator::NonEmpty),
        )
        .key(
            ConfigKey::with_default(
                BATCH_SIZE,
                ConfigType::Int,
                "2000",
                "Most lines that one poll of the file gives",
            )
            .importance(Importance::Low)
            .validator(Validator::AtLeast(1)),
        )
}

/// Reads one file, or standard input, with one task.
#[derive(Debug, Default)]
pub struct FileStreamSource {
    settings: ConfigMap,
}

#[async_trait]
impl Connector for FileStreamSource {
    async fn validate(&self, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
        let Some(path) = file_of(config) else { return };
        // A file that is not there yet is waited for, as the reference does.
        let Ok(metadata) = tokio::fs::metadata(path).await else { return };
        if !metadata.is_file()
            && let Some(info) = infos.iter_mut().find(|i| i.key.name == FILE)
        {
            info.errors.push(not_regular(path).to_string());
        }
    }

    async fn start(&mut self, _context: ConnectorContext, config: &Config) -> Result<()> {
        self.settings = config.originals().clone();
        tracing::info!(file = file_of(&self.settings).unwrap_or("standard input"), "file source starts");
        Ok(())
    }

    async fn task_configs(&mut self, _max_tasks: usize) -> Result<Vec<ConfigMap>> {
        Ok(vec![self.settings.clone()])
    }

    fn exactly_once_support(&self, config: &ConfigMap) -> ExactlyOnceSupport {
        // What has been read from standard input cannot be read again.
        match file_of(config) {
            Some(_) => ExactlyOnceSupport::Supported,
            None => ExactlyOnceSupport::Unsupported,
        }
    }

    async fn alter_offsets(
        &self,
        config: &ConfigMap,
        offsets: &[(OffsetMap, Option<OffsetMap>)],
    ) -> Result<bool> {
        if file_of(config).is_none() {
            return Err(Error::connect(
                "offsets cannot be changed while the setting 'file' is left out: standard input has none",
            ));
        }
        for (partition, offset) in offsets {
            if let Some(offset) = offset {
                check_offset(partition, offset)?;
            }
        }
        Ok(true)
    }
}

fn check_offset(partition: &OffsetMap, offset: &OffsetMap) -> Result<()> {
    let Some(position) = offset.get(POSITION_FIELD) else {
        return Err(Error::connect("an offset must be null or hold the key 'position'"));
    };
    match position.as_i64() {
        None => Err(Error::connect(format!(
            "the value {position} of the key 'position' is not a whole number of 64 bits"
        ))),
        Some(n) if n < 0 => {
            Err(Error::connect(format!("the value {n} of the key 'position' must not be negative")))
        }
        Some(_) if !partition.contains_key(FILENAME_FIELD) => {
            Err(Error::connect("a partition must hold the key 'filename'"))
        }
        Some(_) => Ok(()),
    }
}

/// The file that is named; `None` for standard input.
fn file_of(config: &ConfigMap) -> Option<&str> {
    config.get(FILE).map(|path| path.trim()).filter(|path| !path.is_empty())
}

fn not_regular(path: &str) -> Error {
    Error::connect(format!(
        "{path} is not a regular file; name one in 'file', or leave 'file' out and pipe the data into standard input"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> OffsetMap {
        serde_json::from_str(text).expect("an object")
    }

    #[test]
    fn offsets_are_checked_as_the_reference_does() {
        let partition = map(r#"{"filename":"/f"}"#);
        for (offset, fits) in [
            (r#"{"position":0}"#, true),
            (r#"{"position":-1}"#, false),
            (r#"{"position":"1"}"#, false),
            (r#"{"other":1}"#, false),
        ] {
            assert_eq!(check_offset(&partition, &map(offset)).is_ok(), fits, "{offset}");
        }
        assert!(check_offset(&map("{}"), &map(r#"{"position":1}"#)).is_err());
    }

    #[tokio::test]
    async fn offsets_of_standard_input_cannot_be_changed() {
        let connector = FileStreamSource::default();
        assert!(connector.alter_offsets(&ConfigMap::new(), &[]).await.is_err());
        let config = ConfigMap::from([(FILE.to_owned(), "/f".to_owned())]);
        let reset = [(map(r#"{"filename":"/f"}"#), None)];
        assert!(connector.alter_offsets(&config, &reset).await.expect("checked"));
    }

    #[test]
    fn a_topic_is_required() {
        let infos = config_def().validate(&ConfigMap::new());
        let wrong: Vec<_> = infos.iter().filter(|i| !i.errors.is_empty()).map(|i| &*i.key.name).collect();
        assert_eq!(wrong, [TOPIC]);
    }
}
