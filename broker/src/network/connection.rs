//! One connection: a request is read, handled and answered before the next one is looked at, so answers keep the order
//! of the requests and a slow reader holds up nobody but itself.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_protocol::api::ApiKey;
use aqueduct_protocol::header::RequestHeader;
use bytes::Bytes;
use tokio::time::timeout;

use super::authenticate::{self, Session};
use super::entrance::Entrance;
use super::frames::{Frame, FrameError, FrameReader};
use super::send;
use super::stream::Stream;
use crate::api::{self, Answer, Client, Context, Refusal, Throttle};
use crate::metrics;
use crate::node::Node;
use crate::security::ListenerSecurity;
use crate::security::sasl::Verdict;

/// A connection that is quiet for so long gives its buffer back.
const QUIET: Duration = Duration::from_secs(1);

/// Time that requests in progress get to be answered when the node stops.
const GRACE: Duration = Duration::from_secs(3);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("closed by the client")]
    ByClient,
    #[error("the node stops")]
    Stopping,
    #[error("idle for longer than connections.max.idle.ms")]
    Idle,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("unreadable request header: {0}")]
    Header(aqueduct_protocol::DecodeError),
    #[error("API {key} version {version} is not served")]
    NotServed { key: i16, version: i16 },
    #[error("{name} version {version}: {refusal}")]
    Refused { name: &'static str, version: i16, refusal: Refusal },
    #[error("{0}")]
    Write(io::Error),
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    #[error("not authenticated within {} s", limit.as_secs())]
    TooSlow { limit: Duration },
    #[error("API {key} version {version} before authentication")]
    NotAuthenticated { key: i16, version: i16 },
    #[error("unreadable request before authentication: {0}")]
    Body(aqueduct_protocol::DecodeError),
    #[error("authentication failed: {0}")]
    Authentication(String),
    #[error("the session expired and the client did not authenticate again")]
    Expired,
}

impl Ended {
    /// Whether the client did something that it should not do.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::ByClient | Self::Stopping | Self::Idle | Self::Write(_) | Self::Expired => false,
            Self::Frame(error) => matches!(error, FrameError::Size { .. }),
            _ => true,
        }
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(stream: Stream, client: Client, entrance: &Entrance, node: Arc<Node>) -> Ended {
    let security = &entrance.security;
    let setup = security.current();
    let begun = tokio::select! {
        begun = Box::pin(authenticate::begin(stream, client, &setup, &entrance.strangers, &node)) => begun,
        () = node.tasks.stopping() => return Ended::Stopping,
    };
    let (mut stream, mut reader, mut session) = match begun {
        Ok(begun) => begun,
        Err(ended) => return ended,
    };
    let ended = requests(&mut stream, &mut reader, &mut session, security, &node).await;
    // Nobody waits for a peer that does not read.
    let _ = timeout(QUIET, stream.close()).await;
    ended
}

async fn requests(
    stream: &mut Stream,
    reader: &mut FrameReader,
    session: &mut Session,
    security: &ListenerSecurity,
    node: &Arc<Node>,
) -> Ended {
    let throttle = Arc::new(Throttle::default());
    loop {
        let frame = tokio::select! {
            biased;
            frame = next(reader, stream, node) => frame,
            () = node.tasks.stopping() => return Ended::Stopping,
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(ended) => return ended,
        };
        if session.lifetime.expires_at_ms.is_some() {
            let is_handshake = frame.bytes.starts_with(&ApiKey::SASL_HANDSHAKE.to_be_bytes());
            match session.lifetime.judge(is_handshake, node.clock.now_ms()) {
                Verdict::Serve => {}
                Verdict::Expired => return Ended::Expired,
                Verdict::Reauthenticate => {
                    match renew(frame.bytes, stream, reader, session, security, node).await {
                        Ok(renewed) => *session = renewed,
                        Err(ended) => return ended,
                    }
                    continue;
                }
            }
        }
        let done = tokio::select! {
            biased;
            done = handle(frame, stream, &session.client, node, &throttle) => done,
            () = cut_off(node) => Err(Ended::Stopping),
        };
        if let Err(ended) = done {
            return ended;
        }
        // Over its quota: it has its answer, and is not listened to for a while.
        if let Some(pause) = throttle.take() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = node.tasks.stopping() => return Ended::Stopping,
            }
        }
    }
}

async fn renew(
    handshake: Bytes,
    stream: &mut Stream,
    reader: &mut FrameReader,
    session: &Session,
    security: &ListenerSecurity,
    node: &Arc<Node>,
) -> Result<Session, Ended> {
    let setup = security.current();
    let sasl = setup.sasl.as_ref().ok_or(Ended::Expired)?;
    Box::pin(authenticate::again(handshake, stream, reader, session, sasl, node)).await
}

/// Resolves when a stopping node waits no longer for answers that do not get done, or are not read.
async fn cut_off(node: &Node) {
    node.tasks.stopping().await;
    tokio::time::sleep(GRACE).await;
}

async fn next(reader: &mut FrameReader, stream: &mut Stream, node: &Node) -> Result<Frame, Ended> {
    if node.limits.is_crowded() {
        reader.release();
    }
    if reader.is_empty() && timeout(QUIET, stream.readable()).await.is_err() {
        reader.release();
        if let Some(idle) = node.settings.max_idle
            && timeout(idle.saturating_sub(QUIET), stream.readable()).await.is_err()
        {
            return Err(Ended::Idle);
        }
    }
    match reader.next(stream, &node.limits).await {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err(Ended::ByClient),
        Err(FrameError::Cut | FrameError::Io(_)) => Err(Ended::ByClient),
        Err(error) => Err(error.into()),
    }
}

async fn handle(
    frame: Frame,
    stream: &mut Stream,
    client: &Arc<Client>,
    node: &Arc<Node>,
    throttle: &Arc<Throttle>,
) -> Result<(), Ended> {
    let Frame { mut bytes, memory } = frame;
    let started = Instant::now();
    let request_bytes = bytes.len();
    if let Some(reply) = api::api_versions::unknown_version(&bytes) {
        return stream.bytes(reply).await.map_err(Ended::Write);
    }
    let header = RequestHeader::decode(&mut bytes).map_err(Ended::Header)?;
    let (key, version) = (header.api_key, header.api_version);
    let row =
        api::find_on(node, &client.listener, key).filter(|row| (row.served..=row.max).contains(&version));
    let Some(row) = row else {
        return Err(Ended::NotServed { key, version });
    };
    let context = Context {
        node: node.clone(),
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        client: client.clone(),
        request_bytes,
        throttle: throttle.clone(),
    };
    let begun = Instant::now();
    let (answer, parked) = metrics::with_parked((row.handle)(context, bytes)).await;
    drop(memory);
    let handled = Instant::now();
    let sending = Instant::now();
    let sent = match answer {
        Ok(Answer::Frame(frame)) => {
            let length = frame.len();
            stream.bytes(frame.freeze()).await.map(|()| length)
        }
        Ok(Answer::Chunks(plan)) => {
            let length = plan.length;
            stream.chunks(plan.chunks).await.map(|()| length)
        }
        Ok(Answer::Nothing) => Ok(0),
        Err(refusal) => return Err(Ended::Refused { name: row.name, version, refusal }),
    };
    let response_bytes = sent.map_err(|error| {
        if let Some(failed) = send::FileFailed::in_error(&error) {
            node.partitions.judge_file(&failed.path, failed.cause());
        }
        Ended::Write(error)
    })?;
    let times = metrics::Times {
        queued: begun - started,
        handled: handled - begun,
        parked,
        answer_queued: sending - handled,
        sent: sending.elapsed(),
    };
    node.metrics.requests.record(key, request_bytes, response_bytes, times);
    Ok(())
}
