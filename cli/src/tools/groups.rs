//! `aqueduct groups`: consumer groups, their members, offsets and lag.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use aqueduct_client::{Admin, ConsumerGroupDescription, OffsetAndMetadata, OffsetSpec, TopicPartition};
use aqueduct_protocol::ids::Offset;
use bytestring::ByteString;

use super::connect::{Cluster, topic_partitions};
use super::output::{Failures, Table, or_dash};
use super::topics::partitions_of;
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
    /// List all groups.
    List,
    /// Show offsets and lag of groups; of all where none is named.
    Describe {
        groups: Vec<String>,
        #[arg(long = "group", hide = true)]
        group: Vec<String>,
        /// Show members instead of offsets.
        #[arg(long, conflicts_with = "state")]
        members: bool,
        /// Show state, coordinator and assignor instead of offsets.
        #[arg(long)]
        state: bool,
    },
    /// Delete groups that have no members.
    Delete {
        groups: Vec<String>,
        #[arg(long = "group", hide = true)]
        group: Vec<String>,
    },
    /// Set committed offsets of a group that has no members. Shows what would be set, unless --execute is given.
    ResetOffsets(Reset),
    /// Forget committed offsets of topics that nobody in the group reads.
    DeleteOffsets {
        group: String,
        /// TOPIC or TOPIC:PARTITION,...; may be repeated.
        #[arg(long, required = true)]
        topic: Vec<String>,
    },
}

#[derive(clap::Args)]
struct Reset {
    group: String,
    /// TOPIC or TOPIC:PARTITION,...; may be repeated.
    #[arg(long, required_unless_present = "all_topics")]
    topic: Vec<String>,
    /// Every partition that the group has an offset of.
    #[arg(long)]
    all_topics: bool,
    #[command(flatten)]
    to: To,
    /// Do it; without it the offsets are only shown.
    #[arg(long)]
    execute: bool,
    /// Only show the offsets, which is the default.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    #[arg(long)]
    to_earliest: bool,
    #[arg(long)]
    to_latest: bool,
    /// The offsets as they are committed, for an export.
    #[arg(long)]
    to_current: bool,
    #[arg(long)]
    to_offset: Option<i64>,
    /// Forward, or with a negative number back.
    #[arg(long, allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// The first records at or after a time: milliseconds since 1970 or 2024-05-31T12:00:00Z.
    #[arg(long)]
    to_datetime: Option<String>,
    /// So long ago, such as 90s, 15m, 2h or 3d.
    #[arg(long)]
    by_duration: Option<String>,
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    match args.command {
        Command::List => list(&admin, args.json).await,
        Command::Describe { mut groups, group, members, state } => {
            groups.extend(group);
            let groups: Vec<ByteString> = match groups.is_empty() {
                true => admin.list_groups().await?.into_iter().map(|group| group.group_id).collect(),
                false => groups.into_iter().map(Into::into).collect(),
            };
            describe(&admin, &groups, members, state, args.json).await
        }
        Command::Delete { mut groups, group } => {
            groups.extend(group);
            let groups: Vec<ByteString> = groups.into_iter().map(Into::into).collect();
            if groups.is_empty() {
                return Err(BadConfig("name a group, such as `aqueduct groups delete app`".into()).into());
            }
            let results: BTreeMap<_, _> = admin.delete_groups(&groups).await?.into_iter().collect();
            let mut failures = Failures::default();
            for (group, result) in results {
                if failures.check(result).is_some() {
                    println!("Deleted group {group}.");
                }
            }
            failures.finish()
        }
        Command::ResetOffsets(reset) => reset_offsets(&admin, reset, args.json).await,
        Command::DeleteOffsets { group, topic } => delete_offsets(&admin, &group, &topic).await,
    }
}

async fn list(admin: &Admin, json: bool) -> Result<()> {
    let mut table = Table::new(&["group", "type", "protocol", "state"]);
    let or_dash = |text: ByteString| if text.is_empty() { "-".to_owned() } else { text.to_string() };
    for group in admin.list_groups().await? {
        table.row(vec![
            group.group_id.to_string(),
            or_dash(group.group_type),
            or_dash(group.protocol_type),
            or_dash(group.state),
        ]);
    }
    table.print(json)
}

async fn describe(
    admin: &Admin,
    groups: &[ByteString],
    members: bool,
    state: bool,
    json: bool,
) -> Result<()> {
    let mut failures = Failures::default();
    let mut described = Vec::new();
    for group in groups {
        described.extend(failures.check(admin.describe_consumer_group(group).await));
    }
    let table = if members {
        of_members(&described)
    } else if state {
        of_states(&described)
    } else {
        of_offsets(admin, &described, &mut failures).await?
    };
    table.print(json)?;
    failures.finish()
}

fn of_members(groups: &[ConsumerGroupDescription]) -> Table {
    let mut table =
        Table::new(&["group", "member", "instance", "client", "host", "epoch", "partitions", "assignment"]);
    for group in groups {
        for member in &group.members {
            let names: Vec<_> = member.assignment.iter().map(ToString::to_string).collect();
            table.row(vec![
                group.group_id.to_string(),
                member.member_id.to_string(),
                or_dash(member.instance_id.as_deref()),
                member.client_id.to_string(),
                member.host.to_string(),
                or_dash(member.epoch),
                names.len().to_string(),
                if names.is_empty() { "-".to_owned() } else { names.join(",") },
            ]);
        }
    }
    table
}

fn of_states(groups: &[ConsumerGroupDescription]) -> Table {
    let mut table = Table::new(&["group", "coordinator", "type", "assignor", "state", "epoch", "members"]);
    for group in groups {
        let assignor = (!group.assignor.is_empty()).then_some(&group.assignor);
        table.row(vec![
            group.group_id.to_string(),
            group.coordinator.to_string(),
            group.group_type.to_owned(),
            or_dash(assignor),
            group.state.to_string(),
            or_dash(group.epoch),
            group.members.len().to_string(),
        ]);
    }
    table
}

async fn of_offsets(
    admin: &Admin,
    groups: &[ConsumerGroupDescription],
    failures: &mut Failures,
) -> Result<Table> {
    let mut table = Table::new(&[
        "group",
        "topic",
        "partition",
        "committed",
        "log end",
        "lag",
        "member",
        "host",
        "client",
    ]);
    for group in groups {
        let committed = admin.list_consumer_group_offsets(&group.group_id).await?;
        let owners: HashMap<_, _> = group
            .members
            .iter()
            .flat_map(|member| member.assignment.iter().map(move |partition| (partition, member)))
            .collect();
        let all: BTreeSet<TopicPartition> =
            committed.keys().cloned().chain(owners.keys().map(|partition| (*partition).clone())).collect();
        let wanted = all.iter().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
        let mut ends = admin.list_offsets(&wanted).await?;
        for partition in all {
            let end = ends.remove(&partition).and_then(|end| failures.check(end)).map(|end| end.offset.0);
            let at = committed.get(&partition).map(|committed| committed.offset.0);
            let owner = owners.get(&partition);
            table.row(vec![
                group.group_id.to_string(),
                partition.topic.to_string(),
                partition.partition.to_string(),
                or_dash(at),
                or_dash(end),
                or_dash(at.zip(end).map(|(at, end)| (end - at).max(0))),
                or_dash(owner.map(|owner| &owner.member_id)),
                or_dash(owner.map(|owner| &owner.host)),
                or_dash(owner.map(|owner| &owner.client_id)),
            ]);
        }
    }
    Ok(table)
}

async fn reset_offsets(admin: &Admin, reset: Reset, json: bool) -> Result<()> {
    let group = ByteString::from(reset.group.clone());
    let committed = admin.list_consumer_group_offsets(&group).await?;
    let partitions: Vec<TopicPartition> = match reset.all_topics {
        true => committed.keys().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        false => partitions_of(admin, &reset.topic).await?,
    };
    let look_up = async |spec| -> Result<HashMap<TopicPartition, i64>> {
        let wanted = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let found = admin.list_offsets(&wanted).await?;
        found.into_iter().map(|(partition, listed)| Ok((partition, listed?.offset.0))).collect()
    };
    let (starts, ends) = (look_up(OffsetSpec::Earliest).await?, look_up(OffsetSpec::Latest).await?);
    let at_time = match reset.to.time()? {
        Some(at) => look_up(OffsetSpec::Timestamp(at)).await?,
        None => HashMap::new(),
    };
    let mut next = BTreeMap::new();
    for partition in &partitions {
        let (start, end) = (starts[partition], ends[partition]);
        let now = committed.get(partition).map(|committed| committed.offset.0);
        let wanted = match &reset.to {
            To { to_earliest: true, .. } => start,
            To { to_latest: true, .. } => end,
            To { to_offset: Some(offset), .. } => *offset,
            To { to_current: true, .. } => now.unwrap_or(end),
            To { shift_by: Some(by), .. } => {
                let now = now.with_context(|| format!("{partition} has no committed offset to shift"))?;
                now.saturating_add(*by)
            }
            // No record is so late: the end.
            _ => at_time.get(partition).copied().filter(|offset| *offset >= 0).unwrap_or(end),
        };
        if !(start..=end).contains(&wanted) {
            eprintln!(
                "aqueduct: {partition}: {wanted} is outside of {start} to {end}, the nearest of them is taken"
            );
        }
        next.insert(partition.clone(), wanted.clamp(start, end));
    }
    let mut failures = Failures::default();
    if reset.execute && !reset.dry_run {
        let offsets: HashMap<_, _> = next
            .iter()
            .map(|(partition, at)| (partition.clone(), OffsetAndMetadata::from(Offset(*at))))
            .collect();
        let results = admin.alter_consumer_group_offsets(&group, &offsets).await.with_context(|| {
            format!("offsets of group {group} can be set while it has no members: stop its consumers first")
        })?;
        for (partition, result) in results {
            if failures.check(result).is_none() {
                next.remove(&partition);
            }
        }
    }
    let mut table = Table::new(&["group", "topic", "partition", "new offset"]);
    for (partition, at) in &next {
        let (topic, index) = (partition.topic.to_string(), partition.partition.to_string());
        table.row(vec![reset.group.clone(), topic, index, at.to_string()]);
    }
    table.print(json)?;
    if !reset.execute {
        eprintln!("Nothing was changed: add --execute to set these offsets.");
    }
    failures.finish()
}

impl To {
    /// The time that offsets are wanted for, if it is a time.
    fn time(&self) -> Result<Option<i64>> {
        if let Some(text) = &self.to_datetime {
            let at = super::consume::timestamp(text).ok_or_else(|| {
                BadConfig(format!(
                    "--to-datetime {text}: must be milliseconds since 1970 or 2024-05-31T12:00:00Z"
                ))
            })?;
            return Ok(Some(at));
        }
        let Some(text) = &self.by_duration else { return Ok(None) };
        let ago = duration_ms(text)
            .ok_or_else(|| BadConfig(format!("--by-duration {text}: must look like 90s, 15m, 2h or 3d")))?;
        Ok(Some(chrono::Utc::now().timestamp_millis() - ago))
    }
}

fn duration_ms(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let factor = match unit {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    text[..text.len() - 1].parse::<i64>().ok().filter(|count| *count >= 0)?.checked_mul(factor)
}

async fn delete_offsets(admin: &Admin, group: &str, topics: &[String]) -> Result<()> {
    let committed = admin.list_consumer_group_offsets(group).await?;
    let mut partitions = BTreeSet::new();
    for text in topics {
        let (topic, indices) =
            topic_partitions(text).map_err(|why| BadConfig(format!("--topic {text}: {why}")))?;
        let of_topic = committed.keys().filter(|partition| *partition.topic == *topic);
        match indices.is_empty() {
            true => partitions.extend(of_topic.cloned()),
            false => {
                partitions.extend(indices.into_iter().map(|index| TopicPartition::new(topic.clone(), index)))
            }
        }
    }
    let partitions: Vec<_> = partitions.into_iter().collect();
    let results: BTreeMap<_, _> =
        admin.delete_consumer_group_offsets(group, &partitions).await?.into_iter().collect();
    let mut failures = Failures::default();
    for (partition, result) in results {
        if failures.check(result).is_some() {
            println!("Deleted the offset of {partition} in group {group}.");
        }
    }
    failures.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration_ms("90s"), Some(90_000));
        assert_eq!(duration_ms("3d"), Some(259_200_000));
        for bad in ["", "5", "-1s", "x m", "é"] {
            assert_eq!(duration_ms(bad), None, "{bad}");
        }
    }
}
