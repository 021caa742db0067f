//! `aqueduct quorum`: the controllers that keep the metadata.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, bail};
use aqueduct_client::{Admin, QuorumDescription, QuorumMember, VoterListener};
use aqueduct_protocol::ids::Uuid;
use serde_json::json;

use super::connect::Cluster;
use super::output::{Table, print_json, print_lines};

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
    /// Show who leads, who votes and who follows.
    Status,
    /// Show how far each node is.
    Replication,
    /// Give a controller that runs and follows the quorum a vote.
    Add {
        /// The node's number.
        node: i32,
        /// Its directory id, from meta.properties of its metadata.log.dir; where it is not given, the one that it follows with.
        #[arg(long, value_parser = directory)]
        directory: Option<Uuid>,
        /// NAME://HOST:PORT of its listener for controllers; Apache Kafka wants to be told. May be repeated.
        #[arg(long, value_parser = endpoint)]
        endpoint: Vec<VoterListener>,
    },
    /// Take a node's vote away.
    Remove {
        /// The node's number.
        node: i32,
        /// Its directory id; where it is not given, the one that it votes with.
        #[arg(long, value_parser = directory)]
        directory: Option<Uuid>,
    },
}

fn directory(text: &str) -> Result<Uuid, String> {
    Uuid::parse(text)
        .ok_or_else(|| "must be 22 characters, as meta.properties has it in directory.id".to_owned())
}

fn endpoint(text: &str) -> Result<VoterListener, String> {
    let parts = text.split_once("://").and_then(|(name, rest)| Some((name, rest.rsplit_once(':')?)));
    match parts.map(|(name, (host, port))| (name, host, port.parse())) {
        Some((name, host, Ok(port))) if !name.is_empty() && !host.is_empty() => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok(VoterListener { name: name.into(), host: host.into(), port })
        }
        _ => Err("must be NAME://HOST:PORT, such as CONTROLLER://10.0.0.4:9093".to_owned()),
    }
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    let quorum = admin.describe_quorum().await?;
    match args.command {
        Command::Status => status(&quorum, args.json),
        Command::Replication => replication(&quorum, args.json),
        Command::Add { node, directory, endpoint } => add(&admin, &quorum, node, directory, endpoint).await,
        Command::Remove { node, directory } => remove(&admin, &quorum, node, directory).await,
    }
}

fn ids(members: &[QuorumMember]) -> Vec<i32> {
    members.iter().map(|member| member.node).collect()
}

fn status(quorum: &QuorumDescription, as_json: bool) -> Result<()> {
    let leader_end = leader_end(quorum);
    let lag = quorum.voters.iter().map(|member| leader_end - member.log_end_offset.max(0)).max();
    if as_json {
        return print_json(&json!({
            "leader": quorum.leader,
            "leader_epoch": quorum.leader_epoch,
            "high_watermark": quorum.high_watermark,
            "max_voter_lag": lag,
            "voters": ids(&quorum.voters),
            "observers": ids(&quorum.observers),
        }));
    }
    let text = |members: &[QuorumMember]| {
        let one = |member: &QuorumMember| match member.endpoints.is_empty() {
            true => member.node.to_string(),
            false => format!("{} ({})", member.node, member.endpoints.join(", ")),
        };
        members.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    print_lines([
        format!("Leader:          {}", quorum.leader),
        format!("Leader epoch:    {}", quorum.leader_epoch),
        format!("High watermark:  {}", quorum.high_watermark),
        format!("Max voter lag:   {}", lag.unwrap_or(0)),
        format!("Voters:          {}", text(&quorum.voters)),
        format!("Observers:       {}", text(&quorum.observers)),
    ])
}

fn leader_end(quorum: &QuorumDescription) -> i64 {
    let leader = quorum.voters.iter().find(|member| member.node == quorum.leader);
    leader.map_or(quorum.high_watermark, |leader| leader.log_end_offset)
}

fn replication(quorum: &QuorumDescription, json: bool) -> Result<()> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let (now_ms, leader_end) = (i64::try_from(now_ms).unwrap_or(i64::MAX), leader_end(quorum));
    let mut table = Table::new(&["node", "role", "directory", "log end", "lag", "caught up ms ago"]);
    let voters = quorum
        .voters
        .iter()
        .map(|member| (if member.node == quorum.leader { "leader" } else { "voter" }, member));
    for (role, member) in voters.chain(quorum.observers.iter().map(|member| ("observer", member))) {
        let ago = match member.last_caught_up_ms {
            ..=0 => "-".to_owned(),
            at => (now_ms - at).max(0).to_string(),
        };
        table.row(vec![
            member.node.to_string(),
            role.to_owned(),
            member.directory.to_string(),
            member.log_end_offset.to_string(),
            (leader_end - member.log_end_offset.max(0)).to_string(),
            ago,
        ]);
    }
    table.print(json)
}

async fn add(
    admin: &Admin,
    quorum: &QuorumDescription,
    node: i32,
    directory: Option<Uuid>,
    endpoints: Vec<VoterListener>,
) -> Result<()> {
    if quorum.voters.iter().any(|member| member.node == node) {
        bail!("node {node} votes already; voters are {:?}", ids(&quorum.voters));
    }
    let follows = quorum.observers.iter().find(|member| member.node == node);
    let directory = directory.or_else(|| follows.map(|member| member.directory)).ok_or_else(|| {
        anyhow!(
            "node {node} does not follow the quorum (observers are {:?}): start it with process.roles that hold controller and controller.quorum.bootstrap.servers, or name its --directory",
            ids(&quorum.observers)
        )
    })?;
    admin.add_raft_voter(node, directory, endpoints).await?;
    print_lines([format!("Node {node} votes, with the directory {directory}.")])
}

async fn remove(admin: &Admin, quorum: &QuorumDescription, node: i32, directory: Option<Uuid>) -> Result<()> {
    let votes = quorum.voters.iter().find(|member| member.node == node);
    let directory = directory
        .or_else(|| votes.map(|member| member.directory))
        .ok_or_else(|| anyhow!("node {node} does not vote; voters are {:?}", ids(&quorum.voters)))?;
    admin.remove_raft_voter(node, directory).await?;
    print_lines([format!("Node {node} does not vote any more.")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_apart() {
        let at = |host: &'static str| VoterListener { name: "C".into(), host: host.into(), port: 9093 };
        assert_eq!(endpoint("C://h:9093"), Ok(at("h")));
        assert_eq!(endpoint("C://[::1]:9093"), Ok(at("::1")));
        for wrong in ["h:9093", "C://h", "C://:1", "://h:1", "C://h:x"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        assert!(directory("x").is_err());
    }
}
