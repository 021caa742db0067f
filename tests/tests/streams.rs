//! A Kafka Streams application, exactly once, with a join, a repartition, a window and stores that are restored after the
//! application and the broker were killed: on our broker and on Apache Kafka's, with the same results.

use std::time::Duration;

use anyhow::{Result, ensure};
use aqueduct_tests::server::{Kind, Server};
use aqueduct_tests::streams::{App, call, results_are_exact};
use tempfile::TempDir;

const SETTINGS: &[(&str, &str)] = &[("transaction.state.log.num.partitions", "5")];

const USERS_CHANGELOG: &str = "streams-app-users-STATE-STORE-0000000000-changelog";

#[test]
fn aqueduct() -> Result<()> {
    exactly_once(Kind::Aqueduct)
}

#[test]
fn apache_kafka() -> Result<()> {
    exactly_once(Kind::ApacheKafka)
}

fn exactly_once(kind: Kind) -> Result<()> {
    let mut server = Server::start_with(kind, SETTINGS)?;
    let dir = TempDir::with_prefix("streams-")?;
    let bootstrap = server.bootstrap();
    call(1, &["create", &bootstrap])?;

    let mut app = App::start(&bootstrap, dir.path(), 1)?;
    // The table is complete before there is anything to join with it.
    app.wait(&bootstrap, USERS_CHANGELOG, 7)?;
    call(1, &["feed", &bootstrap, "0", "700"])?;
    app.wait(&bootstrap, "regions", 700)?;

    // Killed while it works: what its open transaction wrote must not be seen.
    call(1, &["feed", &bootstrap, "700", "2100"])?;
    std::thread::sleep(Duration::from_millis(150));
    app.process.kill();
    let mut app = App::start(&bootstrap, dir.path(), 1)?;
    app.wait(&bootstrap, "regions", 2800)?;
    let log = app.process.log();
    ensure!(log.contains("restored regions-count"), "no store was restored:\n{log}");

    // Both killed; the state folder is lost, so that all comes from the change logs.
    app.process.kill();
    server.kill();
    std::fs::remove_dir_all(dir.path())?;
    server.restart()?;
    call(1, &["feed", &bootstrap, "2800", "700"])?;
    let mut app = App::start(&bootstrap, dir.path(), 1)?;
    app.wait(&bootstrap, "regions", 3500)?;
    let restored = app.restored();
    ensure!(restored.get("windows-count").is_some_and(|count| *count > 0), "{restored:?}");
    ensure!(restored.get("regions-count").is_some_and(|count| *count > 0), "{restored:?}");

    results_are_exact(&bootstrap, 3500)
}
