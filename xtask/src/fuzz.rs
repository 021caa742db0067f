//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a bounded time, with the stable toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::install::{self, workspace};

/// What libFuzzer asks of the compiler.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Ccodegen-units=1";

/// One input that takes so many seconds, or memory of so many MiB, is a finding.
const LIMITS: &[&str] =
    &["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=1", "-verbosity=0"];

#[derive(clap::Args)]
pub struct Args {
    /// Targets to run; all of them without any.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Where the fuzzer's chance starts; another with each run without it.
    #[arg(long)]
    seed: Option<u32>,
}

impl Args {
    /// The run among the tests: always the same way through the inputs, so that a change that fails is at fault.
    pub fn of_tests() -> Self {
        Self { targets: Vec::new(), seconds: 10, seed: Some(1) }
    }
}

/// Builds the targets and runs them one after the other. What they find is kept and named.
pub fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = args.targets.iter().find(|name| !all.contains(name)) {
        bail!("no fuzz target {unknown}; there are: {}", all.join(", "));
    }
    let chosen = if args.targets.is_empty() { &all } else { &args.targets };
    let built = build(Command::new("cargo"))?;
    for name in chosen {
        fuzz(name, &built.join(name), args)?;
    }
    Ok(())
}

/// Builds the targets by `cargo`, which may be a program that starts it; gives the folder in which they are.
pub fn build(mut cargo: Command) -> Result<PathBuf> {
    let target_dir = target_dir();
    // Of a target of its own, so that the build's flags are not those of build scripts.
    let host = host()?;
    install::run(
        cargo
            .args(["build", "--release", "--quiet", "--bins", "--target", &host])
            .current_dir(dir())
            .env("CARGO_TARGET_DIR", &target_dir)
            .env("RUSTFLAGS", COVERAGE),
    )?;
    Ok(target_dir.join(host).join("release"))
}

fn fuzz(name: &str, program: &Path, args: &Args) -> Result<()> {
    let folder = |kind: &str| {
        let folder = target_dir().join(kind).join(name);
        fs::create_dir_all(&folder).map(|()| folder)
    };
    let (corpus, seeds, findings) = (folder("corpus")?, folder("seeds")?, folder("findings")?);
    let seconds = args.seconds;
    println!("fuzz: {name}, {seconds} s");
    let status = Command::new(program)
        .args(args.seed.map(|seed| format!("-seed={seed}")))
        .args(LIMITS)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args([&corpus, &seeds])
        .env("AQUEDUCT_FUZZ_SEEDS", &seeds)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(
        status.success(),
        "{name} found an input that breaks it; it is kept in {}; to run it again: {} FILE",
        findings.display(),
        program.display()
    );
    Ok(())
}

fn dir() -> PathBuf {
    workspace().join("fuzz")
}

fn target_dir() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join("fuzz")
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir().join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}
