//! The connector: one task, and checks of the server before it starts.

use aqueduct_connect_api::config::ConfigValueInfo;
use aqueduct_connect_api::{
    Config, ConfigMap, Connector, ConnectorContext, Error, ExactlyOnceSupport, OffsetMap, Result,
};
use async_trait::async_trait;

use crate::config::{Flavor, LockingMode, Settings, config_def};
use crate::fault::Fault;
use crate::offset::Stored;
use crate::server::{self, Facts, rows, text};

/// Captures the changes of one server.
pub struct ChangeCapture {
    flavor: Flavor,
    config: ConfigMap,
}

impl ChangeCapture {
    pub fn new(flavor: Flavor) -> Self {
        Self { flavor, config: ConfigMap::new() }
    }
}

#[async_trait]
impl Connector for ChangeCapture {
    async fn validate(&self, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
        if infos.iter().any(|i| !i.errors.is_empty()) {
            return;
        }
        let settings =
            match config_def(self.flavor).parse(config).and_then(|c| Settings::read(&c, self.flavor)) {
                Ok(settings) => settings,
                Err(Error::Config { name, value, message }) => {
                    let error = Error::config(&*name, value, message).to_string();
                    let key = if infos.iter().any(|i| i.key.name == name) { &*name } else { "topic.prefix" };
                    return blame(infos, key, error);
                }
                Err(error) => return blame(infos, "topic.prefix", error.to_string()),
            };
        match check(&settings).await {
            Ok(problems) => problems.into_iter().for_each(|(key, problem)| blame(infos, key, problem)),
            Err(fault) => {
                let key = match fault {
                    Fault::Fatal(_) => "database.user",
                    _ => "database.hostname",
                };
                blame(infos, key, fault.into_error().to_string());
            }
        }
    }

    async fn start(&mut self, _context: ConnectorContext, config: &Config) -> Result<()> {
        Settings::read(config, self.flavor)?;
        self.config = config.originals().clone();
        Ok(())
    }

    async fn task_configs(&mut self, _max_tasks: usize) -> Result<Vec<ConfigMap>> {
        Ok(vec![self.config.clone()])
    }

    fn exactly_once_support(&self, _config: &ConfigMap) -> ExactlyOnceSupport {
        // Every record carries the offset right behind it.
        ExactlyOnceSupport::Supported
    }

    async fn alter_offsets(
        &self,
        _config: &ConfigMap,
        offsets: &[(OffsetMap, Option<OffsetMap>)],
    ) -> Result<bool> {
        for (partition, offset) in offsets {
            if !partition.get("server").is_some_and(serde_json::Value::is_string) || partition.len() != 1 {
                return Err(Error::connect(format!(
                    "partition {} is not one of this connector: expected {{\"server\": \"<topic.prefix>\"}}",
                    serde_json::Value::Object(partition.clone())
                )));
            }
            offset.as_ref().map(Stored::read).transpose()?;
        }
        Ok(true)
    }
}

fn blame(infos: &mut [ConfigValueInfo], key: &str, error: String) {
    if let Some(info) = infos.iter_mut().find(|i| i.key.name == key) {
        info.errors.push(error);
    }
}

/// Connects and lists what is wrong, each with the key to blame.
async fn check(settings: &Settings) -> Result<Vec<(&'static str, String)>, Fault> {
    let mut conn = server::connect(settings).await?;
    let facts = Facts::read(&mut conn, settings).await?;
    let mut problems: Vec<_> = facts.problems().into_iter().map(|p| ("database.hostname", p)).collect();
    let grants: Vec<String> =
        rows(&mut conn, settings, "SHOW GRANTS").await?.iter().filter_map(|r| text(r, 0)).collect();
    for missing in missing_privileges(&grants, settings.locking) {
        problems.push((
            "database.user",
            format!("user '{}' lacks {missing}: GRANT {missing} ON *.* TO that user", settings.user),
        ));
    }
    // The answer is known; how the connection ends does not matter.
    let _ = conn.disconnect().await;
    Ok(problems)
}

/// What the statements of `SHOW GRANTS` do not give. Roles may give anything: nothing is missed then.
fn missing_privileges(grants: &[String], locking: LockingMode) -> Vec<&'static str> {
    let mut global = String::new();
    let mut any_select = false;
    for grant in grants {
        let grant = grant.to_ascii_uppercase();
        let Some((privileges, on)) = grant.strip_prefix("GRANT ").and_then(|g| g.split_once(" ON ")) else {
            return Vec::new();
        };
        let all = privileges.contains("ALL PRIVILEGES");
        any_select |= all || privileges.contains("SELECT");
        if on.starts_with("*.*") || on.starts_with("`*`.`*`") {
            if all {
                return Vec::new();
            }
            global.push_str(privileges);
            global.push(',');
        }
    }
    let has = |names: &[&str]| global.split(',').any(|p| names.contains(&p.trim()));
    let mut missing = Vec::new();
    if !any_select {
        missing.push("SELECT");
    }
    if !has(&["REPLICATION SLAVE", "REPLICATION REPLICA"]) {
        missing.push("REPLICATION SLAVE");
    }
    if !has(&["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"]) {
        missing.push("REPLICATION CLIENT");
    }
    if locking != LockingMode::None && !has(&["RELOAD", "LOCK TABLES"]) {
        missing.push("RELOAD");
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_not_granted() {
        let missing = |grants: &[&str]| {
            let grants: Vec<String> = grants.iter().map(|g| (*g).to_owned()).collect();
            missing_privileges(&grants, LockingMode::Minimal)
        };
        assert!(missing(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"]).is_empty());
        assert!(
            missing(&[
                "GRANT SELECT, RELOAD, SHOW DATABASES, LOCK TABLES, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `repl`@`%`"
            ])
            .is_empty()
        );
        assert_eq!(missing(&["GRANT USAGE ON *.* TO `u`@`%`"]).len(), 4);
        assert_eq!(
            missing(&["GRANT RELOAD, REPLICATION CLIENT ON *.* TO u", "GRANT SELECT ON `inv`.* TO u"]),
            ["REPLICATION SLAVE"]
        );
        assert!(missing(&["GRANT `cdc`@`%` TO `u`@`%`"]).is_empty());
    }
}
