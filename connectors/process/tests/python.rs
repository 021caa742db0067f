//! The library for Python against the worker's side: each value there and back, and a source that is called by hand.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{
    Config, ConfigMap, Decimal, Error, OffsetMap, OffsetStore, Result, Schema, SchemaRef, SinkContext,
    SinkRecord, SinkTask as _, SinkTaskContext, SourceTask as _, SourceTaskContext, Struct, TopicPartition,
    Type, Value,
};
use aqueduct_connector_process::{
    ConnectorDescription, Limits, ProcessSinkTask, ProcessSourceTask, Program, Served, all_ended, describe,
};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Gives back what is put: as the JSON that it would send, with the schema where there is one.
const ECHO: &str = r#"
import json, sys
sys.path.insert(0, "SDK")
from aqueduct_plugin import Key, RetriableError, Sink, Source, SourceRecord, serve

class Echo(Sink):
    class_name = "test.EchoSink"
    config = [Key("file", required=True)]

    def start(self, config, context):
        self.file, self.context = open(config["file"], "w"), context

    def put(self, records):
        for r in records:
            out = SourceRecord(r.topic, r.value, r.key, value_schema=r.value_schema, key_schema=r.key_schema,
                               headers=r.headers, partition=r.partition, timestamp=r.timestamp,
                               source_partition={"p": r.original_partition}, source_offset={"o": r.offset})
            data, used, _ = self.context._plugin._encoded(out)
            schemas = []
            for name, of, target in used:
                target[name] = len(schemas)
                schemas.append(json.loads(of))
            self.file.write(json.dumps({"schemas": schemas, "records": [data]}) + "\n")
        if len(records) == 3:
            self.context.request_commit()
            self.context.pause([("t", 0)])
            return [(records[1], ValueError("not this one"))]

    def flush(self):
        self.file.flush()

class Back(Source):
    class_name = "test.BackSource"
    config = [Key("file", required=True)]

    def start(self, config, context):
        self.lines = open(config["file"]).read().splitlines()
        self.at = (context.offset({"file": 1}) or {"at": 0})["at"]
        context.store_offset({"file": 2}, {"at": 5})
        self.failed = False

    def poll(self):
        if not self.failed:
            self.failed = True
            raise RetriableError("later")
        self.at += 1
        return [SourceRecord("t", n, source_partition={"file": 1}, source_offset={"at": self.at}) for n in range(5000)]

serve(Echo, Back)
"#;

fn program(dir: &std::path::Path) -> Program {
    let sdk = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/python");
    let script = dir.join("aqueduct-plugin-echo.py");
    std::fs::write(&script, ECHO.replace("SDK", &sdk.to_string_lossy())).expect("a script");
    let limits = Limits { start: Duration::from_secs(60), request: Duration::from_secs(60), frame: 1 << 20 };
    Program::new("/usr/bin/env", limits).arguments(["python3".into(), script.into_os_string()])
}

async fn served(program: &Program, class: &str) -> (Arc<Served>, ConnectorDescription) {
    let described = describe(program).await.expect("a description");
    let description = described.connectors.into_iter().find(|c| c.class == class).expect("the class");
    (Arc::new(Served { program: program.clone(), description: description.clone() }), description)
}

fn settings(description: &ConnectorDescription, file: &std::path::Path) -> Config {
    let map: ConfigMap = [("file".to_owned(), file.to_string_lossy().into_owned())].into();
    description.config_def().expect("a table").parse(&map).expect("settings")
}

#[derive(Default)]
struct Said(parking_lot::Mutex<Vec<String>>);

impl SinkContext for Said {
    fn pause(&self, partitions: &[TopicPartition]) {
        self.0.lock().push(format!("pause {}-{}", partitions[0].topic, partitions[0].partition));
    }

    fn resume(&self, _: &[TopicPartition]) {}

    fn request_commit(&self) {
        self.0.lock().push("commit".to_owned());
    }

    fn can_report(&self) -> bool {
        true
    }

    fn report(&self, record: &SinkRecord, error: Error) -> Result<()> {
        self.0.lock().push(format!("report {} {error}", record.offset));
        Ok(())
    }
}

fn samples() -> Vec<(Option<SchemaRef>, Value)> {
    let decimal =
        || Value::Decimal("-123456789012345678901234567890.120".parse::<Decimal>().expect("digits"));
    let inner = Schema::array_builder(Schema::optional_of(Type::Float32)).optional().build();
    let fields = Schema::struct_builder("s")
        .field("i", Schema::of(Type::Int64))
        .field("d", Schema::decimal_builder(3).build())
        .field("a", inner)
        .field("m", Schema::map_builder(Schema::of(Type::Int32), Schema::of(Type::Bytes)).build())
        .field("t", Schema::timestamp_builder().optional().build())
        .build();
    let whole = Struct::from_values(
        fields.clone(),
        vec![
            i64::MIN.into(),
            decimal(),
            Value::Array(vec![0.1f32.into(), Value::Null, f32::NEG_INFINITY.into()]),
            Value::Map(vec![(7.into(), Value::Bytes(vec![0, 255].into()))]),
            Value::Timestamp(-62_135_596_800_001),
        ],
    );
    let plain = |kind, value| (Some(Schema::optional_of(kind)), value);
    vec![
        (Some(fields), Value::from(whole.clone())),
        (None, Value::from(whole)),
        plain(Type::Int8, (-128i8).into()),
        plain(Type::Float64, 5e-324.into()),
        plain(Type::Float32, f32::MAX.into()),
        plain(Type::String, "\u{0}\u{1f600} \"\\".into()),
        plain(Type::Boolean, Value::Null),
        (Some(Schema::date_builder().build()), Value::Date(i32::MAX)),
        (Some(Schema::time_builder().build()), Value::Time(1)),
        (None, Value::Null),
        (None, i64::MAX.into()),
        (None, 3i8.into()),
        (None, 3i16.into()),
        (None, 3i32.into()),
        (None, 0.1f32.into()),
        (None, 1.0f64.into()),
        (None, f64::INFINITY.into()),
        (None, decimal()),
        (None, Value::Bytes(b"\xff".as_slice().into())),
        (None, Value::Array(vec![Value::Date(1), Value::Time(2), Value::Timestamp(3), true.into()])),
        (None, Value::Map(vec![("b".into(), 1i64.into()), ("a".into(), Value::Map(Vec::new()))])),
    ]
}

fn record(offset: i64, schema: Option<SchemaRef>, value: Value) -> SinkRecord {
    let record = aqueduct_connect_api::Record {
        topic: "t".into(),
        partition: Some(0),
        key: aqueduct_connect_api::SchemaAndValue::schemaless("k".into()),
        value: aqueduct_connect_api::SchemaAndValue::new(schema, value),
        headers: Vec::new(),
        timestamp: Some(1),
        offset: Some(offset),
    };
    SinkRecord {
        record,
        offset,
        timestamp_type: aqueduct_connect_api::TimestampType::CreateTime,
        original_topic: "t".into(),
        original_partition: 0,
    }
}

#[tokio::test]
async fn values_pass_through_python_unchanged() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = program(dir.path());
    let (served, description) = served(&program, "test.EchoSink").await;
    let file = dir.path().join("echo");
    let mut task = ProcessSinkTask::new(served);
    let said = Arc::new(Said::default());
    let context = SinkTaskContext {
        connector: "c".into(),
        task: 0,
        shutdown: CancellationToken::new(),
        sink: said.clone(),
        notice: Default::default(),
    };
    task.start(context, &settings(&description, &file)).await.expect("starts");
    let samples = samples();
    let records: Vec<SinkRecord> =
        (0..).zip(&samples).map(|(n, (schema, value))| record(n, schema.clone(), value.clone())).collect();
    task.put(&records).await.expect("takes them");
    task.put(&records[..3]).await.expect("takes them");
    assert_eq!(*said.0.lock(), ["report 1 ValueError: not this one", "pause t-0", "commit"]);
    let place = TopicPartition { topic: "t".into(), partition: 0 };
    let safe = task.pre_commit(&[(place.clone(), 21)]).await.expect("is safe");
    assert_eq!(safe, [(place.clone(), 21)]);
    let large = "x".repeat(2 << 20);
    let error = task.put(&[record(99, None, large.into())]).await.expect_err("too large").to_string();
    assert!(error.contains("t-0@99") && error.contains("aqueduct.plugin.frame.max.bytes"), "{error}");
    task.close(&[place]).await.expect("closes");
    task.stop().await;

    let text = std::fs::read_to_string(file).expect("lines");
    let mut reader = aqueduct_connector_process::RecordReader::default();
    let back: Vec<_> = text
        .lines()
        .flat_map(|line| reader.read(line, 10).unwrap_or_else(|e| panic!("{e} in {line}")))
        .collect();
    assert_eq!(back.len(), samples.len() + 3);
    for (source, (schema, value)) in back.iter().zip(&samples) {
        assert_eq!(&source.record.value.value, value);
        assert_eq!(&source.record.value.schema, schema);
        assert_eq!(source.record.key.value, "k".into());
    }
}

#[derive(Default)]
struct Offsets(parking_lot::Mutex<Vec<String>>);

#[async_trait]
impl OffsetStore for Offsets {
    async fn read(&self, partitions: &[OffsetMap]) -> Result<Vec<Option<OffsetMap>>> {
        self.0.lock().push(format!("read {partitions:?}"));
        let at: OffsetMap = [("at".to_owned(), 41.into())].into_iter().collect();
        Ok(vec![Some(at); partitions.len()])
    }

    async fn store(&self, partition: &OffsetMap, offset: &OffsetMap) -> Result<()> {
        self.0.lock().push(format!("store {partition:?} {offset:?}"));
        Ok(())
    }
}

#[tokio::test]
async fn a_source_asks_for_offsets_and_gives_what_fits_a_message() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = program(dir.path());
    let (served, description) = served(&program, "test.BackSource").await;
    let file = dir.path().join("in");
    std::fs::write(&file, "x\n").expect("a file");
    let offsets = Arc::new(Offsets::default());
    let context = SourceTaskContext {
        connector: "c".into(),
        task: 0,
        shutdown: CancellationToken::new(),
        offsets: offsets.clone(),
        transactions: None,
        notice: Default::default(),
    };
    let mut task = ProcessSourceTask::new(served);
    task.start(context, &settings(&description, &file)).await.expect("starts");
    assert_eq!(offsets.0.lock().len(), 2, "{:?}", offsets.0.lock());
    assert!(task.poll().await.expect_err("the first time").is_retriable());
    let mut got = 0;
    while got < 5000 {
        let records = task.poll().await.expect("records");
        assert!(!records.is_empty() && records.len() <= 2000);
        assert_eq!(records[0].record.value.value, Value::Int64(got));
        assert_eq!(records[0].source_offset["at"], 42);
        got += i64::try_from(records.len()).expect("few");
    }
    // A poll that nobody waits for any more is in nobody's way.
    let _ = tokio::time::timeout(Duration::from_millis(1), task.poll()).await;
    task.stop().await;
    all_ended(Duration::from_secs(5)).await;
}
