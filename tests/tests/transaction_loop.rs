//! Stock Java producers with small transactions one right after the other: the next one begins while markers of the one
//! before are still being written, and none may fail.
//!
//! `LOOP_TRANSACTIONS` makes it longer; `LOOP_BROKER=kafka` runs it on Apache Kafka.

use anyhow::Result;
use aqueduct_tests::java::program;
use aqueduct_tests::server::{Kind, Server, run_checks};

#[test]
fn no_transaction_of_a_stock_producer_fails() -> Result<()> {
    let kind = match std::env::var("LOOP_BROKER").as_deref() {
        Ok("kafka") => Kind::ApacheKafka,
        _ => Kind::Aqueduct,
    };
    let transactions = std::env::var("LOOP_TRANSACTIONS").unwrap_or_else(|_| "500".to_owned());
    let server = Server::start_with(kind, &[("transaction.state.log.num.partitions", "5")])?;
    // The version of the cluster; the second is where it starts.
    for version in ["2", "1"] {
        let mut command = program("256m", "TransactionLoop")?;
        print!("{}", run_checks(command.args([&server.bootstrap(), version, "3", &transactions]))?);
    }
    Ok(())
}
