//! The file sink as a worker runs it.

mod harness;

use aqueduct_connect_api::{Schema, Struct, TopicPartition, Type, Value};
use harness::{record, sink};

#[tokio::test]
async fn appends_each_value_as_text() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("out.txt");
    std::fs::write(&path, "before\n").expect("write");
    let mut task = sink(&path).await.expect("started");
    let schema = Schema::struct_builder("s").field("a", Schema::of(Type::Int32)).build();
    let mut row = Struct::new(schema);
    row.put("a", 1).expect("fits");
    let map = Value::Map(vec![("k".into(), 1.5.into())]);
    let records: Vec<_> = ["text".into(), Value::Null, row.into(), map]
        .into_iter()
        .enumerate()
        .map(|(offset, value)| record(offset as i64, value))
        .collect();
    task.put(&records).await.expect("put");
    let expected = "before\ntext\nnull\nStruct{a=1}\n{k=1.5}\n";
    assert_eq!(std::fs::read_to_string(&path).expect("read"), expected);
    let taken = [(TopicPartition { topic: "t".into(), partition: 0 }, 4)];
    assert_eq!(task.pre_commit(&taken).await.expect("committed"), taken);
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let Err(error) = sink(&dir.path().join("none/out.txt")).await else { panic!("started") };
    let text = error.to_string();
    assert!(text.contains("none/out.txt") && text.contains("directory exists"), "{text}");
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    // Writing to this device fails as on a full disk.
    let mut task = sink(std::path::Path::new("/dev/full")).await.expect("started");
    let error = task.put(&[record(0, "x".into())]).await.expect_err("full");
    assert!(error.is_retriable(), "{error}");
    assert!(error.to_string().contains("/dev/full"), "{error}");
}
