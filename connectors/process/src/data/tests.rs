//! Every value survives the way there and back.

use std::sync::Arc;

use aqueduct_connect_api::{
    Decimal, Header, Record, Schema, SchemaAndValue, SchemaRef, SinkRecord, Struct, TimestampType, Type,
    Value,
};
use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;

/// A schema with a value of it.
fn typed_value() -> impl Strategy<Value = (SchemaRef, Value)> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|v| (Schema::of(Type::Boolean), v.into())),
        any::<i8>().prop_map(|v| (Schema::of(Type::Int8), v.into())),
        any::<i16>().prop_map(|v| (Schema::of(Type::Int16), v.into())),
        any::<i32>().prop_map(|v| (Schema::of(Type::Int32), v.into())),
        any::<i64>().prop_map(|v| (Schema::of(Type::Int64), v.into())),
        any::<f32>().prop_map(|v| (Schema::of(Type::Float32), v.into())),
        any::<f64>().prop_map(|v| (Schema::of(Type::Float64), v.into())),
        any::<String>().prop_map(|v| (Schema::of(Type::String), v.into())),
        any::<Vec<u8>>().prop_map(|v| (Schema::of(Type::Bytes), Value::Bytes(v.into()))),
        any::<i32>().prop_map(|v| (Schema::date_builder().build(), Value::Date(v))),
        any::<i32>().prop_map(|v| (Schema::time_builder().build(), Value::Time(v))),
        any::<i64>().prop_map(|v| (Schema::timestamp_builder().doc("when").build(), Value::Timestamp(v))),
        (any::<i128>(), 0i32..40).prop_map(|(v, scale)| {
            (Schema::decimal_builder(scale).build(), Value::Decimal(Decimal::new(BigInt::from(v), scale)))
        }),
        Just((Schema::optional_of(Type::Int64), Value::Null)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0usize..4).prop_map(|((schema, value), count)| {
                (Schema::array_builder(schema).build(), Value::Array(vec![value; count]))
            }),
            (inner.clone(), any::<Vec<String>>()).prop_map(|((schema, value), keys)| {
                let entries = keys.into_iter().map(|key| (key.into(), value.clone())).collect();
                (
                    Schema::map_builder(Schema::of(Type::String), schema).optional().build(),
                    Value::Map(entries),
                )
            }),
            prop::collection::vec(inner, 0..4).prop_map(|members| {
                let mut builder = Schema::struct_builder("s").version(3).parameter("p", "\"q\"");
                let mut values = Vec::new();
                for (index, (schema, value)) in members.into_iter().enumerate() {
                    builder = builder.field(format!("f{index}"), schema);
                    values.push(value);
                }
                let schema = builder.build();
                (schema.clone(), Struct::from_values(schema, values).into())
            }),
        ]
    })
}

/// NaN is equal to nothing: its text is.
fn same(a: &Value, b: &Value) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn typed_values_come_back((schema, value) in typed_value()) {
        let mut text = Vec::new();
        write_schema(&mut text, &schema).expect("a schema");
        let read = read_schema(std::str::from_utf8(&text).expect("text")).expect("a schema");
        prop_assert_eq!(&*read, &*schema);
        let mut text = Vec::new();
        write_typed(&mut text, &schema, &value).expect("its own value");
        let back = typed(&schema, std::str::from_utf8(&text).expect("text")).expect("as written");
        prop_assert!(same(&back, &value), "{:?} is not {:?}", back, value);
    }

    #[test]
    fn values_without_schema_come_back((_, value) in typed_value()) {
        let mut text = Vec::new();
        write_tagged(&mut text, &value).expect("a value");
        let back = tagged(std::str::from_utf8(&text).expect("text")).expect("as written");
        prop_assert!(same(&back, &value), "{:?} is not {:?}", back, value);
    }

    #[test]
    fn any_text_is_an_error_or_a_value(text in ".*", (schema, _) in typed_value()) {
        if serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok() {
            let _ = typed(&schema, text.trim());
            let _ = tagged(text.trim());
        }
        let _ = read_schema(&text);
        let _ = RecordReader::default().read(&text, 10);
    }
}

#[test]
fn values_look_as_documented() {
    let tagged_text = |value: Value| {
        let mut text = Vec::new();
        write_tagged(&mut text, &value).expect("a value");
        String::from_utf8(text).expect("text")
    };
    for (value, text) in [
        (Value::Int64(i64::MAX), "9223372036854775807"),
        (Value::Int32(7), r#"{"int32":7}"#),
        (Value::Float64(f64::NAN), r#"{"float64":"NaN"}"#),
        (Value::Float32(0.1), r#"{"float32":0.1}"#),
        (Value::Bytes(vec![0, 255].into()), r#"{"bytes":"AP8="}"#),
        (Value::Decimal(Decimal::new(1250, 2)), r#"{"decimal":"12.50"}"#),
        (Value::Date(1), r#"{"date":1}"#),
        (Value::Map(vec![("a".into(), Value::Null)]), r#"{"map":[["a",null]]}"#),
        (Value::Array(vec![true.into(), "x".into()]), r#"[true,"x"]"#),
    ] {
        assert_eq!(tagged_text(value), text);
    }
}

#[test]
fn wrong_values_are_named() {
    let schema = Schema::struct_builder("s")
        .field("n", Schema::of(Type::Int32))
        .field("d", Schema::decimal_builder(2).optional().build())
        .build();
    for (text, why) in [
        ("7", "an object of a struct's fields"),
        ("{}", "the required field n is missing"),
        (r#"{"n":null}"#, "field n: null was found for a required INT32"),
        (r#"{"n":2147483648}"#, "field n: a number of type INT32 was expected, 2147483648"),
        (r#"{"n":1.5}"#, "field n: a number of type INT32"),
        (r#"{"n":1,"m":2}"#, "has no field \"m\", its fields are n, d"),
        (r#"{"n":1,"d":"1.234"}"#, "field d: a decimal of at most 2 digits"),
        (r#"{"n":1,"d":"1E+999999999"}"#, "up to 10000 places"),
    ] {
        let error = typed(&schema, text).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    for (text, why) in [
        (r#"{"a":1,"b":2}"#, "one member that names the type"),
        (r#"{"money":1}"#, "\"money\" is not a type"),
        (r#"{"bytes":"%"}"#, "base64"),
        ("9223372036854775808", "INT64"),
    ] {
        let error = tagged(text).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let deep = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    assert!(tagged(&deep).expect_err("deep").to_string().contains("deeper"));
}

#[test]
fn records_are_read_with_their_schemas() {
    let text = r#"{"schemas":[{"type":"string"},{"type":"struct","fields":[{"type":"int64","field":"id"}]}],"records":[
        {"topic":"t","partition":3,"key":"k","key_schema":0,"value":{"id":7},"value_schema":1,"timestamp":5,
         "headers":[{"key":"h","value":{"int8":1}}],"source_partition":{"file":"a"},"source_offset":{"line":1}},
        {"topic":"t","source_partition":{"file":"a"},"source_offset":{"line":2}}]}"#;
    let mut reader = RecordReader::default();
    let records = reader.read(text, 10).expect("right");
    assert_eq!(records.len(), 2);
    let first = &records[0].record;
    assert_eq!((first.partition, first.timestamp), (Some(3), Some(5)));
    assert_eq!(first.key.value, "k".into());
    assert_eq!(first.value.value.as_struct().and_then(|s| s.get("id")), Some(&Value::Int64(7)));
    assert_eq!(first.headers[0].value.value, Value::Int8(1));
    assert_eq!(records[1].record.value, SchemaAndValue::NULL);
    assert!(Arc::ptr_eq(&records[0].source_partition, &records[1].source_partition));
    // Converters know a schema again by its address.
    let again = reader.read(text, 10).expect("right");
    let schema = |records: &[aqueduct_connect_api::SourceRecord]| records[0].record.value.schema.clone();
    assert!(Arc::ptr_eq(&schema(&records).expect("one"), &schema(&again).expect("one")));
    for (text, why) in [
        (r#"{"records":[{"topic":"t"}]}"#, "records[0]: missing field `source_partition`"),
        (r#"{"records":[{"topic":"","source_partition":{},"source_offset":{}}]}"#, "the topic is empty"),
        (
            r#"{"records":[{"topic":"t","value":1,"value_schema":0,"source_partition":{},"source_offset":{}}]}"#,
            "schema 0",
        ),
        (
            r#"{"records":[{"topic":"t","source_partition":{"a":[1]},"source_offset":{}}]}"#,
            "\"a\" is not a primitive",
        ),
        (r#"{"schemas":[{"type":"money"}]}"#, "schemas[0]: \"money\" is not a type"),
    ] {
        let error = RecordReader::default().read(text, 10).expect_err(text).to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(RecordReader::default().read(text, 1).is_err(), "more than were asked for");
}

fn sink_record(offset: i64, value: SchemaAndValue) -> SinkRecord {
    SinkRecord {
        record: Record {
            topic: "t".into(),
            partition: Some(0),
            value,
            headers: vec![Header { key: "h".into(), value: SchemaAndValue::schemaless("x".into()) }],
            timestamp: Some(9),
            offset: Some(offset),
            ..Record::default()
        },
        offset,
        timestamp_type: TimestampType::CreateTime,
        original_topic: "t".into(),
        original_partition: 0,
    }
}

#[test]
fn records_for_a_sink_are_cut_into_messages() {
    let schema = Schema::of(Type::String);
    let text = |len: usize| SchemaAndValue::new(Some(schema.clone()), "x".repeat(len).into());
    let records: Vec<SinkRecord> = (0..5).map(|n| sink_record(n, text(400))).collect();
    let mut writer = RecordWriter::default();
    let chunk = writer.chunk(&records, 1500, 10_000).expect("fits");
    assert_eq!(chunk.count, 2);
    let whole = format!("{{{}}}", String::from_utf8(chunk.members).expect("text"));
    let json: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(json["schemas"].as_array().map(Vec::len), Some(1));
    assert_eq!(json["records"][1]["offset"], 1);
    assert_eq!(json["records"][1]["value_schema"], 0);
    assert_eq!(json["records"][1]["headers"][0]["value"], "x");
    assert_eq!(json["records"][1]["timestamp_type"], "CreateTime");
    let large = [sink_record(7, text(20_000))];
    assert_eq!(writer.chunk(&large, 1500, 30_000).expect("alone").count, 1);
    let error = writer.chunk(&large, 1500, 10_000).expect_err("too large").to_string();
    assert!(error.contains("t-0@7") && error.contains("aqueduct.plugin.frame.max.bytes"), "{error}");
    assert_eq!(writer.chunk(&[], 1500, 10_000).expect("nothing").count, 0);
}
