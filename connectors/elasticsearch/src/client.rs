//! The way to the servers.

use std::error::Error as StdError;
use std::time::Duration;

use aqueduct_connect_api::{Error, Notice, Result};
use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Method;
use elasticsearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::http::transport::{MultiNodeConnectionPool, Transport, TransportBuilder};
use serde_json::Value as Json;

use crate::backoff::pause;
use crate::config::{CONNECTION_URL, Settings, TRUSTSTORE_LOCATION};

/// Only what is looked at in the answer to a bulk request.
const BULK: &str = "_bulk?filter_path=errors,items.*.status,items.*.error";

/// Servers that take turns.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    places: String,
    timeout: Duration,
    max_retries: u32,
    retry_backoff: Duration,
    flush_timeout: Duration,
    /// Where it is said that requests are tried again.
    notice: Notice,
}

/// An answer that came.
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or(Json::Null)
    }

    /// The beginning of the body, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(500).collect()
    }
}

impl Client {
    pub fn new(settings: &Settings, notice: Notice) -> Result<Self> {
        let pool = MultiNodeConnectionPool::round_robin(settings.urls.clone(), None);
        let mut builder = TransportBuilder::new(pool)
            .request_body_compression(settings.compression)
            .enable_meta_header(false);
        if let Some((user, password)) = &settings.credentials {
            builder = builder.auth(Credentials::Basic(user.clone(), password.expose().to_owned()));
        }
        builder = match &settings.proxy {
            Some(proxy) => match &proxy.credentials {
                Some((user, password)) => {
                    builder.proxy(proxy.url.clone(), Some(user), Some(password.expose()))
                }
                None => builder.proxy(proxy.url.clone(), None, None),
            },
            // The environment's proxies are for other programs.
            None => builder.disable_proxy(),
        };
        if let Some(pem) = &settings.trusted {
            let certificates = Certificate::from_pem(pem).map_err(|e| {
                Error::config(TRUSTSTORE_LOCATION, "[set]", format!("holds no certificates as PEM: {e}"))
            })?;
            builder = builder.cert_validation(CertificateValidation::Full(certificates));
        }
        let transport = builder.build().map_err(|e| {
            Error::config(CONNECTION_URL, settings.places(), format!("no client for it: {e}"))
        })?;
        Ok(Self {
            transport,
            places: settings.places(),
            timeout: settings.timeout,
            max_retries: settings.max_retries,
            retry_backoff: settings.retry_backoff,
            flush_timeout: settings.flush_timeout,
            notice,
        })
    }

    /// Sends operations.
    ///
    /// # Errors
    /// After as many attempts as the settings allow.
    pub async fn bulk(&self, body: Bytes) -> Result<Answer> {
        self.patiently(Method::Post, BULK, "application/x-ndjson", Some(body)).await
    }

    /// Any other call, with a body of JSON if there is one.
    ///
    /// # Errors
    /// After as many attempts as the settings allow.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Answer> {
        let body = body.map(|json| Bytes::from(json.to_string()));
        self.patiently(method, path, "application/json", body).await
    }

    /// One attempt, for validation.
    ///
    /// # Errors
    /// Why no answer came.
    pub async fn call_once(&self, method: Method, path: &str) -> Result<Answer, String> {
        self.send(method, path, "application/json", None).await
    }

    /// Tries again: after no answer and after server errors up to `max.retries` times, and while the server has too much to
    /// do for as long as `flush.timeout.ms`.
    async fn patiently(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
    ) -> Result<Answer> {
        let began = tokio::time::Instant::now();
        let (mut attempt, mut failures) = (0, 0);
        loop {
            attempt += 1;
            let problem = match self.send(method, path, content_type, body.clone()).await {
                Ok(answer) if answer.status == 429 && began.elapsed() < self.flush_timeout => {
                    "the server has too much to do (429)".to_owned()
                }
                Ok(answer) if matches!(answer.status, 401 | 403) => return Err(self.refused(&answer)),
                Ok(answer) if answer.status >= 500 || answer.status == 429 => {
                    failures += 1;
                    format!("status {}: {}", answer.status, answer.text())
                }
                Ok(answer) => {
                    if attempt > 1 {
                        self.notice.clear();
                    }
                    return Ok(answer);
                }
                Err(cause) => {
                    failures += 1;
                    cause
                }
            };
            if failures > self.max_retries {
                return Err(Error::connect(format!(
                    "no success with {} after {attempt} attempts: {problem}; check that the server runs and that \
                     connection.url leads to it, then restart the task, which goes on after the last confirmed record. \
                     max.retries, retry.backoff.ms and read.timeout.ms say how long it tries",
                    self.places
                )));
            }
            let wait = self.pause(attempt);
            self.notice.failed(&format_args!("a request to {}: {problem}", self.places));
            tracing::warn!(
                problem,
                attempt,
                wait_ms = wait.as_millis() as u64,
                servers = self.places,
                "request is sent again"
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait after attempt `attempt`, at random.
    pub fn pause(&self, attempt: u32) -> Duration {
        pause(self.retry_backoff, attempt, rand::random())
    }

    fn refused(&self, answer: &Answer) -> Error {
        Error::connect(format!(
            "{} refuses the request with status {}: {}; check connection.username and connection.password, and what that \
             user may do",
            self.places,
            answer.status,
            answer.text()
        ))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
    ) -> Result<Answer, String> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let response = self
            .transport
            .send(method, path, headers, None::<&()>, body, Some(self.timeout))
            .await
            .map_err(|e| causes(&e))?;
        let status = response.status_code().as_u16();
        let body = response.bytes().await.map_err(|e| causes(&e))?;
        Ok(Answer { status, body })
    }
}

/// An error and everything behind it, in one line.
fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
