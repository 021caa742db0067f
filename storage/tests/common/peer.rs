//! Apache Kafka's own classes, to check what we write and to write what we read.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory with Kafka's jars.
pub fn kafka_lib() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let peers =
        std::env::var_os("AQUEDUCT_PEERS").map_or_else(|| workspace.join("target/peers"), PathBuf::from);
    let lib = std::env::var_os("AQUEDUCT_KAFKA_LIB").map(PathBuf::from);
    let lib = lib.unwrap_or_else(|| peers.join("kafka/lib"));
    assert!(
        lib.is_dir(),
        "{} does not hold Kafka's jars: run `cargo xtask setup`, or set AQUEDUCT_KAFKA_LIB",
        lib.display()
    );
    lib
}

/// A command that runs one of Kafka's main classes.
pub fn kafka_class(class: &str) -> Command {
    let mut java = Command::new("java");
    let class_path = kafka_lib().join("*");
    java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-cp")
        .arg(class_path)
        .arg(class);
    java
}

/// What the stock dump-log says about these files.
pub fn dump_log(files: &[PathBuf], options: &[&str]) -> String {
    let files: Vec<&str> = files.iter().map(|f| f.to_str().unwrap()).collect();
    let mut command = kafka_class("org.apache.kafka.tools.DumpLogSegments");
    let output = command.args(options).args(["--files", &files.join(",")]).output().expect("java can be run");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dump-log failed:\n{text}");
    text
}

/// A stock broker and controller in one process, killed when dropped.
pub struct Broker {
    child: std::process::Child,
    port: u16,
    properties: PathBuf,
}

impl Broker {
    /// Formats `dir` if it is new, and starts a broker that keeps its logs in `dir/data`.
    pub fn start(dir: &Path, settings: &[&str]) -> Self {
        let (port, controller) = (free_port(), free_port());
        let properties = dir.join("server.properties");
        let data = dir.join("data");
        let mut lines = vec![
            String::from("process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER"),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
            format!("log.dirs={}", data.display()),
            String::from("offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1"),
            String::from("transaction.state.log.min.isr=1\noffsets.topic.num.partitions=1"),
            String::from("transaction.state.log.num.partitions=1\ngroup.initial.rebalance.delay.ms=0"),
        ];
        lines.extend(settings.iter().map(|s| s.to_string()));
        std::fs::write(&properties, lines.join("\n")).unwrap();
        if !data.exists() {
            let mut format = kafka_class("kafka.tools.StorageTool");
            format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c"]).arg(&properties);
            run(format);
        }
        let log = std::fs::File::create(dir.join("broker.log")).unwrap();
        let mut command = kafka_class("kafka.Kafka");
        let child = command.arg(&properties).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut broker = Self { child, port, properties };
        broker.wait_until_ready();
        broker
    }

    fn wait_until_ready(&mut self) {
        for _ in 0..600 {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "the broker ended: {}",
                self.properties.display()
            );
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("no broker on port {} after a minute", self.port);
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends the broker in order; its logs are clean then.
    pub fn stop(mut self) {
        run({
            let mut kill = Command::new("kill");
            kill.arg(self.child.id().to_string());
            kill
        });
        self.child.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that must succeed, and returns what it prints.
pub fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{text}");
    text
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
