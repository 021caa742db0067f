//! `aqueduct log-dirs`: which replicas are in which directory of which broker, how large they are, and moving them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail};
use aqueduct_client::{Admin, LogDirDescription, TopicPartition};
use aqueduct_protocol::ids::BrokerId;
use bytestring::ByteString;

use super::connect::Cluster;
use super::output::{Failures, Table, bytes, or_dash, print_lines};
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
    /// Show directories with their free space, or with --replicas what is in them.
    Describe {
        /// One line a replica.
        #[arg(long)]
        replicas: bool,
        /// Only these topics; may be repeated.
        #[arg(long)]
        topic: Vec<String>,
        /// Only these brokers, with commas between their numbers.
        #[arg(long, value_delimiter = ',')]
        broker: Vec<i32>,
    },
    /// Move a replica to another log directory of its broker, while it is in use. Asking for the one that it is in
    /// calls a move off.
    Move {
        /// TOPIC-PARTITION, such as events-0.
        partition: String,
        /// Absolute path of the directory, as describe shows it.
        directory: String,
        /// The broker, where several have a directory of this path.
        #[arg(long)]
        broker: Option<i32>,
        /// Come back when the replica has arrived.
        #[arg(long)]
        wait: bool,
    },
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    match args.command {
        Command::Describe { replicas, topic, broker } => {
            describe(&admin, args.json, replicas, topic, &broker).await
        }
        Command::Move { partition, directory, broker, wait } => {
            let partition = parse(&partition)?;
            start_move(&admin, &partition, &directory, broker, wait).await
        }
    }
}

fn parse(text: &str) -> Result<TopicPartition> {
    let parsed = text.rsplit_once('-').and_then(|(topic, index)| Some((topic, index.parse::<i32>().ok()?)));
    match parsed {
        Some((topic, index)) if !topic.is_empty() && index >= 0 => Ok(TopicPartition::new(topic, index)),
        _ => Err(BadConfig(format!("{text}: must be TOPIC-PARTITION, such as events-0")).into()),
    }
}

/// Between two looks at how far a move is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

async fn start_move(
    admin: &Admin,
    partition: &TopicPartition,
    directory: &str,
    broker: Option<i32>,
    wait: bool,
) -> Result<()> {
    let dirs = admin.describe_log_dirs(None).await?;
    let mut having: Vec<BrokerId> =
        dirs.iter().filter(|dir| dir.path == *directory).map(|dir| dir.broker).collect();
    match broker {
        Some(broker) => having = vec![BrokerId(broker)],
        None if having.len() > 1 => having.retain(|broker| holds(&dirs, *broker, partition)),
        None => {}
    }
    let broker = match having[..] {
        [broker] => broker,
        [] => {
            let known: Vec<&str> = dirs.iter().map(|dir| &*dir.path).collect();
            bail!("no broker has a log directory {directory}: there are {}", known.join(", "));
        }
        _ => bail!("several brokers have {directory} and a replica of {partition}: say which with --broker"),
    };
    let moves = HashMap::from([(partition.clone(), ByteString::from(directory))]);
    let mut failures = Failures::default();
    for done in admin.alter_replica_log_dirs(broker, &moves).await?.into_values() {
        failures.check(done);
    }
    failures.finish()?;
    if !wait {
        return print_lines([format!("Replica of {partition} on broker {broker} moves to {directory}.")]);
    }
    let topics = [partition.topic.clone()];
    loop {
        let dirs = admin.describe_log_dirs(Some(&topics)).await?;
        let mut places = dirs.iter().filter(|dir| dir.broker == broker).filter_map(|dir| {
            let info = dir.replicas.get(partition)?;
            Some((&dir.path, info.is_future))
        });
        let (Some((path, false)), None) = (places.next(), places.next()) else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        if path != directory {
            bail!(
                "the move of {partition} was called off: it is in {path}; the log of broker {broker} may say why"
            );
        }
        return print_lines([format!("Replica of {partition} on broker {broker} is in {directory}.")]);
    }
}

fn holds(dirs: &[LogDirDescription], broker: BrokerId, partition: &TopicPartition) -> bool {
    dirs.iter().any(|dir| dir.broker == broker && dir.replicas.contains_key(partition))
}

async fn describe(
    admin: &Admin,
    json: bool,
    replicas: bool,
    topic: Vec<String>,
    broker: &[i32],
) -> Result<()> {
    let topics: Vec<ByteString> = topic.into_iter().map(Into::into).collect();
    let mut dirs = admin.describe_log_dirs((!topics.is_empty()).then_some(&topics[..])).await?;
    dirs.retain(|dir| broker.is_empty() || broker.contains(&dir.broker.0));
    let mut failures = Failures::default();
    for dir in &dirs {
        failures.check(dir.error.clone().map_or(Ok(()), Err));
    }
    if replicas || !topics.is_empty() {
        let mut table =
            Table::new(&["broker", "directory", "topic", "partition", "bytes", "lag", "moving in"]);
        for dir in &dirs {
            for (partition, info) in &dir.replicas {
                table.row(vec![
                    dir.broker.to_string(),
                    dir.path.to_string(),
                    partition.topic.to_string(),
                    partition.partition.to_string(),
                    info.size.to_string(),
                    info.offset_lag.to_string(),
                    if info.is_future { "yes".into() } else { "no".into() },
                ]);
            }
        }
        table.print(json)?;
        return failures.finish();
    }
    let mut table = Table::new(&["broker", "directory", "replicas", "bytes", "total", "usable", "state"]);
    for dir in &dirs {
        let held: i64 = dir.replicas.values().map(|info| info.size).sum();
        let size = |count: Option<u64>| match (count, json) {
            (Some(count), false) => bytes(count),
            (count, _) => or_dash(count),
        };
        table.row(vec![
            dir.broker.to_string(),
            dir.path.to_string(),
            dir.replicas.len().to_string(),
            size(u64::try_from(held).ok()),
            size(dir.total_bytes),
            size(dir.usable_bytes),
            if dir.error.is_some() { "failed".into() } else { "online".into() },
        ]);
    }
    table.print(json)?;
    failures.finish()
}
