//! Whole frames: four bytes of size, a header, a body.

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use crate::header::{self, RequestHeader};
use crate::message::{Decode, DecodeError, Encode, EncodeError, Request};

/// Bytes of the size before each frame.
pub const SIZE_LENGTH: usize = 4;

/// Appends a request as a frame, size included. On error `buf` is as it was.
pub fn encode_request<R: Request>(
    buf: &mut BytesMut,
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&ByteString>,
) -> Result<(), EncodeError> {
    let header = RequestHeader {
        api_key: R::API_KEY,
        api_version: version,
        correlation_id,
        client_id: client_id.cloned(),
    };
    framed(buf, |buf| {
        header.encode(buf)?;
        request.encode(buf, version)
    })
}

/// Appends a response as a frame, size included. `api_key` and `version` are those of the request. On error `buf` is as
/// it was.
pub fn encode_response(
    buf: &mut BytesMut,
    response: &impl Encode,
    api_key: i16,
    version: i16,
    correlation_id: i32,
) -> Result<(), EncodeError> {
    framed(buf, |buf| {
        header::encode_response_header(buf, api_key, version, correlation_id);
        response.encode(buf, version)
    })
}

/// Reads a whole response frame, without its size: the correlation id and the body.
pub fn decode_response<R: Request>(
    mut frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let correlation_id = header::decode_response_header(&mut frame, R::API_KEY, version)?;
    Ok((correlation_id, decode_body(frame, version, R::NAME)?))
}

/// Reads a body that must take up all of `body`. `name` is what the error calls it.
pub fn decode_body<M: Decode>(mut body: Bytes, version: i16, name: &'static str) -> Result<M, DecodeError> {
    let message = M::decode(&mut body, version)?;
    if !body.is_empty() {
        return Err(DecodeError::TrailingBytes { message: name, version, left: body.len() });
    }
    Ok(message)
}

fn framed(
    buf: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = buf.len();
    buf.put_i32(0);
    let size = write(buf).and_then(|()| {
        let length = buf.len() - start - SIZE_LENGTH;
        i32::try_from(length).map_err(|_| EncodeError::TooLong { field: "frame", length })
    });
    match size {
        Ok(size) => {
            buf[start..start + SIZE_LENGTH].copy_from_slice(&size.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            buf.truncate(start);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest};

    #[test]
    fn a_request_is_framed_with_its_size() {
        let mut buf = BytesMut::from(&b"before"[..]);
        let request = ApiVersionsRequest::default();
        encode_request(&mut buf, &request, 3, 1, None).expect("encodes");
        assert_eq!(&buf[6..], b"\x00\x00\x00\x0e\x00\x12\x00\x03\x00\x00\x00\x01\xff\xff\x00\x01\x01\x00");
    }

    #[test]
    fn an_error_leaves_the_buffer_as_it_was() {
        let mut buf = BytesMut::from(&b"before"[..]);
        let request = HeartbeatRequest { group_instance_id: Some("i".into()), ..Default::default() };
        assert!(encode_request(&mut buf, &request, 0, 1, None).is_err());
        assert_eq!(&buf[..], b"before");
    }

    #[test]
    fn a_response_reads_back_and_leftovers_are_refused() {
        let mut buf = BytesMut::new();
        let response = ApiVersionsResponse { error_code: 35, ..Default::default() };
        encode_response(&mut buf, &response, ApiVersionsRequest::API_KEY, 0, 5).expect("encodes");
        let frame = buf.freeze().slice(SIZE_LENGTH..);
        assert_eq!(decode_response::<ApiVersionsRequest>(frame.clone(), 0), Ok((5, response)));
        let mut longer = BytesMut::from(frame);
        longer.put_u8(0);
        let error = decode_response::<ApiVersionsRequest>(longer.freeze(), 0).expect_err("one byte too many");
        assert_eq!(error.to_string(), "1 bytes left over after ApiVersions version 0");
    }
}
