//! The integration suites of franz-go and kafka-python, unmodified, on our broker: every test that Apache Kafka passes
//! passes. `cargo xtask compat` runs them in full.

use anyhow::Result;
use aqueduct_tests::server::{Kind, Server};
use aqueduct_tests::suites;

/// Records in each of the long tests: enough for several batches a partition and all rebalances.
const RECORDS: u32 = 10_000;

#[test]
fn franz_go() -> Result<()> {
    let server = Server::start_with(Kind::Aqueduct, suites::FRANZ_GO_SETTINGS)?;
    suites::franz_go(&server, RECORDS)?.judge()
}

#[test]
fn kafka_python() -> Result<()> {
    suites::kafka_python(Kind::Aqueduct)?.judge()
}
