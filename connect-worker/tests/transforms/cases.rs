//! What the transforms are given.

use serde_json::{Value as Json, json};

/// A transform, its settings, and the value of the record that it gets.
pub struct Case {
    pub class: &'static str,
    pub config: Vec<(&'static str, String)>,
    /// With `schema` and `payload`, or without a schema.
    pub value: Json,
    pub timestamp: Option<i64>,
}

impl Case {
    pub fn input(&self) -> Json {
        let config: serde_json::Map<String, Json> =
            self.config.iter().map(|(k, v)| ((*k).to_owned(), v.as_str().into())).collect();
        json!({ "class": self.class, "config": config, "value": self.value, "timestamp": self.timestamp })
    }
}

/// Why ours is to differ, where it is.
pub fn differs(case: &Case) -> Option<&'static str> {
    let has = |text: &str| case.config.iter().any(|(_, value)| value == text);
    match case.class {
        "MaskField$Value" if has("flag,price,day,hour,at") => {
            Some("a masked decimal keeps its schema's scale")
        }
        "SetSchemaMetadata$Value" if case.value["schema"]["type"] == "int32" => {
            Some("schemas that are no struct's can be named, too")
        }
        "InsertHeader" if has("1,2") || has("[1,2]x") => Some("no part of the text is dropped"),
        "InsertHeader" if has("[\"a\\\"b\"]") => Some("an escaped quote is a quote"),
        _ => None,
    }
}

fn of(kind: &str) -> Json {
    json!({ "type": kind, "optional": false })
}

fn optional(kind: &str) -> Json {
    json!({ "type": kind, "optional": true })
}

fn logical(kind: &str, name: &str) -> Json {
    let mut schema = json!({
        "type": kind, "optional": true, "name": format!("org.apache.kafka.connect.data.{name}"), "version": 1
    });
    if name == "Decimal" {
        schema["parameters"] = json!({ "scale": "2" });
    }
    schema
}

fn field(mut schema: Json, name: &str) -> Json {
    schema["field"] = name.into();
    schema
}

fn row() -> Json {
    let inner = json!({ "type": "struct", "optional": true, "fields": [
        field(of("int32"), "x"), field(optional("string"), "y"),
        field(json!({ "type": "struct", "optional": true, "fields": [field(optional("float"), "z")] }), "deep"),
    ]});
    json!({
        "schema": { "type": "struct", "optional": false, "name": "row", "version": 2, "doc": "a row", "fields": [
            field(of("int32"), "id"),
            field(optional("string"), "name"),
            field(json!({ "type": "string", "optional": true, "default": "none" }), "note"),
            field(optional("double"), "ratio"),
            field(optional("boolean"), "flag"),
            field(optional("bytes"), "raw"),
            field(logical("bytes", "Decimal"), "price"),
            field(logical("int32", "Date"), "day"),
            field(logical("int32", "Time"), "hour"),
            field(logical("int64", "Timestamp"), "at"),
            field(json!({ "type": "array", "optional": true, "items": of("int32") }), "list"),
            field(inner, "inner"),
        ]},
        "payload": {
            "id": 7, "name": "12", "note": null, "ratio": 300.75, "flag": true, "raw": "AQI=", "price": "AfQ=",
            "day": 19000, "hour": 3_600_000, "at": 1_700_000_000_123_i64, "list": [1, 2],
            "inner": { "x": 1, "y": "why", "deep": null },
        },
    })
}

fn map() -> Json {
    json!({ "id": 7, "name": "12", "ratio": 300.75, "flag": true, "nothing": null, "list": [1, 2],
            "inner": { "x": 1, "deep": { "z": 0.5 } }, "at": 1_700_000_000_123_i64, "text": "2023-11-14 22:13:20" })
}

fn plain(schema: Json, payload: Json) -> Json {
    json!({ "schema": schema, "payload": payload })
}

/// A class with settings, on a row, on a map, and on nothing.
fn on_all(cases: &mut Vec<Case>, class: &'static str, config: &[(&'static str, &str)]) {
    for value in [row(), map(), Json::Null] {
        on(cases, class, config, value);
    }
}

fn on(cases: &mut Vec<Case>, class: &'static str, config: &[(&'static str, &str)], value: Json) {
    let config = config.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    cases.push(Case { class, config, value, timestamp: Some(1_700_000_000_123) });
}

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    casts(&mut cases);
    shapes(&mut cases);
    timestamps(&mut cases);
    headers(&mut cases);
    cases
}

fn casts(cases: &mut Vec<Case>) {
    let all = ["int8", "int16", "int32", "int64", "float32", "float64", "boolean", "string"];
    for kind in all {
        for name in
            ["id", "name", "ratio", "flag", "price", "day", "hour", "at", "list", "raw", "nothing", "note"]
        {
            on_all(cases, "Cast$Value", &[("spec", &format!("{name}:{kind}"))]);
        }
        for (schema, payload) in [
            (of("int64"), json!(-3_000_000_000_i64)),
            (of("double"), json!(1e300)),
            (of("float"), json!(-0.75)),
            (of("string"), json!("x1")),
            (of("string"), json!("+5")),
            (of("string"), json!(" 5 ")),
            (of("string"), json!("1.5f")),
            (of("string"), json!("TRUE")),
            (of("boolean"), json!(true)),
            (json!({ "type": "int32", "optional": true, "default": 300 }), json!(null)),
        ] {
            on(cases, "Cast$Value", &[("spec", kind)], plain(schema, payload));
        }
        on(cases, "Cast$Value", &[("spec", kind)], json!("7"));
        on(cases, "Cast$Value", &[("spec", kind)], json!(1e10));
    }
    on_all(cases, "Cast$Value", &[("spec", "id:string,name:int64")]);
    on_all(cases, "Cast$Value", &[("spec", "note:string"), ("replace.null.with.default", "false")]);
    for spec in ["", "id:nope", "id:bytes", "a:b:c", "int8,int16", "id:int8,string", "id: INT8"] {
        on_all(cases, "Cast$Value", &[("spec", spec)]);
    }
}

fn shapes(cases: &mut Vec<Case>) {
    on_all(cases, "Flatten$Value", &[]);
    on_all(cases, "Flatten$Value", &[("delimiter", "_")]);
    let with_map = plain(
        json!({ "type": "struct", "optional": false, "fields": [field(json!({ "type": "map", "optional": false,
            "keys": of("string"), "values": of("int32") }), "m")] }),
        json!({ "m": { "a": 1 } }),
    );
    on(cases, "Flatten$Value", &[], with_map);
    on_all(cases, "HoistField$Value", &[("field", "whole")]);
    on(cases, "HoistField$Value", &[("field", "whole")], plain(of("int32"), json!(1)));
    on(cases, "HoistField$Value", &[("field", "whole")], json!([1, "a"]));
    for fields in [
        &[("topic.field", "t!"), ("partition.field", "p"), ("offset.field", "o?"), ("timestamp.field", "ts")]
            [..],
        &[("static.field", "s"), ("static.value", "fixed")],
        &[("static.field", "s!")],
        &[],
        &[("topic.field", "name")],
        &[("timestamp.field", "ts!"), ("replace.null.with.default", "false")],
    ] {
        on_all(cases, "InsertField$Value", fields);
    }
    on(cases, "InsertField$Value", &[("topic.field", "t")], json!("text"));
    for fields in
        ["id", "name,ratio", "flag,price,day,hour,at", "list", "raw", "inner", "nothing,absent", "note", ""]
    {
        on_all(cases, "MaskField$Value", &[("fields", fields)]);
        on_all(cases, "MaskField$Value", &[("fields", fields), ("replacement", "12")]);
        on_all(cases, "MaskField$Value", &[("fields", fields), ("replacement", "xx")]);
    }
    on_all(cases, "MaskField$Value", &[("fields", "id"), ("replacement", "")]);
    for config in [
        &[("exclude", "id,inner")][..],
        &[("include", "id,name,absent")],
        &[("include", "id,name"), ("exclude", "name")],
        &[("renames", "id:key,name:title")],
        &[("include", "id,note"), ("renames", "note:remark"), ("replace.null.with.default", "false")],
        &[("renames", "a:b:c")],
        &[("renames", "a")],
        &[],
    ] {
        on_all(cases, "ReplaceField$Value", config);
    }
    for config in [
        &[("schema.name", "new"), ("schema.version", "9")][..],
        &[("schema.version", "9")],
        &[("schema.name", "only.name")],
        &[],
        &[("schema.version", "x")],
    ] {
        on_all(cases, "SetSchemaMetadata$Value", config);
        on(cases, "SetSchemaMetadata$Value", config, plain(of("int32"), json!(1)));
    }
    on_all(cases, "Filter", &[]);
    on_all(cases, "ValueToKey", &[("fields", "id,name")]);
    on_all(cases, "ValueToKey", &[("fields", "note")]);
    on_all(cases, "ExtractField$Value", &[("field", "inner")]);
    on_all(cases, "ExtractField$Value", &[("field", "inner.deep.z"), ("field.syntax.version", "V2")]);
    on_all(cases, "ExtractField$Value", &[("field", "note"), ("replace.null.with.default", "false")]);
    on_all(cases, "RegexRouter", &[("regex", "(topic)-(.)"), ("replacement", "$2.$1")]);
    on_all(cases, "RegexRouter", &[("regex", "topic"), ("replacement", "x")]);
}

fn timestamps(cases: &mut Vec<Case>) {
    for format in ["yyyyMMdd", "yyyy-'w'ww", "EEE dd MMM", "YYYY", "hh a", "DDD F W u", "bad pattern"] {
        on(cases, "TimestampRouter", &[("timestamp.format", format)], map());
        on(
            cases,
            "TimestampRouter",
            &[("timestamp.format", format), ("topic.format", "x-${timestamp}-${topic}")],
            map(),
        );
    }
    let config = vec![];
    cases.push(Case { class: "TimestampRouter", config, value: map(), timestamp: None });
    for target in ["string", "unix", "Date", "Time", "Timestamp", "nope"] {
        for precision in ["seconds", "milliseconds", "microseconds", "nanoseconds"] {
            let config =
                [("target.type", target), ("format", "yyyy-MM-dd HH:mm:ss"), ("unix.precision", precision)];
            for name in ["at", "day", "hour", "text", "id", "name", "absent"] {
                let config: Vec<_> = config.iter().copied().chain([("field", name)]).collect();
                on_all(cases, "TimestampConverter$Value", &config);
            }
            for value in [
                plain(logical("int64", "Timestamp"), json!(1_700_000_000_123_i64)),
                plain(logical("int64", "Timestamp"), json!(-1_700_000_000_123_i64)),
                plain(logical("int32", "Date"), json!(-5)),
                plain(of("int64"), json!(1_700_000_000_i64)),
                plain(optional("string"), json!("2024-02-30 10:00:00")),
                plain(optional("string"), json!("yesterday")),
                plain(optional("string"), json!(null)),
                json!("2024-02-29 23:59:59 and more"),
                json!(5),
                json!(true),
                Json::Null,
            ] {
                on(cases, "TimestampConverter$Value", &config, value);
            }
        }
        on_all(cases, "TimestampConverter$Value", &[("target.type", target), ("field", "at")]);
    }
    for (format, text) in [
        ("yyyyMMddHHmmssSSS", "20231114221320123"),
        ("EEE, d MMM yyyy HH:mm:ss Z", "Tue, 14 Nov 2023 22:13:20 +0100"),
        ("dd/MM/yy", "1/2/03"),
        ("dd/MM/yy", "1/2/1903"),
        ("yyyy-MM-dd'T'HH:mm:ss.SSSX", "2023-11-14T22:13:20.5-03"),
        ("yyyy-MM-dd'T'HH:mm:ssXXX", "2023-11-14T22:13:20+05:30"),
        ("MMMM d, yyyy h:mm a", "march 5, 2024 12:01 am"),
        ("yyyy DDD", "2024 366"),
        ("HH:mm", "25:61"),
    ] {
        let config = [("target.type", "unix"), ("format", format)];
        on(cases, "TimestampConverter$Value", &config, plain(of("string"), json!(text)));
    }
}

fn headers(cases: &mut Vec<Case>) {
    for operation in ["move", "copy", "swap"] {
        for (fields, names) in
            [("id,name", "a,b"), ("id", "a,b"), ("list", "l"), ("note", "n"), ("absent", "x")]
        {
            // Kafka fails on a field that the schema does not have, too, but only by accident.
            let config = [("fields", fields), ("headers", names), ("operation", operation)];
            on_all(cases, "HeaderFrom$Value", &config);
        }
    }
    let config = [("fields", "inner,list"), ("headers", "i,l"), ("operation", "move")];
    on(cases, "HeaderFrom$Value", &config, row());
    on(cases, "InsertHeader", &[("header", ""), ("value.literal", "x")], row());
    on_all(cases, "DropHeaders", &[("headers", "old,other")]);
    on_all(cases, "DropHeaders", &[("headers", "other")]);
    for literal in [
        "text",
        " text ",
        "",
        "null",
        "true",
        "true}",
        "False",
        "1",
        "-1",
        "+1",
        "127",
        "128",
        "40000",
        "3000000000",
        "9223372036854775808",
        "1.5",
        "1.0",
        "1e3",
        "1.5e300",
        "1e400",
        "0x10",
        "12 apples",
        "1,2",
        "[1,2]",
        "[1, 2.5]",
        "[1,true]",
        "[]",
        "[null]",
        "[1,,2]",
        "[1,2",
        "[1,2]x",
        "{}",
        "{\"a\":1}",
        "{\"a\":1,\"b\":\"x\"}",
        "{a:1}",
        "{\"a\"}",
        "{1:2,300:4}",
        "[\"a\",\"b,c\"]",
        "[\"a\\\"b\"]",
        "\"quoted\"",
        "2023-11-14",
        "2023-11-14T22:13:20.123Z",
        "22:13:20.123Z",
        "2023-13-14",
        "[2023-11-14]",
        "a:b",
        "[[1],[2]]",
        "[{\"a\":[1]}]",
        "{\"a\":{\"b\":null}}",
        "\\",
        "-",
        "+",
        "1.",
        ".5",
        "NaN",
        "Infinity",
        "[true,false]",
        "[ 1 , 2 ]",
        "{ \"a\" : 1 }",
        "100000000000000000000.5",
    ] {
        on(cases, "InsertHeader", &[("header", "h"), ("value.literal", literal)], json!(1));
    }
}
