//! `aqueduct topics`.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use aqueduct_client::{
    Admin, ConfigResource, ConfigSource, NewTopic, OffsetSpec, TopicDescription, TopicPartition,
};
use aqueduct_protocol::error_code::ErrorCode;
use bytestring::ByteString;
use serde_json::json;

use super::connect::{Cluster, pair, topic_partitions};
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
    /// List the names of all topics.
    List {
        /// Leave Kafka's own topics out.
        #[arg(long)]
        exclude_internal: bool,
    },
    /// Show partitions, leaders, replicas and configs of topics; of all where none is named.
    Describe {
        topics: Vec<String>,
        #[arg(long = "topic", hide = true)]
        topic: Vec<String>,
        /// Only partitions with fewer in-sync replicas than replicas.
        #[arg(long)]
        under_replicated_partitions: bool,
        /// Only partitions without a leader.
        #[arg(long)]
        unavailable_partitions: bool,
    },
    /// Create topics.
    Create {
        topics: Vec<String>,
        #[arg(long = "topic", hide = true)]
        topic: Vec<String>,
        /// Partitions; without it the broker's num.partitions.
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Replicas of each partition; without it the broker's default.replication.factor.
        #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A config of the topic, KEY=VALUE; may be repeated.
        #[arg(long, value_parser = pair)]
        config: Vec<(String, String)>,
        /// A topic that exists is no error.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Add partitions to topics.
    Alter {
        topics: Vec<String>,
        #[arg(long = "topic", hide = true)]
        topic: Vec<String>,
        /// Partitions that the topic is to have.
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
    },
    /// Delete topics and all that is in them.
    Delete {
        topics: Vec<String>,
        #[arg(long = "topic", hide = true)]
        topic: Vec<String>,
        /// A topic that does not exist is no error.
        #[arg(long)]
        if_exists: bool,
    },
    /// Show offsets of partitions, TOPIC or TOPIC:PARTITION.
    Offsets {
        topics: Vec<String>,
        #[arg(long = "topic", hide = true)]
        topic: Vec<String>,
        /// earliest, latest, max-timestamp, or milliseconds since 1970: the first record at or after that time.
        #[arg(long, default_value = "latest", allow_hyphen_values = true)]
        time: String,
    },
    /// Delete the records before an offset, TOPIC:PARTITION:OFFSET; -1 stands for all.
    DeleteRecords { before: Vec<String> },
}

fn named(mut positional: Vec<String>, flags: Vec<String>) -> Vec<String> {
    positional.extend(flags);
    positional
}

fn required(positional: Vec<String>, flags: Vec<String>) -> Result<Vec<ByteString>> {
    let names = named(positional, flags);
    if names.is_empty() {
        return Err(BadConfig("name a topic, such as `aqueduct topics create orders`".to_owned()).into());
    }
    Ok(names.into_iter().map(Into::into).collect())
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    match args.command {
        Command::List { exclude_internal } => list(&admin, exclude_internal, args.json).await,
        Command::Describe { topics, topic, under_replicated_partitions, unavailable_partitions } => {
            let only =
                Only { under_replicated: under_replicated_partitions, unavailable: unavailable_partitions };
            describe(&admin, named(topics, topic), &only, args.json).await
        }
        Command::Create { topics, topic, partitions, replication_factor, config, if_not_exists } => {
            let configs: BTreeMap<_, _> = config.into_iter().collect();
            let new = |name: &ByteString| NewTopic {
                configs: configs.clone(),
                ..NewTopic::new(name.clone(), partitions.unwrap_or(-1), replication_factor.unwrap_or(-1))
            };
            let topics = required(topics, topic)?;
            let new: Vec<_> = topics.iter().map(new).collect();
            let results = admin.create_topics(&new, false).await?;
            told(results, "Created topic", if_not_exists.then_some(ErrorCode::TopicAlreadyExists))
        }
        Command::Alter { topics, topic, partitions } => {
            let topics: Vec<_> =
                required(topics, topic)?.into_iter().map(|name| (name, partitions)).collect();
            told(admin.create_partitions(&topics).await?, "Altered topic", None)
        }
        Command::Delete { topics, topic, if_exists } => {
            let results = admin.delete_topics(&required(topics, topic)?).await?;
            told(results, "Deleted topic", if_exists.then_some(ErrorCode::UnknownTopicOrPartition))
        }
        Command::Offsets { topics, topic, time } => {
            offsets(&admin, named(topics, topic), &time, args.json).await
        }
        Command::DeleteRecords { before } => delete_records(&admin, &before, args.json).await,
    }
}

/// Tells of each topic that was changed; a failure with the code `fine` is none.
fn told(
    results: HashMap<ByteString, aqueduct_client::Result<()>>,
    done: &str,
    fine: Option<ErrorCode>,
) -> Result<()> {
    let mut failures = Failures::default();
    let results: BTreeMap<_, _> = results.into_iter().collect();
    for (name, result) in results {
        let is_fine = fine.is_some() && result.as_ref().is_err_and(|error| error.code() == fine);
        if !is_fine && failures.check(result).is_some() {
            println!("{done} {name}.");
        }
    }
    failures.finish()
}

async fn list(admin: &Admin, exclude_internal: bool, json: bool) -> Result<()> {
    let names = admin.list_topics().await?;
    let names = names.iter().filter(|name| !(exclude_internal && name.starts_with("__")));
    match json {
        true => print_json(&json!(names.map(ToString::to_string).collect::<Vec<_>>())),
        false => super::output::print_lines(names),
    }
}

struct Only {
    under_replicated: bool,
    unavailable: bool,
}

async fn describe(admin: &Admin, names: Vec<String>, only: &Only, as_json: bool) -> Result<()> {
    let names: Vec<ByteString> = match names.is_empty() {
        true => admin.list_topics().await?.into_iter().collect(),
        false => names.into_iter().map(Into::into).collect(),
    };
    let mut failures = Failures::default();
    let described: BTreeMap<_, _> = admin.describe_topics(&names).await?.into_iter().collect();
    let mut topics = Vec::new();
    for (_, topic) in described {
        topics.extend(failures.check(topic));
    }
    let resources: Vec<_> = topics.iter().map(|topic| ConfigResource::Topic(topic.name.clone())).collect();
    let mut configs = admin.describe_configs(&resources).await?;
    let mut objects = Vec::new();
    for topic in &topics {
        let set = configs
            .remove(&ConfigResource::Topic(topic.name.clone()))
            .and_then(Result::ok)
            .unwrap_or_default();
        let set: Vec<_> = set
            .iter()
            .filter(|entry| entry.source == ConfigSource::Topic)
            .map(|entry| (entry.name.to_string(), entry.value.as_deref().unwrap_or_default().to_owned()))
            .collect();
        if as_json {
            objects.push(object(topic, &set, only));
        } else {
            show(topic, &set, only)?;
        }
    }
    if as_json {
        print_json(&json!(objects))?;
    }
    failures.finish()
}

fn chosen<'a>(
    topic: &'a TopicDescription,
    only: &'a Only,
) -> impl Iterator<Item = &'a aqueduct_client::PartitionDescription> {
    topic.partitions.iter().filter(move |partition| {
        (!only.under_replicated || partition.isr.len() < partition.replicas.len())
            && (!only.unavailable || partition.leader.is_none())
    })
}

fn object(topic: &TopicDescription, set: &[(String, String)], only: &Only) -> serde_json::Value {
    let ids = |ids: &[aqueduct_protocol::ids::BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let partitions: Vec<_> = chosen(topic, only)
        .map(|partition| {
            json!({
                "partition": partition.partition.0,
                "leader": partition.leader.map(|id| id.0),
                "leader_epoch": partition.leader_epoch.0,
                "replicas": ids(&partition.replicas),
                "isr": ids(&partition.isr),
            })
        })
        .collect();
    json!({
        "name": topic.name.to_string(),
        "id": topic.id.to_string(),
        "internal": topic.internal,
        "configs": set.iter().cloned().collect::<BTreeMap<_, _>>(),
        "partitions": partitions,
    })
}

fn show(topic: &TopicDescription, set: &[(String, String)], only: &Only) -> Result<()> {
    let factor = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    let filtered = only.under_replicated || only.unavailable;
    if !filtered {
        let configs: Vec<_> = set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        println!(
            "Topic: {}  TopicId: {}  PartitionCount: {}  ReplicationFactor: {factor}  Configs: {}",
            topic.name,
            topic.id,
            topic.partitions.len(),
            configs.join(",")
        );
    }
    let mut table = Table::new(&["topic", "partition", "leader", "leader epoch", "replicas", "isr"]);
    let ids = |ids: &[aqueduct_protocol::ids::BrokerId]| {
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    for partition in chosen(topic, only) {
        table.row(vec![
            topic.name.to_string(),
            partition.partition.to_string(),
            partition.leader.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            partition.leader_epoch.to_string(),
            ids(&partition.replicas),
            ids(&partition.isr),
        ]);
    }
    table.print(false)?;
    if !table.is_empty() {
        println!();
    }
    Ok(())
}

/// The place or time that an option names.
pub fn offset_spec(text: &str) -> Result<OffsetSpec> {
    match text {
        "earliest" | "-2" => Ok(OffsetSpec::Earliest),
        "latest" | "-1" => Ok(OffsetSpec::Latest),
        "max-timestamp" | "-3" => Ok(OffsetSpec::MaxTimestamp),
        other => match super::consume::timestamp(other) {
            Some(at) => Ok(OffsetSpec::Timestamp(at)),
            None => Err(BadConfig(format!(
                "--time {other}: must be earliest, latest, max-timestamp, milliseconds since 1970, or a time such as 2024-05-31T12:00:00Z"
            ))
            .into()),
        },
    }
}

/// Every partition of the topics, or those that are named.
pub async fn partitions_of(admin: &Admin, names: &[String]) -> Result<Vec<TopicPartition>> {
    let mut wanted: Vec<(ByteString, Vec<i32>)> = Vec::new();
    for name in names {
        let (topic, indices) = topic_partitions(name).map_err(|why| BadConfig(format!("{name}: {why}")))?;
        wanted.push((topic.into(), indices));
    }
    if wanted.is_empty() {
        wanted = admin.list_topics().await?.into_iter().map(|name| (name, Vec::new())).collect();
    }
    let topics: Vec<_> = wanted.iter().map(|(topic, _)| topic.clone()).collect();
    let described = admin.describe_topics(&topics).await?;
    let mut found = Vec::new();
    for (topic, indices) in wanted {
        let all = match described.get(&topic) {
            Some(Ok(topic)) => topic.partitions.iter().map(|partition| partition.partition.0).collect(),
            Some(Err(error)) => return Err(error.clone().into()),
            None => Vec::new(),
        };
        let indices: Vec<i32> = if indices.is_empty() { all } else { indices };
        found.extend(indices.into_iter().map(|index| TopicPartition::new(topic.clone(), index)));
    }
    found.sort();
    Ok(found)
}

async fn offsets(admin: &Admin, names: Vec<String>, time: &str, json: bool) -> Result<()> {
    let spec = offset_spec(time)?;
    let partitions = partitions_of(admin, &names).await?;
    let wanted = partitions.into_iter().map(|partition| (partition, spec)).collect();
    let found: BTreeMap<_, _> = admin.list_offsets(&wanted).await?.into_iter().collect();
    let mut table = Table::new(&["topic", "partition", "offset", "timestamp"]);
    let mut failures = Failures::default();
    for (partition, listed) in found {
        let Some(listed) = failures.check(listed) else { continue };
        table.row(vec![
            partition.topic.to_string(),
            partition.partition.to_string(),
            or_dash((listed.offset.0 >= 0).then_some(listed.offset)),
            or_dash((listed.timestamp >= 0).then_some(listed.timestamp)),
        ]);
    }
    table.print(json)?;
    failures.finish()
}

async fn delete_records(admin: &Admin, before: &[String], json: bool) -> Result<()> {
    let mut wanted = HashMap::new();
    for text in before {
        let parts = text.rsplit_once(':').and_then(|(rest, offset)| {
            let (topic, index) = rest.rsplit_once(':')?;
            Some((TopicPartition::new(topic.to_owned(), index.parse().ok()?), offset.parse().ok()?))
        });
        let Some((partition, offset)) = parts else {
            return Err(BadConfig(format!("{text}: must be TOPIC:PARTITION:OFFSET")).into());
        };
        wanted.insert(partition, aqueduct_protocol::ids::Offset(offset));
    }
    let results: BTreeMap<_, _> = admin.delete_records(&wanted).await?.into_iter().collect();
    let mut table = Table::new(&["topic", "partition", "log start"]);
    let mut failures = Failures::default();
    for (partition, start) in results {
        let Some(start) = failures.check(start) else { continue };
        table.row(vec![partition.topic.to_string(), partition.partition.to_string(), start.to_string()]);
    }
    table.print(json)?;
    failures.finish()
}
