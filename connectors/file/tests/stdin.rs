//! The file source on standard input. The test starts itself again as a child whose input it holds.

mod harness;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use harness::{poll_lines, source, texts};

const CHILD: &str = "AQUEDUCT_TEST_STDIN_CHILD";

#[test]
fn lines_come_from_standard_input_and_a_restarted_task_goes_on() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let name = "lines_come_from_standard_input_and_a_restarted_task_goes_on";
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all("one\ntwo\r\nthr".as_bytes()).expect("written");
    input.flush().expect("flushed");
    std::thread::sleep(std::time::Duration::from_millis(300));
    input.write_all("ee\nfour\n".as_bytes()).expect("written");
    std::thread::sleep(std::time::Duration::from_secs(2));
    input.write_all("five\n".as_bytes()).expect("written");
    // The pipe stays open until the child has seen enough.
    let output = child.wait_with_output().expect("ended");
    drop(input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut first = source(Path::new(""), &Arc::default(), "2000").await;
        let records = poll_lines(&mut first, 4).await;
        assert_eq!(texts(&records), ["one", "two", "three", "four"]);
        assert_eq!(
            serde_json::to_string(&*records[0].source_partition).expect("json"),
            r#"{"filename":null}"#
        );
        first.stop().await;
        let mut second = source(Path::new(""), &Arc::default(), "2000").await;
        assert_eq!(texts(&poll_lines(&mut second, 1).await), ["five"]);
    });
}
