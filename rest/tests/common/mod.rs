//! What the tests of the REST API share: a small HTTP client, our worker in this process, the JVM worker beside it.
#![allow(dead_code)] // Each test file uses its own part.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aqueduct_connect_worker::{Handle, Mode, Worker, WorkerConfig};
use aqueduct_connector_file as _;
use aqueduct_rest::{ConnectApi, Loggers, Server};
use aqueduct_tests::kafka::{java, plugins};
use aqueduct_tests::process::{Process, free_port};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A REST answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    /// Null where there is no body.
    pub body: Value,
}

/// One request to `127.0.0.1:port`.
pub async fn request(port: u16, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(100), stream.read_to_end(&mut bytes)).await??;
    let text = String::from_utf8(bytes)?;
    let (headers, rest) = text.split_once("\r\n\r\n").context("no end of headers")?;
    let status = headers.split(' ').nth(1).context("no status")?.parse()?;
    let chunked = headers.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { join_chunks(rest)? } else { rest.to_owned() };
    let body = serde_json::from_str(&body).unwrap_or(Value::Null);
    Ok(Answer { status, headers: headers.to_owned(), body })
}

fn join_chunks(mut text: &str) -> Result<String> {
    let mut out = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").context("no chunk size")?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        if size == 0 {
            return Ok(out);
        }
        out.push_str(&rest[..size]);
        text = &rest[size + 2..];
    }
}

/// Properties of a worker whose internal topics and group are called after `name`.
pub fn properties(bootstrap: &str, name: &str, port: u16) -> String {
    format!(
        "bootstrap.servers={bootstrap}\ngroup.id={name}\n\
         key.converter=org.apache.kafka.connect.json.JsonConverter\n\
         value.converter=org.apache.kafka.connect.json.JsonConverter\n\
         config.storage.topic={name}-configs\noffset.storage.topic={name}-offsets\n\
         status.storage.topic={name}-status\nconfig.storage.replication.factor=1\n\
         offset.storage.replication.factor=1\nstatus.storage.replication.factor=1\n\
         offset.storage.partitions=3\nstatus.storage.partitions=2\n\
         offset.flush.interval.ms=1000\nlisteners=http://127.0.0.1:{port}\n"
    )
}

/// Our worker with its REST API.
pub struct Ours {
    pub port: u16,
    worker: Handle,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Ours {
    pub async fn start(bootstrap: &str, name: &str) -> Result<Self> {
        Self::start_with(&properties(bootstrap, name, 0), Mode::Distributed).await
    }

    pub async fn start_with(properties: &str, mode: Mode) -> Result<Self> {
        let settings = aqueduct_connect_worker::parse_properties(properties)?;
        let config = WorkerConfig::from_properties(&settings, mode)?;
        let server = Server::bind("127.0.0.1", 0, "listeners").await?;
        let port = server.address().port();
        let worker = Worker::start(config, ("127.0.0.1", port)).await?;
        let stop = CancellationToken::new();
        let router = ConnectApi::new(worker.herder(), Loggers::new(|_| {})).router();
        let serving = server.serve(router, stop.clone());
        let ours = Self { port, worker, stop, serving };
        wait_healthy(port).await?;
        Ok(ours)
    }

    pub async fn stop(self) -> Result<()> {
        self.worker.shutdown().await;
        self.stop.cancel();
        self.serving.await?;
        Ok(())
    }
}

pub async fn wait_healthy(port: u16) -> Result<()> {
    for _ in 0..600 {
        if request(port, "GET", "/health", "").await.is_ok_and(|a| a.status == 200) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("the worker at port {port} is not healthy after 120 s")
}

/// The JVM's worker.
pub struct Jvm {
    pub port: u16,
    pub process: Process,
}

impl Jvm {
    pub async fn start(bootstrap: &str, name: &str, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let file = dir.join(format!("{name}-jvm.properties"));
        let text = format!("{}plugin.path={}\n", properties(bootstrap, name, port), plugins()?.display());
        std::fs::write(&file, text)?;
        let mut command = java("384m", "org.apache.kafka.connect.cli.ConnectDistributed")?;
        command.arg(&file);
        let process = Process::start("JVM Connect", &mut command, &dir.join(format!("{name}-jvm.log")))?;
        let jvm = Self { port, process };
        wait_healthy(port).await.with_context(|| jvm.process.log_tail())?;
        Ok(jvm)
    }

    pub fn stop(mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(60))
    }
}

/// Whether `found` is as `wanted` says: objects may have more members, `*` is anything, `~text` is text with that in it.
pub fn fits(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::String(w), _) if w == "*" => true,
        (Value::String(w), Value::String(f)) => {
            w.strip_prefix('~').map_or_else(|| w == f, |part| f.contains(part))
        }
        (Value::Object(w), Value::Object(f)) => {
            w.iter().all(|(name, value)| f.get(name).is_some_and(|found| fits(value, found)))
        }
        (Value::Array(w), Value::Array(f)) => w.len() == f.len() && w.iter().zip(f).all(|(w, f)| fits(w, f)),
        _ => wanted == found,
    }
}
