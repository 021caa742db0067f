//! Request and response headers.
//!
//! A request header has the client id in its plain form in every version; version 2 adds tagged fields, as version 1 of
//! the response header does. Which header goes with a message follows from the table of APIs.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use crate::api::Api;
use crate::codec::{read, write};
use crate::message::{DecodeError, EncodeError};

/// What precedes the body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API that is called; see [`crate::api::ApiKey`].
    pub api_key: i16,
    /// The version of the body.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<ByteString>,
}

impl RequestHeader {
    /// Takes the header from the front of a frame; the body is what is left.
    ///
    /// A version that we do not know is not an error here, because ApiVersions answers it: its header is read in the
    /// form of our newest version. A key that we do not know is an error, after which a connection cannot go on.
    pub fn decode(frame: &mut Bytes) -> Result<Self, DecodeError> {
        let api_key = read::i16(frame, "RequestHeader.RequestApiKey")?;
        let api_version = read::i16(frame, "RequestHeader.RequestApiVersion")?;
        let correlation_id = read::i32(frame, "RequestHeader.CorrelationId")?;
        let api = api(api_key)?;
        let client_id = read::nullable_string(frame, false, "RequestHeader.ClientId")?;
        if api.is_flexible(api_version) {
            read::skip_tags(frame, "RequestHeader")?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }

    /// Appends the header in the version that goes with the API's.
    pub fn encode(&self, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let unknown = EncodeError::UnsupportedVersion { message: "RequestHeader", version: self.api_version };
        let api = Api::find(self.api_key).ok_or(unknown)?;
        buf.put_i16(self.api_key);
        buf.put_i16(self.api_version);
        buf.put_i32(self.correlation_id);
        write::nullable_string(buf, false, self.client_id.as_deref(), "RequestHeader.ClientId")?;
        if api.is_flexible(self.api_version) {
            buf.put_u8(0);
        }
        Ok(())
    }
}

/// Takes a response header from the front of a frame and returns its correlation id. `api_key` and `api_version` are
/// those of the request.
pub fn decode_response_header(frame: &mut Bytes, api_key: i16, api_version: i16) -> Result<i32, DecodeError> {
    let correlation_id = read::i32(frame, "ResponseHeader.CorrelationId")?;
    if api(api_key)?.response_header_version(api_version) >= 1 {
        read::skip_tags(frame, "ResponseHeader")?;
    }
    Ok(correlation_id)
}

/// The correlation id of a response frame, which every header version has first; nothing is taken.
pub fn peek_correlation_id(frame: &Bytes) -> Result<i32, DecodeError> {
    let mut front = frame.slice(..frame.len().min(4));
    if front.remaining() < 4 {
        let left = frame.len();
        return Err(DecodeError::Truncated { field: "ResponseHeader.CorrelationId", needed: 4, left });
    }
    Ok(front.get_i32())
}

/// Appends the response header that goes with the request's key and version.
pub fn encode_response_header(buf: &mut BytesMut, api_key: i16, api_version: i16, correlation_id: i32) {
    buf.put_i32(correlation_id);
    if Api::find(api_key).is_some_and(|api| api.response_header_version(api_version) >= 1) {
        buf.put_u8(0);
    }
}

fn api(key: i16) -> Result<&'static Api, DecodeError> {
    Api::find(key).ok_or_else(|| DecodeError::Invalid {
        field: "RequestHeader.RequestApiKey",
        why: format!("no API has the key {key}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiKey;

    fn header(api_key: i16, api_version: i16) -> RequestHeader {
        let client_id = Some(ByteString::from_static("c"));
        RequestHeader { api_key, api_version, correlation_id: 7, client_id }
    }

    #[test]
    fn the_client_id_stays_plain_and_flexible_versions_add_tags() {
        for (version, tail) in [(2, &b"\x00\x01c"[..]), (3, &b"\x00\x01c\x00"[..])] {
            let mut buf = BytesMut::new();
            header(ApiKey::API_VERSIONS, version).encode(&mut buf).expect("encodes");
            assert_eq!(buf[..8], [0, 18, 0, version as u8, 0, 0, 0, 7]);
            assert_eq!(&buf[8..], tail);
            buf.put_slice(b"body");
            let mut frame = buf.freeze();
            assert_eq!(RequestHeader::decode(&mut frame), Ok(header(ApiKey::API_VERSIONS, version)));
            assert_eq!(frame, "body");
        }
    }

    #[test]
    fn a_newer_version_is_read_but_an_unknown_key_is_refused() {
        let mut frame = Bytes::from_static(b"\x00\x12\x00\x63\x00\x00\x00\x07\xff\xff\x00rest");
        let read = RequestHeader::decode(&mut frame).expect("decodes");
        assert_eq!((read.api_version, read.client_id, &frame[..]), (99, None, &b"rest"[..]));
        let mut frame = Bytes::from_static(b"\x00\x04\x00\x00\x00\x00\x00\x07\xff\xff");
        let error = RequestHeader::decode(&mut frame).expect_err("LeaderAndIsr is gone");
        assert_eq!(error.to_string(), "RequestHeader.RequestApiKey: no API has the key 4");
    }

    #[test]
    fn a_cut_header_is_an_error_at_every_length() {
        let whole = Bytes::from_static(b"\x00\x12\x00\x03\x00\x00\x00\x07\x00\x02ab\x01\x05\x02xy");
        assert!(RequestHeader::decode(&mut whole.clone()).is_ok());
        for length in 0..whole.len() {
            assert!(RequestHeader::decode(&mut whole.slice(..length)).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_api_versions_response_has_the_oldest_header() {
        for (key, version, length) in [
            (ApiKey::API_VERSIONS, 4, 4),
            (ApiKey::METADATA, 8, 4),
            (ApiKey::METADATA, 9, 5),
            (ApiKey::SASL_HANDSHAKE, 1, 4),
        ] {
            let mut buf = BytesMut::new();
            encode_response_header(&mut buf, key, version, 9);
            assert_eq!(buf.len(), length);
            let mut frame = buf.freeze();
            assert_eq!(peek_correlation_id(&frame), Ok(9));
            assert_eq!(decode_response_header(&mut frame, key, version), Ok(9));
            assert!(frame.is_empty());
        }
    }
}
