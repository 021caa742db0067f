//! The file source as a worker runs it.

mod harness;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use harness::{Offsets, poll_lines, source, texts};

fn append(path: &std::path::Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("open");
    file.write_all(text.as_bytes()).expect("write");
}

#[tokio::test]
async fn waits_for_the_file_and_for_the_end_of_the_last_line() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("in.txt");
    let mut task = source(&path, &Arc::default(), "2000").await;
    assert!(task.poll().await.expect("no file is no error").is_empty());
    append(&path, "one\ntw");
    assert_eq!(texts(&poll_lines(&mut task, 1).await), ["one"]);
    assert!(task.poll().await.expect("polled").is_empty());
    append(&path, "o\r");
    assert!(task.poll().await.expect("polled").is_empty());
    append(&path, "\nthree\r\n");
    let records = poll_lines(&mut task, 2).await;
    assert_eq!(texts(&records), ["two", "three"]);
    assert_eq!(serde_json::to_string(&*records[0].source_offset).expect("json"), r#"{"position":9}"#);
    let partition = serde_json::to_string(&*records[0].source_partition).expect("json");
    assert_eq!(partition, format!(r#"{{"filename":"{}"}}"#, path.display()));
}

#[tokio::test]
async fn a_kill_after_any_record_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("in.txt");
    let lines: Vec<String> = (0..40).map(|i| format!("línea {i} {}", "ß".repeat(i))).collect();
    append(&path, &(lines.join("\n") + "\n"));
    let offsets = Arc::new(Offsets::default());
    let mut seen = Vec::new();
    while seen.len() < lines.len() {
        let mut task = source(&path, &offsets, "7").await;
        let records = task.poll().await.expect("polled");
        // The worker dies when it has stored the offset of only some of what it polled.
        let stored = (seen.len() % 3 + 1).min(records.len());
        *offsets.0.lock().expect("no panic") = Some((*records[stored - 1].source_offset).clone());
        seen.extend(texts(&records[..stored]));
    }
    assert_eq!(seen, lines);
}

#[tokio::test]
async fn a_cut_file_is_read_from_its_start() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("in.txt");
    append(&path, "one\ntwo\nthr");
    let mut task = source(&path, &Arc::default(), "2000").await;
    assert_eq!(texts(&poll_lines(&mut task, 2).await), ["one", "two"]);
    fs::write(&path, "new\n").expect("write");
    let records = poll_lines(&mut task, 1).await;
    assert_eq!(texts(&records), ["new"]);
    assert_eq!(records[0].source_offset["position"], 4);
}

#[tokio::test]
async fn a_rotated_file_is_finished_first() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("in.txt");
    append(&path, "one\n");
    let mut task = source(&path, &Arc::default(), "2000").await;
    assert_eq!(texts(&poll_lines(&mut task, 1).await), ["one"]);
    let old = dir.path().join("in.txt.1");
    fs::rename(&path, &old).expect("rename");
    append(&path, "first of the next file\n");
    append(&old, "last of the old file\n");
    let records = poll_lines(&mut task, 2).await;
    assert_eq!(texts(&records), ["last of the old file", "first of the next file"]);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_marked() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("in.txt");
    fs::write(&path, b"a\xffb\nc\n").expect("write");
    let mut task = source(&path, &Arc::default(), "2000").await;
    assert_eq!(texts(&poll_lines(&mut task, 2).await), ["a\u{fffd}b", "c"]);
}

#[tokio::test]
async fn a_directory_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let mut task = source(dir.path(), &Arc::default(), "2000").await;
    let error = task.poll().await.expect_err("refused").to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn large_files_come_whole_and_in_order() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("in.txt");
    let count = 200_000;
    let text: String = (0..count).map(|i| format!("line number {i:012} of a large file\n")).collect();
    fs::write(&path, &text).expect("write");
    let mut task = source(&path, &Arc::default(), "2000").await;
    let began = Instant::now();
    let records = poll_lines(&mut task, count).await;
    let took = began.elapsed();
    println!("{:.0} records/s", count as f64 / took.as_secs_f64());
    assert_eq!(records.len(), count);
    assert_eq!(records[count - 1].source_offset["position"], text.len() as u64);
    let joined: String = records.iter().map(|r| format!("{}\n", r.record.value.value)).collect();
    assert!(joined == text, "lines differ");
}
