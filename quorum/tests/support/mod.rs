//! Disks that stop, a network that is cut, and a few nodes in one process.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_quorum::*;
use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};

/// For what takes moments on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Files {
    files: BTreeMap<FileKind, Vec<u8>>,
    writes: usize,
    stop_at: Option<usize>,
    stopped: bool,
    /// Rises with each start of the machine.
    life: u64,
}

/// A disk in memory that can stop at a write, with any part of it done.
#[derive(Default)]
pub struct MemoryDisk(Mutex<Files>);

impl MemoryDisk {
    /// Stops at the `n`-th write from now on, counted from 1.
    pub fn stop_at(&self, n: usize) {
        let mut files = self.0.lock();
        files.stop_at = Some(files.writes + n);
    }

    /// Nothing is written or read any more.
    pub fn stop(&self) {
        self.0.lock().stopped = true;
    }

    pub fn is_stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// The machine has been started again: what a process of before still does reaches the disk no more.
    pub fn revive(&self) {
        let mut files = self.0.lock();
        (files.stopped, files.stop_at) = (false, None);
        files.life += 1;
    }

    /// A new disk was put in.
    pub fn wipe(&self) {
        self.0.lock().files.clear();
    }

    /// The disk as the process sees it that is started now.
    fn mount(self: &Arc<Self>) -> Mounted {
        Mounted { disk: self.clone(), life: self.0.lock().life }
    }

    pub fn size(&self, file: FileKind) -> usize {
        self.0.lock().files.get(&file).map_or(0, Vec::len)
    }
}

struct Mounted {
    disk: Arc<MemoryDisk>,
    life: u64,
}

impl Mounted {
    fn files(&self) -> io::Result<MutexGuard<'_, Files>> {
        let files = self.disk.0.lock();
        match files.stopped || files.life != self.life {
            true => Err(io::Error::other("the disk has stopped")),
            false => Ok(files),
        }
    }

    fn write(&self, act: impl FnOnce(&mut BTreeMap<FileKind, Vec<u8>>, Option<usize>)) -> io::Result<()> {
        let mut files = self.files()?;
        files.writes += 1;
        // How much of the last write is done differs from stop to stop.
        let part = (files.stop_at == Some(files.writes)).then_some(files.writes.wrapping_mul(7_919));
        files.stopped = part.is_some();
        act(&mut files.files, part);
        if part.is_some() { Err(io::Error::other("the disk stops here")) } else { Ok(()) }
    }
}

impl Disk for Mounted {
    fn read(&self, file: FileKind) -> io::Result<Option<Bytes>> {
        Ok(self.files()?.files.get(&file).map(|content| Bytes::copy_from_slice(content)))
    }

    fn read_at(&self, file: FileKind, at: u64, length: usize) -> io::Result<Bytes> {
        let content = self.read(file)?.ok_or(io::ErrorKind::NotFound)?;
        let at = at as usize;
        if at + length > content.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(content.slice(at..at + length))
    }

    fn append(&self, file: FileKind, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(|files, part| {
            let content = files.entry(file).or_default();
            assert_eq!(content.len() as u64, at, "appends go to the end");
            let done = part.map_or(bytes.len(), |part| part % (bytes.len() + 1));
            content.extend_from_slice(&bytes[..done]);
        })
    }

    fn cut(&self, file: FileKind, length: u64) -> io::Result<()> {
        self.write(|files, part| {
            if part.is_none_or(|part| part % 2 == 0) {
                files.entry(file).or_default().truncate(length as usize);
            }
        })
    }

    fn replace(&self, file: FileKind, bytes: &[u8]) -> io::Result<()> {
        self.write(|files, part| {
            if part.is_none_or(|part| part % 2 == 0) {
                files.insert(file, bytes.to_vec());
            }
        })
    }
}

/// Entries with their indexes, as they were applied.
pub type Entries = Vec<(u64, Bytes)>;

/// A state machine that writes down what it is given.
#[derive(Clone, Default)]
pub struct Ledger(pub Arc<Mutex<Entries>>);

impl StateMachine for Ledger {
    fn apply(&mut self, index: u64, entry: Bytes) -> Result<(), Unreadable> {
        let mut entries = self.0.lock();
        assert!(entries.last().is_none_or(|(last, _)| *last < index), "entries come in order");
        entries.push((index, entry));
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Bytes + Send + Sync> {
        let entries = self.0.lock().clone();
        Box::new(move || {
            let mut out = BytesMut::new();
            for (index, entry) in entries {
                out.put_u64(index);
                out.put_u32(entry.len() as u32);
                out.put_slice(&entry);
            }
            out.freeze()
        })
    }

    fn restore(&mut self, mut snapshot: Bytes) -> Result<(), Unreadable> {
        let mut entries = Vec::new();
        while snapshot.has_remaining() {
            let (index, length) = (snapshot.get_u64(), snapshot.get_u32() as usize);
            entries.push((index, snapshot.split_to(length)));
        }
        *self.0.lock() = entries;
        Ok(())
    }
}

/// Who can reach whom.
#[derive(Default)]
pub struct Net {
    nodes: Mutex<BTreeMap<NodeId, Quorum>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

impl Net {
    /// Cuts one direction.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.cut.lock().insert((from, to));
    }

    pub fn heal(&self) {
        self.cut.lock().clear();
    }

    fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.lock().contains(&(from, to))
    }
}

struct Wire {
    net: Arc<Net>,
    from: NodeId,
}

#[async_trait]
impl Transport for Wire {
    async fn call(&self, to: NodeId, peer: &Peer, request: Bytes) -> Result<Bytes, TransportError> {
        let node = self.net.nodes.lock().get(&to).cloned();
        let failed = |why| Err(TransportError::new(to, peer, why));
        match node {
            Some(node) if self.net.reaches(self.from, to) => {
                let answer = node.serve(request).await;
                if self.net.reaches(to, self.from) { Ok(answer) } else { failed("the answer is lost") }
            }
            _ => failed("cut"),
        }
    }
}

/// A few nodes and what they run on.
pub struct Cluster {
    pub net: Arc<Net>,
    pub disks: BTreeMap<NodeId, Arc<MemoryDisk>>,
    pub ledgers: BTreeMap<NodeId, Ledger>,
    pub voters: BTreeMap<NodeId, Peer>,
    pub cluster_id: String,
    pub timing: Timing,
    formatted: u8,
    /// Directories of nodes that have one before they start; others get a new one with each start.
    pub directories: BTreeMap<NodeId, DirectoryId>,
    /// What was acknowledged, in order.
    pub acknowledged: Entries,
    next: u64,
}

pub fn peer(id: NodeId) -> Peer {
    Peer { directory: DirectoryId::UNKNOWN, listener: "C".into(), host: format!("node{id}"), port: 9093 }
}

impl Cluster {
    /// A cluster of which no node runs yet.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let timing = Timing {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(500),
            snapshot_every: 1_000,
            keep: 500,
        };
        Self {
            net: Arc::default(),
            disks: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            voters: voters.into_iter().map(|id| (id, peer(id))).collect(),
            cluster_id: "c".into(),
            timing,
            formatted: 0,
            directories: BTreeMap::new(),
            acknowledged: Vec::new(),
            next: 0,
        }
    }

    /// A cluster with all of its voters running.
    pub async fn running(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let mut cluster = Self::new(voters);
        for id in cluster.voters.keys().copied().collect::<Vec<_>>() {
            cluster.start(id).await.expect("a node on an empty disk starts");
        }
        cluster
    }

    /// Formats a node's disk for one of the first voters.
    pub fn format(&mut self, id: NodeId, voters: &BTreeMap<NodeId, Peer>) {
        format(&self.disks.entry(id).or_default().mount(), voters).expect("an empty disk");
    }

    /// Starts a node on its disk.
    pub async fn start(&mut self, id: NodeId) -> Result<(), StartError> {
        self.formatted += 1;
        let options = Options {
            cluster_id: self.cluster_id.clone(),
            node: id,
            voters: self.voters.clone(),
            new_directory: *self.directories.get(&id).unwrap_or(&DirectoryId([self.formatted; 16])),
            timing: self.timing.clone(),
        };
        let disk = self.disks.entry(id).or_default().mount();
        let ledger = Ledger::default();
        let wire = Wire { net: self.net.clone(), from: id };
        let node = Quorum::start(options, Arc::new(disk), Arc::new(wire), Box::new(ledger.clone())).await?;
        self.ledgers.insert(id, ledger);
        self.net.nodes.lock().insert(id, node);
        Ok(())
    }

    /// Ends a node as kill -9 does.
    pub async fn kill(&mut self, id: NodeId) {
        self.disks[&id].stop();
        let node = self.net.nodes.lock().remove(&id);
        if let Some(node) = node {
            node.stop().await;
        }
        self.disks[&id].revive();
    }

    pub fn node(&self, id: NodeId) -> Quorum {
        self.net.nodes.lock()[&id].clone()
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.net.nodes.lock().keys().copied().collect()
    }

    pub fn status(&self, id: NodeId) -> Status {
        self.node(id).watch().borrow().clone()
    }

    /// Waits until a node of these is ready to decide, and is the newest to be.
    pub async fn leader_of(&self, ids: &[NodeId]) -> (NodeId, u64) {
        until("a leader", || async {
            let statuses = ids.iter().map(|id| self.status(*id));
            let active = statuses.filter_map(|status| Some((status.active_epoch?, status.id)));
            active.max().map(|(epoch, id)| (id, epoch))
        })
        .await
    }

    pub async fn leader(&self) -> (NodeId, u64) {
        self.leader_of(&self.ids()).await
    }

    /// Asks whichever of these nodes leads, until it is answered as wanted: on a busy machine the leader may change.
    pub async fn on_leader<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        ids: &[NodeId],
        act: impl Fn(Quorum, u64) -> F,
    ) -> T {
        until(what, || async {
            let (leader, epoch) = self.leader_of(ids).await;
            tokio::time::timeout(Duration::from_secs(2), act(self.node(leader), epoch)).await.ok()?
        })
        .await
    }

    /// Waits until the leader among these says that just these nodes vote.
    pub async fn voters_are(&self, ids: &[NodeId], voters: &[NodeId]) {
        self.on_leader("other voters", ids, |node, _| async move {
            (node.watch().borrow().voters() == voters).then_some(())
        })
        .await;
    }

    /// Has one entry agreed on, by whichever of these nodes leads.
    pub async fn propose_to(&mut self, ids: &[NodeId]) -> u64 {
        self.next += 1;
        let entry = Bytes::from(format!("entry {}", self.next));
        let started = tokio::time::Instant::now();
        loop {
            let (leader, epoch) = self.leader_of(ids).await;
            let node = self.node(leader);
            let answer =
                tokio::time::timeout(Duration::from_secs(2), node.propose(epoch, entry.clone())).await;
            if let Ok(Ok(index)) = answer {
                self.acknowledged.push((index, entry));
                return index;
            }
            assert!(started.elapsed() < PATIENCE, "nothing is agreed on: {answer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn propose(&mut self) -> u64 {
        self.propose_to(&self.ids()).await
    }

    /// Waits until all of these have applied the same, with everything that was acknowledged in its place.
    pub async fn converge(&self, ids: &[NodeId]) {
        let last = self.acknowledged.last().map_or(0, |(index, _)| *index);
        let same = || async {
            let all: Vec<Entries> = ids.iter().map(|id| self.ledgers[id].0.lock().clone()).collect();
            let there = all.iter().all(|entries| *entries == all[0]);
            let far = all[0].last().map_or(0, |(index, _)| *index);
            (there && far >= last).then(|| all[0].clone())
        };
        let entries: BTreeMap<u64, Bytes> =
            until("the same entries everywhere", same).await.into_iter().collect();
        for (index, entry) in &self.acknowledged {
            assert_eq!(entries.get(index), Some(entry), "acknowledged at {index}");
        }
    }
}

/// Waits until something is there.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let started = tokio::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
