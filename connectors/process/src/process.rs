//! A running plugin, as its callers see it: calls go to the task that owns the process.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aqueduct_connect_api::{Error, OffsetStore, Result};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::host::Host;
use crate::program::Program;
use crate::secrets::Secrets;
use crate::session::{Fault, PROTOCOL};

/// How many processes there are now.
static RUNNING: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::channel(0).0);

/// Waits until every plugin process of this worker has ended, or `limit` is over.
pub async fn all_ended(limit: Duration) {
    let mut running = RUNNING.subscribe();
    let _ = tokio::time::timeout(limit, running.wait_for(|count| *count == 0)).await;
}

/// One of them, for as long as it is kept.
pub(crate) struct Counted;

impl Counted {
    pub fn new() -> Self {
        RUNNING.send_modify(|count| *count += 1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        RUNNING.send_modify(|count| *count -= 1);
    }
}

/// How a call failed.
#[derive(Debug)]
pub enum CallError {
    /// The plugin says so; it goes on.
    Fault(Fault),
    /// The process is of no use any more; the text says why, with its last lines.
    Dead(String),
}

/// A call on its way to the owner.
pub(crate) struct Request {
    pub call: &'static str,
    pub params: Vec<u8>,
    pub limit: Duration,
    pub answer: oneshot::Sender<Result<String, CallError>>,
}

/// A running plugin. Dropping it ends the process: its standard input is closed, and soon after it is killed.
#[derive(Debug)]
pub struct Process {
    requests: mpsc::Sender<Request>,
    limit: Duration,
}

impl Process {
    /// Starts the program and waits until it has introduced itself. `role` says in logs what it is for; `offsets` are
    /// those that it may ask for; `secrets` are hidden from all that it says.
    ///
    /// # Errors
    /// Where it cannot be started or does not answer as the protocol says.
    pub async fn start(
        program: &Program,
        role: &str,
        offsets: Option<Arc<dyn OffsetStore>>,
        secrets: Secrets,
    ) -> Result<Self> {
        let host = Host::start(program, role, offsets, secrets)?;
        let (requests, received) = mpsc::channel(2);
        tokio::spawn(host.run(received));
        let mut process = Self { requests, limit: program.limits.start };
        process.introduce(program.limits.frame).await?;
        process.limit = program.limits.request;
        Ok(process)
    }

    async fn introduce(&mut self, frame: usize) -> Result<()> {
        let worker = concat!("aqueduct ", env!("CARGO_PKG_VERSION"));
        let hello = json!({"protocol": [PROTOCOL], "worker": worker, "max_frame": frame});
        let answer = self.call("hello", hello.to_string().into_bytes()).await?;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        match answer["protocol"].as_u64() {
            Some(version) if version == u64::from(PROTOCOL) => Ok(()),
            _ => Err(Error::connect(format!(
                "the plugin chose protocol {}, this worker speaks version {PROTOCOL}",
                answer["protocol"]
            ))),
        }
    }

    /// Makes a call and waits for its answer, JSON text of an object.
    ///
    /// # Errors
    /// What the plugin reports, or why the process is of no use any more.
    pub async fn call(&self, call: &'static str, params: Vec<u8>) -> Result<String> {
        self.try_call(call, params).await.map_err(|error| match error {
            CallError::Fault(fault) => fault_error(fault),
            CallError::Dead(why) => Error::connect(why),
        })
    }

    /// The same with the fault as the plugin gave it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn try_call(&self, call: &'static str, params: Vec<u8>) -> Result<String, CallError> {
        let gone = || CallError::Dead("the plugin's process was ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let request = Request { call, params, limit: self.limit, answer };
        self.requests.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Lets the plugin finish, for up to `limit`; then its process ends, one way or the other.
    pub async fn stop(self, limit: Duration) {
        if let Ok(Err(CallError::Dead(why))) =
            tokio::time::timeout(limit, self.try_call("stop", b"{}".to_vec())).await
        {
            tracing::debug!(why, "a plugin did not stop in order");
        }
    }
}

/// A plugin's fault as the worker handles it.
pub fn fault_error(fault: Fault) -> Error {
    let Fault { kind, message, trace, name } = fault;
    let message = if message.is_empty() { "the plugin gave no reason".to_owned() } else { message };
    let error = match (kind.as_str(), name) {
        ("retriable", _) => Error::retriable(message),
        ("data", _) => Error::data(message),
        ("config", Some(name)) => Error::connect(format!("setting {name}: {message}")),
        _ => Error::connect(message),
    };
    match trace {
        Some(trace) => error.caused_by(trace.chars().take(8000).collect::<String>()),
        None => error,
    }
}
