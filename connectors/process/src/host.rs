//! The owner of a plugin's process: one task that holds its pipes, and ends it whatever happens.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{Error, OffsetStore, Result};
use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::data::offset_map;
use crate::process::{CallError, Counted, Request};
use crate::program::Program;
use crate::secrets::Secrets;
use crate::session::{Ask, Event, Fault, Session};
use crate::stderr::Tail;

/// How long a process may take to end once it has been told to, before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// Reads standard error to its end: lines go to the log, the last ones are kept.
async fn follow(
    mut stderr: ChildStderr,
    tail: Arc<Mutex<Tail>>,
    secrets: Secrets,
    plugin: String,
    role: Arc<str>,
) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let lines = tail.lock().push(&buffer[..count]);
        for line in lines {
            let line = secrets.hide(line);
            tracing::info!(plugin, role = &*role, line, "plugin says");
        }
    }
}

/// Why a process is of no use any more.
enum End {
    /// Nobody needs it.
    Unneeded,
    /// Standard output ended.
    Closed,
    Broken(String),
}

/// The owner of a process.
pub(crate) struct Host {
    /// Names the process in errors.
    name: String,
    id: u32,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    errors: JoinHandle<()>,
    tail: Arc<Mutex<Tail>>,
    session: Session,
    /// What is still to be written.
    outgoing: Bytes,
    pending: Option<Pending>,
    offsets: Option<Arc<dyn OffsetStore>>,
    secrets: Secrets,
    _counted: Counted,
}

/// A call without its answer.
struct Pending {
    call: &'static str,
    limit: Duration,
    until: Instant,
    answer: oneshot::Sender<Result<String, CallError>>,
}

impl Host {
    /// Starts the program.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn start(
        program: &Program,
        role: &str,
        offsets: Option<Arc<dyn OffsetStore>>,
        secrets: Secrets,
    ) -> Result<Self> {
        let name = program.name();
        let mut child = program.command().spawn().map_err(|e| {
            Error::connect(format!(
                "plugin {} cannot be started; check that the file is executable and that its interpreter is installed",
                program.path().display()
            ))
            .caused_by(e)
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Error::connect(format!("plugin {name} has no pipes")));
        };
        let tail = Arc::new(Mutex::new(Tail::default()));
        let id = child.id().unwrap_or_default();
        Ok(Self {
            name: format!("plugin {name} (process {id}, {role})"),
            id,
            child,
            stdin: Some(stdin),
            stdout,
            errors: tokio::spawn(follow(stderr, tail.clone(), secrets.clone(), name, role.into())),
            tail,
            session: Session::new(program.limits.frame),
            outgoing: Bytes::new(),
            pending: None,
            offsets,
            secrets,
            _counted: Counted::new(),
        })
    }

    /// Serves requests until nobody needs the process, or it is of no use; then it is gone.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let end = self.serve(&mut requests).await;
        let doing = self.pending.as_ref().map(|p| p.call);
        let why = self.finish(end, doing).await;
        if let Some(pending) = self.pending.take() {
            let _ = pending.answer.send(Err(CallError::Dead(why.clone())));
        }
        // Who calls later learns the same.
        while let Some(request) = requests.recv().await {
            let _ = request.answer.send(Err(CallError::Dead(why.clone())));
        }
    }

    async fn serve(&mut self, requests: &mut mpsc::Receiver<Request>) -> End {
        let mut buffer = vec![0; 64 << 10];
        loop {
            if self.pending.as_ref().is_some_and(|pending| pending.answer.is_closed()) {
                self.pending = None;
                self.session.abandon();
            }
            let until = self.pending.as_ref().map(|pending| pending.until);
            let writing = !self.outgoing.is_empty();
            tokio::select! {
                request = requests.recv(), if self.pending.is_none() && !writing => match request {
                    Some(request) => self.begin(request),
                    None => return End::Unneeded,
                },
                () = given_up(&mut self.pending) => {}
                written = write(&mut self.stdin, &self.outgoing), if writing => match written {
                    Ok(count) => self.outgoing.advance(count),
                    // It has closed its input; what it said last, or its end, tells why.
                    Err(_) => self.outgoing.clear(),
                },
                read = self.stdout.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return End::Closed,
                    Ok(count) => {
                        self.session.push(&buffer[..count]);
                        if let Err(end) = self.take_events().await {
                            return end;
                        }
                    }
                },
                () = at(until) => {
                    let Some(pending) = &self.pending else { continue };
                    let (call, limit) = (pending.call, pending.limit);
                    let key = if call == "hello" { "start" } else { "request" };
                    return End::Broken(format!(
                        "did not answer `{call}` within {limit:?} and was killed; if it needs longer, have it send signs of \
                         life or raise aqueduct.plugin.{key}.timeout.ms"
                    ));
                }
            }
        }
    }

    fn begin(&mut self, request: Request) {
        let Request { call, params, limit, answer } = request;
        match self.session.call(call, &params) {
            Ok(bytes) => {
                self.outgoing = bytes;
                self.pending = Some(Pending { call, limit, until: Instant::now() + limit, answer });
            }
            Err(why) => {
                let message = format!("{}: `{call}` cannot be called: {why}", self.name);
                let fault = Fault { kind: "connect".to_owned(), message, ..Fault::default() };
                let _ = answer.send(Err(CallError::Fault(fault)));
            }
        }
    }

    async fn take_events(&mut self) -> Result<(), End> {
        loop {
            let event = self.session.next_event();
            let Some(event) = event.map_err(|violation| {
                End::Broken(format!("does not keep to the protocol and was killed: {violation}"))
            })?
            else {
                return Ok(());
            };
            match event {
                Event::Answer(answer) => {
                    if let Some(pending) = self.pending.take() {
                        let hidden = |fault| CallError::Fault(self.hide(fault));
                        let _ = pending.answer.send(answer.map_err(hidden));
                    }
                }
                Event::Stale => {}
                Event::Alive => self.reprieve(),
                Event::Ask(ask) => {
                    let store = self.offsets.clone();
                    let body = tokio::select! {
                        body = answer(store, ask) => body,
                        () = given_up(&mut self.pending) => refusal("connect", "the worker stops this task"),
                    };
                    let reply = self.session.reply(body.to_string().as_bytes());
                    let reply = reply.map_err(|why| End::Broken(format!("asked for too much: {why}")))?;
                    self.outgoing = [std::mem::take(&mut self.outgoing), reply].concat().into();
                    self.reprieve();
                }
            }
        }
    }

    fn reprieve(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.until = Instant::now() + pending.limit;
        }
    }

    /// Ends the process and everything that it started, and says what became of it.
    async fn finish(&mut self, end: End, doing: Option<&str>) -> String {
        if !matches!(end, End::Closed) {
            // The end of its input is the word to end. One that closed its output first shows how it ends by itself.
            self.stdin = None;
        }
        let ended = match end {
            End::Broken(_) => None,
            End::Unneeded | End::Closed => tokio::time::timeout(GRACE, self.child.wait()).await.ok(),
        };
        self.kill_group();
        let how = match ended {
            Some(status) => how_it_ended(&status),
            None => {
                let _ = self.child.wait().await;
                None
            }
        };
        if tokio::time::timeout(GRACE, &mut self.errors).await.is_err() {
            self.errors.abort();
        }
        let doing = doing.map(|call| format!(" while it worked on `{call}`")).unwrap_or_default();
        let what = match (end, how) {
            (End::Unneeded, _) => return format!("{} was ended", self.name),
            (End::Broken(why), _) => why,
            (End::Closed, Some(how)) => format!("{how}{doing}"),
            (End::Closed, None) => format!("closed its standard output{doing} and was killed"),
        };
        let partial = match self.session.pending() {
            0 => String::new(),
            count => format!(" ({count} bytes of an unfinished message were left)"),
        };
        let tail = self.tail.lock().text();
        self.secrets.hide(format!("{} {what}{partial}; {tail}", self.name))
    }

    fn hide(&self, fault: Fault) -> Fault {
        let Fault { message, trace, .. } = fault;
        let trace = trace.map(|trace| self.secrets.hide(trace));
        Fault { message: self.secrets.hide(message), trace, ..fault }
    }

    /// Ends the process's group: what it started goes with it.
    fn kill_group(&self) {
        if let Some(group) = i32::try_from(self.id).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// What a plugin asked, answered from the offsets.
async fn answer(store: Option<Arc<dyn OffsetStore>>, ask: Ask) -> serde_json::Value {
    let Some(store) = store else { return refusal("connect", "only sources have offsets") };
    let done = async {
        match ask {
            Ask::Offsets { partitions } => {
                let partitions = partitions.iter().map(|text| offset_map("partition", text));
                let partitions = partitions.collect::<Result<Vec<_>>>()?;
                Ok(json!({"offsets": store.read(&partitions).await?}))
            }
            Ask::StoreOffset { partition, offset } => {
                let partition = offset_map("partition", &partition)?;
                store.store(&partition, &offset_map("offset", &offset)?).await?;
                Ok(json!({}))
            }
        }
    };
    done.await.unwrap_or_else(|error: Error| {
        refusal(if error.is_retriable() { "retriable" } else { "connect" }, &error.to_string())
    })
}

fn refusal(kind: &str, message: &str) -> serde_json::Value {
    json!({"error": {"kind": kind, "message": message}})
}

/// Exit status or signal in words.
fn how_it_ended(status: &std::io::Result<ExitStatus>) -> Option<String> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = status.as_ref().ok()?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Some(format!("ended with exit status {code}")),
        (None, Some(signal)) => Some(format!("was ended by signal {signal}{}", signal_name(signal))),
        _ => None,
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL: somebody killed it, or memory ran out)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Returns when nobody waits for the answer any more.
async fn given_up(pending: &mut Option<Pending>) {
    match pending {
        Some(pending) => pending.answer.closed().await,
        None => std::future::pending().await,
    }
}

async fn write(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> std::io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}
