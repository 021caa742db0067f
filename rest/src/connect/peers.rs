//! How a worker reaches the others of its group: HTTP.

use aqueduct_connect_worker::internal::{ALGORITHM_HEADER, InternalRequest, Peers, SIGNATURE_HEADER};
use aqueduct_connect_worker::{Error, Result, WorkerConfig};
use async_trait::async_trait;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::outgoing::Outgoing;

/// Other workers of the group, by their advertised URLs.
#[derive(Clone)]
pub struct HttpPeers {
    client: Outgoing,
}

impl HttpPeers {
    /// Workers over HTTP, and over HTTPS as the worker's `listeners.https.ssl.*` or `ssl.*` settings say: blocks.
    ///
    /// # Errors
    /// `ssl.*` settings and files that cannot be used.
    pub fn new(config: &WorkerConfig) -> std::result::Result<Self, aqueduct_security::Error> {
        Outgoing::new(config).map(|client| Self { client })
    }

    /// A request to the whole address `url`.
    pub(super) fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.client(url).request(method, url).header(reqwest::header::ACCEPT, "application/json")
    }
}

/// What went wrong, down to the system's words; the address is left to who tells.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut at: &dyn std::error::Error = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[async_trait]
impl Peers for HttpPeers {
    async fn send(&self, request: InternalRequest) -> Result<()> {
        let InternalRequest { method, url, body, signature } = request;
        let method: Method =
            method.parse().map_err(|_| Error::internal(format!("{method} is no HTTP method")))?;
        let mut sent = self.request(method, &url);
        if !body.is_empty() {
            sent = sent.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        }
        if let Some(signature) = &signature {
            let (text, algorithm) = signature.headers();
            sent = sent.header(SIGNATURE_HEADER, text).header(ALGORITHM_HEADER, algorithm);
        }
        match sent.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(refusal(&url, answer).await),
            Err(error) => Err(Error::internal(format!("{url} cannot be reached: {}", cause(&error)))),
        }
    }
}

/// What another worker has against a request.
async fn refusal(url: &str, answer: Response) -> Error {
    let status = answer.status();
    let body = answer.bytes().await.unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| "no reason given".to_owned());
    let message = format!("{url} answered {}: {message}", status.as_u16());
    match status.as_u16() {
        400 => Error::BadRequest(message),
        403 => Error::Forbidden(message),
        404 => Error::NotFound(message),
        409 => Error::Conflict(message),
        503 => Error::Unavailable(message),
        _ => Error::Internal(message),
    }
}
