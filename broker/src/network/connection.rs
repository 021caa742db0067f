//! One connection: a request is read, handled and answered before the next one is looked at, so answers keep the order
//! of the requests and a slow reader holds up nobody but itself.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_protocol::header::RequestHeader;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frames::{Frame, FrameError, FrameReader};
use super::send;
use crate::api::{self, Answer, Client, Context, Refusal};
use crate::node::Node;

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
}

impl Ended {
    /// Whether the client did something that it should not do.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::ByClient | Self::Stopping | Self::Idle | Self::Write(_) => false,
            Self::Frame(error) => matches!(error, FrameError::Size { .. }),
            _ => true,
        }
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(mut stream: TcpStream, client: Arc<Client>, node: Arc<Node>) -> Ended {
    let mut reader = FrameReader::new(node.settings.request_max_bytes);
    loop {
        let frame = tokio::select! {
            biased;
            frame = next(&mut reader, &mut stream, &node) => frame,
            () = node.tasks.stopping() => return Ended::Stopping,
        };
        let done = match frame {
            Ok(frame) => tokio::select! {
                biased;
                done = handle(frame, &stream, &client, &node) => done,
                () = cut_off(&node) => Err(Ended::Stopping),
            },
            Err(ended) => Err(ended),
        };
        if let Err(ended) = done {
            return ended;
        }
    }
}

/// Resolves when a stopping node waits no longer for answers that do not get done, or are not read.
async fn cut_off(node: &Node) {
    node.tasks.stopping().await;
    tokio::time::sleep(GRACE).await;
}

async fn next(reader: &mut FrameReader, stream: &mut TcpStream, node: &Node) -> Result<Frame, Ended> {
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
    stream: &TcpStream,
    client: &Arc<Client>,
    node: &Arc<Node>,
) -> Result<(), Ended> {
    let Frame { mut bytes, memory } = frame;
    let started = Instant::now();
    let request_bytes = bytes.len();
    if let Some(reply) = api::api_versions::unknown_version(&bytes) {
        return send::bytes(stream, reply, false).await.map_err(Ended::Write);
    }
    let header = RequestHeader::decode(&mut bytes).map_err(Ended::Header)?;
    let (key, version) = (header.api_key, header.api_version);
    let row = api::find(key).filter(|row| (row.served..=row.max).contains(&version));
    let Some(row) = row else {
        return Err(Ended::NotServed { key, version });
    };
    let context = Context {
        node: node.clone(),
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        client: client.clone(),
    };
    let answer = (row.handle)(context, bytes).await;
    drop(memory);
    let handled = started.elapsed();
    let sent = match answer {
        Ok(Answer::Frame(frame)) => {
            let length = frame.len();
            send::bytes(stream, frame.freeze(), false).await.map(|()| length)
        }
        Ok(Answer::Chunks(plan)) => {
            let length = plan.length;
            send::chunks(stream, plan.chunks).await.map(|_| length)
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
    node.metrics.requests.record(key, request_bytes, response_bytes, handled);
    Ok(())
}
