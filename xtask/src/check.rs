//! Tests, lints and benchmarks.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::install::{run, workspace};
use aqueduct_tests::server::{Kind, Server};
use aqueduct_tests::suites;

use crate::{fuzz, protocol, setup};

#[derive(clap::Args)]
pub struct TestArgs {
    /// Passed on to `cargo test`, such as `-p aqueduct-broker` or a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(clap::Args)]
pub struct BenchArgs {
    /// The benchmark's name and its options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(clap::Args)]
pub struct CompatArgs {
    /// Run on Apache Kafka and keep what it gives as what is expected of ours.
    #[arg(long)]
    record: bool,
    /// Records in each of franz-go's long tests, which take 500,000 where nothing is said.
    #[arg(long, default_value_t = 500_000)]
    records: u32,
}

#[derive(clap::Args)]
pub struct FaultsArgs {
    /// Repeats a run; a new one each time where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults go on.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Which broker.
    #[arg(long, value_enum, default_value_t)]
    broker: FaultsBroker,
    /// Sources deliver exactly once.
    #[arg(long, conflicts_with = "cluster")]
    exactly_once: bool,
    /// Three nodes of the broker that replicate are tormented, in the place of workers.
    #[arg(long)]
    cluster: bool,
}

#[derive(clap::Args)]
pub struct SimulateArgs {
    /// `--seed N`, or `--seeds N [--from N] [--jobs N]`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum FaultsBroker {
    #[default]
    Aqueduct,
    Kafka,
}

/// Simulated clusters that are played beside the tests.
const SEEDS: &str = "2000";

/// Installs what tests need and runs them, and the fuzzer for a bounded time.
pub fn test(args: &TestArgs) -> Result<()> {
    setup::run()?;
    // System tests run the binary itself, so it is built first.
    cargo(["build", "--package", "aqueduct-cli"], [])?;
    let tests = ["test", "--workspace", "--no-fail-fast"];
    if !args.rest.is_empty() {
        // A choice of tests is not one of the simulation and the fuzzer.
        return cargo(tests, args.rest.iter().map(AsRef::as_ref));
    }
    let simulated = Beside::start()?;
    let tested = cargo(tests, []);
    // What else is wrong is told, too.
    let simulated = simulated.end();
    tested.and(simulated)?;
    fuzz::run(&fuzz::Args::of_tests())
}

/// What has the processors as far as tests leave them, which wait for servers most of the time: the simulation, then the
/// build of the fuzzer, which runs later.
struct Beside {
    work: JoinHandle<Result<()>>,
    output: PathBuf,
}

impl Beside {
    fn start() -> Result<Self> {
        let output = workspace().join("target/simulation.log");
        let file = File::create(&output)?;
        let work = std::thread::spawn(move || {
            let mut simulation = patient_cargo();
            simulation.args(SIMULATION).args(["--seeds", SEEDS]).current_dir(workspace());
            let status = simulation.stdout(file.try_clone()?).stderr(file).status();
            let status = status.context("nice cannot be started")?;
            fuzz::build(patient_cargo())?;
            ensure!(status.success(), "simulated clusters went wrong, see above");
            Ok(())
        });
        Ok(Self { work, output })
    }

    fn end(self) -> Result<()> {
        let done = self.work.join();
        println!("{SEEDS} simulated clusters:\n{}", fs::read_to_string(&self.output)?);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Cargo with the least priority.
fn patient_cargo() -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19", "cargo"]);
    command
}

/// All checks; nothing is written outside `target`.
pub fn verify() -> Result<()> {
    cargo(["fmt", "--all", "--check"], [])?;
    protocol::verify()?;
    cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"], [])?;
    run(Command::new("cargo")
        .args(["doc", "--workspace", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "--deny warnings")
        .current_dir(workspace()))?;
    test(&TestArgs { rest: Vec::new() })
}

/// Formats and mends.
pub fn fix() -> Result<()> {
    cargo(["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"], [])?;
    cargo(["fmt", "--all"], [])
}

/// Runs a benchmark with a release build of everything of ours.
pub fn bench(args: &BenchArgs) -> Result<()> {
    if !args.rest.is_empty() {
        setup::run()?;
        cargo(["build", "--release", "--package", "aqueduct-cli"], [])?;
    }
    cargo(
        ["run", "--release", "--quiet", "--package", "aqueduct-bench", "--"],
        args.rest.iter().map(AsRef::as_ref),
    )
}

/// Runs the test suites of others' clients in full.
pub fn compat(args: &CompatArgs) -> Result<()> {
    setup::run()?;
    cargo(["build", "--package", "aqueduct-cli"], [])?;
    let kind = if args.record { Kind::ApacheKafka } else { Kind::Aqueduct };
    let started = std::time::Instant::now();
    let mut runs = vec![suites::kafka_python(kind)?];
    let server = Server::start_with(kind, suites::FRANZ_GO_SETTINGS)?;
    runs.push(suites::franz_go(&server, args.records)?);
    for run in &runs {
        println!("{}", run.summary());
        if args.record {
            run.record()?;
        }
    }
    println!("{:.0?}", started.elapsed());
    runs.iter().try_for_each(suites::Run::judge)
}

/// Has a build of its own: a thousand histories take as long unoptimised as building this does.
const SIMULATION: [&str; 7] =
    ["run", "--quiet", "--profile", "simulation", "--package", "aqueduct-simulation", "--"];

/// Histories of simulated clusters.
pub fn simulate(args: &SimulateArgs) -> Result<()> {
    cargo(SIMULATION, args.rest.iter().map(AsRef::as_ref))
}

/// One run of faults at random.
pub fn faults(args: &FaultsArgs) -> Result<()> {
    setup::run()?;
    cargo(["build", "--package", "aqueduct-cli"], [])?;
    let kafka = matches!(args.broker, FaultsBroker::Kafka);
    let (file, test) = match (args.cluster, kafka) {
        (true, _) => ("cluster_faults", "three_nodes"),
        (false, true) => ("connect_faults", "on_apache_kafka"),
        (false, false) => ("connect_faults", "on_ours"),
    };
    let mut command = Command::new("cargo");
    command.args(["test", "--package", "aqueduct-tests", "--test", file, "--", "--exact", test]);
    command.arg("--nocapture").current_dir(workspace());
    command.env("FAULT_BROKER", if kafka { "kafka" } else { "aqueduct" });
    command.env("FAULT_SECONDS", args.seconds.to_string());
    command.env("FAULT_EXACTLY_ONCE", u8::from(args.exactly_once).to_string());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    command.env("FAULT_SEED", args.seed.unwrap_or(now).to_string());
    run(&mut command)
}

fn cargo<'a, const N: usize>(args: [&str; N], rest: impl IntoIterator<Item = &'a OsStr>) -> Result<()> {
    run(Command::new("cargo").args(args).args(rest).current_dir(workspace()))
}
