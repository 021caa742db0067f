//! `aqueduct configs`: settings of topics, brokers, groups, client metrics and loggers; quotas and SCRAM credentials of
//! users.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aqueduct_client::{
    Admin, ConfigEntry, ConfigOp, ConfigResource, ConfigSource, QuotaEntity, QuotaMatch, ScramMechanism,
};
use aqueduct_protocol::ids::BrokerId;
use bytestring::ByteString;
use serde_json::json;

use super::connect::{Cluster, pair};
use super::output::{Failures, Table, or_dash, print_json};
use crate::options::BadConfig;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show what is set, or with --all everything that is in force.
    Describe {
        #[command(flatten)]
        entity: Entity,
        /// Defaults and the file's values as well.
        #[arg(long)]
        all: bool,
    },
    /// Set and unset values.
    Alter {
        #[command(flatten)]
        entity: Entity,
        /// KEY=VALUE to set; may be repeated. Quotas of users, clients and addresses are set the same way.
        #[arg(long = "set", visible_alias = "add-config", value_name = "KEY=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        /// KEY to go back to its default; may be repeated.
        #[arg(long = "unset", visible_alias = "delete-config", value_name = "KEY", value_delimiter = ',')]
        unset: Vec<String>,
        /// KEY=WORDS to add to a list.
        #[arg(long, value_name = "KEY=WORDS", value_parser = pair)]
        append: Vec<(String, String)>,
        /// KEY=WORDS to take out of a list.
        #[arg(long, value_name = "KEY=WORDS", value_parser = pair)]
        subtract: Vec<(String, String)>,
        #[command(flatten)]
        scram: Scram,
    },
}

#[derive(clap::Args)]
struct Entity {
    #[arg(long)]
    topic: Option<String>,
    /// A broker's number.
    #[arg(long)]
    broker: Option<i32>,
    /// What counts for every broker that sets nothing itself.
    #[arg(long)]
    broker_defaults: bool,
    /// Log levels of a broker, by its number.
    #[arg(long)]
    broker_logger: Option<i32>,
    #[arg(long)]
    group: Option<String>,
    #[arg(long)]
    client_metrics: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// What counts for every user without a quota.
    #[arg(long)]
    user_defaults: bool,
    #[arg(long)]
    client_id: Option<String>,
    #[arg(long)]
    client_defaults: bool,
    #[arg(long)]
    ip: Option<String>,
    #[arg(long)]
    ip_defaults: bool,
}

#[derive(clap::Args)]
struct Scram {
    /// SCRAM-SHA-256 or SCRAM-SHA-512: set the user's password for it, from --password-file or standard input.
    #[arg(long, value_name = "MECHANISM")]
    scram: Option<String>,
    /// File whose first line is the password; it is not shown in the list of processes.
    #[arg(long, value_name = "FILE")]
    password_file: Option<std::path::PathBuf>,
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(4096..=16384))]
    iterations: u32,
    /// Remove the user's credential of this mechanism.
    #[arg(long, value_name = "MECHANISM")]
    delete_scram: Option<String>,
}

/// What is described or altered.
enum Target {
    Resource(ConfigResource),
    Quota(Vec<(ByteString, QuotaMatch)>),
}

impl Entity {
    fn target(&self) -> Result<Target> {
        let mut found: Vec<Target> = Vec::new();
        let mut push = |resource| found.push(Target::Resource(resource));
        if let Some(topic) = &self.topic {
            push(ConfigResource::Topic(topic.as_str().into()));
        }
        if let Some(id) = self.broker {
            push(ConfigResource::Broker(BrokerId(id)));
        }
        if self.broker_defaults {
            push(ConfigResource::BrokerDefault);
        }
        if let Some(id) = self.broker_logger {
            push(ConfigResource::BrokerLogger(BrokerId(id)));
        }
        if let Some(group) = &self.group {
            push(ConfigResource::Group(group.as_str().into()));
        }
        if let Some(name) = &self.client_metrics {
            push(ConfigResource::ClientMetrics(name.as_str().into()));
        }
        let quota = self.quota();
        if !quota.is_empty() {
            found.push(Target::Quota(quota));
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(BadConfig(
                "name what is meant: --topic, --broker, --broker-defaults, --broker-logger, --group, --client-metrics, --user, --client-id or --ip".into(),
            )
            .into()),
            _ => Err(BadConfig("name one thing; --user and --client-id may stand together".into()).into()),
        }
    }

    fn quota(&self) -> Vec<(ByteString, QuotaMatch)> {
        let parts = [
            ("user", &self.user, self.user_defaults),
            ("client-id", &self.client_id, self.client_defaults),
            ("ip", &self.ip, self.ip_defaults),
        ];
        let mut quota = Vec::new();
        for (kind, name, default) in parts {
            match name {
                Some(name) => quota.push((kind.into(), QuotaMatch::Named(name.as_str().into()))),
                None if default => quota.push((kind.into(), QuotaMatch::Default)),
                None => {}
            }
        }
        quota
    }
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    match args.command {
        Command::Describe { entity, all } => match entity.target()? {
            Target::Resource(resource) => describe(&admin, resource, all, args.json).await,
            Target::Quota(quota) => describe_quotas(&admin, &quota, entity.user.as_deref(), args.json).await,
        },
        Command::Alter { entity, set, unset, append, subtract, scram } => match entity.target()? {
            Target::Resource(resource) => {
                let mut ops: Vec<(String, ConfigOp)> = Vec::new();
                ops.extend(set.into_iter().map(|(key, value)| (key, ConfigOp::Set(value))));
                ops.extend(unset.into_iter().map(|key| (key, ConfigOp::Delete)));
                ops.extend(append.into_iter().map(|(key, words)| (key, ConfigOp::Append(words))));
                ops.extend(subtract.into_iter().map(|(key, words)| (key, ConfigOp::Subtract(words))));
                alter(&admin, resource, ops).await
            }
            Target::Quota(quota) => {
                alter_scram(&admin, entity.user.as_deref(), &scram).await?;
                alter_quotas(&admin, quota, set, unset, scram.is_asked()).await
            }
        },
    }
}

fn source(entry: &ConfigEntry) -> &'static str {
    match entry.source {
        ConfigSource::Topic => "topic",
        ConfigSource::DynamicBroker => "broker",
        ConfigSource::DynamicBrokerDefault => "broker-defaults",
        ConfigSource::StaticBroker => "file",
        ConfigSource::Default => "default",
        ConfigSource::BrokerLogger => "logger",
        ConfigSource::ClientMetrics => "client-metrics",
        ConfigSource::Group => "group",
        ConfigSource::Unknown => "unknown",
    }
}

async fn describe(admin: &Admin, resource: ConfigResource, all: bool, as_json: bool) -> Result<()> {
    let mut results = admin.describe_configs(std::slice::from_ref(&resource)).await?;
    let mut entries =
        results.remove(&resource).with_context(|| format!("{resource} is not in the answer"))??;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let is_set = |entry: &&ConfigEntry| {
        all || !matches!(entry.source, ConfigSource::Default | ConfigSource::StaticBroker)
    };
    let shown: Vec<_> = entries.iter().filter(is_set).collect();
    if as_json {
        let object = |entry: &&ConfigEntry| {
            json!({
                "name": entry.name.to_string(),
                "value": entry.value.as_deref(),
                "source": source(entry),
                "read_only": entry.read_only,
                "sensitive": entry.sensitive,
            })
        };
        return print_json(&json!(shown.iter().map(object).collect::<Vec<_>>()));
    }
    if shown.is_empty() {
        println!("Nothing is set on {resource}; --all shows the defaults.");
        return Ok(());
    }
    let mut table = Table::new(&["name", "value", "source", "changes at run time"]);
    for entry in shown {
        let value = if entry.sensitive { "[hidden]".to_owned() } else { or_dash(entry.value.as_deref()) };
        let live = if entry.read_only { "no" } else { "yes" };
        table.row(vec![entry.name.to_string(), value, source(entry).into(), live.into()]);
    }
    table.print(false)
}

async fn alter(admin: &Admin, resource: ConfigResource, ops: Vec<(String, ConfigOp)>) -> Result<()> {
    if ops.is_empty() {
        return Err(nothing_to_do().into());
    }
    let results = admin.incremental_alter_configs(&[(resource.clone(), ops)]).await?;
    let mut failures = Failures::default();
    for (_, result) in results {
        if failures.check(result).is_some() {
            println!("Changed configs of {resource}.");
        }
    }
    failures.finish()
}

fn nothing_to_do() -> BadConfig {
    BadConfig(
        "name a change: --set KEY=VALUE, --unset KEY, --append KEY=WORDS or --subtract KEY=WORDS".into(),
    )
}

async fn describe_quotas(
    admin: &Admin,
    quota: &[(ByteString, QuotaMatch)],
    user: Option<&str>,
    json: bool,
) -> Result<()> {
    let mut table = Table::new(&["entity", "name", "value"]);
    for (entity, values) in admin.describe_client_quotas(quota, false).await? {
        let part = |(kind, name): (&ByteString, &Option<ByteString>)| match name {
            Some(name) => format!("{kind} {name}"),
            None => format!("{kind} defaults"),
        };
        let entity = entity.iter().map(part).collect::<Vec<_>>().join(", ");
        for (key, value) in values {
            table.row(vec![entity.clone(), key.to_string(), value.to_string()]);
        }
    }
    if let Some(user) = user {
        let credentials = admin.describe_user_scram_credentials(&[user.into()]).await?;
        for (_, mechanisms) in credentials {
            // A user without credentials is none that this could show.
            for (mechanism, iterations) in mechanisms.unwrap_or_default() {
                let value = format!("iterations={iterations}");
                table.row(vec![format!("user {user}"), mechanism.name().into(), value]);
            }
        }
    }
    if table.is_empty() && !json {
        println!("Nothing is set.");
    }
    table.print(json)
}

async fn alter_quotas(
    admin: &Admin,
    quota: Vec<(ByteString, QuotaMatch)>,
    set: Vec<(String, String)>,
    unset: Vec<String>,
    changed: bool,
) -> Result<()> {
    let mut ops: Vec<(ByteString, Option<f64>)> = Vec::new();
    for (key, value) in set {
        let number = value.parse().map_err(|_| BadConfig(format!("{key}={value}: must be a number")))?;
        ops.push((key.into(), Some(number)));
    }
    ops.extend(unset.into_iter().map(|key| (key.into(), None)));
    if ops.is_empty() {
        return if changed { Ok(()) } else { Err(nothing_to_do().into()) };
    }
    let name = |matched| match matched {
        QuotaMatch::Named(name) => Some(name),
        QuotaMatch::Default | QuotaMatch::Any => None,
    };
    let entity: QuotaEntity =
        quota.into_iter().map(|(kind, matched)| (kind, name(matched))).collect::<BTreeMap<_, _>>();
    admin.alter_client_quotas(&entity, &ops).await?;
    println!("Changed quotas.");
    Ok(())
}

impl Scram {
    fn is_asked(&self) -> bool {
        self.scram.is_some() || self.delete_scram.is_some()
    }

    fn password(&self) -> Result<String> {
        let text = match &self.password_file {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("--password-file {}", path.display()))?,
            None => {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).context("password from standard input")?;
                line
            }
        };
        let password = text.lines().next().unwrap_or_default().to_owned();
        match password.is_empty() {
            true => Err(BadConfig(
                "the password is empty: write it into --password-file, or to standard input".into(),
            )
            .into()),
            false => Ok(password),
        }
    }
}

async fn alter_scram(admin: &Admin, user: Option<&str>, asked: &Scram) -> Result<()> {
    if !asked.is_asked() {
        return Ok(());
    }
    let user = user.ok_or_else(|| BadConfig("--scram needs --user".into()))?;
    let mechanism = |name: &String| {
        ScramMechanism::parse(&name.to_ascii_uppercase())
            .ok_or_else(|| BadConfig(format!("{name}: must be SCRAM-SHA-256 or SCRAM-SHA-512")))
    };
    if let Some(name) = &asked.delete_scram {
        admin.delete_scram_credential(user, mechanism(name)?).await?;
        println!("Removed the {name} credential of user {user}.");
    }
    if let Some(name) = &asked.scram {
        let password = asked.password()?;
        admin.upsert_scram_credential(user, mechanism(name)?, asked.iterations, &password).await?;
        println!("Set the {name} credential of user {user}.");
    }
    Ok(())
}
