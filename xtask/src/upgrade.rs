//! `cargo xtask upgrade --from REV`: a rolling upgrade of three nodes, and back, under load.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::cluster::Cluster;
use aqueduct_tests::rolling::Load;

#[derive(clap::Args)]
pub struct Args {
    /// The older build: a commit, a tag or a branch.
    #[arg(long)]
    from: String,
    /// Build both with optimizations.
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let here = std::env::current_dir()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("target"), PathBuf::from);
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "--verify"])
        .arg(format!("{}^{{commit}}", args.from))
        .output()?;
    ensure!(output.status.success(), "--from {}: no such commit here", args.from);
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let tree = target.join("upgrade").join(&commit);
    if !tree.exists() {
        succeed(Command::new("git").args(["worktree", "add", "--detach"]).arg(&tree).arg(&commit))?;
    }
    let new = build(&here, &target, args.release)?;
    let old = build(&tree, &target.join("upgrade").join("target"), args.release)?;
    let done = roll(&old, &new);
    succeed(Command::new("git").args(["worktree", "remove", "--force"]).arg(&tree))?;
    done.with_context(|| format!("between {commit} and this tree"))
}

fn roll(old: &Path, new: &Path) -> Result<()> {
    let mut cluster = Cluster::start_build(old, 3, &[])?;
    let load = Load::start(&cluster, "upgraded", None)?;
    load.roll(&mut cluster, |cluster, id| cluster.restart_build(new, id))?;
    println!("All nodes are of the new build.");
    load.roll(&mut cluster, |cluster, id| cluster.restart_build(old, id))?;
    println!("All nodes are of the old build again.");
    let outcome = load.end(&cluster)?;
    println!(
        "{} records acknowledged, without an error, each there once; {} given to the group again.",
        outcome.acknowledged, outcome.redelivered
    );
    Ok(())
}

/// Builds the binary of a tree, and gives its path.
fn build(tree: &Path, target: &Path, release: bool) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "-p", "aqueduct-cli"]).args(release.then_some("--release"));
    succeed(cargo.current_dir(tree).env("CARGO_TARGET_DIR", target))?;
    Ok(target.join(if release { "release" } else { "debug" }).join("aqueduct"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
