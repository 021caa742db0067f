//! `aqueduct demo` with a real MariaDB and a real Elasticsearch.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use aqueduct_tests::aqueduct::binary;
use aqueduct_tests::elasticsearch::Elasticsearch;
use aqueduct_tests::kafka::text_of;
use aqueduct_tests::mariadb::MariaDb;

#[test]
fn the_demo_captures_a_real_database_into_a_real_index() -> Result<()> {
    let database = MariaDb::start()?;
    let search = Elasticsearch::start()?;
    let mut command = Command::new(binary()?);
    command.args([
        "demo",
        "--rows",
        "500",
        "--mysql",
        &database.url("test"),
        "--elasticsearch",
        &search.url(""),
    ]);
    let text = text_of("aqueduct demo", &command.stdin(Stdio::null()).output()?)?;
    ensure!(text.contains("the counts agree, and so does every row"), "{text}");
    ensure!(text.contains("deleted"), "deletes are captured, too: {text}");
    let rows = database.sql("SELECT COUNT(*) FROM aqueduct_demo_orders")?;
    let indices = search.rest("GET", "/_cat/indices/aqueduct-demo-*?format=json", None)?.body;
    let index = indices[0]["index"].as_str().unwrap_or_default();
    ensure!(search.count(index)?.to_string() == rows.trim(), "{indices}, {rows} rows");
    Ok(())
}
