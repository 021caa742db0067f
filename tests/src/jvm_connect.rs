//! The JVM's Connect worker in distributed mode, with its file connectors.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::aqueduct::{answers, worker_lines};
use crate::connect::Api;
use crate::kafka::{java, plugins};
use crate::process::{Process, free_port};

/// A running worker.
pub struct JvmWorker {
    process: Process,
    dir: TempDir,
    port: u16,
    /// Where JMX is served, if it is.
    jmx: Option<u16>,
}

impl JvmWorker {
    /// Starts a worker on the cluster at `bootstrap` with the settings that [`crate::aqueduct::Worker::start`] gives to
    /// ours, and waits for its REST API.
    pub fn start(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let mut worker = Self::launch(bootstrap, settings)?;
        worker.wait()?;
        Ok(worker)
    }

    /// The same without waiting.
    pub fn launch(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::launch_as(bootstrap, settings, None)
    }

    /// The same with JMX on a port of loopback, which is given, too; waits as [`JvmWorker::start`] does.
    pub fn start_with_jmx(bootstrap: &str, settings: &[(&str, &str)]) -> Result<(Self, u16)> {
        let jmx = free_port()?;
        let mut worker = Self::launch_as(bootstrap, settings, Some(jmx))?;
        worker.wait()?;
        Ok((worker, jmx))
    }

    fn launch_as(bootstrap: &str, settings: &[(&str, &str)], jmx: Option<u16>) -> Result<Self> {
        let dir = TempDir::with_prefix("jvm-connect-")?;
        let port = free_port()?;
        let mut lines = worker_lines(bootstrap, port, settings);
        lines.push_str(&format!("plugin.path={}\n", plugins()?.display()));
        std::fs::write(dir.path().join("connect.properties"), lines)?;
        Ok(Self { process: launch(dir.path(), jmx)?, dir, port, jmx })
    }

    fn wait(&mut self) -> Result<()> {
        let health = format!("http://127.0.0.1:{}/health", self.port);
        self.process.wait_until(Duration::from_secs(180), || answers(&health))
    }

    /// Its REST API.
    pub fn api(&self) -> Api {
        Api::new(format!("http://127.0.0.1:{}", self.port))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops the worker cleanly.
    pub fn stop(&mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(60))
    }

    /// Starts the worker again with the same settings, after it ended or was killed.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(self.dir.path(), self.jmx)?;
        self.wait()
    }
}

fn launch(dir: &Path, jmx: Option<u16>) -> Result<Process> {
    let mut command = java("384m", "org.apache.kafka.connect.cli.ConnectDistributed")?;
    command.arg(dir.join("connect.properties"));
    // What is a setting of ours is a property of the machine there.
    let settings = std::fs::read_to_string(dir.join("connect.properties"))?;
    let login = "java.security.auth.login.config=";
    let mut flags: Vec<String> =
        settings.lines().filter(|line| line.starts_with(login)).map(|line| format!("-D{line}")).collect();
    if let Some(port) = jmx {
        flags.push("-Djava.rmi.server.hostname=127.0.0.1".to_owned());
        let remote = [format!("port={port}"), format!("rmi.port={port}"), "host=127.0.0.1".to_owned()];
        flags.extend(remote.map(|flag| format!("-Dcom.sun.management.jmxremote.{flag}")));
        flags.extend(
            ["authenticate", "ssl"].map(|flag| format!("-Dcom.sun.management.jmxremote.{flag}=false")),
        );
    }
    if !flags.is_empty() {
        command.env("JAVA_TOOL_OPTIONS", flags.join(" "));
    }
    Process::start("JVM Connect", &mut command, &dir.join("log"))
}
