//! Kafka's command line tools, each with all of its actions and the usual mistakes: the scripts in `tests/scenarios/tools`
//! run on our broker and on Apache Kafka's, and what the tools print must be the same.

use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use aqueduct_tests::install::workspace;
use aqueduct_tests::server::{Kind, Server};
use aqueduct_tests::tools::{self, Driver};

const SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "5"),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:ANONYMOUS"),
];

#[test]
fn tools_print_the_same() -> Result<()> {
    let scripts = workspace().join("tests/scenarios/tools");
    let mut names: Vec<_> = std::fs::read_dir(&scripts)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    if let Ok(only) = std::env::var("TOOLS_SCRIPT") {
        names.retain(|path| path.file_stem().is_some_and(|name| name.to_string_lossy() == only));
    }
    let run = |kind| -> Result<Vec<_>> {
        let server = Server::start_with(kind, SETTINGS)?;
        let mut driver = Driver::start()?;
        let started = Instant::now();
        let mut seen = Vec::new();
        for script in &names {
            seen.extend(tools::run(script, &server, &mut driver)?);
            println!("{kind:?} {} {:.0?}", script.display(), started.elapsed());
        }
        Ok(seen)
    };
    let (ours, theirs) = thread::scope(|scope| {
        let ours = scope.spawn(|| run(Kind::Aqueduct));
        let theirs = run(Kind::ApacheKafka);
        (ours.join(), theirs)
    });
    let ours = ours.map_err(|_| anyhow!("the run on our broker panicked"))??;
    let differences = tools::differences(&ours, &theirs?);
    assert!(differences.is_empty(), "{differences}");
    Ok(())
}
