//! PostgreSQL in a folder of its own.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::kafka::text_of;
use crate::process::{Process, free_port};

/// Folder of the newest server's programs.
fn programs() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("AQUEDUCT_POSTGRES_BIN") {
        return Ok(dir.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|e| e.path().join("bin")).filter(|p| p.join("initdb").exists()).max();
    newest.context("PostgreSQL is not installed: no /usr/lib/postgresql (set AQUEDUCT_POSTGRES_BIN or run `cargo xtask setup`)")
}

/// A running server with the superuser `postgres`, who needs no password, and the database `postgres`.
pub struct Postgres {
    // Declared before the folder: it is ended before the folder goes.
    _process: Process,
    _dir: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts a server on a free port with an empty data directory.
    pub fn start() -> Result<Self> {
        let programs = programs()?;
        let dir = TempDir::with_prefix("postgres-")?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let data = dir.path().join("data");
        std::fs::create_dir(&data)?;
        let user = unprivileged(&data)?;
        let mut init = as_user(user.as_deref(), &programs.join("initdb"));
        init.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        ]);
        text_of("initdb", &init.output()?)?;
        let port = free_port()?;
        let mut command = as_user(user.as_deref(), &programs.join("postgres"));
        command.arg("-D").arg(&data).args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ]);
        command.args(["-c", "fsync=off", "-p", &port.to_string()]);
        let mut process = Process::start("PostgreSQL", &mut command, &dir.path().join("log"))?;
        // It accepts connections a moment before it answers.
        process.wait_until(Duration::from_secs(60), || psql(&programs, port, "SELECT 1").is_ok())?;
        Ok(Self { _process: process, _dir: dir, programs, port })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements; columns of the answer are tab-separated, without names.
    pub fn sql(&self, statements: &str) -> Result<String> {
        psql(&self.programs, self.port, statements)
    }
}

fn psql(programs: &Path, port: u16, statements: &str) -> Result<String> {
    let mut command = Command::new(programs.join("psql"));
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-d", "postgres", "-qAtX", "-F", "\t"]);
    command.args(["-v", "ON_ERROR_STOP=1", "-p", &port.to_string(), "-c", statements]);
    text_of("psql", &command.output()?)
}

/// The server refuses to run as root: then the folder goes to the user that its package made.
fn unprivileged(data: &Path) -> Result<Option<String>> {
    let id = |args: &[&str]| -> Result<u32> {
        let output = Command::new("id").args(args).output()?;
        Ok(text_of("id", &output)?.trim().parse()?)
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    let user = "postgres";
    chown(data, Some(id(&["-u", user])?), Some(id(&["-g", user])?))?;
    Ok(Some(user.to_owned()))
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    // setpriv replaces itself by the program, so the process id is the server's.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}
