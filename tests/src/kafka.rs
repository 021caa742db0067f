//! Apache Kafka: one node with its controller inside, and its tools.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::install::find;
use crate::process::{Process, accepts, free_port};

/// Folder of Kafka's jars: `AQUEDUCT_KAFKA_LIB`, or where `cargo xtask setup` puts them.
pub fn lib() -> Result<PathBuf> {
    let dir = find("AQUEDUCT_KAFKA_LIB", "kafka/lib", ".")?;
    let has_jar = std::fs::read_dir(&dir)?
        .flatten()
        .any(|e| e.file_name().to_string_lossy().starts_with("kafka-clients-"));
    if !has_jar {
        bail!("no kafka-clients jar in {}: run `cargo xtask setup`", dir.display());
    }
    Ok(dir)
}

/// The `plugin.path` that holds the file connectors of the JVM's Connect.
pub fn plugins() -> Result<PathBuf> {
    find("AQUEDUCT_KAFKA_PLUGINS", "kafka/plugins", "connect-file")
}

/// A main class of Kafka's with at most `heap` of memory, such as `256m`.
pub fn java(heap: &str, class: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.arg(format!("-Xmx{heap}")).args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.awt.headless=true",
    ]);
    command.arg("-cp").arg(lib()?.join("*")).arg(class);
    Ok(command)
}

/// Runs one of Kafka's tools, such as `org.apache.kafka.tools.TopicCommand`, to its end and gives what it printed.
///
/// # Errors
/// Where it fails, with all that it printed.
pub fn tool(class: &str, args: &[&str]) -> Result<String> {
    let output = java("256m", class)?.args(args).output().context("java")?;
    text_of(&format!("{class} {}", args.join(" ")), &output)
}

/// Standard output of a command that succeeded.
///
/// # Errors
/// Both outputs, where it did not.
pub fn text_of(what: &str, output: &Output) -> Result<String> {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{what} ended with {}:\n{out}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(out)
}

/// The flags that Kafka's own start script gives to a broker.
pub fn tuned_java(heap: &str, class: &str) -> Result<Command> {
    stock_java(heap, heap, class)
}

/// The flags that Kafka's own start scripts give, with memory of `least` to `most`, such as `256m` and `2g` for a Connect
/// worker.
pub fn stock_java(least: &str, most: &str, class: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.arg(format!("-Xms{least}")).arg(format!("-Xmx{most}"));
    command.args([
        "-server",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
    ]);
    command.args(["-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"]);
    command.arg("-cp").arg(lib()?.join("*")).arg(class);
    Ok(command)
}

/// A running node of Apache Kafka in a folder of its own.
pub struct Kafka {
    process: Process,
    dir: TempDir,
    port: u16,
    tuned: bool,
}

impl Kafka {
    /// Formats and starts a node on a free port, and waits until it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with more lines in `server.properties`, where `{port}` stands for the port of the listener for clients and
    /// `{controller}` for that of the controller.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_as(settings, false)
    }

    /// A node with the memory and the flags of Kafka's own start script, as benchmarks want it.
    pub fn start_tuned() -> Result<Self> {
        Self::start_as(&[], true)
    }

    /// The same with more lines in `server.properties`.
    pub fn start_tuned_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_as(settings, true)
    }

    fn start_as(settings: &[(&str, &str)], tuned: bool) -> Result<Self> {
        let dir = TempDir::with_prefix("kafka-")?;
        let (port, controller) = (free_port()?, free_port()?);
        let mut lines = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=5\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            dir.path().join("data").display()
        );
        for (key, value) in settings {
            let value =
                value.replace("{port}", &port.to_string()).replace("{controller}", &controller.to_string());
            lines.push_str(&format!("{key}={value}\n"));
        }
        let config = dir.path().join("server.properties");
        std::fs::write(&config, lines)?;
        let config = config.to_string_lossy().into_owned();
        tool("kafka.tools.StorageTool", &["format", "-t", "AqueductTestsAAAAAAAAA", "-c", &config])?;
        let process = launch(dir.path(), tuned)?;
        let mut kafka = Self { process, dir, port, tuned };
        kafka.wait()?;
        Ok(kafka)
    }

    fn wait(&mut self) -> Result<()> {
        let port = self.port;
        self.process.wait_until(Duration::from_secs(120), || accepts(port))
    }

    /// Port for clients.
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

    /// The process, to watch it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills the node without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the node cleanly.
    pub fn stop(&mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(60))
    }

    /// Starts the node again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(self.dir.path(), self.tuned)?;
        self.wait()
    }
}

fn launch(dir: &Path, tuned: bool) -> Result<Process> {
    let mut command = if tuned { tuned_java("1g", "kafka.Kafka")? } else { java("512m", "kafka.Kafka")? };
    command.arg(dir.join("server.properties"));
    // Kafka reads key sets from such places only as its machine has them named.
    let settings = std::fs::read_to_string(dir.join("server.properties"))?;
    let urls: Vec<&str> =
        settings.lines().filter_map(|line| Some(line.split_once("jwks.endpoint.url=")?.1)).collect();
    if !urls.is_empty() {
        let allowed = format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}", urls.join(","));
        command.env("JAVA_TOOL_OPTIONS", allowed);
    }
    Process::start("Apache Kafka", &mut command, &dir.join("log"))
}
