use std::time::Duration;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::RecordBatch;
use aqueduct_storage::{Origin, Terms};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::*;
use crate::coordinator::{Caller, Commit, CommitOffset, Generation, GroupOptions, Join, Protocol};

/// A log in memory that can be told to fail or to wait.
#[derive(Default)]
struct Memory {
    batches: Mutex<Vec<Bytes>>,
    end: Mutex<i64>,
    failing: AtomicBool,
    /// Another node leads the partition.
    lost: AtomicBool,
    gate: Option<tokio::sync::Semaphore>,
}

#[async_trait]
impl StateLog for Memory {
    async fn append(&self, batch: Bytes, _: Terms) -> Result<Offset, ErrorCode> {
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.failing.load(Ordering::Relaxed) {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        if self.lost.load(Ordering::Relaxed) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let parsed = RecordBatch::parse(batch.clone()).unwrap();
        let mut end = self.end.lock();
        let base = *end;
        let mut bytes = BytesMut::from(&batch[..]);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        self.batches.lock().push(bytes.freeze());
        *end += i64::from(parsed.header.record_count);
        Ok(Offset(base))
    }

    async fn read(&self, from: Offset, _: usize) -> Result<Bytes, ErrorCode> {
        let batches = self.batches.lock().clone();
        let holds = |b: &&Bytes| RecordBatch::parse((*b).clone()).unwrap().header.next_offset() > from;
        Ok(batches.iter().find(holds).cloned().unwrap_or_default())
    }

    fn start_offset(&self) -> Offset {
        Offset(0)
    }

    fn end_offset(&self) -> Offset {
        Offset(*self.end.lock())
    }
}

fn start(log: &Arc<Memory>) -> (Shard, Tasks) {
    start_until(log, CancellationToken::new())
}

/// A shard whose reign ends with `end`. While the log is lost it cannot be opened.
fn start_until(log: &Arc<Memory>, end: CancellationToken) -> (Shard, Tasks) {
    let tasks = Tasks::default();
    let around = Surroundings {
        clock: Clock::fixed(1_700_000_000_000),
        tasks: tasks.clone(),
        metrics: GroupMetrics::default(),
        compression: Compression::None,
        load_buffer: 1 << 20,
    };
    let options = GroupOptions { initial_rebalance_delay_ms: 1_000, ..GroupOptions::default() };
    let log = log.clone();
    let open: OpenLog = Box::new(move || {
        let log = log.clone();
        Box::pin(async move {
            match log.lost.load(Ordering::Relaxed) {
                true => Err(ErrorCode::NotLeaderOrFollower),
                false => Ok(log as Arc<dyn StateLog>),
            }
        })
    });
    let begin = move || Groups::new(options.clone());
    (Shard::start(0, open, false, begin, end, around), tasks)
}

async fn loaded(log: &Arc<Memory>) -> (Shard, Tasks) {
    let (shard, tasks) = start(log);
    until_loaded(&shard).await;
    (shard, tasks)
}

async fn until_loaded(shard: &Shard) {
    while shard.look(|_| ()).await == Err(ErrorCode::CoordinatorLoadInProgress) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn join(member: &str) -> Join {
    Join {
        group: "g".into(),
        member_id: member.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "connect".into(),
        protocols: vec![Protocol { name: "default".into(), metadata: Bytes::new() }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        needs_member_id: false,
        may_skip_assignment: true,
        fresh: "1".into(),
    }
}

async fn commit(shard: &Shard, partition: i32, metadata: &str) -> Reply {
    let commit = Commit {
        group: "g".into(),
        caller: Caller { generation: Generation::NONE, ..Caller::default() },
        retention_ms: None,
        knows_unknown_group: true,
        offsets: vec![CommitOffset {
            topic: "t".into(),
            topic_id: Default::default(),
            partition,
            offset: 5,
            leader_epoch: -1,
            metadata: Some(metadata.into()),
        }],
    };
    shard.ask(move |groups, now, token| groups.on_commit(now, token, &commit)).await.unwrap()
}

async fn committed(shard: &Shard) -> usize {
    shard.look(|groups| groups.fetch("g", None).iter().map(|t| t.partitions.len()).sum()).await.unwrap()
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let log = Arc::new(Memory::default());
    let (shard, tasks) = loaded(&log).await;
    assert_eq!(commit(&shard, 0, "m").await, Reply::Partitions(Ok(vec![ErrorCode::None])));
    tasks.stop().await;
    assert_eq!(shard.look(|_| ()).await, Err(ErrorCode::NotCoordinator), "nobody is left waiting");
    let (shard, _tasks) = loaded(&log).await;
    assert_eq!(committed(&shard).await, 1);
}

#[tokio::test]
async fn commits_that_arrive_during_an_append_share_the_next_batch() {
    let log = Arc::new(Memory { gate: Some(tokio::sync::Semaphore::new(0)), ..Memory::default() });
    let (shard, _tasks) = loaded(&log).await;
    let commits: Vec<_> = (0..50)
        .map(|partition| {
            let shard = shard.clone();
            tokio::spawn(async move { commit(&shard, partition, "m").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(committed(&shard).await, 0, "none counts before it is written");
    log.gate.as_ref().unwrap().add_permits(100);
    for commit in commits {
        assert_eq!(commit.await.unwrap(), Reply::Partitions(Ok(vec![ErrorCode::None])));
    }
    assert_eq!(committed(&shard).await, 50);
    assert!(log.batches.lock().len() <= 3, "{} batches", log.batches.lock().len());
}

#[tokio::test]
async fn a_failed_append_is_told_and_not_remembered() {
    let log = Arc::new(Memory { failing: AtomicBool::new(true), ..Memory::default() });
    let (shard, _tasks) = loaded(&log).await;
    assert_eq!(commit(&shard, 0, "m").await, Reply::Partitions(Err(ErrorCode::CoordinatorNotAvailable)));
    assert_eq!(committed(&shard).await, 0);
}

#[tokio::test]
async fn writes_are_split_into_batches_and_keep_their_order() {
    let log = Arc::new(Memory { gate: Some(tokio::sync::Semaphore::new(0)), ..Memory::default() });
    let (shard, _tasks) = loaded(&log).await;
    let metadata = "m".repeat(4096);
    let commits: Vec<_> = (0..200)
        .map(|partition| {
            let (shard, metadata) = (shard.clone(), metadata.clone());
            tokio::spawn(async move { commit(&shard, partition, &metadata).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    log.gate.as_ref().unwrap().add_permits(1000);
    for commit in commits {
        assert_eq!(commit.await.unwrap(), Reply::Partitions(Ok(vec![ErrorCode::None])));
    }
    assert!(log.batches.lock().iter().all(|batch| batch.len() <= 512 * 1024 + 100));
    let (again, _tasks) = loaded(&log).await;
    assert_eq!(committed(&again).await, 200);
}

#[tokio::test]
async fn a_parked_join_is_answered_in_time_and_holds_up_nobody() {
    let log = Arc::new(Memory::default());
    let (shard, _tasks) = loaded(&log).await;
    let joining = shard.clone();
    let joining = tokio::spawn(async move {
        joining.ask(|groups, now, token| groups.on_join(now, token, &join(""))).await.unwrap()
    });
    // A client that goes away while it waits.
    let gone =
        shard.ask(|groups, now, token| groups.on_join(now, token, &Join { fresh: "2".into(), ..join("") }));
    assert!(tokio::time::timeout(Duration::from_millis(10), gone).await.is_err());
    assert_eq!(committed(&shard).await, 0);
    assert!(!joining.is_finished());
    let Reply::Join(reply) = joining.await.unwrap() else { panic!("not a join's answer") };
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, Generation(1)));
}

/// What a producer's transaction leaves in the partition: an offset, then the marker.
async fn transaction(log: &Memory, producer: i64, partition: i32, end: Option<bool>) {
    use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
    use aqueduct_protocol::records::{BatchBuilder, EndTransactionMarker};
    let value = crate::coordinator::Committed {
        offset: 7,
        leader_epoch: -1,
        metadata: "".into(),
        commit_ms: 0,
        expire_ms: None,
        topic_id: Default::default(),
    };
    let record = Record::Offset { group: "g".into(), topic: "t".into(), partition, value: Some(value) };
    let mut batch = BatchBuilder::new(Compression::None)
        .producer(ProducerId(producer), ProducerEpoch(0), 0)
        .transactional(true);
    let (key, value) = (record.key().unwrap(), record.value().unwrap());
    batch.append(1, Some(&key), value.as_deref(), &[]).unwrap();
    log.append(batch.finish().unwrap(), Terms::from(Origin::Coordinator)).await.unwrap();
    if let Some(committed) = end {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
        let mut batch = BatchBuilder::new(Compression::None)
            .producer(ProducerId(producer), ProducerEpoch(0), -1)
            .transactional(true)
            .control(true);
        batch.append(1, Some(&marker.key()), Some(&marker.value()), &[]).unwrap();
        log.append(batch.finish().unwrap(), Terms::from(Origin::Coordinator)).await.unwrap();
    }
}

#[tokio::test]
async fn offsets_of_transactions_count_if_they_were_committed() {
    let log = Arc::new(Memory::default());
    transaction(&log, 1, 0, Some(true)).await;
    transaction(&log, 2, 1, Some(false)).await;
    transaction(&log, 3, 2, None).await;
    let (shard, _tasks) = loaded(&log).await;
    let found = shard.look(|groups| groups.fetch("g", None)).await.unwrap();
    assert_eq!(found[0].partitions.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn a_transaction_goes_through_the_shard_and_is_there_after_a_restart() {
    use crate::coordinator::{Marker, TransactionalCommit, TransactionalProducer};
    let log = Arc::new(Memory::default());
    let (shard, tasks) = loaded(&log).await;
    let id = aqueduct_protocol::ids::ProducerId(5);
    let epoch = aqueduct_protocol::ids::ProducerEpoch(1);
    for partition in [0, 1] {
        let offset = CommitOffset {
            topic: "t".into(),
            topic_id: Default::default(),
            partition,
            offset: 9,
            leader_epoch: -1,
            metadata: None,
        };
        let commit = TransactionalCommit {
            group: "g".into(),
            caller: Caller { generation: Generation::NONE, ..Caller::default() },
            producer: TransactionalProducer { id, epoch, guard: None },
            offsets: vec![offset],
        };
        let ask = move |groups: &mut Groups, now, token| groups.on_transactional_commit(now, token, &commit);
        assert_eq!(shard.ask(ask).await.unwrap(), Reply::Partitions(Ok(vec![ErrorCode::None])));
    }
    assert_eq!(committed(&shard).await, 0);
    assert_eq!(shard.look(|groups| groups.unstable("g", None).len()).await.unwrap(), 2);
    tasks.stop().await;
    let (shard, tasks) = loaded(&log).await;
    assert_eq!(shard.look(|groups| groups.unstable("g", None).len()).await.unwrap(), 2);
    let marker =
        Marker { producer: id, epoch, committed: true, coordinator_epoch: 0, transaction_version: 0 };
    let ended = shard.ask(move |groups, now, token| groups.on_marker(now, token, marker)).await.unwrap();
    assert_eq!(ended, Reply::Marker(ErrorCode::None));
    assert_eq!((committed(&shard).await, log.batches.lock().len()), (2, 3));
    tasks.stop().await;
    let (shard, _tasks) = loaded(&log).await;
    assert_eq!(committed(&shard).await, 2);
}

#[tokio::test]
async fn a_damaged_partition_is_not_served() {
    let log = Arc::new(Memory::default());
    let (shard, tasks) = loaded(&log).await;
    commit(&shard, 0, "m").await;
    tasks.stop().await;
    let mut bytes = BytesMut::from(&log.batches.lock()[0][..]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    log.batches.lock()[0] = bytes.freeze();
    let (shard, _tasks) = loaded(&log).await;
    assert_eq!(shard.look(|_| ()).await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn the_end_of_a_reign_answers_who_waits_and_the_next_goes_on_from_the_log() {
    let (log, end) = (Arc::new(Memory::default()), CancellationToken::new());
    let (shard, _tasks) = start_until(&log, end.clone());
    until_loaded(&shard).await;
    assert_eq!(commit(&shard, 0, "m").await, Reply::Partitions(Ok(vec![ErrorCode::None])));
    let parked = shard.clone();
    let parked =
        tokio::spawn(
            async move { parked.ask(|groups, now, token| groups.on_join(now, token, &join(""))).await },
        );
    assert_eq!(committed(&shard).await, 1);
    end.cancel();
    assert_eq!(parked.await.unwrap(), Err(ErrorCode::NotCoordinator));
    assert_eq!(shard.look(|_| ()).await, Err(ErrorCode::NotCoordinator));
    let (next, _tasks) = loaded(&log).await;
    assert_eq!(committed(&next).await, 1);
}

#[tokio::test]
async fn a_partition_that_is_not_led_yet_is_loaded_when_it_is() {
    let log = Arc::new(Memory::default());
    let (first, tasks) = loaded(&log).await;
    commit(&first, 0, "m").await;
    tasks.stop().await;
    log.lost.store(true, Ordering::Relaxed);
    let (shard, _tasks) = start(&log);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(shard.look(|_| ()).await, Err(ErrorCode::CoordinatorLoadInProgress));
    log.lost.store(false, Ordering::Relaxed);
    until_loaded(&shard).await;
    assert_eq!(committed(&shard).await, 1);
}

#[tokio::test]
async fn who_has_lost_the_partition_reads_it_anew() {
    let log = Arc::new(Memory::default());
    let (shard, _tasks) = loaded(&log).await;
    assert_eq!(commit(&shard, 0, "m").await, Reply::Partitions(Ok(vec![ErrorCode::None])));
    log.lost.store(true, Ordering::Relaxed);
    assert_eq!(commit(&shard, 1, "m").await, Reply::Partitions(Err(ErrorCode::NotCoordinator)));
    // Another coordinator was there in between.
    log.lost.store(false, Ordering::Relaxed);
    let (other, others) = loaded(&log).await;
    assert_eq!(commit(&other, 7, "m").await, Reply::Partitions(Ok(vec![ErrorCode::None])));
    others.stop().await;
    for _ in 0..5_000 {
        until_loaded(&shard).await;
        if shard
            .look(|groups| groups.fetch("g", None))
            .await
            .is_ok_and(|found| found[0].partitions.len() == 2)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the other's commit is never seen");
}
