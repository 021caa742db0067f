//! Saying who one is: on a new connection, and again before the session ends (KIP-368).

use std::io;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use aqueduct_protocol::{Request, frame};
use aqueduct_security::{plain, scram};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::versions::Versions;
use crate::config::{Sasl, SaslMechanism};
use crate::error::{Error, Result};

/// Carries requests to the broker, one after the other.
pub(super) trait Exchange {
    /// Sends a frame and gives the frame that answers it.
    fn exchange(&mut self, api: &'static str, frame: Bytes)
    -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// Who talks to whom.
pub(super) struct Parties<'a> {
    pub broker: &'a str,
    pub client_id: &'a ByteString,
    pub versions: &'a Versions,
    pub sasl: &'a Sasl,
}

impl Parties<'_> {
    /// Authenticates; how long the session lasts, where it ends before the connection does.
    pub async fn authenticate(&self, wire: &mut impl Exchange) -> Result<Option<Duration>> {
        let name = self.sasl.mechanism.name();
        let handshake = SaslHandshakeRequest { mechanism: name.into() };
        let answer = self.call(wire, &handshake).await?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => {}
            ErrorCode::UnsupportedSaslMechanism => {
                let enabled = answer.mechanisms.join(", ");
                return Err(self.failed(format!(
                    "the broker does not enable it: set sasl.mechanism to one of {enabled}, or add it to \
                     sasl.enabled.mechanisms on the broker"
                )));
            }
            ErrorCode::IllegalSaslState => {
                let why = "the broker's listener does not authenticate: check security.protocol and the port";
                return Err(self.failed(why.to_owned()));
            }
            code => return Err(self.failed(code.to_string())),
        }
        match &self.sasl.mechanism {
            SaslMechanism::Plain { username, password } => {
                let (_, life) = self.step(wire, plain::message(username, password)).await?;
                Ok(life)
            }
            SaslMechanism::Scram { mechanism, username, password } => {
                let (client, first) = scram::Client::start(*mechanism, username, password.clone(), &nonce());
                let (challenge, _) = self.step(wire, first).await?;
                let (client, proof) = client.answer(&challenge).map_err(|why| self.failed(why))?;
                let (last, life) = self.step(wire, proof).await?;
                client.verify(&last).map_err(|why| self.failed(why))?;
                Ok(life)
            }
            SaslMechanism::Oauth(tokens) => {
                let message = tokens.message().await.map_err(|why| self.failed(why))?;
                let (answer, life) = self.step(wire, message).await?;
                if answer.is_empty() {
                    return Ok(life);
                }
                // What comes back is why the token was refused; the broker waits to hear that it was understood.
                let _ = self.step(wire, aqueduct_security::oauth::ABORT.to_vec()).await;
                let why = String::from_utf8_lossy(&answer).into_owned();
                Err(self.failed(format!("the broker refuses the token: {why}")))
            }
        }
    }

    async fn step(&self, wire: &mut impl Exchange, message: Vec<u8>) -> Result<(Bytes, Option<Duration>)> {
        let request = SaslAuthenticateRequest { auth_bytes: message.into() };
        let answer = self.call(wire, &request).await?;
        if answer.error_code != 0 {
            let code = ErrorCode::from_code(answer.error_code);
            let text = answer.error_message.filter(|text| !text.is_empty());
            let why = text.map_or_else(|| code.to_string(), |text| text.to_string());
            return Err(
                self.failed(format!("{why}; check sasl.jaas.config and the credentials on the broker"))
            );
        }
        let life =
            u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        Ok((answer.auth_bytes, life))
    }

    async fn call<R: Request>(&self, wire: &mut impl Exchange, request: &R) -> Result<R::Response> {
        let broker = || self.broker.to_owned();
        let version = self.versions.choose::<R>(i16::MAX).ok_or_else(|| Error::UnsupportedVersion {
            broker: broker(),
            api: R::NAME,
            ours: format!("{} to {}", R::MIN_VERSION, R::MAX_VERSION),
        })?;
        let mut out = BytesMut::new();
        frame::encode_request(&mut out, request, version, 0, Some(self.client_id))
            .map_err(|source| Error::Encode { broker: broker(), api: R::NAME, source })?;
        let answer = wire.exchange(R::NAME, out.freeze()).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self
                .failed("the broker closed the connection: check security.protocol and the port".to_owned()),
            _ => Error::Connect { broker: broker(), source: error.into() },
        })?;
        let decoded = frame::decode_response::<R>(answer, version);
        Ok(decoded.map_err(|source| Error::Decode { broker: broker(), api: R::NAME, source })?.1)
    }

    fn failed(&self, why: String) -> Error {
        Error::Authentication { broker: self.broker.to_owned(), mechanism: self.sasl.mechanism.name(), why }
    }
}

fn nonce() -> String {
    let random: [u8; 18] = rand::random();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
