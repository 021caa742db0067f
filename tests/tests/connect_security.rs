//! What guards the REST API of Connect workers: TLS and client certificates, passwords, admin listeners, origins. Ours and the
//! JVM's, in one group, are asked by curl, and by a stock client of the API.

#[path = "connect_security/clients.rs"]
mod clients;
#[path = "connect_security/curl.rs"]
mod curl;
#[path = "connect_security/guarded.rs"]
mod guarded;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::kafka::text_of;
use aqueduct_tests::pki::Pki;
use aqueduct_tests::process::free_port;
use serde_json::{Value, json};

use curl::{Curl, LIMIT};
use guarded::{ALICE, Doors, SECRETS};

const JSON: &str = "Content-Type: application/json";

#[test]
fn guarded_workers_answer_alike_and_work_as_one_group() -> Result<()> {
    let pki = guarded::files()?;
    let curl = Curl::trusting(pki.file("ca.pem"));
    let broker = Broker::start()?;
    let (leader, first) = guarded::ours(&pki, &broker.bootstrap())?;
    // From here on our logs hold all that they can.
    let loud = ["-u", ALICE, "-X", "PUT", "-H", JSON, "-d", r#"{"level":"TRACE"}"#];
    curl.done(&format!("{}/admin/loggers/root", first.admin), &loud)?;
    let (follower, second) = guarded::ours(&pki, &broker.bootstrap())?;
    curl.done(&format!("{}/admin/loggers/root", second.admin), &loud)?;
    let (_reference, third) = guarded::reference(&pki, &broker.bootstrap())?;
    for doors in [&first, &second, &third] {
        curl.until(&format!("{}/health", doors.https), &["-u", ALICE], "\"healthy\"")?;
    }
    same_answers(&curl, &first, &third)?;
    requests_reach_their_worker(&curl, &pki, [&first, &second, &third])?;
    clients::kafka_connect_py(&curl, &pki, &second)?;
    clients::akhqs(&curl, &pki, &second)?;
    expired_certificates(&curl, &pki, [&first, &third])?;
    for path in
        ["/connectors?expand=info&expand=status", "/connectors/c0/explain", "/metrics", "/openapi.json"]
    {
        curl.done(&format!("{}{path}", second.https), &["-u", ALICE])?;
    }
    let told = curl.heard();
    for (place, text) in
        [("the first log", leader.log()), ("the second log", follower.log()), ("an answer", told)]
    {
        for secret in SECRETS {
            let at = text.find(secret).map(|at| text[..at].lines().next_back().unwrap_or_default());
            ensure!(at.is_none(), "{place} holds {secret}: {at:?}");
        }
    }
    Ok(())
}

/// One of the addresses of a worker.
type Door = fn(&Doors) -> &str;
/// An address, a path, options of curl, the status of the answer.
type Case<'a> = (Door, &'a str, &'a [&'a [&'a str]], u16);

/// Each request has the same status, headers and body from ours and from the reference.
fn same_answers(curl: &Curl, ours: &Doors, reference: &Doors) -> Result<()> {
    let (page, other) = ("Origin: http://app.example", "Origin: http://other.example");
    let wants = "Access-Control-Request-Method: PUT";
    let preflight = ["-X", "OPTIONS", "-H", wants, "-H", page];
    let known = ["-u", ALICE];
    let (http, https, admin): (Door, Door, Door) =
        (|doors| &doors.http, |doors| &doors.https, |doors| &doors.admin);
    let cases: [Case<'_>; 19] = [
        (https, "/connectors", &[], 401),
        (http, "/connectors", &[], 401),
        (https, "/health", &[], 401),
        (https, "/connectors", &[&["-u", "alice:wrong"]], 401),
        (https, "/connectors", &[&["-u", "bob:opens-with:colons"]], 401),
        (https, "/connectors", &[&["-u", "carl:closes-as-well"]], 401),
        (https, "/connectors", &[&["-H", "Authorization: Bearer opens-with"]], 401),
        (https, "/connectors", &[&known], 200),
        (http, "/connectors", &[&["-u", "bob:closes-as-well"]], 200),
        (https, "/connectors/none", &[&["-X", "DELETE"]], 401),
        (https, "/connectors/none", &[&["-X", "DELETE"], &known], 404),
        // Workers sign what they ask of each other, and have no names.
        (https, "/connectors/none/tasks", &[&["-H", JSON, "-d", "[]"]], 400),
        (https, "/connectors/none/fence", &[&["-X", "PUT"]], 400),
        (https, "/connectors", &[&["-H", page], &known], 200),
        (https, "/connectors", &[&["-H", other], &known], 200),
        (https, "/connectors", &[&preflight], 401),
        (https, "/connectors", &[&preflight, &known], 200),
        (https, "/connectors", &[&["-X", "OPTIONS", "-H", wants, "-H", other], &known], 200),
        (admin, "/admin/loggers/none", &[&["-H", page], &known], 404),
    ];
    let mut differing = Vec::new();
    for (door, path, options, status) in cases {
        let options = options.concat();
        let ask = |doors| curl.settled(&format!("{}{path}", door(doors)), &options);
        let (own, wanted) = (ask(ours)?.in_order(), ask(reference)?.in_order());
        if own != wanted || own.status != status {
            differing.push(format!("{} {options:?}\n  ours {own:?}\n  reference {wanted:?}", door(ours)));
        }
    }
    ensure!(differing.is_empty(), "{}", differing.join("\n"));
    // Refused whoever asks; the reference does not say that its text is JSON.
    let plain = ["-H", "Accept: text/plain"];
    let cases: [Case<'_>; 4] = [
        (https, "/nowhere", &[], 404),
        (https, "/admin/loggers", &[], 404),
        (admin, "/connectors", &[], 404),
        (https, "/connectors", &[&plain], 406),
    ];
    for (door, path, options, status) in cases {
        let ask = |doors| curl.ask(&format!("{}{path}", door(doors)), &options.concat());
        let (mut own, wanted) = (ask(ours)?, ask(reference)?);
        let kind = own.headers.remove("content-type");
        ensure!(kind.as_deref() == Some("application/json") && own.status == status, "{own:?}");
        ensure!(own == wanted, "{path}: ours {own:?}, reference {wanted:?}");
    }
    let framed = curl.ask(&format!("{}/connectors", ours.https), &[])?;
    ensure!(framed.headers.get("x-frame-options").is_some_and(|value| value == "DENY"), "{framed:?}");
    ensure!(!framed.headers.contains_key("www-authenticate"), "{framed:?}");
    let unnamed = curl.ask(&format!("{}/admin/loggers", ours.admin), &[])?;
    ensure!(unnamed.status == 401, "{unnamed:?}");
    // The reference forgets its extensions there.
    let unnamed = curl.ask(&format!("{}/admin/loggers", reference.admin), &[])?;
    ensure!(unnamed.status == 200, "{unnamed:?}");
    for doors in [ours, reference] {
        let loggers = curl.ask(&format!("{}/admin/loggers", doors.admin), &["-u", ALICE])?;
        ensure!(loggers.status == 200 && loggers.body.contains("{\"level\":"), "{loggers:?}");
        ensure!(!loggers.headers.contains_key("x-frame-options"), "{loggers:?}");
    }
    Ok(())
}

/// All but the leader pass on what only it may do, with the caller's name; and what a connector's worker tells the leader
/// of tasks needs none.
fn requests_reach_their_worker(curl: &Curl, pki: &Pki, group: [&Doors; 3]) -> Result<()> {
    std::fs::write(pki.path("in.txt"), "one\n")?;
    let config = json!({
        "connector.class": "FileStreamSource", "tasks.max": "1", "topic": "lines", "file": pki.file("in.txt"),
    });
    let config = config.to_string();
    let put = ["-X", "PUT", "-H", JSON, "-d", &config];
    for (number, doors) in group.iter().enumerate() {
        let url = format!("{}/connectors/c{number}/config", doors.https);
        let refused = curl.ask(&url, &[&put[..], &["-u", "alice:wrong"]].concat())?;
        ensure!(refused.status == 401, "{refused:?}");
        curl.done(&url, &[&put[..], &["-u", ALICE]].concat())?;
    }
    let workers = BTreeSet::from(group.map(|doors| doors.https.trim_start_matches("https://").to_owned()));
    let began = Instant::now();
    loop {
        let mut homes = BTreeSet::new();
        for number in 0..group.len() {
            let url = format!("{}/connectors/c{number}/status", group[0].https);
            curl.until(&url, &["-u", ALICE], "\"tasks\":[{\"id\":0,\"state\":\"RUNNING\"")?;
            let status: Value = serde_json::from_str(&curl.done(&url, &["-u", ALICE])?)?;
            homes.insert(status["connector"]["worker_id"].as_str().context("no worker")?.to_owned());
        }
        if homes == workers {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "connectors run in {homes:?}, workers are {workers:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Who shows a certificate whose time is over is not let in, whatever else it has, and changes nothing.
fn expired_certificates(curl: &Curl, pki: &Pki, workers: [&Doors; 2]) -> Result<()> {
    let (late, late_key) = (pki.file("late.crt"), pki.file("late.key"));
    let (user, user_key) = (pki.file("user.crt"), pki.file("user.key"));
    for doors in workers {
        let all = || curl.done(&format!("{}/connectors?expand=info", doors.http), &["-u", ALICE]);
        // One may still have to hear of the end of the clients' connectors.
        let mut before = all()?;
        let began = Instant::now();
        while serde_json::from_str::<Value>(&before)?.as_object().is_none_or(|known| known.len() != 3) {
            ensure!(began.elapsed() < LIMIT, "not the three connectors: {before}");
            before = all()?;
        }
        let one = format!("{}/connectors/c0", doors.https);
        let known = ["--cert", &user, "--key", &user_key, "-u", ALICE];
        curl.done(&one, &known)?;
        let expired = ["--cert", &late, "--key", &late_key, "-u", ALICE, "-X", "DELETE"];
        let refused = curl.ask(&one, &expired);
        ensure!(refused.is_err(), "{} takes an expired certificate: {refused:?}", doors.https);
        ensure!(all()? == before, "{} has changed something", doors.https);
    }
    Ok(())
}

#[test]
fn client_certificates_are_asked_for_and_renewed_keys_are_taken() -> Result<()> {
    let pki = Pki::new()?;
    let stranger = Pki::new()?;
    let curl = Curl::trusting(pki.file("ca.pem"));
    // Key and certificates in one file, the key under a password.
    let store = |name: &str| -> Result<()> {
        pki.issue(name, &format!("/CN={name}"), 1)?;
        pki.openssl(&format!(
            "pkcs8 -topk8 -v2 aes256 -in {name}.key -passout pass:store-pass -out {name}.pk8"
        ))?;
        let pem = std::fs::read_to_string(pki.path(&format!("{name}.pk8")))?;
        std::fs::write(
            pki.path("new.pem"),
            pem + &std::fs::read_to_string(pki.path(&format!("{name}.crt")))?,
        )?;
        std::fs::rename(pki.path("new.pem"), pki.path("store.pem"))?;
        Ok(())
    };
    store("before")?;
    let broker = Broker::start()?;
    let port = free_port()?;
    let (listeners, keys, trusted) = (
        format!("http://127.0.0.1:{{port}},https://localhost:{port}"),
        pki.file("store.pem"),
        pki.file("ca.pem"),
    );
    let settings = [
        ("listeners", listeners.as_str()),
        ("admin.listeners", ""),
        ("listeners.https.ssl.client.auth", "required"),
        ("listeners.https.ssl.keystore.type", "PEM"),
        ("listeners.https.ssl.keystore.location", &keys),
        ("listeners.https.ssl.key.password", "store-pass"),
        ("listeners.https.ssl.truststore.type", "PEM"),
        ("listeners.https.ssl.truststore.location", &trusted),
    ];
    let wrong = settings.map(|(key, value)| (key, if value == "store-pass" { "wrong-pass" } else { value }));
    let refused = Worker::start(&broker.bootstrap(), &wrong).err().context("any password opens the key")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("listeners.https.ssl") && !refused.contains("wrong-pass"), "{refused}");
    let worker = Worker::start(&broker.bootstrap(), &settings)?;
    let url = format!("https://localhost:{port}/connectors");
    let (user, key) = (pki.file("user.crt"), pki.file("user.key"));
    let own = ["--cert", &user, "--key", &key];
    let answer = curl.ask(&url, &own)?;
    ensure!(answer.status == 200, "{answer:?}");
    let (other, other_key) = (stranger.file("user.crt"), stranger.file("user.key"));
    ensure!(curl.ask(&url, &[]).is_err(), "a client without a certificate is let in");
    ensure!(curl.ask(&url, &["--cert", &other, "--key", &other_key]).is_err(), "a stranger is let in");
    let distrust = Curl::plainly(&url, &own)?;
    ensure!(distrust.status.code() == Some(60), "{distrust:?}");
    let admin = curl.ask(&worker.url("/admin/loggers"), &[])?;
    ensure!(admin.status == 404, "{admin:?}");

    let shown = || -> Result<String> {
        let output = Curl::plainly(&url, &[&["-v", "--cacert", &trusted][..], &own].concat())?;
        text_of("curl", &output)?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    ensure!(shown()?.contains("subject: CN=before"), "{}", shown()?);
    store("after")?;
    let began = Instant::now();
    while !shown()?.contains("subject: CN=after") {
        ensure!(began.elapsed() < LIMIT, "the new key is not taken: {}", worker.log());
    }
    // What cannot be used changes nothing.
    std::fs::write(pki.path("store.pem"), "garbage")?;
    let began = Instant::now();
    while !worker.log().contains("cannot be used, the last ones stay") {
        ensure!(shown()?.contains("subject: CN=after") && began.elapsed() < LIMIT);
    }
    ensure!(shown()?.contains("subject: CN=after"));
    let said = worker.log() + &curl.heard();
    ensure!(SECRETS.iter().all(|secret| !said.contains(secret)), "{said}");
    Ok(())
}
