//! Fetch sessions (KIP-227).

use anyhow::Result;
use aqueduct_protocol::messages::FetchRequest;
use aqueduct_protocol::messages::fetch_request::ForgottenTopic;

use crate::fetch::{request, show};
use crate::socket::Socket;
use crate::{batch, create, same, send};

const TOPICS: [(&str, i32, i64); 2] = [("wire.session-a", 0, 0), ("wire.session-b", 0, 0)];

fn in_session(session_id: i32, session_epoch: i32, partitions: &[(&str, i32, i64)]) -> FetchRequest {
    FetchRequest { session_id, session_epoch, ..request(partitions) }
}

#[test]
fn a_session_tells_only_what_is_new() -> Result<()> {
    let seen = same(|server| {
        let mut socket = Socket::open(server)?;
        for (topic, ..) in TOPICS {
            create(&mut socket, topic, 1, &[])?;
            send(&mut socket, 8, topic, batch(&[b"first"], None))?;
        }
        let mut seen = Vec::new();
        let first = socket.call(&in_session(0, 0, &TOPICS), 11)?;
        let id = first.session_id;
        seen.push(format!("new: {} {}", id > 0, show(&first)));
        let mut step = |what: &str, ask: FetchRequest| -> Result<()> {
            let answer = socket.call(&ask, 11)?;
            let session = if answer.session_id == id {
                "same"
            } else if answer.session_id == 0 {
                "none"
            } else {
                "other"
            };
            seen.push(format!("{what}: {session} {}", show(&answer)));
            Ok(())
        };
        step("again from the same offsets", in_session(id, 1, &[]))?;
        step("moved on", in_session(id, 2, &[("wire.session-a", 0, 1), ("wire.session-b", 0, 1)]))?;
        step("nothing new", in_session(id, 3, &[]))?;
        let mut other = Socket::open(server)?;
        send(&mut other, 8, "wire.session-b", batch(&[b"second"], None))?;
        step("one has news", in_session(id, 4, &[]))?;
        step("it was not taken", in_session(id, 5, &[]))?;
        let forgotten =
            ForgottenTopic { topic: "wire.session-b".into(), partitions: vec![0], ..Default::default() };
        step("forgotten", FetchRequest { forgotten_topics_data: vec![forgotten], ..in_session(id, 6, &[]) })?;
        step("one is left", in_session(id, 7, &[]))?;
        step("out of range", in_session(id, 8, &[("wire.session-a", 0, 99)]))?;
        step("still out of range", in_session(id, 9, &[]))?;
        step("unknown partition", in_session(id, 10, &[("wire.session-a", 0, 1), ("wire.session-a", 9, 0)]))?;
        step("repeated epoch", in_session(id, 10, &[]))?;
        step("skipped epoch", in_session(id, 13, &[]))?;
        step("after the errors", in_session(id, 11, &[]))?;
        step("unknown session", in_session(id ^ 0x5555, 1, &[]))?;
        step("closed by a full request", in_session(id, -1, &TOPICS))?;
        step("after it is closed", in_session(id, 12, &[]))?;
        Ok(seen)
    })?;
    assert!(seen.iter().any(|line| line.starts_with("unknown session: none error 70")), "{seen:#?}");
    assert!(seen.iter().any(|line| line.starts_with("skipped epoch: none error 71")), "{seen:#?}");
    Ok(())
}

#[test]
fn a_session_is_replaced() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.replaced", 1, &[])?;
        let ask = [("wire.replaced", 0, 0)];
        let first = socket.call(&in_session(0, 0, &ask), 11)?.session_id;
        let second = socket.call(&in_session(first, 0, &ask), 11)?.session_id;
        let old = socket.call(&in_session(first, 1, &[]), 11)?;
        let new = socket.call(&in_session(second, 1, &[]), 11)?;
        Ok(vec![format!("{} {} {} {}", first != second, show(&old), show(&new), new.session_id == second)])
    })?;
    Ok(())
}
