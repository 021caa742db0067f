//! The first exchange on a new connection: ApiVersions, with the downgrade that KIP-511 describes.

use std::io;

use aqueduct_protocol::api::Api;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::frame;
use aqueduct_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use aqueduct_protocol::{DecodeError, Request};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::sasl::Exchange;
use super::stream::Stream;
use super::versions::Versions;

/// An ApiVersions answer lists at most a few hundred APIs.
const MAX_ANSWER: usize = 1 << 20;

/// Why the exchange failed.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    Decode(DecodeError),
    Code(ErrorCode),
}

/// Asks what the broker speaks: in our newest version first, then in the newest that the refusal names.
pub(super) async fn api_versions(stream: &mut Stream, client_id: &ByteString) -> Result<Versions, Failure> {
    let key = ApiVersionsRequest::API_KEY;
    let mut version = Api::find(key).map_or(ApiVersionsRequest::MAX_VERSION, |api| api.max_stable);
    loop {
        let body = exchange(stream, version, client_id).await?;
        // A broker that does not know the version answers in version 0.
        let refused = body.get(4..6) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes()[..]);
        let spoken = if refused { 0 } else { version };
        let (_, answer) =
            frame::decode_response::<ApiVersionsRequest>(body, spoken).map_err(Failure::Decode)?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => {
                return Ok(Versions::new(&answer.api_keys).with_features(&answer.finalized_features));
            }
            ErrorCode::UnsupportedVersion if version > 0 => version = next_version(&answer, version),
            code => return Err(Failure::Code(code)),
        }
    }
}

/// The version to try after a refusal: what the broker names, but always a lower one.
fn next_version(answer: &ApiVersionsResponse, refused: i16) -> i16 {
    let named = answer.api_keys.iter().find(|api| api.api_key == ApiVersionsRequest::API_KEY);
    named.map_or(0, |api| api.max_version).clamp(0, refused - 1)
}

async fn exchange(stream: &mut Stream, version: i16, client_id: &ByteString) -> Result<Bytes, Failure> {
    let request = ApiVersionsRequest {
        client_software_name: ByteString::from_static("aqueduct"),
        client_software_version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
        ..Default::default()
    };
    let mut out = BytesMut::new();
    frame::encode_request(&mut out, &request, version, 0, Some(client_id))
        .expect("ApiVersions is written in a version of ours");
    stream.exchange("ApiVersions", out.freeze()).await.map_err(Failure::Io)
}

impl Exchange for Stream {
    async fn exchange(&mut self, _: &'static str, frame: Bytes) -> io::Result<Bytes> {
        self.write_all(&frame).await?;
        self.flush().await?;
        let size = self.read_i32().await?;
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_ANSWER).ok_or_else(|| {
            let why =
                format!("an answer of {size} bytes; does a Kafka broker listen there, and without TLS?");
            io::Error::new(io::ErrorKind::InvalidData, why)
        })?;
        let mut body = vec![0; size];
        self.read_exact(&mut body).await?;
        Ok(Bytes::from(body))
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::messages::api_versions_response::ApiVersion;

    use super::*;

    #[test]
    fn a_refusal_always_lowers_the_version() {
        let naming = |max_version| ApiVersionsResponse {
            api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version }],
            ..Default::default()
        };
        assert_eq!(next_version(&naming(2), 4), 2);
        assert_eq!(next_version(&naming(9), 4), 3);
        assert_eq!(next_version(&naming(-1), 4), 0);
        assert_eq!(next_version(&ApiVersionsResponse::default(), 4), 0);
    }
}
