//! `aqueduct log-dirs`: which replicas are in which directory of which broker, and how large they are.

use anyhow::Result;
use bytestring::ByteString;

use super::connect::Cluster;
use super::output::{Failures, Table, bytes, or_dash};

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
}

pub async fn run(args: Args) -> Result<()> {
    let Command::Describe { replicas, topic, broker } = args.command;
    let topics: Vec<ByteString> = topic.into_iter().map(Into::into).collect();
    let admin = args.cluster.admin()?;
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
        table.print(args.json)?;
        return failures.finish();
    }
    let mut table = Table::new(&["broker", "directory", "replicas", "bytes", "total", "usable", "state"]);
    for dir in &dirs {
        let held: i64 = dir.replicas.values().map(|info| info.size).sum();
        let size = |count: Option<u64>| match (count, args.json) {
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
    table.print(args.json)?;
    failures.finish()
}
