//! `aqueduct reassign`: moves replicas between brokers. Plans are the JSON files of `kafka-reassign-partitions`.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use aqueduct_client::Admin;
use aqueduct_protocol::ids::BrokerId;
use bytestring::ByteString;

use super::connect::Cluster;
use super::moving::plan::{self, Brokers, Planner, Replicas};
use super::moving::progress::{Copies, sizes};
use super::moving::{self, Mover, State, list, topics_of};
use super::output::{Table, bytes, print_lines};
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
    /// Make a plan that spreads topics over brokers by racks and moves as little as it can; prints it.
    Generate {
        /// Topics; all where none is named.
        topics: Vec<String>,
        /// Brokers that are to have the replicas, with commas between their numbers; all that run where none is named.
        #[arg(long, visible_alias = "broker-list", value_delimiter = ',')]
        brokers: Vec<i32>,
        /// Replicas that each partition is to have; as many as it has where this is not said.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        replication_factor: Option<u16>,
    },
    /// Carry out a plan, tell how far it is, and wait for its end.
    Execute {
        /// The plan, a JSON file.
        plan: PathBuf,
        /// Bytes a second that each broker may receive and send for it; taken away at the end.
        #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(1..))]
        throttle: Option<i64>,
        /// Though other partitions are being reassigned.
        #[arg(long)]
        additional: bool,
        /// Come back when it has begun. A throttle then stays until verify finds it done.
        #[arg(long)]
        no_wait: bool,
    },
    /// Show how far a plan is; when it is done, take the throttle away. Fails where it is not done.
    Verify {
        plan: PathBuf,
        /// Leave the throttle.
        #[arg(long, visible_alias = "preserve-throttles")]
        keep_throttle: bool,
    },
    /// Call a plan off, with its throttle: replicas go back to where they were.
    Cancel {
        /// The plan; without it --all.
        plan: Option<PathBuf>,
        /// Everything that is being reassigned.
        #[arg(long, conflicts_with = "plan")]
        all: bool,
        /// Leave the throttle.
        #[arg(long, visible_alias = "preserve-throttles")]
        keep_throttle: bool,
    },
    /// List what is being reassigned, and how far it is.
    List,
}

fn read(path: &Path) -> Result<Replicas> {
    let bad = |why: String| anyhow!(BadConfig(format!("the plan {}: {why}", path.display())));
    let text = std::fs::read_to_string(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    plan::parse(&text).map_err(bad)
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    match args.command {
        Command::Generate { topics, brokers, replication_factor } => {
            generate(&admin, topics, &brokers, replication_factor).await
        }
        Command::Execute { plan: path, throttle, additional, no_wait } => {
            let plan = read(&path)?;
            let mover = Mover {
                admin: &admin,
                throttle,
                later: format!("aqueduct reassign verify {}", path.display()),
                cancel: format!("aqueduct reassign cancel {}", path.display()),
            };
            let before = mover.begin(&plan, additional).await?;
            let mut undo = before.clone();
            undo.retain(|at, _| plan.contains_key(at));
            print_lines([
                "The replicas before, to go back with aqueduct reassign execute:".to_owned(),
                plan::to_json(&undo),
            ])?;
            if no_wait {
                return print_lines([format!(
                    "Began to reassign {} partitions. When they are done, end it with {}.",
                    plan.len(),
                    mover.later
                )]);
            }
            mover.finish(&plan, &before).await?;
            verify(&admin, &plan, true, args.json).await
        }
        Command::Verify { plan, keep_throttle } => {
            verify(&admin, &read(&plan)?, keep_throttle, args.json).await
        }
        Command::Cancel { plan, all, keep_throttle } => cancel(&admin, plan, all, keep_throttle).await,
        Command::List => list_all(&admin, args.json).await,
    }
}

async fn generate(admin: &Admin, topics: Vec<String>, brokers: &[i32], factor: Option<u16>) -> Result<()> {
    let names: Vec<ByteString> = topics.into_iter().map(Into::into).collect();
    let live = moving::live_brokers(admin).await?;
    let chosen: Brokers = match brokers {
        [] => live,
        some => {
            let broker = |id: &i32| match live.get(&BrokerId(*id)) {
                Some(rack) => Ok((BrokerId(*id), rack.clone())),
                None => Err(anyhow!("broker {id} does not run; those that do are {}", list(live.keys()))),
            };
            some.iter().map(broker).collect::<Result<_>>()?
        }
    };
    let before = plan::present(&moving::describe(admin, &names).await?);
    let mut planner = Planner::new(&chosen, before.clone());
    planner.settle(factor.map(usize::from)).map_err(|why| anyhow!(why))?;
    planner.balance();
    let changes = planner.changes(&before);
    if changes.is_empty() {
        eprintln!("aqueduct: nothing has to be moved");
        return Ok(());
    }
    print_lines([plan::to_json(&changes)])
}

async fn verify(admin: &Admin, plan: &Replicas, keep_throttle: bool, json: bool) -> Result<()> {
    let topics = topics_of(plan.keys());
    let known = admin.list_topics().await?;
    let names: Vec<_> = topics.intersection(&known).cloned().collect();
    let present = match names.is_empty() {
        true => Replicas::new(),
        false => plan::present(&moving::describe(admin, &names).await?),
    };
    let ongoing = admin.list_partition_reassignments().await?;
    let (mut moving, mut otherwise) = (0, 0);
    let mut table = Table::new(&["topic", "partition", "state", "replicas"]);
    for (at, state) in moving::states(plan, &present, &ongoing) {
        let (state, replicas) = match state {
            State::Done => ("done", present.get(&at).map(list).unwrap_or_default()),
            State::Moving(under_way) => {
                moving += 1;
                ("moving", list(&under_way.replicas))
            }
            State::Otherwise(has) => {
                otherwise += 1;
                ("not as planned", list(&has))
            }
            State::Missing => {
                otherwise += 1;
                ("no such partition", "-".to_owned())
            }
        };
        table.row(vec![at.topic.to_string(), at.partition.to_string(), state.to_owned(), replicas]);
    }
    table.print(json)?;
    if moving == 0 && !keep_throttle {
        moving::clear_throttle(admin, &topics).await?;
    }
    match (moving, otherwise) {
        (0, 0) => Ok(()),
        (0, some) => {
            bail!("{some} partitions are not as planned, and nothing moves them: execute the plan again")
        }
        (some, _) => {
            bail!("{some} partitions are still moving; aqueduct reassign list tells how far they are")
        }
    }
}

async fn cancel(admin: &Admin, path: Option<PathBuf>, all: bool, keep_throttle: bool) -> Result<()> {
    let mut ongoing = admin.list_partition_reassignments().await?;
    let topics = match path {
        Some(path) => {
            let plan = read(&path)?;
            ongoing.retain(|at, _| plan.contains_key(at));
            topics_of(plan.keys())
        }
        None if all => topics_of(ongoing.keys()),
        None => return Err(BadConfig("name a plan, or say --all".to_owned()).into()),
    };
    let count = moving::cancel(admin, ongoing.into_keys()).await?;
    if !keep_throttle {
        moving::clear_throttle(admin, &topics).await?;
    }
    match count {
        0 => print_lines(["Nothing of it is being reassigned."]),
        _ => Ok(()),
    }
}

async fn list_all(admin: &Admin, json: bool) -> Result<()> {
    let ongoing = admin.list_partition_reassignments().await?;
    let known = match ongoing.is_empty() {
        true => Default::default(),
        false => sizes(admin, &topics_of(ongoing.keys())).await?,
    };
    let mut copies = Copies::default();
    let mut table = Table::new(&["topic", "partition", "replicas", "adding", "removing", "copied", "of"]);
    for (at, under_way) in &ongoing {
        copies.expect(at, &under_way.adding, &known);
        let (copied, total) = copies.of(at, &known);
        let size = |count: u64| if json { count.to_string() } else { bytes(count) };
        table.row(vec![
            at.topic.to_string(),
            at.partition.to_string(),
            list(&under_way.replicas),
            list(&under_way.adding),
            list(&under_way.removing),
            size(copied),
            size(total),
        ]);
    }
    table.print(json)
}
