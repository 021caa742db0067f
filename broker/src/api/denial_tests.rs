//! Every API that is served, asked by somebody who may do nothing: the right error, and no effect. A row of [`APIS`]
//! without a case here fails the test.

mod cases;
mod partial;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use aqueduct_protocol::fetch_plan::Chunk;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::{CreateTopicsRequest, OffsetCommitRequest};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_protocol::{ErrorCode, Request, frame};
use bytes::{Buf, Bytes, BytesMut};

use super::{APIS, Answer, Client, Context, find};
use crate::broker::{Broker, Handle, Options};
use crate::node::Node;
use crate::security::Principal;

/// A topic and a group that are there; their names are not to be seen by those who may not.
const TOPIC: &str = "secret-topic";
const GROUP: &str = "secret-group";

/// What a case expects of the answer to somebody who may do nothing. Whoever may do everything gets something else.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// This code wherever there is one.
    Code(ErrorCode),
    /// No error, and no word of what is secret.
    Hidden,
    /// No error, and these words.
    Says(&'static str),
    /// The connection is closed.
    Closed,
    /// The same answer for everybody.
    Open,
}

type Sent = Pin<Box<dyn Future<Output = Option<String>>>>;

/// A request, and what becomes of it.
struct Case {
    key: i16,
    name: &'static str,
    expect: Expect,
    send: Box<dyn Fn(Arc<Node>, &'static str) -> Sent>,
}

/// A request at the newest version that is served.
fn case<R>(request: R, expect: Expect) -> Case
where
    R: Request + Clone + Send + 'static,
    R::Response: Debug,
{
    let send = move |node: Arc<Node>, user: &'static str| -> Sent {
        let request = request.clone();
        Box::pin(async move { ask(&node, user, &request).await })
    };
    Case { key: R::API_KEY, name: R::NAME, expect, send: Box::new(send) }
}

/// What `user` is answered, as text; `None` where the connection is closed, or nothing is answered.
async fn ask<R>(node: &Arc<Node>, user: &'static str, request: &R) -> Option<String>
where
    R: Request,
    R::Response: Debug,
{
    answer(node, user, request).await.map(|response| format!("{response:?}"))
}

async fn answer<R: Request>(node: &Arc<Node>, user: &'static str, request: &R) -> Option<R::Response> {
    let row = find(R::API_KEY).expect("a row");
    let mut body = BytesMut::new();
    request.encode(&mut body, row.max).unwrap();
    let client = Client {
        host: "/127.0.0.1".into(),
        ip: [127, 0, 0, 1].into(),
        principal: Principal::user(user),
        listener: "PLAINTEXT".into(),
    };
    let context = context(node, row.max, client);
    let mut frame: Bytes = match (row.handle)(context, body.freeze()).await.ok()? {
        Answer::Frame(frame) => frame.freeze(),
        Answer::Chunks(plan) => {
            let inline = plan.chunks.into_iter().map(|chunk| match chunk {
                Chunk::Inline(bytes) => bytes,
                Chunk::File(_) => panic!("little enough to be inline"),
            });
            inline.collect::<Vec<_>>().concat().into()
        }
        Answer::Nothing => return None,
    };
    frame.advance(4);
    Some(frame::decode_response::<R>(frame, row.max).unwrap().1)
}

fn context(node: &Arc<Node>, version: i16, client: Client) -> Context {
    Context {
        node: node.clone(),
        version,
        correlation_id: 1,
        client_id: Some("tester".into()),
        client: Arc::new(client),
        request_bytes: 100,
        throttle: Arc::default(),
    }
}

/// Every error code in a response that is written out.
fn codes(response: &str) -> BTreeSet<i16> {
    let after = response.split("error_code: ").skip(1);
    let number =
        |text: &str| text.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect::<String>();
    after.map(|text| number(text).parse().expect("a code")).collect()
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1_700_000_000_000, Some(b"k"), Some(b"v"), &[]).unwrap();
    builder.finish().unwrap()
}

/// A broker with an authorizer, a super user, a topic with a record and a group with an offset.
async fn world(dir: &std::path::Path) -> (Handle, Uuid) {
    let mut options = Options::embedded(dir, 0);
    options
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("super.users", "User:admin");
    let handle = Broker::start(options).await.unwrap();
    let node = handle.node();
    let topic =
        CreatableTopic { name: TOPIC.into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let created = answer(node, "admin", &create).await.unwrap();
    assert_eq!(created.topics[0].error_code, 0);
    let id = created.topics[0].topic_id;
    let partition =
        OffsetCommitRequestPartition { partition_index: 0, committed_offset: 0, ..Default::default() };
    let topic = OffsetCommitRequestTopic { topic_id: id, partitions: vec![partition], ..Default::default() };
    let commit = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    // The topic of the offsets comes with the first request that needs it.
    node.create_missing_topics(&[crate::node::OFFSETS_TOPIC]).await;
    for _ in 0..200 {
        let done = answer(node, "admin", &commit).await.unwrap();
        if done.topics[0].partitions[0].error_code == 0 {
            return (handle, id);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the group cannot be used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_do_nothing_is_refused_everywhere_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, id) = world(dir.path()).await;
    let node = handle.node().clone();
    let cases = cases::all(id);
    let covered: BTreeSet<i16> = cases.iter().map(|case| case.key).collect();
    for row in APIS {
        assert!(covered.contains(&row.key), "{} has no case: add one to cases.rs", row.name);
    }
    let before = (node.metadata.image().version, end(&node).await);
    for case in &cases {
        let response = (case.send)(node.clone(), "nobody").await;
        check_denied(case, response.as_deref());
    }
    assert_eq!((node.metadata.image().version, end(&node).await), before, "something was changed");
    for case in &cases {
        let response = (case.send)(node.clone(), "admin").await;
        check_allowed(case, response.as_deref());
    }
    handle.shutdown().await;
}

async fn end(node: &Arc<Node>) -> i64 {
    let image = node.metadata.image();
    let topic = image.topic(TOPIC).expect("the topic is still there");
    let partition = node.partitions.get(topic, aqueduct_protocol::ids::PartitionIndex(0)).await.unwrap();
    partition.log().log_end_offset().0 + partition.log().log_start_offset().0
}

fn check_denied(case: &Case, response: Option<&str>) {
    let name = case.name;
    match (case.expect, response) {
        (Expect::Closed, None) => {}
        (Expect::Code(code), Some(text)) => {
            let found: BTreeSet<i16> = codes(text).into_iter().filter(|code| *code != 0).collect();
            assert_eq!(found, BTreeSet::from([code.code()]), "{name}: {text}");
        }
        (Expect::Hidden, Some(text)) => {
            assert!(codes(text).iter().all(|code| *code == 0), "{name}: {text}");
            assert!(!text.contains("secret"), "{name}: {text}");
        }
        (Expect::Says(words), Some(text)) => assert!(text.contains(words), "{name}: {text}"),
        (Expect::Open, Some(_)) => {}
        (expect, response) => panic!("{name}: expected {expect:?}, was answered {response:?}"),
    }
}

fn check_allowed(case: &Case, response: Option<&str>) {
    let name = case.name;
    match (case.expect, response) {
        (Expect::Code(code), Some(text)) => {
            assert!(!codes(text).contains(&code.code()), "{name}: {text}");
        }
        (Expect::Hidden, Some(text)) => assert!(text.contains("secret"), "{name}: {text}"),
        (Expect::Says(words), Some(text)) => assert!(!text.contains(words), "{name}: {text}"),
        // Nothing is answered to a producer that wants no answer.
        _ => {}
    }
}
