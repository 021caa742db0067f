//! Disks that are full, broken or gone. File systems are real ones: a small tmpfs that runs full, an ext4 on a loop device
//! that is shut down under the broker (`EXT4_IOC_SHUTDOWN`), so that every call fails with EIO. Where mounting is not
//! allowed, a directory that is moved away takes the place of the broken disk, and a full one is not tried.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aqueduct_broker::{Broker, Handle, Options};
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use aqueduct_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::metadata_response::MetadataResponsePartition;
use aqueduct_protocol::messages::{
    AlterReplicaLogDirsRequest, DescribeLogDirsRequest, FetchRequest, IncrementalAlterConfigsRequest,
};
use common::*;
use tempfile::TempDir;

const STORAGE_ERROR: i16 = 56;

/// A mounted file system, unmounted when dropped.
struct Mount {
    dir: PathBuf,
    image: Option<PathBuf>,
}

fn ran(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

impl Mount {
    fn tmpfs(dir: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let mounted = ran("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", dir.to_str()?]);
        mounted.then(|| Self { dir: dir.to_owned(), image: None })
    }

    fn ext4(dir: &Path) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let image = dir.with_extension("image");
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let mount = Self { dir: dir.to_owned(), image: Some(image.clone()) };
        (ran("mkfs.ext4", &["-q", image.to_str()?]) && mount.mount()).then_some(mount)
    }

    fn mount(&self) -> bool {
        let image = self.image.as_ref().and_then(|image| image.to_str()).unwrap_or_default();
        ran("mount", &["-o", "loop", image, self.dir.to_str().unwrap()])
    }

    fn unmount(&self) {
        let _ = ran("umount", &[self.dir.to_str().unwrap()])
            || ran("umount", &["-l", self.dir.to_str().unwrap()]);
    }

    /// From now on every call on the file system fails with EIO; what was written before is on the disk.
    fn break_down(&self) -> bool {
        let script = "import fcntl, os, struct, sys\n\
                      fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 0))";
        ran("python3", &["-c", script, self.dir.to_str().unwrap()])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Two log directories; the metadata is in a third one, so that either may fail.
struct Disks {
    root: TempDir,
    second: Option<Mount>,
}

impl Disks {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let second = Mount::ext4(&root.path().join("b"));
        if second.is_none() {
            eprintln!("no ext4 can be mounted here: the directory is moved away instead");
        }
        Self { root, second }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name).join("logs")
    }

    async fn start(&self) -> Handle {
        let mut options = Options::embedded(self.root.path(), 0);
        let dirs = format!("{},{}", self.dir("a").display(), self.dir("b").display());
        options.set("log.dirs", &dirs).set("metadata.log.dir", self.root.path().join("m").to_str().unwrap());
        options.set("replica.high.watermark.checkpoint.interval.ms", "100");
        Broker::start(options).await.unwrap()
    }

    fn break_second(&self) {
        match &self.second {
            Some(mount) => assert!(mount.break_down()),
            None => fs::rename(self.dir("b"), self.root.path().join("away")).unwrap(),
        }
    }

    /// Nothing is where the second directory should be.
    fn take_second_out(&self) {
        if let Some(mount) = &self.second {
            mount.unmount();
        }
        let _ = fs::remove_dir_all(self.root.path().join("b"));
        fs::write(self.root.path().join("b"), b"not a directory").unwrap();
    }

    fn put_second_back(&self) {
        fs::remove_file(self.root.path().join("b")).unwrap();
        fs::create_dir(self.root.path().join("b")).unwrap();
        match &self.second {
            Some(mount) => assert!(mount.mount()),
            None => fs::rename(self.root.path().join("away"), self.dir("b")).unwrap(),
        }
    }

    /// The partitions of topic `t` that lie in a directory.
    fn partitions_in(&self, name: &str) -> Vec<i32> {
        let names =
            fs::read_dir(self.dir(name)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<i32> = names.filter_map(|name| name.strip_prefix("t-")?.parse().ok()).collect();
        found.sort_unstable();
        found
    }
}

async fn described(client: &mut Client) -> Vec<DescribeLogDirsResult> {
    client.call(&DescribeLogDirsRequest { topics: None }, 4).await.results
}

async fn partition(client: &mut Client, index: i32) -> MetadataResponsePartition {
    let partitions = client.metadata(&["t"]).await.topics.remove(0).partitions;
    partitions.into_iter().find(|partition| partition.partition_index == index).unwrap()
}

async fn read(client: &mut Client, topic: &str, index: i32) -> (i16, Vec<String>) {
    let request: FetchRequest = fetch_request(topic, Uuid::ZERO, index, 0);
    let partition = client.call(&request, 12).await.responses.remove(0).partitions.remove(0);
    (partition.error_code, values(partition.records))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_disk_takes_down_its_own_partitions_and_brings_them_back_with_their_records() {
    let disks = Disks::new();
    let broker = disks.start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 4, &[]).await;
    for index in 0..4 {
        assert_eq!(client.produce("t", index, batch(&["before"])).await.error_code, 0);
    }
    let (kept, lost) = (disks.partitions_in("a"), disks.partitions_in("b"));
    assert_eq!((kept.len(), lost.len()), (2, 2), "partitions go where the fewest are");

    disks.break_second();
    let mut code = 0;
    for _ in 0..1200 {
        code = client.produce("t", lost[0], batch(&["refused"])).await.error_code;
        if code != 0 && partition(&mut client, lost[1]).await.leader_id == -1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(code, STORAGE_ERROR);
    let offline = partition(&mut client, lost[1]).await;
    assert_eq!((offline.leader_id, offline.error_code), (-1, ErrorCode::LeaderNotAvailable.code()));
    assert_eq!((offline.offline_replicas, offline.isr_nodes), (vec![1], vec![1]));
    assert_eq!(client.produce("t", lost[1], batch(&["x"])).await.error_code, STORAGE_ERROR);
    assert_eq!(read(&mut client, "t", lost[1]).await.0, STORAGE_ERROR);
    for index in &kept {
        assert_eq!(client.produce("t", *index, batch(&["after"])).await.error_code, 0);
        assert_eq!(read(&mut client, "t", *index).await, (0, vec!["before".into(), "after".into()]));
        assert!(partition(&mut client, *index).await.offline_replicas.is_empty());
    }
    let [good, bad] = &described(&mut client).await[..] else { panic!("two directories") };
    assert_eq!((good.error_code, good.topics[0].partitions.len()), (0, 2));
    assert_eq!((bad.error_code, bad.topics.len()), (STORAGE_ERROR, 0));
    // What is created now goes to the directory that is left.
    client.create_topic("new", 3, &[]).await;
    for index in 0..3 {
        assert_eq!(client.produce("new", index, batch(&["n"])).await.error_code, 0);
    }
    broker.shutdown().await;

    // The next start finds the disk missing, and does not take its partitions for new ones.
    disks.take_second_out();
    let broker = disks.start().await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.produce("t", lost[0], batch(&["x"])).await.error_code, STORAGE_ERROR);
    assert_eq!(partition(&mut client, lost[0]).await.leader_id, -1);
    assert_eq!(described(&mut client).await[1].error_code, STORAGE_ERROR);
    assert_eq!(read(&mut client, "t", kept[0]).await.1.len(), 2);
    assert_eq!(disks.partitions_in("a"), kept);
    broker.shutdown().await;

    disks.put_second_back();
    let broker = disks.start().await;
    let mut client = Client::connect(&broker).await;
    for index in &lost {
        let (code, values) = read(&mut client, "t", *index).await;
        assert_eq!((code, values.first().map(String::as_str)), (0, Some("before")));
        assert_eq!(client.produce("t", *index, batch(&["again"])).await.error_code, 0);
        assert_eq!(partition(&mut client, *index).await.leader_id, 1);
    }
    assert!(described(&mut client).await.iter().all(|directory| directory.error_code == 0));
    broker.shutdown().await;
}

/// Has partitions moved to a directory, slowly.
async fn begin_moves(client: &mut Client, partitions: &[i32], to: &Path) {
    let config = AlterableConfig {
        name: "replica.alter.log.dirs.io.max.bytes.per.second".into(),
        config_operation: 0,
        value: Some("1000".into()),
    };
    let resource =
        AlterConfigsResource { resource_type: 4, resource_name: "1".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(client.call(&request, 1).await.responses[0].error_code, 0);
    let topics = vec![AlterReplicaLogDirTopic { name: "t".into(), partitions: partitions.to_vec() }];
    let dirs = vec![AlterReplicaLogDir { path: to.to_str().unwrap().into(), topics }];
    let response = client.call(&AlterReplicaLogDirsRequest { dirs }, 2).await;
    assert!(response.results[0].partitions.iter().all(|partition| partition.error_code == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_breaks_ends_the_moves_from_and_to_it_and_loses_nothing_of_the_other() {
    let disks = Disks::new();
    let broker = disks.start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 4, &[]).await;
    let value = "v".repeat(20_000);
    for index in 0..4 {
        for _ in 0..5 {
            assert_eq!(client.produce("t", index, batch(&[&value])).await.error_code, 0);
        }
    }
    let (stays, leaves) = (disks.partitions_in("a")[0], disks.partitions_in("b")[0]);
    begin_moves(&mut client, &[stays], &disks.dir("b")).await;
    begin_moves(&mut client, &[leaves], &disks.dir("a")).await;
    let moving = |dirs: &[DescribeLogDirsResult]| {
        let partitions = dirs.iter().flat_map(|dir| &dir.topics).flat_map(|topic| &topic.partitions);
        partitions.filter(|partition| partition.is_future_key).count()
    };
    assert_eq!(moving(&described(&mut client).await), 2);

    disks.break_second();
    let mut left = 2;
    for _ in 0..1200 {
        let _ = client.produce("t", leaves, batch(&["refused"])).await;
        assert_eq!(client.produce("t", stays, batch(&["goes on"])).await.error_code, 0);
        left = moving(&described(&mut client).await);
        if left == 0 && partition(&mut client, leaves).await.leader_id == -1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(left, 0);
    assert_eq!(
        read(&mut client, "t", leaves).await.0,
        STORAGE_ERROR,
        "the copy in the other directory is not it"
    );
    let topics = vec![AlterReplicaLogDirTopic { name: "t".into(), partitions: vec![stays, leaves] }];
    let dirs = vec![AlterReplicaLogDir { path: disks.dir("b").to_str().unwrap().into(), topics }];
    let refused = client.call(&AlterReplicaLogDirsRequest { dirs }, 2).await;
    assert!(refused.results[0].partitions.iter().all(|partition| partition.error_code == STORAGE_ERROR));
    let written = read(&mut client, "t", stays).await.1;
    broker.shutdown().await;

    // Without the disk the copy stays what it is; with it the moves go on.
    disks.take_second_out();
    let broker = disks.start().await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(read(&mut client, "t", leaves).await.0, STORAGE_ERROR);
    assert_eq!(read(&mut client, "t", stays).await.1, written);
    broker.shutdown().await;
    disks.put_second_back();
    let broker = disks.start().await;
    let mut client = Client::connect(&broker).await;
    let (code, values) = read(&mut client, "t", leaves).await;
    assert_eq!((code, values.len() >= 5), (0, true));
    assert_eq!(read(&mut client, "t", stays).await.1, written);
    assert_eq!(client.produce("t", leaves, batch(&["again"])).await.error_code, 0);
    assert!(moving(&described(&mut client).await) >= 1);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_space() {
    let root = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(&root.path().join("small"), "8m") else {
        return eprintln!("no tmpfs can be mounted here: a full disk is not tried");
    };
    let logs = mount.dir.join("logs");
    let settings = [
        ("log.dirs", logs.to_str().unwrap()),
        ("metadata.log.dir", root.path().to_str().unwrap()),
        ("log.segment.bytes", "1048576"),
        ("replica.high.watermark.checkpoint.interval.ms", "100"),
    ];
    let broker = start_with(root.path(), &settings).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 2, &[]).await;
    let ballast = mount.dir.join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();

    let value = "v".repeat(90_000);
    let (mut written, mut refused) = (0, 0);
    while refused < 20 {
        assert!(written < 100, "the disk is small");
        let response = client.produce("t", 0, idempotent(&[&value], 7, 0, written)).await;
        match response.error_code {
            0 => {
                assert_eq!(response.base_offset, written as i64);
                written += 1;
            }
            code => {
                assert_eq!(code, STORAGE_ERROR);
                assert!(response.error_message.unwrap().contains("No space left"));
                refused += 1;
            }
        }
    }
    assert!(written > 10);
    // Refusing is no failure of the directory: reading goes on, and so does the rest.
    assert_eq!(described(&mut client).await[0].error_code, 0);
    assert_eq!(partition(&mut client, 0).await.leader_id, 1);
    assert!(!read(&mut client, "t", 0).await.1.is_empty());
    fs::remove_file(&ballast).unwrap();
    for _ in 0..10 {
        let response = client.produce("t", 0, idempotent(&[&value], 7, 0, written)).await;
        assert_eq!((response.error_code, response.base_offset), (0, written as i64));
        written += 1;
    }
    assert_eq!(client.produce("t", 1, batch(&["other"])).await.error_code, 0);
    broker.shutdown().await;

    // Nothing of what was cut off is left in the files.
    fs::remove_file(logs.join(".kafka_cleanshutdown")).unwrap();
    let broker = start_with(root.path(), &settings).await;
    let mut client = Client::connect(&broker).await;
    let again = client.produce("t", 0, idempotent(&[&value], 7, 0, written - 1)).await;
    assert_eq!((again.error_code, again.base_offset), (0, written as i64 - 1), "the last one is known");
    let mut offset = 0;
    while offset < written as i64 {
        let fetched = client.call(&fetch_request("t", Uuid::ZERO, 0, offset), 12).await;
        let records = values(fetched.responses[0].partitions[0].records.clone());
        assert!(!records.is_empty() && records.iter().all(|found| *found == value));
        offset += records.len() as i64;
    }
    assert_eq!(offset, written as i64);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_any_directory_left_says_so() {
    let root = tempfile::tempdir().unwrap();
    let logs = root.path().join("logs");
    let settings = [
        ("log.dirs", logs.to_str().unwrap()),
        ("metadata.log.dir", root.path().to_str().unwrap()),
        ("replica.high.watermark.checkpoint.interval.ms", "100"),
    ];
    let broker = start_with(root.path(), &settings).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, batch(&["a"])).await.error_code, 0);
    fs::rename(&logs, root.path().join("away")).unwrap();
    tokio::time::timeout(PATIENCE, broker.failed()).await.unwrap();
    broker.shutdown().await;

    fs::write(&logs, b"not a directory").unwrap();
    let mut options = Options::embedded(root.path(), 0);
    settings.iter().for_each(|(key, value)| {
        options.set(key, value);
    });
    let error = Broker::start(options).await.err().unwrap().to_string();
    assert!(error.contains(logs.to_str().unwrap()), "{error}");
}
