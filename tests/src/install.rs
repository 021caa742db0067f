//! Where the servers and clients of others are, and how they get there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
}

/// Folder that holds what is installed: `AQUEDUCT_PEERS`, or `target/peers` in the workspace.
pub fn home() -> PathBuf {
    std::env::var_os("AQUEDUCT_PEERS").map_or_else(|| workspace().join("target/peers"), PathBuf::from)
}

/// The folder from the variable `name`, or `default` under [`home`], where it holds `marker`.
///
/// # Errors
/// Names the folder and `cargo xtask setup` where there is none.
pub fn find(name: &str, default: &str, marker: &str) -> Result<PathBuf> {
    let dir = std::env::var_os(name).map_or_else(|| home().join(default), PathBuf::from);
    if dir.join(marker).exists() {
        return Ok(dir);
    }
    bail!(
        "{} is not installed: no {marker} in {} (set {name} or run `cargo xtask setup`)",
        default,
        dir.display()
    )
}

/// Whether a program of this name is on the search path.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a command to its end, its output passed on.
///
/// # Errors
/// Says which command failed, and how.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Runs Maven quietly in `dir`.
pub fn maven(dir: &Path, args: &[&str]) -> Result<()> {
    run(Command::new("mvn").args(["-B", "-q"]).args(args).current_dir(dir))
}

/// The minor version of Go that the modules in `tests/go` need: 1.26.
const GO_MINOR: u32 = 26;

/// The Go command: the system's where it is new enough, else the one that setup installs.
///
/// # Errors
/// Names `cargo xtask setup` where there is neither.
pub fn go() -> Result<PathBuf> {
    let output = Command::new("go").arg("version").stdin(Stdio::null()).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let minor = text.split("go1.").nth(1).and_then(|rest| rest.split(['.', ' ']).next()?.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor >= GO_MINOR) {
        return Ok("go".into());
    }
    Ok(find("AQUEDUCT_GO", "go-toolchain", "go/bin/go")?.join("go/bin/go"))
}
