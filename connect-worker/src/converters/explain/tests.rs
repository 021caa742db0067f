use aqueduct_connect_api::{Schema, Struct, Type};

use super::*;

fn said(converter: &str, bytes: &[u8]) -> String {
    let record = Unreadable {
        topic: "orders",
        partition: 3,
        offset: 42,
        part: Part::Value,
        converter,
        bytes: Some(bytes),
    };
    explain(&record, &|class| class.starts_with("org.apache.kafka."))
}

#[test]
fn each_format_is_named_with_the_setting_to_change() {
    const LONG: &str = "org.apache.kafka.connect.converters.LongConverter";
    let json_schema = b"\0\0\0\0\x05{\"a\":1}";
    let cases: [(&str, &[u8], &[&str]); 20] = [
        (
            JSON,
            br#"{"id":1}"#,
            &["JSON without a schema, an object", "Set value.converter.schemas.enable=false"],
        ),
        (
            JSON,
            br#"{"schema":{"type":"int8"},"payload":300}"#,
            &["JSON with its schema", "does not fit its schema"],
        ),
        (
            LONG,
            br#"{"schema":null,"payload":1}"#,
            &[
                "Set value.converter=org.apache.kafka.connect.json.JsonConverter and value.converter.schemas.enable=true",
            ],
        ),
        (
            JSON,
            br#"{"id":1"#,
            &[
                "JSON that is broken: EOF while parsing an object",
                "Correct what writes",
                "errors.tolerance=all",
            ],
        ),
        (
            JSON,
            b"plain words",
            &["UTF-8 text", "Set value.converter=org.apache.kafka.connect.storage.StringConverter"],
        ),
        (LONG, b"1234", &["JSON without a schema, a number", "StringConverter"]),
        (JSON, b"true blue", &["UTF-8 text"]),
        (
            JSON,
            b"\0\0\0\0\x07\x02\x06abc",
            &[
                "Avro in the wire format of a schema registry, with schema id 7",
                "io.confluent.connect.avro.AvroConverter reads it, which this worker does not have",
                "ByteArrayConverter",
            ],
        ),
        (
            JSON,
            b"\0\0\0\x01\0\0\x08\x96\x01\x12\x03abc",
            &["Protobuf in the wire format", "schema id 256", "ProtobufConverter"],
        ),
        (JSON, json_schema, &["JSON Schema in the wire format", "schema id 5", "JsonSchemaConverter"]),
        (
            JSON,
            &1_700_000_000_000_i64.to_be_bytes(),
            &[
                "an int64 (1700000000000)",
                "Set value.converter=org.apache.kafka.connect.converters.LongConverter (or DoubleConverter)",
            ],
        ),
        (JSON, &7_i64.to_be_bytes(), &["an int64 (7)"]),
        (LONG, &7_i32.to_be_bytes(), &["an int32 (7)", "IntegerConverter (or FloatConverter)"]),
        (LONG, &[0x80, 0x07], &["an int16 (-32761)", "ShortConverter"]),
        (LONG, &[1], &["1 byte: 01", "a boolean", "BooleanConverter"]),
        (
            JSON,
            b"\xac\xed\x00\x05sr\0\x0ejava.util.Map",
            &["an object that Java serialised", "ByteArrayConverter"],
        ),
        (JSON, b"\x1f\x8b\x08\0\0\0\0", &["gzip data"]),
        (JSON, b"\x08\x96\x01\x12\x05\xff\xfe\xfd\xfc\xfb", &["Protobuf without"]),
        (JSON, b"\xff\xfeh\0i\0", &["UTF-16 text"]),
        (JSON, b"\x80\x81\x82\x83\x84", &["binary data of no format", "80 81 82 83 84"]),
    ];
    for (converter, bytes, parts) in cases {
        let said = said(converter, bytes);
        assert!(said.starts_with("the value of orders-3@42 ("), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }
}

#[test]
fn the_first_bytes_are_shown_bounded_and_never_secrets() {
    let said = said(JSON, br#"{"id":1,"name":"somebody with a very long name indeed"}"#);
    assert!(said.contains("55 bytes: 7b 22 69 64 22 3a 31 2c 22 6e 61 6d 65 22 3a 22…, "), "{said}");
    assert!(said.contains(r#""{"id":1,"name":"somebody with a very lon…""#), "{said}");
    let said = self::said(JSON, br#"{"user":"u","Password":"hunter2"}"#);
    assert!(
        said.contains("33 bytes, not shown") && !said.contains("hunter2") && !said.contains("7b"),
        "{said}"
    );
    assert!(self::said(JSON, &vec![b'x'; 1 << 22]).len() < 400);
}

#[test]
fn key_header_and_nothing_have_their_words() {
    let of = |part, bytes| {
        let record = Unreadable { topic: "t", partition: 0, offset: 1, part, converter: JSON, bytes };
        explain(&record, &|_| true)
    };
    let key = of(Part::Key, Some(b"\0\0\0\0\x07\x02".as_slice()));
    assert!(key.starts_with("the key of t-0@1") && key.contains("Set key.converter=io.confluent.connect.avro.AvroConverter and key.converter.schema.registry.url"), "{key}");
    let header = of(Part::Header("h"), Some(b"x y".as_slice()));
    assert!(
        header.starts_with("the header \"h\" of t-0@1") && header.contains("header.converter="),
        "{header}"
    );
    let empty = of(Part::Value, Some(b"".as_slice()));
    assert!(empty.contains("is empty, which JsonConverter does not read"), "{empty}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let schema = Schema::struct_builder("org.example.Order").field("id", Schema::of(Type::Int64)).build();
    let order: Value = Struct::new(schema.clone()).into();
    let said = explain_unwritable("t", Part::Value, RAW, Some(&schema), &order);
    assert_eq!(
        said,
        "the value for topic t is of type STRUCT (org.example.Order), which ByteArrayConverter does not write. Set \
         value.converter=org.apache.kafka.connect.json.JsonConverter"
    );
    let text = Schema::of(Type::String);
    let said = explain_unwritable("t", Part::Key, RAW, Some(&text), &"x".into());
    assert!(said.contains("Set key.converter=org.apache.kafka.connect.storage.StringConverter"), "{said}");
    let said = explain_unwritable("t", Part::Value, JSON, Some(&text), &1i32.into());
    assert!(said.contains("a defect of the connector or of a transform"), "{said}");
    let said = explain_unwritable("t", Part::Value, RAW, None, &Value::Int8(1));
    assert!(said.contains("java.lang.Byte without a schema") && said.contains("JsonConverter"), "{said}");
}
