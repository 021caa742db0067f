//! Frames, versions, order of answers, and what closes a connection.

use anyhow::Result;
use aqueduct_protocol::header::peek_correlation_id;
use aqueduct_protocol::messages::metadata_request::MetadataRequestTopic;
use aqueduct_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest};
use aqueduct_tests::server::{Kind, Server, shared};
use bytes::{BufMut as _, BytesMut};

use crate::fetch::request;
use crate::socket::Socket;
use crate::{batch, create, produce_request, same};

fn header(key: i16, version: i16) -> BytesMut {
    let mut content = BytesMut::new();
    content.put_i16(key);
    content.put_i16(version);
    content.put_i32(7);
    content.put_slice(b"\x00\x04wire");
    content
}

#[test]
fn api_versions_of_an_unknown_version_is_answered_in_the_oldest_form() -> Result<()> {
    for kind in Kind::BOTH {
        let mut socket = Socket::open(shared(kind)?)?;
        let mut content = header(18, 99);
        // No tagged fields in the header, then what only that version would know.
        content.put_slice(b"\x00\xff\xff\xff");
        socket.write_frame(&content)?;
        let answer = socket.read()?;
        let answer = answer.ok_or_else(|| anyhow::anyhow!("{kind:?} closed the connection"))?;
        // Correlation id, UNSUPPORTED_VERSION, and one entry: ApiVersions from 0 to the newest.
        assert_eq!(answer[..14], [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0], "{kind:?}");
        assert_eq!(answer.len(), 16);
        assert!(answer[15] >= 4);
        let versions = socket.call(&ApiVersionsRequest::default(), 0)?;
        assert_eq!(versions.error_code, 0, "the connection goes on");
    }
    Ok(())
}

#[test]
fn what_a_client_must_know_of_the_versions_is_advertised() -> Result<()> {
    let mut advertised = Vec::new();
    for kind in Kind::BOTH {
        let mut socket = Socket::open(shared(kind)?)?;
        let request = ApiVersionsRequest {
            client_software_name: "wire".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let response = socket.call(&request, 4)?;
        assert!(response.finalized_features.iter().any(|f| &*f.name == "metadata.version"), "{response:?}");
        let ranges = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        advertised.push(ranges.collect::<std::collections::BTreeMap<_, _>>());
    }
    let (ours, theirs) = (&advertised[0], &advertised[1]);
    for (key, (min, max)) in ours {
        let Some((their_min, their_max)) = theirs.get(key) else { panic!("only we have key {key}") };
        assert!(min == their_min && (max <= their_max || *key == 18), "key {key}: {min} to {max}");
    }
    let must = [
        0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 32, 33, 35, 37, 42, 44, 47, 60,
        75,
    ];
    for key in must {
        assert_eq!(
            ours.get(&key).map(|range| range.1 > 3),
            theirs.get(&key).map(|range| range.1 > 3),
            "key {key}"
        );
    }
    let request = ApiVersionsRequest { client_software_name: "not a name!".into(), ..Default::default() };
    same(|server| Ok(vec![format!("{}", Socket::open(server)?.call(&request, 3)?.error_code)]))?;
    Ok(())
}

#[test]
fn what_cannot_be_served_closes_the_connection() -> Result<()> {
    let fates = same(|server| {
        let mut seen = Vec::new();
        let mut show = |what: &str, bytes: &[u8]| -> Result<()> {
            let mut socket = Socket::open(server)?;
            socket.write(bytes)?;
            seen.push(format!("{what}: {}", socket.fate()?));
            Ok(())
        };
        let framed = |content: &[u8]| [&(content.len() as u32).to_be_bytes()[..], content].concat();
        for (key, version) in [(0, 2), (1, 3), (22, 6), (4, 0), (999, 0), (-1, 0), (3, 14), (3, -1)] {
            show(&format!("key {key} version {version}"), &framed(&header(key, version)))?;
        }
        let mut whole = BytesMut::new();
        let topics = Some(vec![MetadataRequestTopic { name: Some("cut".into()), ..Default::default() }]);
        let request = MetadataRequest { topics, ..Default::default() };
        aqueduct_protocol::frame::encode_request(&mut whole, &request, 9, 1, None)?;
        for length in [0, 1, 3, 8, 10, 12, whole.len() - 5] {
            show(&format!("Metadata cut to {length}"), &framed(&whole[4..4 + length]))?;
        }
        show(
            "array longer than the frame",
            &framed(&[&header(3, 1)[..], &[0x7f, 0xff, 0xff, 0xff]].concat()),
        )?;
        show("negative size", &[0xff; 8])?;
        show("size beyond the limit", &[0x7f, 0xff, 0xff, 0xff, 0, 3])?;
        show("HTTP", b"GET / HTTP/1.1\r\n\r\n")?;
        Ok(seen)
    })?;
    for fate in &fates {
        assert!(fate.ends_with(": closed"), "{fate}");
    }
    Ok(())
}

/// The server takes one request of a connection at a time, so that a slow one holds up those behind it.
#[test]
fn pipelined_requests_are_answered_in_order() -> Result<()> {
    for kind in Kind::BOTH {
        let server = shared(kind)?;
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.pipeline", 1, &[])?;
        let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(socket.start(&none, 4)?);
            let wait = FetchRequest { max_wait_ms: 150, ..request(&[("wire.pipeline", 0, 0)]) };
            ids.push(socket.start(&wait, 11)?);
            ids.push(socket.start(&ApiVersionsRequest::default(), 0)?);
        }
        for id in ids {
            let frame = socket.read()?.expect("answered");
            assert_eq!(peek_correlation_id(&frame)?, id, "{kind:?}");
        }
    }
    Ok(())
}

#[test]
fn a_producer_that_wants_no_answer_gets_none_and_loses_the_connection_on_an_error() -> Result<()> {
    let scenario = |server: &Server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.acks0", 1, &[])?;
        for _ in 0..3 {
            socket.start(&produce_request("wire.acks0", 0, batch(&[b"v"], None)), 7)?;
        }
        let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let id = socket.start(&none, 4)?;
        let frame = socket.read()?.expect("answered");
        let mut seen = vec![format!("next answer is Metadata's: {}", peek_correlation_id(&frame)? == id)];
        seen.push(format!("{}", crate::fetch::at(&mut socket, "wire.acks0", 0, 0)?.high_watermark));
        socket.start(&produce_request("wire.acks0", 0, bytes::Bytes::from_static(b"no batch")), 7)?;
        seen.push(socket.fate()?.to_owned());
        Ok(seen)
    };
    assert_eq!(same(scenario)?, ["next answer is Metadata's: true", "3", "closed"]);
    Ok(())
}
