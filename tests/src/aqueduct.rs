//! Our own binary as a process, driven as a user drives it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::connect::Api;
use crate::namespace::Namespace;
use crate::process::{Process, accepts, free_port};

/// The binary of the build that the running test or benchmark belongs to.
///
/// # Errors
/// Says how to build it where it is missing.
pub fn binary() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join("aqueduct")).find(|path| path.is_file());
    found.with_context(|| {
        format!("no aqueduct beside {}: run `cargo build -p aqueduct-cli` first", here.display())
    })
}

/// An answer of a REST endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// Sends a request with `curl`. A body that is not JSON comes back as a string, an empty one as null.
pub fn curl(method: &str, url: &str, body: Option<&Value>) -> Result<Answer> {
    send(method, url, body.map(Value::to_string).as_deref())
}

/// The same with a body that need not be JSON.
pub fn send(method: &str, url: &str, body: Option<&str>) -> Result<Answer> {
    send_with(method, url, body, &BTreeMap::new())
}

/// The same with headers; an empty one is left out. Without a `Content-Type` among them a body counts as JSON.
pub fn send_with(
    method: &str,
    url: &str,
    body: Option<&str>,
    headers: &BTreeMap<String, String>,
) -> Result<Answer> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--path-as-is", "--max-time", "100", "-X", method, "-w", "\n%{http_code}"]);
    for (name, value) in headers {
        command.args(["-H", format!("{name}: {value}").trim_end()]);
    }
    if body.is_some() {
        if !headers.contains_key("Content-Type") {
            command.args(["-H", "Content-Type: application/json"]);
        }
        command.args(["--data-binary", "@-"]);
    }
    command.arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("curl")?;
    // curl reads all of it before it connects; what is too long for a command line comes through here, too.
    let mut input = child.stdin.take().context("stdin is piped")?;
    input.write_all(body.unwrap_or_default().as_bytes()).context("curl")?;
    drop(input);
    let output = child.wait_with_output().context("curl")?;
    if !output.status.success() {
        bail!("curl {method} {url}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("no status from curl")?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))
    };
    Ok(Answer { status: status.trim().parse()?, body })
}

/// A broker node of ours.
pub struct Broker {
    process: Process,
    dir: TempDir,
    port: u16,
}

impl Broker {
    /// Starts a node on a free port with an empty data directory.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with more lines in `server.properties`, where `{port}` stands for the port of the listener for clients.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let dir = TempDir::with_prefix("aqueduct-broker-")?;
        let port = free_port()?;
        let mut lines = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\noffsets.topic.replication.factor=1\n\
             group.initial.rebalance.delay.ms=0\n",
            dir.path().join("data").display()
        );
        for (key, value) in settings {
            let value = value.replace("{port}", &port.to_string()).replace("{controller}", "0");
            lines.push_str(&format!("{key}={value}\n"));
        }
        std::fs::write(dir.path().join("server.properties"), lines)?;
        let mut broker = Self { process: launch_broker(dir.path())?, dir, port };
        broker.wait()?;
        Ok(broker)
    }

    fn wait(&mut self) -> Result<()> {
        let port = self.port;
        self.process.wait_until(Duration::from_secs(60), || accepts(port))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Folder of the logs.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts the node again on the same port and data, after it ended or was killed.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch_broker(self.dir.path())?;
        self.wait()
    }
}

fn launch_broker(dir: &Path) -> Result<Process> {
    let mut command = Command::new(binary()?);
    command.arg("broker").arg("--config").arg(dir.join("server.properties"));
    Process::start("aqueduct broker", &mut command, &dir.join("log"))
}

/// `connect-distributed.properties` of a worker in tests: JSON without schemas, internal topics with one replica; the
/// later of two lines for one key wins. `{port}` stands for the port of its REST API.
pub(crate) fn worker_lines(bootstrap: &str, port: u16, settings: &[(&str, &str)]) -> String {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    let mut lines = format!(
        "bootstrap.servers={bootstrap}\ngroup.id=tests\nlisteners=http://127.0.0.1:{port}\nkey.converter={json}\n\
         value.converter={json}\nkey.converter.schemas.enable=false\nvalue.converter.schemas.enable=false\n\
         config.storage.topic=connect-configs\noffset.storage.topic=connect-offsets\n\
         status.storage.topic=connect-status\nconfig.storage.replication.factor=1\n\
         offset.storage.replication.factor=1\nstatus.storage.replication.factor=1\noffset.flush.interval.ms=1000\n"
    );
    for (key, value) in settings {
        let value = value.replace("{port}", &port.to_string());
        lines.push_str(&format!("{key}={value}\n"));
    }
    lines
}

/// Whether a worker has begun to answer: it says that it is well, or that it wants to know who asks.
pub(crate) fn answers(health: &str) -> bool {
    curl("GET", health, None).is_ok_and(|answer| matches!(answer.status, 200 | 401))
}

/// A distributed Connect worker of ours.
pub struct Worker {
    process: Process,
    dir: TempDir,
    host: String,
    port: u16,
    namespace: Option<Arc<Namespace>>,
}

impl Worker {
    /// Starts a worker on the cluster at `bootstrap`, JSON without schemas in its topics, and waits for its REST API.
    pub fn start(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_at("127.0.0.1".to_owned(), None, bootstrap, settings)
    }

    /// The same with a network of its own, from which the cluster must be in reach.
    pub fn start_in(namespace: Arc<Namespace>, bootstrap: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let host = namespace.inside().to_owned();
        let listeners = format!("http://{host}:{{port}}");
        let settings = [settings, &[("listeners", &*listeners)]].concat();
        Self::start_at(host, Some(namespace), bootstrap, &settings)
    }

    fn start_at(
        host: String,
        namespace: Option<Arc<Namespace>>,
        bootstrap: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let dir = TempDir::with_prefix("aqueduct-connect-")?;
        let port = free_port()?;
        let lines = worker_lines(bootstrap, port, settings);
        std::fs::write(dir.path().join("connect.properties"), lines)?;
        let process = launch_worker(dir.path(), namespace.as_deref())?;
        let mut worker = Self { process, dir, host, port, namespace };
        worker.wait()?;
        Ok(worker)
    }

    fn wait(&mut self) -> Result<()> {
        let health = self.url("/health");
        self.process.wait_until(Duration::from_secs(90), || answers(&health))
    }

    /// Address of a path of the REST API.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.host, self.port)
    }

    /// Host of the REST API.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its REST API.
    pub fn api(&self) -> Api {
        Api::new(self.url(""))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a request.
    pub fn rest(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        curl(method, &self.url(path), body)
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The end of what the worker has logged.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// All that the worker has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Starts the worker again, after it ended or was killed, and does not wait for it.
    pub fn launch(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch_worker(self.dir.path(), self.namespace.as_deref())?;
        Ok(())
    }

    /// Starts the worker again with the same settings, after it ended or was killed.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch_worker(self.dir.path(), self.namespace.as_deref())?;
        self.wait()
    }

    /// Waits until the connector and its tasks, at least one, are RUNNING.
    ///
    /// # Errors
    /// With the last status, where one FAILED or `limit` passed.
    pub fn wait_running(&self, connector: &str, limit: Duration) -> Result<()> {
        let from = std::time::Instant::now();
        loop {
            let answer = self.rest("GET", &format!("/connectors/{connector}/status"), None)?;
            let tasks = answer.body["tasks"].as_array().cloned().unwrap_or_default();
            let states: Vec<&str> = tasks.iter().filter_map(|t| t["state"].as_str()).collect();
            if answer.body["connector"]["state"] == "RUNNING"
                && !states.is_empty()
                && states.iter().all(|s| *s == "RUNNING")
            {
                return Ok(());
            }
            if from.elapsed() > limit || answer.body.to_string().contains("FAILED") {
                bail!("connector {connector} is not running: {:#}", answer.body);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn launch_worker(dir: &Path, namespace: Option<&Namespace>) -> Result<Process> {
    let mut command = match namespace {
        Some(namespace) => namespace.command(&binary()?),
        None => Command::new(binary()?),
    };
    command.arg("connect").arg("--config").arg(dir.join("connect.properties"));
    Process::start("aqueduct connect", &mut command, &dir.join("log"))
}
