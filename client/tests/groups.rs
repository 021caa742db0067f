//! Groups, against Apache Kafka.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aqueduct_client::{
    Admin, Client, ConsumerEvent, Error, GroupConsumer, GroupMember, GroupMemberOptions, MemberSignal,
    NewTopic, OffsetAndMetadata, Producer, ProducerRecord, Subscription, SyncOutcome, TopicPartition,
};
use aqueduct_protocol::ids::Offset;
use bytes::Bytes;
use tokio::time::Instant;

use common::client;

const LIMIT: Duration = Duration::from_secs(60);

/// What one consumer saw, for the test to look at.
struct Seen {
    consumer: GroupConsumer,
    values: Vec<String>,
    events: Vec<&'static str>,
}

impl Seen {
    fn new(client: Client, subscription: Subscription) -> Self {
        let consumer = GroupConsumer::new(client, subscription).expect("a group id");
        Self { consumer, values: Vec::new(), events: Vec::new() }
    }

    /// One poll; what is revoked is committed.
    async fn poll(&mut self) {
        match self.consumer.poll(Duration::from_millis(100)).await.expect("a healthy group") {
            ConsumerEvent::Records(records) => {
                let text =
                    |value: Option<Bytes>| String::from_utf8(value.expect("a value").to_vec()).expect("text");
                self.values.extend(records.into_iter().map(|record| text(record.value)));
            }
            ConsumerEvent::Assigned(_) => self.events.push("assigned"),
            ConsumerEvent::Revoked(_) => {
                self.events.push("revoked");
                self.commit().await.expect("committed");
            }
            ConsumerEvent::Lost(_) => self.events.push("lost"),
            ConsumerEvent::Idle => {}
        }
    }

    async fn commit(&mut self) -> Result<(), Error> {
        let position =
            |p: TopicPartition| self.consumer.position(&p).map(|at| (p, OffsetAndMetadata::from(at)));
        let offsets = self.consumer.assignment().into_iter().filter_map(position).collect();
        self.consumer.commit(offsets).await
    }
}

async fn produce(client: &Client, topic: &str, values: std::ops::Range<u32>) {
    let producer = Producer::new(client.clone());
    let record = |n: u32| ProducerRecord::keyed(topic, format!("{n}"), Some(format!("{n}").into()));
    let sent = producer.send_all(values.map(record).collect()).await.expect("buffered");
    sent.all().await.expect("written");
    producer.close().await;
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    let from = Instant::now();
    while !done().await {
        assert!(from.elapsed() < LIMIT, "not in time");
    }
}

/// Two members share, every record is seen once, and when one leaves the other takes over from the committed offsets.
async fn two_members_share(strategy: &str, group: &str) {
    let kafka = common::kafka();
    let bootstrap = kafka.bootstrap();
    let settings = [
        ("group.id", group),
        ("partition.assignment.strategy", strategy),
        ("heartbeat.interval.ms", "200"),
        ("session.timeout.ms", "30000"),
    ];
    let topic = format!("shared-{group}");
    let [a, b] = [client(&bootstrap, &settings), client(&bootstrap, &settings)];
    Admin::new(a.clone()).ensure_topic(&NewTopic::new(topic.as_str(), 4, 1)).await.expect("created");
    let topics = || Subscription::Topics(vec![topic.as_str().into()]);
    let (mut one, mut two) = (Seen::new(a.clone(), topics()), Seen::new(b, topics()));
    produce(&a, &topic, 0..100).await;
    until(async || {
        one.poll().await;
        one.values.len() == 100
    })
    .await;
    assert_eq!(one.consumer.assignment().len(), 4);
    until(async || {
        one.poll().await;
        two.poll().await;
        one.consumer.assignment().len() == 2 && two.consumer.assignment().len() == 2
    })
    .await;
    assert!(one.events.contains(&"revoked"), "{:?}", one.events);
    produce(&a, &topic, 100..200).await;
    until(async || {
        one.poll().await;
        two.poll().await;
        one.values.len() + two.values.len() >= 200
    })
    .await;
    assert!(one.values.len() > 100 && !two.values.is_empty(), "both read");
    one.commit().await.expect("committed");
    one.consumer.close().await.expect("left");
    until(async || {
        two.poll().await;
        two.consumer.assignment().len() == 4
    })
    .await;
    produce(&a, &topic, 200..300).await;
    until(async || {
        two.poll().await;
        one.values.len() + two.values.len() >= 300
    })
    .await;
    let all: BTreeSet<String> = one.values.iter().chain(&two.values).cloned().collect();
    assert_eq!((all.len(), one.values.len() + two.values.len()), (300, 300), "each record once");
    assert!(!two.events.contains(&"lost"), "{:?}", two.events);
}

#[tokio::test]
async fn two_members_share_in_ranges() {
    two_members_share("range", "range").await;
}

#[tokio::test]
async fn two_members_share_cooperatively() {
    two_members_share("cooperative-sticky", "cooperative").await;
}

#[tokio::test]
async fn a_pattern_finds_topics_that_come_later() {
    let kafka = common::kafka();
    let settings =
        [("group.id", "pattern"), ("metadata.max.age.ms", "500"), ("heartbeat.interval.ms", "200")];
    let client = client(&kafka.bootstrap(), &settings);
    let admin = Admin::new(client.clone());
    for topic in ["pattern-a", "other-pattern-b"] {
        admin.ensure_topic(&NewTopic::new(topic, 2, 1)).await.expect("created");
    }
    let mut seen = Seen::new(client.clone(), Subscription::pattern("pattern-.*").expect("valid"));
    until(async || {
        seen.poll().await;
        seen.consumer.assignment().len() == 2
    })
    .await;
    admin.ensure_topic(&NewTopic::new("pattern-b", 3, 1)).await.expect("created");
    until(async || {
        seen.poll().await;
        seen.consumer.assignment().len() == 5
    })
    .await;
    produce(&client, "pattern-b", 0..10).await;
    until(async || {
        seen.poll().await;
        seen.values.len() == 10
    })
    .await;
    let error = Subscription::pattern("a(").expect_err("not a pattern").to_string();
    assert!(error.starts_with("topic pattern 'a('"), "{error}");
}

#[tokio::test]
async fn a_topic_that_comes_after_its_subscriber_is_read_soon() {
    let kafka = common::kafka();
    let settings = [("group.id", "early"), ("auto.offset.reset", "earliest")];
    let subscriber = client(&kafka.bootstrap(), &settings);
    let mut early = Seen::new(subscriber.clone(), Subscription::Topics(vec!["later".into()]));
    let from = Instant::now();
    while early.events.is_empty() {
        early.poll().await;
        assert!(from.elapsed() < LIMIT, "no assignment");
    }
    let writer = client(&kafka.bootstrap(), &[]);
    produce(&writer, "later", 0..10).await;
    let from = Instant::now();
    while early.values.len() < 10 {
        early.poll().await;
        assert!(from.elapsed() < LIMIT, "the topic was not found");
    }
    early.consumer.close().await.expect("left");
    for client in [writer, subscriber] {
        client.close().await;
    }
}

#[tokio::test]
async fn who_does_not_poll_is_out_and_comes_back() {
    let kafka = common::kafka();
    let settings = [
        ("group.id", "sleepy"),
        ("max.poll.interval.ms", "1000"),
        ("heartbeat.interval.ms", "200"),
        ("session.timeout.ms", "30000"),
    ];
    let client = client(&kafka.bootstrap(), &settings);
    Admin::new(client.clone()).ensure_topic(&NewTopic::new("sleepy", 1, 1)).await.expect("created");
    let mut seen = Seen::new(client.clone(), Subscription::Topics(vec!["sleepy".into()]));
    until(async || {
        seen.poll().await;
        !seen.consumer.assignment().is_empty()
    })
    .await;
    // It is a member until then.
    let at = HashMap::from([(TopicPartition::new("sleepy", 0), OffsetAndMetadata::from(Offset(0)))]);
    until(async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        match seen.consumer.commit(at.clone()).await {
            Ok(()) => false,
            Err(Error::NotAMember { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    seen.events.clear();
    until(async || {
        seen.poll().await;
        seen.events == ["lost", "assigned"]
    })
    .await;
}

fn connect_options(group: &str) -> GroupMemberOptions {
    GroupMemberOptions {
        group_id: group.into(),
        protocol_type: "connect".into(),
        instance_id: None,
        session_timeout: Duration::from_secs(30),
        rebalance_timeout: Duration::from_secs(30),
        heartbeat_interval: Duration::from_millis(200),
        max_poll_interval: None,
    }
}

async fn signalled(member: &GroupMember) -> MemberSignal {
    tokio::time::timeout(LIMIT, member.changed()).await.expect("a signal in time")
}

#[tokio::test]
async fn members_of_another_protocol_type_assign_by_themselves() {
    let kafka = common::kafka();
    let client = client(&kafka.bootstrap(), &[]);
    let [a, b] = [0, 1].map(|_| GroupMember::new(client.clone(), connect_options("workers")));
    let protocols = |data: &'static str| vec![("sessioned".into(), Bytes::from_static(data.as_bytes()))];
    let alone = a.join(protocols("a")).await.expect("joined");
    assert!(alone.is_leader());
    let synced = a.sync(vec![(alone.member_id.clone(), "all".into())]).await.expect("synced");
    assert!(matches!(synced, SyncOutcome::Assigned(bytes) if bytes == "all"));
    assert!(matches!(a.signal(), MemberSignal::Stable));
    let joining = tokio::spawn({
        let b = b.clone();
        async move { b.join(protocols("b")).await }
    });
    assert!(matches!(signalled(&a).await, MemberSignal::RebalanceNeeded));
    let leader = a.join(protocols("a2")).await.expect("joined");
    let follower = joining.await.expect("no panic").expect("joined");
    assert_eq!((leader.generation, follower.generation), (2, 2));
    let mut metadata: Vec<&Bytes> = leader.members.iter().map(|member| &member.metadata).collect();
    metadata.sort();
    assert_eq!(metadata, ["a2", "b"]);
    assert!(follower.members.is_empty() && follower.leader_id == leader.member_id);
    let shares =
        vec![(leader.member_id.clone(), "mine".into()), (follower.member_id.clone(), "yours".into())];
    let (led, followed) = tokio::join!(a.sync(shares), b.sync(Vec::new()));
    assert!(matches!(led.expect("synced"), SyncOutcome::Assigned(bytes) if bytes == "mine"));
    assert!(matches!(followed.expect("synced"), SyncOutcome::Assigned(bytes) if bytes == "yours"));
    b.leave("done").await.expect("left");
    assert!(matches!(signalled(&a).await, MemberSignal::RebalanceNeeded));
    assert!(b.generation().is_none());
    // A join that is given up does not stand in the way of the next one.
    let given_up = tokio::time::timeout(Duration::from_millis(1), a.join(protocols("a3"))).await;
    drop(given_up);
    let again = a.join(protocols("a4")).await.expect("joined");
    assert!(again.is_leader() && !again.was_lost);
    let wrong = GroupMember::new(
        client,
        GroupMemberOptions { protocol_type: "consumer".into(), ..connect_options("workers") },
    );
    let error = wrong.join(protocols("c")).await.expect_err("another protocol type").to_string();
    assert!(error.contains("JoinGroup of group workers: INCONSISTENT_GROUP_PROTOCOL"), "{error}");
}
