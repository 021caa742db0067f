//! Members of a group that are stock clients, librdkafka's and Java's.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::install::{find, workspace};
use aqueduct_tests::kafka::{java, tool};
use aqueduct_tests::process::Process;
use aqueduct_tests::server::{Server, run_checks};

use super::Client;

pub fn librdkafka(server: &Server) -> Result<()> {
    let python = find("AQUEDUCT_PYTHON", "python", "bin/python")?.join("bin/python");
    let program = workspace().join("tests/python/consumer_protocol_checks.py");
    run_checks(Command::new(python).arg("-B").arg(program).arg(server.bootstrap())).map(drop)
}

/// A verifiable consumer, and the partitions that it says it has.
struct Verifiable {
    process: Process,
}

impl Verifiable {
    fn start(server: &Server, dir: &tempfile::TempDir, name: &str, settings: &[&str]) -> Result<Self> {
        let bootstrap = server.bootstrap();
        let mut command = java("128m", "org.apache.kafka.tools.VerifiableConsumer")?;
        command.args(["--bootstrap-server", &bootstrap, "--topic", "java848", "--group-id", "java848"]);
        command.args(settings);
        Ok(Self { process: Process::start(name, &mut command, &dir.path().join(name))? })
    }

    /// How many partitions it has, by its own account.
    fn owned(&self) -> usize {
        let mut owned: usize = 0;
        for line in self.process.log().lines() {
            let count = line.matches("\"partition\":").count();
            if line.contains("\"name\":\"partitions_assigned\"") {
                owned += count;
            } else if line.contains("\"name\":\"partitions_revoked\"") {
                owned = owned.saturating_sub(count);
            }
        }
        owned
    }

    fn stop(mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(60))
    }
}

fn wait_for_shares(members: &mut [&mut Verifiable], expected: &[usize]) -> Result<()> {
    // A static member that is stopped keeps its share for the 45 s of its session.
    let deadline = Instant::now() + Duration::from_secs(150);
    loop {
        let mut owned: Vec<_> = members.iter().map(|member| member.owned()).collect();
        owned.sort_unstable();
        if owned == expected {
            return Ok(());
        }
        let logs = || members.iter().map(|m| m.process.log_tail()).collect::<Vec<_>>().join("\n---\n");
        ensure!(Instant::now() < deadline, "{owned:?} instead of {expected:?}:\n{}", logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A Java consumer of the consumer protocol with a static name, one of the classic protocol, and Kafka's tool for groups.
pub fn java_members(server: &Server) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut client = Client::connect(&server.bootstrap())?;
    client.create("java848", 4)?;
    let protocol = ["--group-protocol", "consumer", "--group-instance-id", "one"];
    let mut new = Verifiable::start(server, &dir, "consumer", &protocol)?;
    wait_for_shares(&mut [&mut new], &[4])?;
    let mut old = Verifiable::start(
        server,
        &dir,
        "classic",
        &["--group-protocol", "classic", "--session-timeout", "60000"],
    )?;
    wait_for_shares(&mut [&mut new, &mut old], &[2, 2])?;

    let bootstrap = server.bootstrap();
    let groups = |args: &[&str]| {
        let args = [&["--bootstrap-server", &bootstrap, "--group", "java848"], args].concat();
        tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &args)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut state = groups(&["--describe", "--state"])?;
    // Until both have told that they follow, the group reconciles.
    while !state.contains("Stable") && Instant::now() < deadline {
        state = groups(&["--describe", "--state"])?;
    }
    ensure!(state.contains("uniform") && state.contains("Stable"), "{state}");
    let members = groups(&["--describe", "--members", "--verbose"])?;
    ensure!(members.contains("one") && members.contains("java848:"), "{members}");
    // The last member of the consumer protocol goes: the group turns classic.
    new.stop()?;
    wait_for_shares(&mut [&mut old], &[4])?;
    old.stop()?;
    groups(&["--reset-offsets", "--to-earliest", "--topic", "java848", "--execute"])?;
    let deleted = groups(&["--delete-offsets", "--topic", "java848:0"])?;
    ensure!(deleted.contains("Successful"), "{deleted}");
    let deleted = groups(&["--delete"])?;
    ensure!(deleted.contains("was successful"), "{deleted}");
    Ok(())
}
