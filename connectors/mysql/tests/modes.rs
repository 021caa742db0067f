//! Modes of snapshots and locks.

mod common;

use std::sync::Arc;
use std::time::Instant;

use aqueduct_tests::mariadb::MariaDb;
use common::{Capture, LIMIT, Offsets, config, summary};

fn server() -> MariaDb {
    let server = MariaDb::start().expect("MariaDB");
    server
        .sql(
            "CREATE DATABASE inv; CREATE TABLE inv.t (id INT PRIMARY KEY, v INT);
             INSERT INTO inv.t VALUES (1,1),(2,2);
             CREATE USER nolock@'%' IDENTIFIED BY 'n';
             GRANT SELECT, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO nolock@'%'",
        )
        .expect("tables");
    server
}

// Statements may wait for the snapshot's locks: they must not hold up the thread that releases them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_locking_gives_the_same_rows() {
    let server = server();
    for (user, password, locking, id) in [
        ("repl", "repl", "minimal", 3),
        ("repl", "repl", "extended", 4),
        ("repl", "repl", "none", 5),
        ("nolock", "n", "minimal", 6),
    ] {
        let settings = config(
            &server,
            &[("database.user", user), ("database.password", password), ("snapshot.locking.mode", locking)],
        );
        let mut capture = Capture::start(&settings, &Arc::new(Offsets::default())).await;
        let rows = (1..id).map(|i| format!("r{i}")).collect::<Vec<_>>().join(" ");
        assert_eq!(summary(&capture.take(id - 1).await), rows, "{locking}");
        server.sql(&format!("INSERT INTO inv.t VALUES ({id},0)")).unwrap();
        assert_eq!(summary(&capture.take(1).await), format!("c{id}"), "{locking}");
        capture.stop().await;
    }
}

#[tokio::test]
async fn the_mode_says_what_is_read() {
    let server = server();
    let run = |mode: &'static str| config(&server, &[("snapshot.mode", mode)]);
    let offsets = Arc::new(Offsets::default());
    let mut no_data = Capture::start(&run("schema_only"), &offsets).await;
    let began = Instant::now();
    loop {
        no_data.expect_silence().await;
        if offsets.get("p").is_some() || began.elapsed() > LIMIT {
            break;
        }
    }
    assert!(offsets.get("p").expect("the position").get("snapshot").is_none());
    server.sql("INSERT INTO inv.t VALUES (3,3)").unwrap();
    assert_eq!(summary(&no_data.take(1).await), "c3");
    no_data.stop().await;
    server.sql("DELETE FROM inv.t WHERE id = 1").unwrap();
    let mut always = Capture::start(&run("always"), &offsets).await;
    assert_eq!(summary(&always.take(4).await), "r2 r3 d1 t1", "changes since the stored offset follow");
    always.stop().await;
    let offsets = Arc::new(Offsets::default());
    let mut only = Capture::start(&run("initial_only"), &offsets).await;
    assert_eq!(summary(&only.take(2).await), "r2 r3");
    server.sql("INSERT INTO inv.t VALUES (4,4)").unwrap();
    only.expect_silence().await;
    only.stop().await;
    let mut again = Capture::start(&run("initial_only"), &offsets).await;
    again.expect_silence().await;
    again.stop().await;
    let mut on = Capture::start(&run("initial"), &offsets).await;
    assert_eq!(summary(&on.take(1).await), "c4");
    on.stop().await;
}

/// A transaction much larger than the queue, and nobody who takes its records for a while.
#[tokio::test]
async fn a_full_queue_makes_the_server_wait() {
    let server = server();
    let settings = config(&server, &[("max.batch.size", "100"), ("max.queue.size", "400")]);
    let mut capture = Capture::start(&settings, &Arc::new(Offsets::default())).await;
    capture.take(2).await;
    let before = resident();
    server.sql("INSERT INTO inv.t SELECT seq, 0 FROM inv.t a, seq_1000_to_100999 WHERE a.id = 1").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for expected in 1000..101_000 {
        let record = capture.next().await;
        assert_eq!(summary(std::slice::from_ref(&record)), format!("c{expected}"));
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more are resident");
    capture.stop().await;
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
}
