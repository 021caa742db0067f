//! Workers behind a certificate and passwords, ours or the JVM's.

use anyhow::Result;
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::pki::Pki;
use aqueduct_tests::process::free_port;

/// A user, as curl takes it.
pub const ALICE: &str = "alice:opens-with:colons";
/// Every password there is, and the user as the header `Authorization` has it.
pub const SECRETS: [&str; 6] = [
    "secret",
    "store-pass",
    "opens-with",
    "closes-as-well",
    "YWxpY2U6b3BlbnMtd2l0aDpjb2xvbnM=",
    "PRIVATE KEY",
];

/// The files of all workers: a key store, a trust store, users and the login configuration that names them.
pub fn files() -> Result<Pki> {
    let pki = Pki::new()?;
    pki.openssl("pkcs12 -export -inkey broker.key -in broker.crt -passout pass:store-pass -out connect.p12")?;
    pki.issue("late", "/CN=late", 0)?;
    std::fs::write(pki.path("users"), "alice=opens-with:colons\nbob=closes-as-well\n")?;
    let module = "org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule";
    let login = format!("KafkaConnect {{\n  {module} required\n  file=\"{}\";\n}};\n", pki.file("users"));
    std::fs::write(pki.path("login.conf"), login)?;
    Ok(pki)
}

/// The addresses of a worker.
pub struct Doors {
    pub http: String,
    pub https: String,
    pub admin: String,
}

type Settings = Vec<(&'static str, String)>;

/// What is the same in all workers, and where this one listens.
fn settings(pki: &Pki) -> Result<(Settings, [u16; 2])> {
    let (https, admin) = (free_port()?, free_port()?);
    let extension = "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension";
    let settings = vec![
        ("listeners", format!("http://127.0.0.1:{{port}},https://localhost:{https}")),
        ("admin.listeners", format!("http://127.0.0.1:{admin}")),
        // Nobody vanishes: the first stays the leader.
        ("session.timeout.ms", "60000".into()),
        ("rest.advertised.listener", "https".into()),
        ("listeners.https.ssl.keystore.type", "PKCS12".into()),
        ("listeners.https.ssl.keystore.location", pki.file("connect.p12")),
        ("listeners.https.ssl.keystore.password", "store-pass".into()),
        ("listeners.https.ssl.key.password", "store-pass".into()),
        ("listeners.https.ssl.client.auth", "requested".into()),
        ("listeners.https.ssl.truststore.type", "JKS".into()),
        ("listeners.https.ssl.truststore.location", pki.file("trust.jks")),
        ("listeners.https.ssl.truststore.password", "secret".into()),
        ("rest.extension.classes", extension.into()),
        ("java.security.auth.login.config", pki.file("login.conf")),
        ("access.control.allow.origin", "http://app.example".into()),
        ("access.control.allow.methods", "GET,PUT".into()),
        (
            "response.http.headers.config",
            "set X-Frame-Options: DENY, \"add Cache-Control: no-cache, no-store\"".into(),
        ),
    ];
    Ok((settings, [https, admin]))
}

fn doors(http: u16, [https, admin]: [u16; 2]) -> Doors {
    Doors {
        http: format!("http://127.0.0.1:{http}"),
        https: format!("https://localhost:{https}"),
        admin: format!("http://127.0.0.1:{admin}"),
    }
}

/// Starts a worker of ours.
pub fn ours(pki: &Pki, bootstrap: &str) -> Result<(Worker, Doors)> {
    let (settings, ports) = settings(pki)?;
    let worker = Worker::start(bootstrap, &pairs(&settings))?;
    let doors = doors(worker.port(), ports);
    Ok((worker, doors))
}

/// Starts one of the JVM's.
pub fn reference(pki: &Pki, bootstrap: &str) -> Result<(JvmWorker, Doors)> {
    let (settings, ports) = settings(pki)?;
    let worker = JvmWorker::start(bootstrap, &pairs(&settings))?;
    let doors = doors(worker.port(), ports);
    Ok((worker, doors))
}

fn pairs<'a>(settings: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(key, value)| (*key, value.as_str())).collect()
}
