//! MariaDB with a row binlog, in a folder of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::kafka::text_of;
use crate::process::{Process, free_port};

/// Where a server unpacked under `AQUEDUCT_MARIADB`, or installed in the system, has its parts.
struct Installed {
    server: PathBuf,
    client: PathBuf,
    share: PathBuf,
}

fn installed() -> Result<Installed> {
    let root = std::env::var_os("AQUEDUCT_MARIADB").map_or_else(|| PathBuf::from("/usr"), PathBuf::from);
    let found = Installed {
        server: root.join("sbin/mariadbd"),
        client: root.join("bin/mariadb"),
        share: root.join("share/mysql"),
    };
    for part in [&found.server, &found.client, &found.share] {
        if !part.exists() {
            bail!(
                "MariaDB is not installed: no {} (set AQUEDUCT_MARIADB or run `cargo xtask setup`)",
                part.display()
            );
        }
    }
    Ok(found)
}

/// A running server. Users: `root` without a password, and `repl` with the password `repl` and all that a replica and a
/// snapshot need. There is an empty database `test`.
pub struct MariaDb {
    process: Process,
    installed: Installed,
    dir: TempDir,
    port: u16,
    options: Vec<String>,
}

impl MariaDb {
    /// Starts a server on a free port with an empty data directory.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with more options, such as `--binlog-row-image=MINIMAL`; a later one wins over an earlier.
    pub fn start_with(options: &[&str]) -> Result<Self> {
        let installed = installed()?;
        let dir = TempDir::with_prefix("mariadb-")?;
        let port = free_port()?;
        let root = dir.path();
        std::fs::create_dir_all(root.join("data/mysql"))?;
        std::fs::create_dir_all(root.join("tmp"))?;
        let mut all = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", root.join("data").display()),
            format!("--tmpdir={}", root.join("tmp").display()),
            format!("--lc-messages-dir={}", installed.share.display()),
            format!("--character-sets-dir={}", installed.share.join("charsets").display()),
            format!("--log-bin={}", root.join("data/binlog").display()),
            format!("--server-id={port}"),
        ];
        all.extend(
            [
                "--binlog-format=ROW",
                "--binlog-row-image=FULL",
                "--binlog-row-metadata=FULL",
                "--gtid-strict-mode=ON",
            ]
            .map(str::to_owned),
        );
        // Small buffers: several servers share a test machine.
        all.extend(
            ["--default-time-zone=+00:00", "--innodb-buffer-pool-size=32M", "--user=root"].map(str::to_owned),
        );
        all.extend(options.iter().map(|o| (*o).to_owned()));
        initialise(&installed, &all, root)?;
        std::fs::write(root.join("users.sql"), USERS)?;
        let process = launch(&installed, &all, root, port)?;
        let mut server = Self { process, installed, dir, port, options: all };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        let socket = self.dir.path().join("sock");
        let client = self.installed.client.clone();
        self.process.wait_until(Duration::from_secs(60), || {
            let mut probe = Command::new(&client);
            probe.args(["--no-defaults", "-urepl", "-prepl", "-e", "SELECT 1"]).arg("--socket").arg(&socket);
            probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `mysql://root@127.0.0.1:PORT/DATABASE`.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs statements as root in database `test`; columns of the answer are tab-separated, without names.
    pub fn sql(&self, statements: &str) -> Result<String> {
        let mut command = Command::new(&self.installed.client);
        command.args([
            "--no-defaults",
            "-uroot",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
        ]);
        command.arg("--socket").arg(self.dir.path().join("sock")).arg("test");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("standard input")?;
        let text = statements.to_owned();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = child.wait_with_output()?;
        let _ = writer.join();
        text_of("mariadb", &output)
    }

    /// Kills the server without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(&self.installed, &self.options, self.dir.path(), self.port)?;
        self.wait()
    }
}

const USERS: &str = "SET sql_log_bin=0;
CREATE USER IF NOT EXISTS root@'%';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS root@'localhost';
GRANT ALL ON *.* TO root@'localhost' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS repl@'%' IDENTIFIED BY 'repl';
GRANT SELECT, RELOAD, SHOW DATABASES, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO repl@'%';
CREATE DATABASE IF NOT EXISTS test;
";

/// Fills the system tables, as the packaged install script does.
fn initialise(installed: &Installed, options: &[String], root: &Path) -> Result<()> {
    let mut sql = String::from("use mysql;\nset @auth_root_socket=NULL;\nset @skip_auth_anonymous=1;\n");
    for name in ["system_tables", "performance_tables", "system_tables_data"] {
        let of = |prefix: &str| installed.share.join(format!("{prefix}_{name}.sql"));
        let path = if of("mariadb").exists() { of("mariadb") } else { of("mysql") };
        sql.push_str(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?);
    }
    let mut command = Command::new(&installed.server);
    command.args(options).args(["--bootstrap", "--skip-log-bin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    let writer = std::thread::spawn(move || input.write_all(sql.as_bytes()));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    text_of("mariadbd --bootstrap", &output)
        .with_context(|| format!("cannot initialise {}", root.display()))?;
    Ok(())
}

fn launch(installed: &Installed, options: &[String], root: &Path, port: u16) -> Result<Process> {
    let mut command = Command::new(&installed.server);
    command.args(options).args(["--bind-address=127.0.0.1", "--skip-name-resolve"]);
    command.arg(format!("--port={port}")).arg(format!("--socket={}", root.join("sock").display()));
    command.arg(format!("--pid-file={}", root.join("pid").display()));
    command.arg(format!("--init-file={}", root.join("users.sql").display()));
    Process::start("MariaDB", &mut command, &root.join("log"))
}
