//! The sink against a real Elasticsearch, as a worker runs it.

mod harness;

use std::time::{Duration, Instant};

use aqueduct_connect_api::{ConfigMap, Decimal, Factory, Schema, Struct, Type, Value};
use harness::{Task, documents, plain, plugin, record, server, settings};
use serde_json::json;

#[tokio::test]
async fn documents_never_go_back_in_time() {
    let server = server();
    let pairs = [("schema.ignore", "true"), ("behavior.on.null.values", "delete")];
    let mut task = Task::start(&server.url(""), "Times", false, &pairs).await;
    let records = [
        plain("Times", 0, "a", Some(1)),
        plain("Times", 1, "b", Some(1)),
        plain("Times", 2, "c", Some(1)),
        plain("Times", 3, "a", Some(2)),
        plain("Times", 4, "b", None),
        plain("Times", 5, "never there", None),
    ];
    task.write(&records).await.expect("written");
    let expected = [("a".to_owned(), 3, json!({"n": 2})), ("c".to_owned(), 2, json!({"n": 1}))];
    assert_eq!(documents(&server, "times"), expected);
    // After a crash everything comes again, perhaps not all of it before the next crash.
    for upto in 1..=records.len() {
        let mut again = Task::start(&server.url(""), "Times", false, &pairs).await;
        again.write(&records[..upto]).await.expect("written again");
        assert_eq!(documents(&server, "times"), expected, "after a replay of {upto}");
    }
}

#[tokio::test]
async fn ignored_keys_make_ids_of_the_place() {
    let server = server();
    let pairs = [("schema.ignore", "true"), ("key.ignore", "true")];
    let mut task = Task::start(&server.url(""), "places", false, &pairs).await;
    let records = [record("places", 7, Value::Null, None, Value::Map(vec![("n".into(), 1.into())]))];
    task.write(&records).await.expect("written");
    task.write(&records).await.expect("written again");
    assert_eq!(documents(&server, "places"), [("places+0+7".to_owned(), 2, json!({"n": 1}))]);
}

#[tokio::test]
async fn a_schema_becomes_a_mapping_and_its_values_documents() {
    let server = server();
    let schema = Schema::struct_builder("row")
        .field("id", Schema::of(Type::Int64))
        .field("name", Schema::optional_of(Type::String))
        .field("price", Schema::decimal_builder(2).build())
        .field("at", Schema::timestamp_builder().build())
        .field("data", Schema::of(Type::Bytes))
        .build();
    let mut row = Struct::new(schema.clone());
    row.put("id", 9_007_199_254_740_993_i64).expect("fits");
    row.put("name", "ü\n").expect("fits");
    row.put("price", Decimal::new(1250, 2)).expect("fits");
    row.put("at", Value::Timestamp(1_700_000_000_000)).expect("fits");
    row.put("data", bytes::Bytes::from_static(&[0, 255])).expect("fits");
    let mut task = Task::start(&server.url(""), "rows", false, &[]).await;
    task.write(&[record("rows", 0, 5_i64.into(), Some(schema), row.into())]).await.expect("written");
    let found = documents(&server, "rows");
    let source = json!({
        "id": 9_007_199_254_740_993_i64, "name": "ü\n", "price": 12.5, "at": 1_700_000_000_000_i64, "data": "AP8="
    });
    assert_eq!(found, [("5".to_owned(), 0, source)]);
    let mapping = server.rest("GET", "/rows/_mapping", None).expect("a mapping").body;
    let properties = &mapping["rows"]["mappings"]["properties"];
    assert_eq!(properties["price"]["type"], "double");
    assert_eq!(properties["at"]["type"], "date");
    assert_eq!(properties["name"]["fields"]["keyword"]["ignore_above"], 256);
}

#[tokio::test]
async fn refused_documents_become_dead_letters() {
    let server = server();
    let mapping = json!({ "mappings": { "properties": { "n": { "type": "integer" } } } });
    server.rest("PUT", "/letters", Some(&mapping)).expect("an index");
    let bad = record("letters", 1, "bad".into(), None, Value::Map(vec![("n".into(), "many".into())]));
    let records = [
        plain("letters", 0, "a", Some(1)),
        bad,
        plain("letters", 2, "", None),
        plain("letters", 3, "b", Some(2)),
    ];
    let pairs = [("schema.ignore", "true")];
    let mut task = Task::start(&server.url(""), "letters", true, &pairs).await;
    task.write(&records).await.expect("written");
    let ids: Vec<String> = documents(&server, "letters").into_iter().map(|d| d.0).collect();
    assert_eq!(ids, ["a", "b"]);
    let mut letters = task.letters.taken.lock().expect("no panic").clone();
    letters.sort();
    assert_eq!(letters.iter().map(|l| l.0).collect::<Vec<_>>(), [1, 2]);
    assert!(letters[0].1.contains("letters-0@1") && letters[0].1.contains("many"), "{letters:?}");
    assert!(letters[1].1.contains("behavior.on.null.values"), "{letters:?}");
    // Without dead letters the task fails and says what to do, unless that is not wanted.
    let mut strict = Task::start(&server.url(""), "letters", false, &pairs).await;
    let error = strict.write(&records[..2]).await.expect_err("refused").to_string();
    assert!(error.contains("letters-0@1") && error.contains("behavior.on.malformed.documents"), "{error}");
    let lenient = [("schema.ignore", "true"), ("behavior.on.malformed.documents", "warn")];
    let mut lenient = Task::start(&server.url(""), "letters", false, &lenient).await;
    lenient.write(&records[..2]).await.expect("left out");
}

#[tokio::test]
async fn a_server_with_too_much_to_do_is_waited_for() {
    let server = server();
    let block = |on: bool| {
        // Such a block turns each operation away with 429.
        let settings = json!({ "index.blocks.read_only_allow_delete": on.then_some(true) });
        server.rest("PUT", "/busy/_settings", Some(&settings)).expect("set");
    };
    let pairs = [("schema.ignore", "true"), ("batch.size", "3"), ("retry.backoff.ms", "50")];
    let mut task = Task::start(&server.url(""), "busy", false, &pairs).await;
    task.write(&[plain("busy", 0, "a", Some(0))]).await.expect("written");
    block(true);
    let records: Vec<_> = (1..20).map(|i| plain("busy", i, &format!("k{}", i % 4), Some(i))).collect();
    // More than the requests that may be under way: the rest waits in `put`.
    let released = tokio::time::sleep(Duration::from_millis(1500));
    let (put, ()) = tokio::join!(task.put(&records[..9]), async {});
    put.expect("taken");
    assert_eq!(task.committed().await.expect("no failure"), 1, "nothing of this is in the index");
    released.await;
    block(false);
    task.write(&records[9..]).await.expect("written");
    let found = documents(&server, "busy");
    let last: Vec<_> = found.iter().map(|d| (d.0.as_str(), d.2["n"].as_i64().unwrap_or_default())).collect();
    assert_eq!(last, [("a", 0), ("k0", 16), ("k1", 17), ("k2", 18), ("k3", 19)]);
}

#[tokio::test]
async fn updates_merge_in_order() {
    let server = server();
    let pairs =
        [("schema.ignore", "true"), ("write.method", "upsert"), ("batch.size", "2"), ("linger.ms", "0")];
    let mut task = Task::start(&server.url(""), "merged", false, &pairs).await;
    let field = |offset: i64, name: &str, value: i64| {
        let map = Value::Map(vec![(name.into(), value.into())]);
        record("merged", offset, "k".into(), None, map)
    };
    let mut records: Vec<_> = (0..50).map(|i| field(i, "a", i)).collect();
    records.push(field(50, "b", 1));
    task.write(&records).await.expect("written");
    let found = documents(&server, "merged");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].2, json!({"a": 49, "b": 1}));
}

#[tokio::test]
async fn a_small_put_does_not_wait_for_the_commit() {
    let server = server();
    let mut task = Task::start(&server.url(""), "small", false, &[("schema.ignore", "true")]).await;
    task.put(&[plain("small", 0, "a", Some(1))]).await.expect("taken");
    for _ in 0..1200 {
        if server.count("small").expect("counted") == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the record waits for a commit");
}

#[tokio::test]
async fn every_record_of_a_large_put_arrives() {
    let server = server();
    let count = 20_000;
    let records: Vec<_> = (0..count).map(|i| plain("many", i, &format!("{}", i % 15_000), Some(i))).collect();
    let mut task = Task::start(&server.url(""), "many", false, &[("schema.ignore", "true")]).await;
    let began = Instant::now();
    task.write(&records).await.expect("written");
    println!("{:.0} records/s", count as f64 / began.elapsed().as_secs_f64());
    assert_eq!(server.count("many").expect("counted"), 15_000);
    let found = server.rest("GET", "/many/_doc/4999", None).expect("found").body;
    assert_eq!(found["_source"]["n"], 19_999);
}

#[tokio::test]
async fn a_server_that_is_away_is_named() {
    let pairs = [("schema.ignore", "true"), ("max.retries", "1"), ("retry.backoff.ms", "1")];
    let mut task = Task::start("http://127.0.0.1:9", "away", false, &pairs).await;
    let error = task.write(&[plain("away", 0, "a", Some(1))]).await.expect_err("nobody there").to_string();
    for part in ["http://127.0.0.1:9", "refused", "max.retries", "2 attempts"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_restart_of_the_server_loses_nothing() {
    let mut server = aqueduct_tests::elasticsearch::Elasticsearch::start().expect("a server");
    let url = server.url("");
    let pairs = [
        ("schema.ignore", "true"),
        ("max.retries", "1000"),
        ("batch.size", "10"),
        ("retry.backoff.ms", "20"),
    ];
    let mut task = Task::start(&url, "restart", false, &pairs).await;
    let records: Vec<_> = (0..300).map(|i| plain("restart", i, &format!("{i}"), Some(i))).collect();
    task.put(&records[..100]).await.expect("taken");
    server.kill();
    let (restarted, written) =
        tokio::join!(tokio::task::spawn_blocking(move || server.restart().map(|()| server)), async {
            task.put(&records[100..]).await
        });
    written.expect("taken");
    let server = restarted.expect("no panic").expect("restarted");
    task.flush().await.expect("confirmed");
    assert_eq!(server.count("restart").expect("counted"), 300);
}

#[tokio::test]
async fn validation_names_the_key_and_the_cause() {
    let server = server();
    let url = server.url("");
    let validated = |config: ConfigMap| async move {
        let mut infos = (plugin().config)().validate(&config);
        let Factory::Sink { connector, .. } = plugin().factory else { panic!("a sink") };
        connector().validate(&config, &mut infos).await;
        infos
            .into_iter()
            .filter(|i| !i.errors.is_empty())
            .map(|i| (i.key.name.to_string(), i.errors.join(" ")))
            .collect::<Vec<_>>()
    };
    assert_eq!(validated(settings(&url, &[])).await, []);
    for (pairs, key, part) in [
        (vec![("connection.url", "http://127.0.0.1:9")], "connection.url", "refused"),
        (vec![("connection.url", "nonsense")], "connection.url", "not a URL"),
        (vec![("connection.username", "u")], "connection.username", "connection.password"),
        (vec![("connection.password", "hush")], "connection.password", "connection.username"),
        (
            vec![("data.stream.type", "logs"), ("data.stream.dataset", "d")],
            "data.stream.type",
            "not written yet",
        ),
        (
            vec![("write.method", "upsert"), ("use.autogenerated.ids", "true")],
            "use.autogenerated.ids",
            "upsert",
        ),
        (vec![("elastic.security.protocol", "SSL")], "elastic.security.protocol", "https://"),
        (vec![("batch.size", "0")], "batch.size", "at least 1"),
    ] {
        let wrong = validated(settings(&url, &pairs)).await;
        assert_eq!(wrong.len(), 1, "{pairs:?}: {wrong:?}");
        assert_eq!(wrong[0].0, key, "{pairs:?}");
        assert!(wrong[0].1.contains(part) && !wrong[0].1.contains("hush"), "{pairs:?}: {}", wrong[0].1);
    }
}
