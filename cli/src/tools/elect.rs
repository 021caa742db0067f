//! `aqueduct elect`: has leaders of partitions elected.

use std::collections::BTreeMap;

use anyhow::Result;
use aqueduct_client::{Admin, ElectionKind, TopicPartition};
use aqueduct_protocol::ErrorCode;

use super::connect::{Cluster, topic_partitions};
use super::moving;
use super::output::{Failures, print_lines};
use crate::options::BadConfig;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// Who is to lead.
    #[arg(value_enum)]
    kind: Kind,
    /// TOPIC or TOPIC:PARTITION,...
    partitions: Vec<String>,
    /// All partitions of the cluster.
    #[arg(long, conflicts_with = "partitions")]
    all: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// The first of the replicas, where it is in sync.
    Preferred,
    /// Any replica that runs, where there is no leader: records that only others have are lost.
    Unclean,
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    let kind = match args.kind {
        Kind::Preferred => ElectionKind::Preferred,
        Kind::Unclean => ElectionKind::Unclean,
    };
    let named = match (args.all, args.partitions.is_empty()) {
        (true, _) => None,
        (false, true) => {
            let why = "name topics or partitions, such as `aqueduct elect preferred orders:0`, or say --all";
            return Err(BadConfig(why.to_owned()).into());
        }
        (false, false) => Some(partitions(&admin, &args.partitions).await?),
    };
    let results: BTreeMap<_, _> = admin.elect_leaders(kind, named.as_deref()).await?.into_iter().collect();
    let (mut failures, mut elected, mut needless) = (Failures::default(), 0, 0);
    for (at, result) in results {
        if result.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::ElectionNotNeeded)) {
            needless += 1;
            continue;
        }
        if failures.check(result).is_some() {
            elected += 1;
            print_lines([format!("Elected a leader of {at}.")])?;
        }
    }
    let needless = match needless {
        0 => String::new(),
        some => format!(" {some} needed none."),
    };
    print_lines([format!("{elected} partitions have another leader.{needless}")])?;
    failures.finish()
}

async fn partitions(admin: &Admin, texts: &[String]) -> Result<Vec<TopicPartition>> {
    let mut named = Vec::new();
    for text in texts {
        let (topic, indices) = topic_partitions(text).map_err(|why| BadConfig(format!("{text}: {why}")))?;
        if !indices.is_empty() {
            named.extend(indices.iter().map(|index| TopicPartition::new(topic.as_str(), *index)));
            continue;
        }
        for found in moving::describe(admin, &[topic.into()]).await? {
            let all = found.partitions.iter();
            named.extend(all.map(|one| TopicPartition::new(found.name.clone(), one.partition.0)));
        }
    }
    Ok(named)
}
