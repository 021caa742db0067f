//! How a tool reaches a cluster.

use std::path::{Path, PathBuf};

use anyhow::Result;
use aqueduct_client::{Admin, Client, ClientConfig, parse_properties};

use crate::options::BadConfig;

/// Options of every tool that talks to a cluster.
#[derive(clap::Args, Debug)]
pub struct Cluster {
    /// HOST:PORT of one or more brokers, with commas between them.
    #[arg(
        long,
        visible_alias = "bootstrap-servers",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        global = true
    )]
    pub bootstrap_server: String,
    /// Properties of the client, such as security.protocol.
    #[arg(long, value_name = "FILE", global = true)]
    pub command_config: Option<PathBuf>,
    /// One more property of the client; may be repeated, and wins over the file.
    #[arg(long, visible_aliases = ["command-property", "producer-property", "consumer-property"], value_name = "KEY=VALUE", global = true)]
    pub property: Vec<String>,
}

impl Cluster {
    /// A client, with `defaults` where neither file nor options say otherwise.
    pub fn client(&self, defaults: &[(&str, &str)]) -> Result<Client> {
        let mut properties: Vec<(String, String)> =
            defaults.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        if let Some(path) = &self.command_config {
            properties.extend(read(path)?);
        }
        for pair in &self.property {
            let Some((key, value)) = pair.split_once('=') else {
                let why = format!("--property {pair}: must be KEY=VALUE, such as --property acks=all");
                return Err(BadConfig(why).into());
            };
            properties.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        properties.push(("bootstrap.servers".to_owned(), self.bootstrap_server.clone()));
        let (config, unknown) = ClientConfig::from_properties(properties)
            .map_err(|error| BadConfig(format!("client configuration: {error}")))?;
        for key in unknown {
            eprintln!("aqueduct: unknown client property {key} is ignored");
        }
        Ok(Client::new(config))
    }

    /// An admin; it gives up sooner than programs do, because somebody waits.
    pub fn admin(&self) -> Result<Admin> {
        Ok(Admin::new(self.client(&[("default.api.timeout.ms", "30000")])?))
    }
}

fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let bad = |why: String| BadConfig(format!("--command-config {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    Ok(parse_properties(&text).map_err(|error| bad(error.to_string()))?.into_iter().collect())
}

/// Takes `KEY=VALUE` apart.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            // Kafka's tools take values with commas in brackets.
            let value = value.trim();
            let value = value.strip_prefix('[').and_then(|value| value.strip_suffix(']')).unwrap_or(value);
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

/// Takes `TOPIC:PARTITION` or `TOPIC` apart.
pub fn topic_partitions(text: &str) -> Result<(String, Vec<i32>), String> {
    match text.rsplit_once(':') {
        None => Ok((text.to_owned(), Vec::new())),
        Some((topic, indices)) => {
            let index = |index: &str| {
                index.trim().parse::<i32>().map_err(|_| format!("{index} is no partition number"))
            };
            Ok((topic.to_owned(), indices.split(',').map(index).collect::<Result<_, _>>()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_partitions_are_taken_apart() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(
            pair("cleanup.policy=[compact,delete]"),
            Ok(("cleanup.policy".into(), "compact,delete".into()))
        );
        assert!(pair("=x").is_err() && pair("x").is_err());
        assert_eq!(topic_partitions("t:0,2"), Ok(("t".into(), vec![0, 2])));
        assert_eq!(topic_partitions("t"), Ok(("t".into(), vec![])));
        assert!(topic_partitions("t:x").is_err());
    }
}
