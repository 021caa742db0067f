//! One socket to one broker: requests are written in the order in which they come, and answers matched in that order.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aqueduct_protocol::{Request, frame, header};
use bytes::{Buf as _, Bytes, BytesMut};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::handshake::{self, Failure};
use super::injected;
use super::renewal::{self, Renewal};
use super::sasl::{Exchange, Parties};
use super::stream::{self, Stream};
use super::versions::Versions;
use crate::config::ClientConfig;
use crate::error::{Detail, Error, Result};

/// Requests that wait to be written.
const QUEUE: usize = 128;
/// Requests that wait for their answers; more are not written until some have come.
const MAX_IN_FLIGHT: usize = 256;
/// No answer is larger: Kafka's own limit is what an int32 holds, and fetches are bounded far below.
const MAX_RESPONSE: usize = 1 << 30;
/// Room that an idle connection has for the next answer: there may be thousands of them.
const READ_LEAST: usize = 4 << 10;
/// How much room for an answer is made at once, whatever its size claims to be.
const READ_STEP: usize = 1 << 20;

/// A live connection; clones share it. It is closed when the last clone and the last pending answer are dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
    _driver: Arc<Driver>,
}

/// What callers and driver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) broker: String,
    pub(super) client_id: ByteString,
    pub(super) versions: Versions,
    correlation: AtomicI32,
    /// Why the connection ended.
    ended: OnceLock<String>,
    in_flight: Mutex<VecDeque<InFlight>>,
    /// An answer came or a request went out.
    moved: Notify,
}

/// Ends the driver with the last handle.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Outgoing {
    frame: BytesMut,
    correlation: i32,
    api: &'static str,
    timeout: Duration,
    /// `false` for Produce with `acks=0`.
    answered: bool,
    respond: oneshot::Sender<Result<Bytes>>,
}

#[derive(Debug)]
struct InFlight {
    correlation: i32,
    api: &'static str,
    timeout: Duration,
    deadline: Instant,
    respond: oneshot::Sender<Result<Bytes>>,
}

/// The answer to a request that is on its way; dropping it only loses the answer.
#[must_use = "the answer tells whether the request was done"]
#[derive(Debug)]
pub struct PendingResponse<R> {
    receiver: oneshot::Receiver<Result<Bytes>>,
    connection: Connection,
    version: i16,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects to `broker` (`host:port`) and learns what it speaks.
    pub async fn open(broker: String, config: Arc<ClientConfig>) -> Result<Self> {
        let limit = config.socket_connection_setup_timeout;
        let opened = tokio::time::timeout(limit, Self::connect(&broker, &config)).await;
        let (stream, versions, life) = opened.unwrap_or_else(|_| {
            let why = format!("no connection within {limit:?} (socket.connection.setup.timeout.ms)");
            let source = Arc::new(io::Error::new(io::ErrorKind::TimedOut, why));
            Err(Error::Connect { broker: broker.clone(), source })
        })?;
        let shared = Arc::new(Shared {
            broker,
            client_id: config.client_id.as_str().into(),
            versions,
            correlation: AtomicI32::new(1),
            ended: OnceLock::new(),
            in_flight: Mutex::new(VecDeque::new()),
            moved: Notify::new(),
        });
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let renewal = config.security.sasl().cloned().zip(life).map(|(sasl, life)| Renewal::new(sasl, life));
        let driver = tokio::spawn(drive(stream, shared.clone(), queue, config.connections_max_idle, renewal));
        Ok(Self { shared, outgoing, _driver: Arc::new(Driver(driver)) })
    }

    async fn connect(broker: &str, config: &ClientConfig) -> Result<(Stream, Versions, Option<Duration>)> {
        let failed = |source: io::Error| match stream::tls_error(&source) {
            Some(error) => Error::Tls { broker: broker.to_owned(), why: stream::explained(error) },
            None => Error::Connect { broker: broker.to_owned(), source: Arc::new(source) },
        };
        let tls = config.security.tls()?;
        let mut stream = match (injected::injected(), tls) {
            (Some(network), _) => Stream::Injected(network.connect(broker).await.map_err(failed)?),
            (None, tls) => {
                let plain = TcpStream::connect(broker).await.map_err(failed)?;
                plain.set_nodelay(true).map_err(failed)?;
                match tls {
                    Some(tls) => Stream::encrypt(broker, plain, tls).await?,
                    None => Stream::Plain(plain),
                }
            }
        };
        let api = "ApiVersions";
        let client_id = config.client_id.as_str().into();
        let versions = handshake::api_versions(&mut stream, &client_id).await;
        let versions = versions.map_err(|failure| match failure {
            Failure::Io(source) => failed(source),
            Failure::Decode(source) => Error::Decode { broker: broker.to_owned(), api, source },
            Failure::Code(code) => Error::Api {
                broker: broker.to_owned(),
                api,
                what: "this connection".to_owned(),
                code,
                message: Detail::default(),
            },
        })?;
        let Some(sasl) = config.security.sasl() else { return Ok((stream, versions, None)) };
        let parties = Parties { broker, client_id: &client_id, versions: &versions, sasl };
        let life = parties.authenticate(&mut stream).await?;
        Ok((stream, versions, life))
    }

    /// `host:port` of the broker.
    pub fn broker(&self) -> &str {
        &self.shared.broker
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.ended.get().is_some() || self.outgoing.is_closed()
    }

    /// Level of the cluster's feature `transaction.version`.
    pub fn transaction_version(&self) -> i16 {
        self.shared.versions.transaction_version()
    }

    /// The newest common version of `R`, `cap` at most.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16> {
        self.shared.versions.choose::<R>(cap).ok_or_else(|| Error::UnsupportedVersion {
            broker: self.shared.broker.clone(),
            api: R::NAME,
            ours: format!("{} to {}", R::MIN_VERSION, R::MAX_VERSION.min(cap)),
        })
    }

    /// Puts a request into the queue at once, so that requests go out in the order of these calls. `timeout` counts from
    /// when it is written. With `answered` false the answer is empty and comes when the request is written.
    ///
    /// Errors where the connection has ended or the queue is full.
    pub fn start<R: Request>(
        &self,
        version: i16,
        request: &R,
        timeout: Duration,
        answered: bool,
    ) -> Result<PendingResponse<R>> {
        let (outgoing, pending) = self.prepare(version, request, timeout, answered)?;
        self.outgoing.try_send(outgoing).map_err(|_| self.disconnected(R::NAME))?;
        Ok(pending)
    }

    /// Sends a request and waits for its answer. `make` is given the version.
    pub async fn call<R: Request>(
        &self,
        cap: i16,
        make: impl FnOnce(i16) -> R,
        timeout: Duration,
    ) -> Result<R::Response> {
        let version = self.version::<R>(cap)?;
        let (outgoing, pending) = self.prepare(version, &make(version), timeout, true)?;
        self.outgoing.send(outgoing).await.map_err(|_| self.disconnected(R::NAME))?;
        pending.await
    }

    fn prepare<R: Request>(
        &self,
        version: i16,
        request: &R,
        timeout: Duration,
        answered: bool,
    ) -> Result<(Outgoing, PendingResponse<R>)> {
        let correlation = self.shared.correlation.fetch_add(1, Ordering::Relaxed);
        let mut frame = BytesMut::new();
        let client_id = Some(&self.shared.client_id);
        frame::encode_request(&mut frame, request, version, correlation, client_id)
            .map_err(|source| Error::Encode { broker: self.shared.broker.clone(), api: R::NAME, source })?;
        let (respond, receiver) = oneshot::channel();
        let outgoing = Outgoing { frame, correlation, api: R::NAME, timeout, answered, respond };
        let pending = PendingResponse { receiver, connection: self.clone(), version, request: PhantomData };
        Ok((outgoing, pending))
    }

    fn disconnected(&self, api: &'static str) -> Error {
        let why = self.shared.ended.get().map_or("closed", String::as_str).to_owned();
        Error::Disconnected { broker: self.shared.broker.clone(), api, why }
    }
}

impl<R: Request> PendingResponse<R> {
    /// Waits until the request is written, for those that are not answered.
    pub async fn written(self) -> Result<()> {
        match self.receiver.await {
            Ok(written) => written.map(|_| ()),
            Err(_) => Err(self.connection.disconnected(R::NAME)),
        }
    }
}

impl<R: Request> Future for PendingResponse<R> {
    type Output = Result<R::Response>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let received = ready!(Pin::new(&mut self.receiver).poll(cx));
        let body = match received {
            Ok(answer) => answer?,
            Err(_) => return Poll::Ready(Err(self.connection.disconnected(R::NAME))),
        };
        let decoded = frame::decode_response::<R>(body, self.version).map_err(|source| Error::Decode {
            broker: self.connection.broker().to_owned(),
            api: R::NAME,
            source,
        });
        Poll::Ready(decoded.map(|(_, response)| response))
    }
}

/// Runs the connection until it fails, idles too long, is left by its peer or by its last handle.
async fn drive(
    stream: Stream,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Outgoing>,
    max_idle: Duration,
    renewal: Option<Renewal>,
) {
    match stream {
        Stream::Plain(stream) => {
            let (reader, writer) = stream.into_split();
            run(reader, writer, shared, queue, max_idle, renewal).await;
        }
        Stream::Tls(stream) => {
            let (reader, writer) = tokio::io::split(*stream);
            run(reader, writer, shared, queue, max_idle, renewal).await;
        }
        Stream::Injected(stream) => {
            let (reader, writer) = tokio::io::split(stream);
            run(reader, writer, shared, queue, max_idle, renewal).await;
        }
    }
}

async fn run(
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Outgoing>,
    max_idle: Duration,
    renewal: Option<Renewal>,
) {
    let why = tokio::select! {
        why = write(writer, &shared, queue, renewal) => why,
        why = read(reader, &shared) => why,
        why = watch(&shared, max_idle) => why,
    };
    tracing::debug!(broker = shared.broker, why, "connection ended");
    shared.ended.get_or_init(|| why.clone());
    let left = std::mem::take(&mut *shared.in_flight.lock());
    for call in left {
        let timed_out = call.deadline <= Instant::now();
        let (broker, api) = (shared.broker.clone(), call.api);
        let error = if timed_out {
            Error::RequestTimeout { broker, api, after: call.timeout }
        } else {
            Error::Disconnected { broker, api, why: why.clone() }
        };
        // Whoever asked may have gone.
        let _ = call.respond.send(Err(error));
    }
}

async fn write(
    mut writer: impl AsyncWrite + Send + Unpin,
    shared: &Shared,
    mut queue: mpsc::Receiver<Outgoing>,
    mut renewal: Option<Renewal>,
) -> String {
    loop {
        let call = tokio::select! {
            biased;
            () = renewal::due(renewal.as_ref()) => None,
            call = queue.recv() => match call {
                Some(call) => Some(call),
                None => break,
            },
        };
        let Some(call) = call else {
            if let Some(due) = &mut renewal
                && let Err(error) = due.renew(&mut Pipelined { writer: &mut writer, shared }, shared).await
            {
                return error.to_string();
            }
            continue;
        };
        while shared.in_flight.lock().len() >= MAX_IN_FLIGHT {
            shared.moved.notified().await;
        }
        let Outgoing { frame, correlation, api, timeout, answered, respond } = call;
        let mut unanswered = None;
        if answered {
            let deadline = Instant::now() + timeout;
            let call = InFlight { correlation, api, timeout, deadline, respond };
            shared.in_flight.lock().push_back(call);
        } else {
            unanswered = Some(respond);
        }
        shared.moved.notify_waiters();
        if let Err(error) = send(&mut writer, &frame).await {
            return error.to_string();
        }
        if let Some(respond) = unanswered {
            let _ = respond.send(Ok(Bytes::new()));
        }
    }
    "closed".to_owned()
}

async fn send(writer: &mut (impl AsyncWrite + Send + Unpin), frame: &[u8]) -> io::Result<()> {
    writer.write_all(frame).await?;
    // Does nothing on a plain socket; encrypted bytes may still be held back.
    writer.flush().await
}

/// Requests among those of the callers, whose answers the reader brings back.
struct Pipelined<'a, W> {
    writer: &'a mut W,
    shared: &'a Shared,
}

impl<W: AsyncWrite + Send + Unpin> Exchange for Pipelined<'_, W> {
    async fn exchange(&mut self, api: &'static str, frame: Bytes) -> io::Result<Bytes> {
        let (respond, answer) = oneshot::channel();
        let timeout = renewal::ANSWER;
        let call = InFlight { correlation: 0, api, timeout, deadline: Instant::now() + timeout, respond };
        self.shared.in_flight.lock().push_back(call);
        self.shared.moved.notify_waiters();
        send(self.writer, &frame).await?;
        match answer.await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => Err(io::Error::other(error.to_string())),
            Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

async fn read(mut reader: impl AsyncRead + Send + Unpin, shared: &Shared) -> String {
    let mut buffer = BytesMut::with_capacity(READ_LEAST);
    loop {
        let size = match fill(&mut reader, &mut buffer, 4).await {
            Ok(true) => buffer.get_i32(),
            Ok(false) => return "the broker closed it".to_owned(),
            Err(error) => return error.to_string(),
        };
        let Some(size) = usize::try_from(size).ok().filter(|size| (4..=MAX_RESPONSE).contains(size)) else {
            return format!("an answer of {size} bytes");
        };
        match fill(&mut reader, &mut buffer, size).await {
            Ok(true) => {}
            Ok(false) => return "the broker closed it within an answer".to_owned(),
            Err(error) => return error.to_string(),
        }
        let body = buffer.split_to(size).freeze();
        if size > READ_LEAST && buffer.is_empty() {
            // What is left of the room for a large answer would keep all of it.
            buffer = BytesMut::with_capacity(READ_LEAST);
        }
        let Some(call) = shared.in_flight.lock().pop_front() else {
            return "an answer that nothing asked for".to_owned();
        };
        match header::peek_correlation_id(&body) {
            Ok(correlation) if correlation == call.correlation => {}
            _ => return "an answer to another request than the oldest".to_owned(),
        }
        let _ = call.respond.send(Ok(body));
        shared.moved.notify_waiters();
    }
}

/// Reads until `buffer` holds `wanted` bytes; `false` at the end of the stream. Room grows with what has come.
async fn fill(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    wanted: usize,
) -> io::Result<bool> {
    while buffer.len() < wanted {
        let missing = wanted - buffer.len();
        buffer.reserve(missing.min(READ_STEP.max(buffer.len())));
        if reader.read_buf(buffer).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ends when the oldest request has waited too long, or nothing has moved for `max_idle`.
async fn watch(shared: &Shared, max_idle: Duration) -> String {
    loop {
        let moved = shared.moved.notified();
        let oldest = shared.in_flight.lock().front().map(|call| (call.deadline, call.api, call.timeout));
        match oldest {
            // A later request cannot be due before its predecessor is answered, so that nothing else need wake this.
            Some((deadline, api, timeout)) => {
                tokio::time::sleep_until(deadline).await;
                let still =
                    shared.in_flight.lock().front().is_some_and(|call| call.deadline <= Instant::now());
                if still {
                    return format!("no answer to {api} within {timeout:?}");
                }
            }
            None => {
                if tokio::time::timeout(max_idle, moved).await.is_err() {
                    return "idle".to_owned();
                }
            }
        }
    }
}
