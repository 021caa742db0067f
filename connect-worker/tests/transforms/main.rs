//! Our transforms beside Kafka's own: the same records, the same settings, the same results.

mod cases;

use std::process::Stdio;

use aqueduct_connect_api::{ConfigMap, Converter, Error, Factory, Header, Plugin, Record, SchemaAndValue};
// Linked for the plugins that it registers.
use aqueduct_connect_worker as _;
use serde_json::{Value as Json, json};

use cases::Case;

/// What Kafka's transforms answer, in the order of the cases.
fn kafkas(cases: &[Case]) -> Vec<Json> {
    let mut child = aqueduct_tests::kafka::java(
        "256m",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transforms/Apply.java"),
    )
    .expect("Kafka is installed")
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("cannot start java: install a JDK, 17 or later");
    let lines: String = cases.iter().map(|case| format!("{}\n", case.input())).collect();
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, lines.as_bytes()));
    let output = child.wait_with_output().expect("java ends");
    writer.join().expect("no panic").expect("java reads its input");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let answers: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), cases.len(), "java gave up: {}", output.status);
    answers
}

fn plugin(class: &str) -> &'static Plugin {
    Plugin::by_class(class).unwrap_or_else(|| panic!("{class} is not registered"))
}

fn json_converter(schemas: bool) -> Box<dyn Converter> {
    let plugin = plugin("org.apache.kafka.connect.json.JsonConverter");
    let Factory::Converter(make) = plugin.factory else { panic!("no converter") };
    let map: ConfigMap = [("schemas.enable".to_owned(), schemas.to_string())].into();
    let mut converter = make();
    converter.configure(&(plugin.config)().parse(&map).expect("good"), false).expect("good");
    converter
}

fn header_text(header: &Header) -> Json {
    let plugin = plugin("org.apache.kafka.connect.storage.SimpleHeaderConverter");
    let Factory::HeaderConverter(make) = plugin.factory else { panic!("no header converter") };
    let SchemaAndValue { schema, value } = &header.value;
    let text = make().encode("t", &header.key, schema.as_deref(), value).expect("text");
    text.map_or(Json::Null, |text| String::from_utf8(text.to_vec()).expect("UTF-8").into())
}

fn written(half: &SchemaAndValue) -> Result<Json, Error> {
    let bytes = json_converter(true).encode("t", &[], half.schema.as_ref(), &half.value)?;
    Ok(bytes.map_or(Json::Null, |bytes| serde_json::from_slice(&bytes).expect("JSON")))
}

fn ours(case: &Case) -> Result<Json, Error> {
    let plugin = plugin(&format!("org.apache.kafka.connect.transforms.{}", case.class));
    let Factory::Transformation(make) = plugin.factory else { panic!("{} is no transform", case.class) };
    let map: ConfigMap = case.config.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let mut transform = make();
    transform.configure(&(plugin.config)().parse(&map)?)?;
    let bytes = serde_json::to_vec(&case.value).expect("JSON").into();
    let schemas = case.value.get("schema").is_some();
    let value = json_converter(schemas).decode("t", &[], (!case.value.is_null()).then_some(&bytes))?;
    let old = Header { key: "old".into(), value: string("x") };
    let record = Record {
        topic: "topic-a".into(),
        partition: Some(3),
        key: SchemaAndValue::schemaless("k".into()),
        value,
        headers: vec![old],
        timestamp: case.timestamp,
        offset: Some(42),
    };
    let Some(out) = transform.apply(record)? else { return Ok(json!({ "dropped": true })) };
    let headers: Vec<Json> = out
        .headers
        .iter()
        .map(|header| {
            let kind = header
                .value
                .schema
                .as_ref()
                .map(|of| format!("{}:{}", of.kind().name(), of.name().unwrap_or("null")));
            json!({ "name": header.key.to_string(), "text": header_text(header), "type": kind })
        })
        .collect();
    Ok(
        json!({ "topic": out.topic.to_string(), "value": written(&out.value)?, "key": written(&out.key)?, "headers": headers }),
    )
}

fn string(text: &str) -> SchemaAndValue {
    use aqueduct_connect_api::{Schema, Type};
    SchemaAndValue::new(Some(Schema::of(Type::String)), text.into())
}

/// Equal, but for digits that a float does not have: Java writes some of them all the same.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Json::Number(a), Json::Number(b)) if a.is_f64() && b.is_f64() => {
            a.as_f64().map(|n| n as f32) == b.as_f64().map(|n| n as f32)
        }
        (a, b) => a == b,
    }
}

#[test]
fn transforms_do_what_kafkas_do() {
    let cases = cases::all();
    let mut wrong = Vec::new();
    for (case, kafka) in cases.iter().zip(kafkas(&cases)) {
        match (ours(case), kafka.get("error")) {
            (Err(_), Some(_)) => {}
            (Ok(ours), _) if cases::differs(case).is_some() && !same(&ours, &kafka) => {}
            (Ok(ours), None) if same(&ours, &kafka) => {}
            (Ok(ours), _) => wrong.push(format!("{}\n  ours  {ours}\n  Kafka {kafka}", case.input())),
            (Err(error), None) => wrong.push(format!("{}\n  ours  {error}\n  Kafka {kafka}", case.input())),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
