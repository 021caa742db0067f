use aqueduct_connect_api::{ConfigMap, Decimal, Schema, Struct, Type};

use super::*;

fn converter(settings: &[(&str, &str)]) -> JsonConverter {
    let map: ConfigMap = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut converter = JsonConverter::default();
    converter.configure(&config().parse(&map).expect("good settings"), false).expect("configured");
    converter
}

fn text(bytes: Option<Bytes>) -> String {
    String::from_utf8(bytes.expect("some bytes").to_vec()).expect("UTF-8")
}

#[test]
fn envelope_is_written_as_the_reference_writes_it() {
    let schema = Schema::struct_builder("row")
        .field("id", Schema::of(Type::Int32))
        .field("name", Schema::builder(Type::String).optional().doc("who").default_value("x".into()).build())
        .field("price", Schema::decimal_builder(2).optional().build())
        .field("tags", Schema::array_builder(Schema::of(Type::String)).build())
        .field(
            "map",
            Schema::map_builder(Schema::of(Type::Int8), Schema::of(Type::Boolean)).optional().build(),
        )
        .version(3)
        .build();
    let mut row = Struct::new(schema.clone());
    row.put("id", 7).expect("fits");
    row.put("price", Decimal::new(12345, 2)).expect("fits");
    row.put("tags", Value::Array(vec!["a\n\u{1}\"".into()])).expect("fits");
    row.put("map", Value::Map(vec![(Value::Int8(1), true.into())])).expect("fits");
    let mut json = converter(&[]);
    let written = json.encode("t", &[], Some(&schema), &row.clone().into()).expect("encodes");
    assert_eq!(
        text(written.clone()),
        concat!(
            r#"{"schema":{"type":"struct","fields":["#,
            r#"{"type":"int32","optional":false,"field":"id"},"#,
            r#"{"type":"string","optional":true,"doc":"who","default":"x","field":"name"},"#,
            r#"{"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"#,
            r#""parameters":{"scale":"2"},"field":"price"},"#,
            r#"{"type":"array","items":{"type":"string","optional":false},"optional":false,"field":"tags"},"#,
            r#"{"type":"map","keys":{"type":"int8","optional":false},"values":{"type":"boolean","optional":false},"#,
            r#""optional":true,"field":"map"}],"optional":false,"name":"row","version":3},"#,
            r#""payload":{"id":7,"name":"x","price":"MDk=","tags":["a\n\u0001\""],"map":[[1,true]]}}"#
        )
    );
    let back = json.decode("t", &[], written.as_ref()).expect("decodes");
    assert_eq!(back.schema.as_deref(), Some(&*schema));
    let back = back.value.as_struct().expect("a struct").clone();
    assert_eq!(back.get_without_default("name"), Some(&Value::from("x")));
    assert_eq!(back.get("price"), row.get("price"));
    assert_eq!(back.get("map"), row.get("map"));
}

#[test]
fn plain_json_finds_its_types() {
    let mut json = converter(&[("schemas.enable", "false")]);
    let bytes = Bytes::from_static(br#"{"b":1,"a":[1.5,null,"x",true],"c":{"d":18446744073709551615}}"#);
    let read = json.decode("t", &[], Some(&bytes)).expect("decodes");
    assert_eq!(read.schema, None);
    assert_eq!(read.value.map_get("b"), Some(&Value::Int64(1)));
    let array = Value::Array(vec![Value::Float64(1.5), Value::Null, "x".into(), true.into()]);
    assert_eq!(read.value.map_get("a"), Some(&array));
    let plain = Bytes::from_static(br#"{"b":1,"a":[1.5,null,"x",true]}"#);
    let read = json.decode("t", &[], Some(&plain)).expect("decodes");
    assert_eq!(json.encode("t", &[], None, &read.value).expect("encodes"), Some(plain));
}

#[test]
fn decimals_keep_every_digit() {
    let schema = Schema::decimal_builder(4).build();
    let value = Value::Decimal("123456789012345678901234567890.1234".parse().expect("a decimal"));
    for format in ["BASE64", "NUMERIC"] {
        let mut json = converter(&[("decimal.format", format)]);
        let written = json.encode("t", &[], Some(&schema), &value).expect("encodes");
        assert_eq!(json.decode("t", &[], written.as_ref()).expect("decodes").value, value, "{format}");
    }
}

#[test]
fn nulls_follow_schema_and_defaults() {
    let mut json = converter(&[]);
    assert_eq!(json.encode("t", &[], None, &Value::Null).expect("encodes"), None);
    assert_eq!(json.decode("t", &[], None).expect("decodes"), SchemaAndValue::NULL);
    let optional = Schema::optional_of(Type::Int32);
    let written = json.encode("t", &[], Some(&optional), &Value::Null).expect("encodes");
    assert_eq!(text(written), r#"{"schema":{"type":"int32","optional":true},"payload":null}"#);
    let error = json.encode("t", &[], Some(&Schema::of(Type::Int32)), &Value::Null).expect_err("required");
    assert!(error.to_string().contains("null value for field that is required"), "{error}");
    let with_default = Schema::builder(Type::Int32).default_value(Value::Int32(5)).optional().build();
    let mut keep = converter(&[("replace.null.with.default", "false")]);
    let kept = keep.encode("t", &[], Some(&with_default), &Value::Null).expect("encodes");
    assert!(text(kept).ends_with(r#""payload":null}"#));
    assert!(
        text(json.encode("t", &[], Some(&with_default), &Value::Null).expect("encodes"))
            .ends_with(r#""payload":5}"#)
    );
}

#[test]
fn bad_input_says_what_is_wrong() {
    let mut json = converter(&[]);
    for (input, part) in [
        ("{\"a\":1}", "requires \"schema\" and \"payload\""),
        ("[1]", "requires \"schema\" and \"payload\""),
        ("{\"schema\":null}", "requires \"schema\" and \"payload\""),
        ("{\"schema\":null,\"payload\":1,\"x\":2}", "requires \"schema\" and \"payload\""),
        ("nonsense", "serialization error"),
        ("{\"schema\":{\"type\":\"int9\"},\"payload\":1}", "Unknown schema type: int9"),
        ("{\"schema\":{\"type\":\"int8\"},\"payload\":300}", "300 does not fit INT8"),
        ("{\"schema\":{\"type\":\"int8\"},\"payload\":\"x\"}", "INT8 was expected, text was found"),
        (
            "{\"schema\":{\"type\":\"struct\",\"fields\":[{\"type\":\"int8\",\"field\":\"f\"}]},\"payload\":{}}",
            "field \"f\"",
        ),
    ] {
        let error = json.decode("t", &[], Some(&Bytes::from(input))).expect_err(input);
        assert!(error.to_string().contains(part), "{input}: {error}");
    }
    let error = json.decode("t", &[], Some(&Bytes::from_static(b"Obj\x01"))).expect_err("not JSON");
    assert!(error.trace().contains("start with \"Obj"), "{}", error.trace());
}

#[test]
fn a_fixed_schema_types_plain_payloads() {
    let content = r#"{"type":"struct","fields":[{"type":"int16","field":"n"}]}"#;
    let mut json = converter(&[("schema.content", content)]);
    let read = json.decode("t", &[], Some(&Bytes::from_static(b"{\"n\":3}"))).expect("decodes");
    assert_eq!(read.value.as_struct().and_then(|s| s.get("n")), Some(&Value::Int16(3)));
}

#[test]
fn special_floats_are_quoted() {
    let mut json = converter(&[]);
    let schema = Schema::of(Type::Float64);
    for value in [f64::INFINITY, f64::NEG_INFINITY] {
        let written = json.encode("t", &[], Some(&schema), &Value::Float64(value)).expect("encodes");
        assert_eq!(
            json.decode("t", &[], written.as_ref()).expect("decodes").value,
            Value::Float64(if value > 0.0 { f64::INFINITY } else { f64::NEG_INFINITY })
        );
    }
    let written = json.encode("t", &[], Some(&schema), &Value::Float64(1e7)).expect("encodes");
    assert!(text(written).ends_with("\"payload\":1.0E7}"));
}
