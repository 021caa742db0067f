//! Replicas that are moved between log directories while they are in use.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aqueduct_broker::{Broker, Handle, Options};
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use aqueduct_protocol::messages::describe_log_dirs_response::DescribeLogDirsPartition;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::{
    AlterReplicaLogDirsRequest, DeleteTopicsRequest, DescribeLogDirsRequest, IncrementalAlterConfigsRequest,
};
use aqueduct_protocol::records::{BatchBuilder, Batches, Compression};
use common::*;
use tempfile::TempDir;

const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// Two log directories, with the metadata in a third.
struct Dirs {
    root: TempDir,
}

impl Dirs {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    async fn start(&self) -> Handle {
        let mut options = Options::embedded(self.root.path(), 0);
        let dirs = format!("{},{}", self.path("a").display(), self.path("b").display());
        options.set("log.dirs", &dirs).set("metadata.log.dir", self.path("m").to_str().unwrap());
        options.set("log.segment.delete.delay.ms", "0").set("log.cleaner.backoff.ms", "100");
        Broker::start(options).await.unwrap()
    }

    /// The directories as a crash of this moment would leave them.
    fn crashed(&self) -> Self {
        let other = Self::new();
        copy(self.root.path(), other.root.path());
        for name in ["a", "b"] {
            let _ = fs::remove_file(other.path(name).join(".kafka_cleanshutdown"));
        }
        other
    }

    /// Directories of partitions, deleted ones left out.
    fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap().map(|entry| entry.unwrap());
        let dirs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        let mut names: Vec<_> = dirs.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with("-delete"));
        names.sort();
        names
    }

    /// In which of the two the log of `t-0` is, and in which it is not.
    fn sides(&self) -> (&'static str, &'static str) {
        if self.path("a").join("t-0").exists() { ("a", "b") } else { ("b", "a") }
    }
}

async fn alter(client: &mut Client, topic: &str, index: i32, to: &Path) -> i16 {
    let topics = vec![AlterReplicaLogDirTopic { name: topic.into(), partitions: vec![index] }];
    let dirs = vec![AlterReplicaLogDir { path: to.to_str().unwrap().into(), topics }];
    let response = client.call(&AlterReplicaLogDirsRequest { dirs }, 2).await;
    assert_eq!((response.results.len(), &*response.results[0].topic_name), (1, topic));
    assert_eq!(response.results[0].partitions[0].partition_index, index);
    response.results[0].partitions[0].error_code
}

/// Where a partition is: path of the directory, and what is told of it there.
async fn places(client: &mut Client, topic: &str, index: i32) -> Vec<(PathBuf, DescribeLogDirsPartition)> {
    let dirs = client.call(&DescribeLogDirsRequest { topics: None }, 4).await.results;
    let mut found = Vec::new();
    for dir in dirs {
        let of_topic = dir.topics.into_iter().filter(|found| found.name == *topic);
        let partitions = of_topic.flat_map(|topic| topic.partitions);
        found.extend(
            partitions.filter(|p| p.partition_index == index).map(|p| (PathBuf::from(&*dir.log_dir), p)),
        );
    }
    found.sort_by_key(|(_, partition)| partition.is_future_key);
    found
}

async fn until_at(client: &mut Client, topic: &str, to: &Path) {
    let started = Instant::now();
    loop {
        let places = places(client, topic, 0).await;
        if places.len() == 1 && places[0].0 == to && !places[0].1.is_future_key {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{places:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn limit(client: &mut Client, rate: i64) {
    let config =
        AlterableConfig { name: RATE.into(), config_operation: 0, value: Some(rate.to_string().into()) };
    let resource =
        AlterConfigsResource { resource_type: 4, resource_name: "1".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = client.call(&request, 1).await;
    assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
}

async fn read_all(client: &mut Client, topic: &str) -> Vec<String> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let response = client.call(&fetch_request(topic, Uuid::ZERO, 0, offset), 12).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let some = values(partition.records.clone());
        if some.is_empty() {
            return all;
        }
        offset += some.len() as i64;
        all.extend(some);
    }
}

fn numbered(n: i32) -> String {
    format!("{n} {}", "x".repeat(1000))
}

/// Writes records of one producer, of which the first is `from`.
async fn write(client: &mut Client, from: i32, to: i32) {
    for n in from..to {
        let response = client.produce("t", 0, idempotent(&[&numbered(n)], 7, 0, n)).await;
        assert_eq!(
            (response.error_code, response.base_offset),
            (0, n.into()),
            "{:?}",
            response.error_message
        );
    }
}

async fn assert_whole(client: &mut Client, count: i32) {
    let all = read_all(client, "t").await;
    let expected: Vec<_> = (0..count).map(numbered).collect();
    assert!(all == expected, "{} records, {count} expected", all.len());
    // The producer is known, with the last five batches.
    let again = client.produce("t", 0, idempotent(&[&numbered(count - 1)], 7, 0, count - 1)).await;
    assert_eq!((again.error_code, again.base_offset), (0, i64::from(count) - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_moves_while_it_is_written_and_read() {
    let dirs = Dirs::new();
    let broker = dirs.start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[("segment.bytes", "1048576")]).await;
    write(&mut client, 0, 300).await;
    let (from, to) = dirs.sides();
    let mut n = 300;
    for round in 0..4 {
        let target = dirs.path(if round % 2 == 0 { to } else { from });
        assert_eq!(alter(&mut client, "t", 0, &target).await, 0);
        let started = Instant::now();
        while places(&mut client, "t", 0).await.iter().any(|(path, p)| *path != target || p.is_future_key) {
            write(&mut client, n, n + 5).await;
            n += 5;
            assert!(started.elapsed() < PATIENCE);
        }
        write(&mut client, n, n + 5).await;
        n += 5;
        let again = client.produce("t", 0, idempotent(&[&numbered(n - 5)], 7, 0, n - 5)).await;
        assert_eq!((again.error_code, again.base_offset), (0, i64::from(n) - 5), "the fifth last is known");
    }
    assert_whole(&mut client, n).await;
    assert_eq!(dirs.sides(), (from, to));
    assert_eq!(dirs.names(to), Vec::<String>::new());
    // The directory is known to the metadata, after a crash too.
    assert_eq!(alter(&mut client, "t", 0, &dirs.path(to)).await, 0);
    until_at(&mut client, "t", &dirs.path(to)).await;
    let crashed = dirs.crashed();
    broker.shutdown().await;
    for dirs in [&crashed, &dirs] {
        let broker = dirs.start().await;
        let mut client = Client::connect(&broker).await;
        assert_whole(&mut client, n).await;
        assert_eq!(places(&mut client, "t", 0).await[0].0, dirs.path(to));
        broker.shutdown().await;
        assert_eq!((dirs.names("a").len() + dirs.names("b").len(), dirs.sides().0), (1, to));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_move_is_told_of_and_can_be_called_off() {
    let dirs = Dirs::new();
    let broker = dirs.start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    write(&mut client, 0, 100).await;
    let (from, to) = dirs.sides();
    limit(&mut client, 4_000).await;
    assert_eq!(alter(&mut client, "t", 0, &dirs.path(to)).await, 0);
    let started = Instant::now();
    let told = loop {
        let told = places(&mut client, "t", 0).await;
        if told.len() == 2 && told[1].1.partition_size > 0 {
            break told;
        }
        assert!(started.elapsed() < PATIENCE);
    };
    let ((path, now), (future_path, future)) = (&told[0], &told[1]);
    assert_eq!((path, now.is_future_key, now.offset_lag), (&dirs.path(from), false, 0));
    assert_eq!((future_path, future.is_future_key), (&dirs.path(to), true));
    assert!(future.offset_lag > 0 && future.offset_lag < 100, "{future:?}");
    assert!(future.partition_size < now.partition_size);
    assert!(dirs.names(to)[0].starts_with("t-0.") && dirs.names(to)[0].ends_with("-future"));
    // Asking again changes nothing, asking for where it is ends it.
    assert_eq!(alter(&mut client, "t", 0, &dirs.path(to)).await, 0);
    assert_eq!(places(&mut client, "t", 0).await.len(), 2);
    assert_eq!(alter(&mut client, "t", 0, &dirs.path(from)).await, 0);
    assert_eq!(places(&mut client, "t", 0).await.len(), 1);
    assert_eq!(dirs.names(to), Vec::<String>::new());
    write(&mut client, 100, 110).await;
    // Another one, which is finished at the next start, and another, of a topic that is deleted.
    assert_eq!(alter(&mut client, "t", 0, &dirs.path(to)).await, 0);
    client.create_topic("gone", 1, &[]).await;
    let large = "y".repeat(20_000);
    assert_eq!(client.produce("gone", 0, batch(&[&large])).await.error_code, 0);
    assert_eq!(client.produce("gone", 0, batch(&[&large])).await.error_code, 0);
    let there = places(&mut client, "gone", 0).await.remove(0).0;
    let other = if there == dirs.path("a") { "b" } else { "a" };
    assert_eq!(alter(&mut client, "gone", 0, &dirs.path(other)).await, 0);
    // Its deletion comes after the crash: there, its move goes on as well.
    let crashed = dirs.crashed();
    let request =
        DeleteTopicsRequest { topic_names: vec!["gone".into()], timeout_ms: 1000, ..Default::default() };
    assert_eq!(client.call(&request, 5).await.responses[0].error_code, 0);
    assert!(dirs.names("a").iter().chain(&dirs.names("b")).all(|name| !name.starts_with("gone")));
    assert_eq!(places(&mut client, "t", 0).await.len(), 2, "it goes on");
    broker.shutdown().await;

    for (dirs, moving) in [(dirs, [("t", to)].as_slice()), (crashed, &[("t", to), ("gone", other)])] {
        assert!(dirs.names(to).iter().any(|name| name.ends_with("-future")));
        let broker = dirs.start().await;
        let mut client = Client::connect(&broker).await;
        limit(&mut client, i64::MAX).await;
        write(&mut client, 110, 120).await;
        for (topic, to) in moving {
            until_at(&mut client, topic, &dirs.path(to)).await;
        }
        assert_whole(&mut client, 120).await;
        broker.shutdown().await;
        assert!(!dirs.path(from).join("t-0").exists());
        assert!(dirs.names("a").iter().chain(&dirs.names("b")).all(|name| !name.ends_with("-future")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_crash_leaves_the_longest_copy_counts() {
    let dirs = Dirs::new();
    let broker = dirs.start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    write(&mut client, 0, 50).await;
    let (from, to) = dirs.sides();
    let before = dirs.crashed();
    assert_eq!(alter(&mut client, "t", 0, &dirs.path(to)).await, 0);
    until_at(&mut client, "t", &dirs.path(to)).await;
    let at_the_end = dirs.crashed();
    write(&mut client, 50, 60).await;
    let after = dirs.crashed();
    broker.shutdown().await;
    let future = format!("t-0.{}-future", "ab".repeat(16));
    // Metadata, what is where it was, name and content of what is where it goes; how many records, and where.
    type State<'a> = (&'a Dirs, Option<&'a Dirs>, &'a str, &'a Dirs, i32, Option<&'a str>);
    let states: [State<'_>; 8] = [
        (&before, Some(&before), &future, &before, 50, Some(to)),
        (&before, Some(&before), &future, &after, 60, Some(to)),
        (&after, Some(&before), &future, &after, 60, Some(to)),
        (&before, Some(&before), "t-0", &after, 60, Some(to)),
        (&after, Some(&before), "t-0", &after, 60, Some(to)),
        (&before, Some(&before), "t-0", &at_the_end, 50, Some(to)),
        (&before, None, &future, &after, 60, Some(to)),
        (&after, None, &future, &after, 60, Some(to)),
    ];
    for (case, (metadata, old, name, new, count, place)) in states.into_iter().enumerate() {
        let dirs = Dirs::new();
        copy(&metadata.path("m"), &dirs.path("m"));
        for name in ["a", "b"] {
            fs::create_dir(dirs.path(name)).unwrap();
            fs::copy(before.path(name).join("meta.properties"), dirs.path(name).join("meta.properties"))
                .unwrap();
        }
        if let Some(old) = old {
            copy(&old.path(from).join("t-0"), &dirs.path(from).join("t-0"));
        }
        let content = if new.path(to).join("t-0").exists() { to } else { from };
        copy(&new.path(content).join("t-0"), &dirs.path(to).join(name));
        let broker = dirs.start().await;
        let mut client = Client::connect(&broker).await;
        assert_whole(&mut client, count).await;
        write(&mut client, count, count + 3).await;
        if let Some(place) = place {
            until_at(&mut client, "t", &dirs.path(place)).await;
        }
        assert_whole(&mut client, count + 3).await;
        let there = places(&mut client, "t", 0).await;
        assert_eq!(there.len(), 1, "case {case}");
        broker.shutdown().await;
        assert_eq!(dirs.names("a").len() + dirs.names("b").len(), 1, "case {case}");
        let broker = dirs.start().await;
        let mut client = Client::connect(&broker).await;
        assert_whole(&mut client, count + 3).await;
        assert_eq!(places(&mut client, "t", 0).await[0].0, there[0].0, "case {case}");
        broker.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_refused_with_kafkas_codes() {
    let dirs = Dirs::new();
    let broker = dirs.start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let code = ErrorCode::code;
    let (here, _) = dirs.sides_or_first();
    for wrong in ["/no/such/dir", "", "a"] {
        assert_eq!(alter(&mut client, "t", 0, Path::new(wrong)).await, code(ErrorCode::LogDirNotFound));
    }
    assert_eq!(alter(&mut client, "t", 1, &here).await, code(ErrorCode::UnknownTopicOrPartition));
    let long = "n".repeat(249);
    assert_eq!(alter(&mut client, &long, 0, &here).await, code(ErrorCode::InvalidTopicException));
    // A topic that is not there yet is made where it was asked for.
    for (name, place) in [("later", "a"), ("later.too", "b"), ("more", "b")] {
        let unknown = code(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(alter(&mut client, name, 0, &dirs.path(place)).await, unknown);
        client.create_topic(name, 1, &[]).await;
        assert_eq!(client.produce(name, 0, batch(&["x"])).await.error_code, 0);
        assert_eq!(places(&mut client, name, 0).await[0].0, dirs.path(place), "{name}");
    }
    broker.shutdown().await;
    let broker = dirs.start().await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(places(&mut client, "more", 0).await[0].0, dirs.path("b"));
    assert_eq!(read_all(&mut client, "more").await, ["x"]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_go_on_when_their_partition_is_moved() {
    let dirs = Dirs::new();
    let broker = dirs.start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let find = aqueduct_protocol::messages::FindCoordinatorRequest {
        coordinator_keys: vec!["g".into()],
        ..Default::default()
    };
    let started = Instant::now();
    while client.call(&find, 4).await.coordinators[0].error_code != 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = client.call(&DescribeLogDirsRequest { topics: None }, 4).await.results;
    for round in 0..2 {
        commit(&mut client, round * 10).await;
        for dir in &all {
            let other = all.iter().find(|other| other.log_dir != dir.log_dir).unwrap();
            for topic in dir.topics.iter().filter(|topic| &*topic.name == "__consumer_offsets") {
                let partitions = topic.partitions.iter().map(|p| p.partition_index).collect();
                let topics = vec![AlterReplicaLogDirTopic { name: topic.name.clone(), partitions }];
                let path = if round == 0 { &other.log_dir } else { &dir.log_dir };
                let dirs = vec![AlterReplicaLogDir { path: path.clone(), topics }];
                let response = client.call(&AlterReplicaLogDirsRequest { dirs }, 2).await;
                assert!(response.results[0].partitions.iter().all(|p| p.error_code == 0));
            }
        }
        let started = Instant::now();
        loop {
            commit(&mut client, round * 10 + 5).await;
            let now = client.call(&DescribeLogDirsRequest { topics: None }, 4).await.results;
            let mut partitions = now.iter().flat_map(|dir| &dir.topics).flat_map(|topic| &topic.partitions);
            if partitions.all(|partition| !partition.is_future_key) {
                break;
            }
            assert!(started.elapsed() < PATIENCE);
        }
        commit(&mut client, round * 10 + 7).await;
        assert_eq!(committed(&mut client).await, i64::from(round) * 10 + 7);
    }
    let crashed = dirs.crashed();
    broker.shutdown().await;
    let broker = crashed.start().await;
    let mut client = Client::connect(&broker).await;
    let started = Instant::now();
    while client.call(&find, 4).await.coordinators[0].error_code != 0 {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(committed(&mut client).await, 17);
    broker.shutdown().await;
}

/// Writes rounds of records of ten keys each.
async fn overwrite(client: &mut Client, rounds: std::ops::Range<i32>) {
    for round in rounds {
        let mut builder = BatchBuilder::new(Compression::None);
        for key in 0..10 {
            let value = format!("{round} {}", "z".repeat(10_000));
            builder
                .append(now_ms(), Some(format!("key-{key}").as_bytes()), Some(value.as_bytes()), &[])
                .unwrap();
        }
        assert_eq!(client.produce("t", 0, builder.finish().unwrap()).await.error_code, 0);
    }
}

async fn records(client: &mut Client) -> Vec<(i64, String)> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let response = client.call(&fetch_request("t", Uuid::ZERO, 0, offset), 12).await;
        let fetched = response.responses[0].partitions[0].records.clone().unwrap_or_default();
        let before = all.len();
        for batch in Batches::new(fetched) {
            let batch = batch.unwrap();
            for record in
                batch.records().unwrap().map(Result::unwrap).filter(|record| record.offset.0 >= offset)
            {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                all.push((record.offset.0, key));
            }
            offset = batch.header.next_offset().0.max(offset);
        }
        if all.len() == before {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_rests_during_a_move_and_goes_on_where_it_was() {
    let dirs = Dirs::new();
    let broker = dirs.start().await;
    let mut client = Client::connect(&broker).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("file.delete.delay.ms", "0"),
    ];
    client.create_topic("t", 1, &configs).await;
    overwrite(&mut client, 0..50).await;
    let started = Instant::now();
    let cleaned = |dirs: &Dirs, side: &str| {
        let text = fs::read_to_string(dirs.path(side).join("cleaner-offset-checkpoint")).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("t 0 ")?.parse::<i64>().ok())
    };
    let (from, to) = dirs.sides();
    while cleaned(&dirs, from).is_none_or(|offset| offset < 300) {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    limit(&mut client, 50_000).await;
    assert_eq!(alter(&mut client, "t", 0, &dirs.path(to)).await, 0);
    let before = cleaned(&dirs, from);
    overwrite(&mut client, 50..90).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cleaned(&dirs, from), before, "nothing is compacted meanwhile");
    let there = records(&mut client).await;
    assert_eq!(places(&mut client, "t", 0).await.len(), 2);
    // While it is slow: nothing is in its place all at once.
    let crashed = dirs.crashed();
    limit(&mut client, i64::MAX).await;
    until_at(&mut client, "t", &dirs.path(to)).await;
    let started = Instant::now();
    while cleaned(&dirs, to).is_none_or(|offset| offset < 700) {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = records(&mut client).await;
    assert!(left.len() < there.len() && left.iter().all(|record| there.contains(record)));
    assert!(left.ends_with(&there[there.len() - 10..]));
    broker.shutdown().await;

    let broker = crashed.start().await;
    let mut client = Client::connect(&broker).await;
    limit(&mut client, i64::MAX).await;
    until_at(&mut client, "t", &crashed.path(to)).await;
    let moved = records(&mut client).await;
    assert!(moved.iter().all(|record| there.contains(record)) && moved.ends_with(&there[there.len() - 10..]));
    broker.shutdown().await;
}

async fn commit(client: &mut Client, offset: i32) {
    use aqueduct_protocol::messages::offset_commit_request::{
        OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset.into(),
        committed_leader_epoch: -1,
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = aqueduct_protocol::messages::OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let started = Instant::now();
    loop {
        let code = client.call(&request, 8).await.topics[0].partitions[0].error_code;
        if code != ErrorCode::CoordinatorLoadInProgress.code() {
            return assert_eq!(code, 0);
        }
        assert!(started.elapsed() < PATIENCE);
    }
}

async fn committed(client: &mut Client) -> i64 {
    use aqueduct_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
    let request =
        aqueduct_protocol::messages::OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let started = Instant::now();
    loop {
        let group = client.call(&request, 8).await.groups.remove(0);
        if group.error_code == 0 {
            return group.topics[0].partitions[0].committed_offset;
        }
        assert!(started.elapsed() < PATIENCE);
    }
}

impl Dirs {
    fn sides_or_first(&self) -> (PathBuf, PathBuf) {
        (self.path("a"), self.path("b"))
    }
}
