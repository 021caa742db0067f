//! The launcher of PostgreSQL itself.

use aqueduct_tests::postgres::Postgres;

#[test]
fn a_server_starts_and_answers() -> anyhow::Result<()> {
    let server = Postgres::start()?;
    server.sql("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (7)")?;
    assert_eq!(server.sql("SELECT id FROM t")?.trim(), "7");
    Ok(())
}
