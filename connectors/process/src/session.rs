//! What has been asked and what may come back: the protocol's state, without the pipes.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::frame::{FrameError, FrameReader, frame};

/// The version of the protocol that this worker speaks.
pub const PROTOCOL: u32 = 1;

/// Calls that have no answer yet: one, and the `stop` that may overtake a poll nobody waits for any more.
const MAX_OPEN: usize = 4;

/// What a plugin reports instead of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// `retriable`, `data`, `config` or `connect`; anything else counts as the last.
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub message: String,
    /// Where it happened, in the plugin's own words.
    pub trace: Option<String>,
    /// The setting that is wrong.
    pub name: Option<String>,
}

/// What a plugin asks of the worker while it works on a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The offsets stored for source partitions.
    Offsets { partitions: Vec<String> },
    /// To store an offset at once.
    StoreOffset { partition: String, offset: String },
}

/// A message from a plugin.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer to the call that is waited for: JSON text of an object, or the fault.
    Answer(Result<String, Fault>),
    /// The answer to a call that nobody waits for any more.
    Stale,
    Ask(Ask),
    /// It works on the call still.
    Alive,
}

/// A plugin that does not keep to the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a message that is not as the protocol says was sent: {0}")]
    Message(String),
    #[error("call {0} was answered, which was not made or has its answer")]
    UnknownCall(u64),
}

#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow, default)]
    ok: Option<&'a RawValue>,
    error: Option<Fault>,
    ask: Option<String>,
    #[serde(borrow, default)]
    partitions: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    partition: Option<&'a RawValue>,
    #[serde(borrow, default)]
    offset: Option<&'a RawValue>,
    alive: Option<bool>,
}

/// One process's conversation.
#[derive(Debug)]
pub struct Session {
    reader: FrameReader,
    limit: usize,
    next: u64,
    open: VecDeque<u64>,
    /// The call whose answer is waited for.
    waiting: Option<u64>,
}

impl Session {
    /// With frames of up to `limit` bytes in both directions.
    pub fn new(limit: usize) -> Self {
        Self { reader: FrameReader::new(limit), limit, next: 1, open: VecDeque::new(), waiting: None }
    }

    /// The frame that makes a call; `params` is JSON text of an object.
    ///
    /// # Errors
    /// Where it is too large, or too many calls have no answer.
    pub fn call(&mut self, call: &str, params: &[u8]) -> Result<Bytes, String> {
        if self.open.len() >= MAX_OPEN {
            return Err(format!("{MAX_OPEN} calls have no answer"));
        }
        let mut message = format!("{{\"id\":{},\"call\":\"{call}\",\"params\":", self.next).into_bytes();
        message.extend_from_slice(params);
        message.push(b'}');
        let bytes = self.framed(&message)?;
        self.open.push_back(self.next);
        self.waiting = Some(self.next);
        self.next += 1;
        Ok(bytes)
    }

    /// The frame that answers what a plugin asked; `body` is JSON text of an object.
    ///
    /// # Errors
    /// Where it is too large.
    pub fn reply(&self, body: &[u8]) -> Result<Bytes, String> {
        let message = [b"{\"answer\":".as_slice(), body, b"}"].concat();
        self.framed(&message)
    }

    fn framed(&self, message: &[u8]) -> Result<Bytes, String> {
        frame(message, self.limit).map_err(|size| {
            format!(
                "the message takes {size} bytes, the limit is {}; raise aqueduct.plugin.frame.max.bytes",
                self.limit
            )
        })
    }

    /// Nobody waits for the answer any more.
    pub fn abandon(&mut self) {
        self.waiting = None;
    }

    /// Takes what the plugin wrote.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// Bytes of a message that has not come to its end.
    pub fn pending(&self) -> usize {
        self.reader.pending()
    }

    /// The next thing that the plugin said.
    ///
    /// # Errors
    /// Where it does not keep to the protocol; nothing that comes after that counts.
    pub fn next_event(&mut self) -> Result<Option<Event>, Violation> {
        match self.reader.next_frame()? {
            Some(frame) => self.read(&frame).map(Some),
            None => Ok(None),
        }
    }

    fn read(&mut self, frame: &[u8]) -> Result<Event, Violation> {
        let bad = |why: String| {
            let start = String::from_utf8_lossy(&frame[..frame.len().min(80)]).escape_debug().to_string();
            Violation::Message(format!("{why}; it starts with {start}"))
        };
        let message: Message<'_> = serde_json::from_slice(frame).map_err(|e| bad(e.to_string()))?;
        if let Some(id) = message.id {
            let answer = match (message.ok, message.error) {
                (Some(ok), None) if ok.get().starts_with('{') => Ok(ok.get().to_owned()),
                (None, Some(fault)) => Err(fault),
                _ => return Err(bad("an answer has an object in \"ok\", or an \"error\"".to_owned())),
            };
            let place = self.open.iter().position(|open| *open == id).ok_or(Violation::UnknownCall(id))?;
            self.open.remove(place);
            if self.waiting != Some(id) {
                return Ok(Event::Stale);
            }
            self.waiting = None;
            return Ok(Event::Answer(answer));
        }
        if message.alive == Some(true) {
            return Ok(Event::Alive);
        }
        let text = |raw: &RawValue| raw.get().to_owned();
        match (message.ask.as_deref(), message.partitions, message.partition, message.offset) {
            (Some("offsets"), Some(partitions), ..) => {
                Ok(Event::Ask(Ask::Offsets { partitions: partitions.into_iter().map(text).collect() }))
            }
            (Some("store_offset"), _, Some(partition), Some(offset)) => {
                Ok(Event::Ask(Ask::StoreOffset { partition: text(partition), offset: text(offset) }))
            }
            (Some(other), ..) => Err(bad(format!("\"{other}\" cannot be asked like this"))),
            _ => Err(bad("it has neither \"id\" nor \"ask\" nor \"alive\"".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(session: &mut Session, message: &str) -> Result<Event, Violation> {
        session.push(&frame(message.as_bytes(), 1 << 20).expect("fits"));
        session.next_event().map(|event| event.expect("whole"))
    }

    #[test]
    fn a_call_has_its_answer() {
        let mut session = Session::new(1 << 10);
        let bytes = session.call("poll", b"{\"wait_ms\":5}").expect("fits");
        assert_eq!(&bytes[4..], br#"{"id":1,"call":"poll","params":{"wait_ms":5}}"#);
        assert_eq!(says(&mut session, r#"{"alive":true}"#), Ok(Event::Alive));
        let partitions = vec![r#"{"a": 1}"#.to_owned()];
        assert_eq!(
            says(&mut session, r#"{"ask":"offsets","partitions":[{"a": 1}]}"#),
            Ok(Event::Ask(Ask::Offsets { partitions }))
        );
        let answer = Ok(Event::Answer(Ok(r#"{"records":[]}"#.to_owned())));
        assert_eq!(says(&mut session, r#"{"id":1,"ok":{"records":[]}}"#), answer);
        assert_eq!(says(&mut session, r#"{"id":1,"ok":{}}"#), Err(Violation::UnknownCall(1)));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_passed_over() {
        let mut session = Session::new(1 << 10);
        session.call("poll", b"{}").expect("fits");
        session.abandon();
        session.call("stop", b"{}").expect("fits");
        assert_eq!(says(&mut session, r#"{"id":1,"ok":{}}"#), Ok(Event::Stale));
        let fault = Fault { kind: "retriable".into(), message: "later".into(), ..Fault::default() };
        assert_eq!(
            says(&mut session, r#"{"id":2,"error":{"kind":"retriable","message":"later"}}"#),
            Ok(Event::Answer(Err(fault)))
        );
    }

    #[test]
    fn what_is_not_of_the_protocol_is_named() {
        for (message, why) in [
            ("Hello", "expected value"),
            ("{}", "neither"),
            (r#"{"id":1}"#, "\\\"ok\\\""),
            (r#"{"id":1,"ok":7}"#, "an object"),
            (r#"{"id":1,"ok":{},"error":{}}"#, "an answer"),
            (r#"{"ask":"money"}"#, "money"),
            (r#"{"id":-1,"ok":{}}"#, "invalid value"),
        ] {
            let mut session = Session::new(1 << 10);
            session.call("poll", b"{}").expect("fits");
            let error = says(&mut session, message).expect_err(message);
            let text = format!("{error:?}");
            assert!(matches!(error, Violation::Message(_)) && text.contains(why), "{message}: {text}");
        }
        let mut session = Session::new(30);
        assert!(session.call("put", &[b' '; 40]).expect_err("too large").contains("frame.max.bytes"));
    }
}
