//! The launcher of MariaDB itself.

use aqueduct_tests::mariadb::MariaDb;

#[test]
fn a_server_starts_answers_and_survives_a_kill() -> anyhow::Result<()> {
    let mut server = MariaDb::start()?;
    server.sql("CREATE TABLE kept (id INT PRIMARY KEY); INSERT INTO kept VALUES (7);")?;
    server.kill();
    server.restart()?;
    assert_eq!(server.sql("SELECT id FROM kept")?.trim(), "7");
    assert_eq!(server.sql("SELECT @@binlog_format, @@binlog_row_image")?.trim(), "ROW\tFULL");
    Ok(())
}
