//! What comes before requests are served: the TLS handshake and the SASL exchange, each within a time limit, and the
//! SASL exchange again when a session is renewed (KIP-368).

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::api::ApiKey;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::frame;
use aqueduct_protocol::header::RequestHeader;
use aqueduct_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use aqueduct_protocol::{Decode, Encode, Request};
use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::Limits;
use super::connection::Ended;
use super::frames::FrameReader;
use super::stream::Stream;
use crate::api::{self, Answer, Client, Context};
use crate::node::Node;
use crate::security::sasl::{Exchange, Lifetime, Lookup, SaslSetup, Step};
use crate::security::{Principal, Setup};

/// Time for a TLS handshake and a SASL exchange together: a peer that is slower holds its place for no longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Who is at the other end, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub client: Arc<Client>,
    pub lifetime: Lifetime,
    mechanism: ByteString,
}

/// Brings a new connection to where requests are served.
pub(super) async fn begin(
    stream: Stream,
    client: Client,
    setup: &Setup,
    strangers: &Limits,
    node: &Arc<Node>,
) -> Result<(Stream, FrameReader, Session), Ended> {
    if setup.tls.is_none() && setup.sasl.is_none() {
        let reader = FrameReader::new(node.settings.request_max_bytes);
        return Ok((stream, reader, Session::plain(Arc::new(client))));
    }
    let begun = tokio::time::timeout(LIMIT, secured(stream, client, setup, strangers, node)).await;
    begun.unwrap_or(Err(Ended::TooSlow { limit: LIMIT }))
}

async fn secured(
    stream: Stream,
    mut client: Client,
    setup: &Setup,
    strangers: &Limits,
    node: &Arc<Node>,
) -> Result<(Stream, FrameReader, Session), Ended> {
    let mut stream = match &setup.tls {
        None => stream,
        Some(tls) => {
            let Stream::Plain(stream) = stream else {
                return Err(Ended::Tls("this network has no encrypted connections".to_owned()));
            };
            let stream = tls.acceptor.accept(stream).await.map_err(|error| Ended::Tls(error.to_string()))?;
            if let Some([certificate, ..]) = stream.get_ref().1.peer_certificates()
                && setup.sasl.is_none()
            {
                client.principal = tls.principal(certificate).map_err(Ended::Authentication)?;
            }
            Stream::Tls(Box::new(stream))
        }
    };
    let Some(sasl) = &setup.sasl else {
        let reader = FrameReader::new(node.settings.request_max_bytes);
        return Ok((stream, reader, Session::plain(Arc::new(client))));
    };
    let mut reader = FrameReader::new(sasl.max_receive_bytes);
    let mut authenticator =
        Authenticator { sasl, node, client: Arc::new(client), previous: None, state: State::Handshake };
    loop {
        let frame = reader.next(&mut stream, strangers).await?.ok_or(Ended::ByClient)?;
        if let Some(session) = authenticator.take(frame.bytes, &mut stream).await? {
            reader.set_limit(node.settings.request_max_bytes);
            return Ok((stream, reader, session));
        }
    }
}

/// Renews a session; `handshake` is the frame that begins it.
pub(super) async fn again(
    handshake: Bytes,
    stream: &mut Stream,
    reader: &mut FrameReader,
    session: &Session,
    sasl: &SaslSetup,
    node: &Arc<Node>,
) -> Result<Session, Ended> {
    let renewed = async {
        let mut authenticator = Authenticator {
            sasl,
            node,
            client: session.client.clone(),
            previous: Some(session),
            state: State::Handshake,
        };
        let mut frame = handshake;
        loop {
            if let Some(session) = authenticator.take(frame, stream).await? {
                return Ok(session);
            }
            frame = reader.next(stream, &node.limits).await?.ok_or(Ended::ByClient)?.bytes;
        }
    };
    tokio::time::timeout(LIMIT, renewed).await.unwrap_or(Err(Ended::TooSlow { limit: LIMIT }))
}

impl Session {
    /// One that lasts as long as the connection.
    fn plain(client: Arc<Client>) -> Self {
        Self { client, lifetime: Lifetime::default(), mechanism: ByteString::new() }
    }
}

struct Authenticator<'a> {
    sasl: &'a SaslSetup,
    node: &'a Arc<Node>,
    client: Arc<Client>,
    /// The session that is renewed.
    previous: Option<&'a Session>,
    state: State,
}

enum State {
    Handshake,
    Exchange {
        mechanism: ByteString,
        exchange: Box<Exchange>,
        /// Whether messages come as SaslAuthenticate requests; else they are frames by themselves.
        framed: bool,
    },
}

/// Where the answer to a message goes.
struct ReplyTo {
    /// Version and correlation id of a SaslAuthenticate request.
    framed: Option<(i16, i32)>,
}

impl Authenticator<'_> {
    /// Takes a frame of the client; the session where that completes it.
    async fn take(&mut self, bytes: Bytes, stream: &mut Stream) -> Result<Option<Session>, Ended> {
        match std::mem::replace(&mut self.state, State::Handshake) {
            State::Handshake => self.handshake(bytes, stream).await.map(|()| None),
            State::Exchange { mechanism, exchange, framed } => {
                self.exchange(bytes, mechanism, exchange, framed, stream).await
            }
        }
    }

    async fn handshake(&mut self, mut bytes: Bytes, stream: &mut Stream) -> Result<(), Ended> {
        if let Some(reply) = api::api_versions::unknown_version(&bytes) {
            return stream.bytes(reply).await.map_err(Ended::Write);
        }
        let header = RequestHeader::decode(&mut bytes).map_err(Ended::Header)?;
        let (key, version) = (header.api_key, header.api_version);
        if key == ApiKey::API_VERSIONS && self.previous.is_none() {
            return self.api_versions(header, bytes, stream).await;
        }
        if key != SaslHandshakeRequest::API_KEY || !(0..=1).contains(&version) {
            return Err(Ended::NotAuthenticated { key, version });
        }
        let request = SaslHandshakeRequest::decode(&mut bytes, version).map_err(Ended::Body)?;
        let mechanism = request.mechanism;
        let enabled = self.sasl.mechanisms.contains(&mechanism);
        let exchange = if enabled { Exchange::begin(&mechanism) } else { None };
        let code = if exchange.is_some() { ErrorCode::None } else { ErrorCode::UnsupportedSaslMechanism };
        let answer =
            SaslHandshakeResponse { error_code: code.code(), mechanisms: self.sasl.mechanisms.clone() };
        self.send(stream, &answer, key, version, header.correlation_id).await?;
        match exchange {
            Some(exchange) => {
                let exchange = Box::new(exchange);
                self.state = State::Exchange { mechanism, exchange, framed: version > 0 };
                Ok(())
            }
            None => {
                tokio::time::sleep(self.sasl.failure_delay).await;
                Err(Ended::Authentication(format!("mechanism {mechanism:?} is not enabled")))
            }
        }
    }

    async fn api_versions(
        &self,
        header: RequestHeader,
        body: Bytes,
        stream: &mut Stream,
    ) -> Result<(), Ended> {
        let row = api::find(header.api_key).expect("ApiVersions is served");
        let context = Context {
            node: self.node.clone(),
            version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
            client: self.client.clone(),
            request_bytes: body.len(),
            throttle: Arc::default(),
        };
        let refused = |refusal| Ended::Refused { name: row.name, version: header.api_version, refusal };
        match (row.handle)(context, body).await.map_err(refused)? {
            Answer::Frame(frame) => stream.bytes(frame.freeze()).await.map_err(Ended::Write),
            _ => Ok(()),
        }
    }

    async fn exchange(
        &mut self,
        mut bytes: Bytes,
        mechanism: ByteString,
        mut exchange: Box<Exchange>,
        framed: bool,
        stream: &mut Stream,
    ) -> Result<Option<Session>, Ended> {
        let (message, reply_to) = if framed {
            let header = RequestHeader::decode(&mut bytes).map_err(Ended::Header)?;
            let (key, version) = (header.api_key, header.api_version);
            if key != SaslAuthenticateRequest::API_KEY || !(0..=2).contains(&version) {
                return Err(Ended::NotAuthenticated { key, version });
            }
            let request = SaslAuthenticateRequest::decode(&mut bytes, version).map_err(Ended::Body)?;
            (request.auth_bytes, ReplyTo { framed: Some((version, header.correlation_id)) })
        } else {
            (bytes, ReplyTo { framed: None })
        };
        if let Some(previous) = self.previous.filter(|previous| previous.mechanism != mechanism) {
            let why = format!(
                "SASL mechanism '{mechanism}' requested by client is not supported for re-authentication of mechanism '{}'",
                previous.mechanism
            );
            return Err(self.fail(stream, &reply_to, &mechanism, why.clone(), why).await);
        }
        let mut step = self.step(&mut exchange, &message);
        if let Step::CheckToken(token) = &step {
            let checked = match &self.sasl.oauth {
                Some(validator) => validator.check(token, self.node.clock.now_ms()).await,
                None => Err("OAUTHBEARER is not enabled".to_owned()),
            };
            step = exchange.token_checked(checked);
        }
        match step {
            Step::Continue(reply) => {
                self.reply(stream, &reply_to, reply, 0).await?;
                self.state = State::Exchange { mechanism, exchange, framed };
                Ok(None)
            }
            Step::Done { user, expires_at_ms, reply } => {
                let principal = Principal::user(user);
                if let Some(why) = self.changed(&principal) {
                    return Err(self.fail(stream, &reply_to, &mechanism, why.clone(), why).await);
                }
                let now_ms = self.node.clock.now_ms();
                let limit = self.sasl.max_reauth_ms(&mechanism);
                let (mut lifetime, told_ms) = Lifetime::begin(now_ms, expires_at_ms, limit);
                if let Some(previous) = self.previous {
                    lifetime = previous.lifetime.follow(lifetime);
                }
                self.reply(stream, &reply_to, reply, told_ms).await?;
                let client = Arc::new(Client { principal, ..(*self.client).clone() });
                Ok(Some(Session { client, lifetime, mechanism }))
            }
            Step::Failed { answer, why } => Err(self.fail(stream, &reply_to, &mechanism, answer, why).await),
            Step::CheckToken(_) => Err(Ended::Authentication("a token is checked twice".into())),
        }
    }

    fn step(&self, exchange: &mut Exchange, message: &[u8]) -> Step {
        let image = self.node.metadata.image();
        let nonce = nonce();
        let lookup = Lookup {
            setup: self.sasl,
            scram: &|mechanism, user| image.scram.credential(user, mechanism).cloned(),
            nonce: &nonce,
        };
        exchange.step(message, &lookup)
    }

    /// A session may not change hands.
    fn changed(&self, next: &Principal) -> Option<String> {
        let before = &self.previous?.client.principal;
        (before != next).then(|| {
            format!(
                "Cannot change principals during re-authentication from {}.{}: {}.{}",
                before.kind, before.name, next.kind, next.name
            )
        })
    }

    async fn reply(
        &self,
        stream: &mut Stream,
        reply_to: &ReplyTo,
        auth_bytes: Vec<u8>,
        session_lifetime_ms: i64,
    ) -> Result<(), Ended> {
        let Some((version, correlation_id)) = reply_to.framed else {
            let mut out = BytesMut::with_capacity(auth_bytes.len() + 4);
            out.put_u32(auth_bytes.len() as u32);
            out.put_slice(&auth_bytes);
            return stream.bytes(out.freeze()).await.map_err(Ended::Write);
        };
        let response = SaslAuthenticateResponse {
            error_message: None,
            auth_bytes: auth_bytes.into(),
            session_lifetime_ms: if version >= 1 { session_lifetime_ms } else { 0 },
            ..Default::default()
        };
        self.send(stream, &response, SaslAuthenticateRequest::API_KEY, version, correlation_id).await
    }

    /// Tells the client that it failed, not at once; the connection is to be closed then.
    async fn fail(
        &self,
        stream: &mut Stream,
        reply_to: &ReplyTo,
        mechanism: &str,
        mut answer: String,
        why: String,
    ) -> Ended {
        tokio::time::sleep(self.sasl.failure_delay).await;
        if let Some((version, correlation_id)) = reply_to.framed {
            if answer.is_empty() {
                let what = if self.previous.is_some() { "re-authentication" } else { "authentication" };
                answer = format!(
                    "Authentication failed during {what} due to invalid credentials with SASL mechanism {mechanism}"
                );
            }
            let response = SaslAuthenticateResponse {
                error_code: ErrorCode::SaslAuthenticationFailed.code(),
                error_message: Some(answer.into()),
                ..Default::default()
            };
            let key = SaslAuthenticateRequest::API_KEY;
            if let Err(ended) = self.send(stream, &response, key, version, correlation_id).await {
                return ended;
            }
        }
        Ended::Authentication(why)
    }

    async fn send(
        &self,
        stream: &mut Stream,
        response: &impl Encode,
        key: i16,
        version: i16,
        correlation_id: i32,
    ) -> Result<(), Ended> {
        let mut out = BytesMut::new();
        frame::encode_response(&mut out, response, key, version, correlation_id)
            .expect("SASL answers are written in versions that were asked for");
        stream.bytes(out.freeze()).await.map_err(Ended::Write)
    }
}

fn nonce() -> String {
    let random: [u8; 18] = rand::random();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
