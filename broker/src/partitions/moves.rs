//! Replicas on their way to another log directory of this node (KIP-113).
//!
//! ```text
//! begin --> copy, a stretch at a time, while the log is written and read --> caught up
//!   caught up: flush | last bytes, rename to the final name, from now on the copy is the log | flush | old one removed | assignment
//! ```
//! Up to where the copy is the log, the old one has everything and the copy can be thrown away. From there on the copy is
//! longer or of the same length, and a start after a crash goes by that (`directories/futures.rs`).

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{Offset, PartitionIndex, Uuid};
use aqueduct_storage::{Error, FutureLog, OffsetCheckpoint, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Checkpoint, Doomed, Partitions};
use crate::metadata::Command;
use crate::partition::{Partition, Place};

/// Bytes that are copied before another move has its turn.
const STRETCH: u64 = 4 << 20;
/// Bytes that are read and written at once.
const CHUNK: usize = 1 << 20;

/// A partition of a topic that may be deleted and made again under the same name.
pub(crate) type Key = (Uuid, i32);

/// One replica on its way.
#[derive(Debug)]
pub(crate) struct Move {
    pub topic: Uuid,
    pub name: TopicPartition,
    /// Index of the directory that it goes to.
    pub to: usize,
    wanted: AtomicBool,
    path: PathBuf,
    /// Of the copy, as they were after the last stretch.
    end: AtomicI64,
    size: AtomicI64,
    recovery_point: AtomicI64,
    /// `None` where the copy has to be opened anew, or is gone.
    work: Mutex<Option<FutureLog>>,
    /// Told when it is not wanted any more.
    pub ended: Notify,
}

impl Move {
    pub(super) fn new(topic: Uuid, name: TopicPartition, to: usize, future: FutureLog) -> Self {
        let this = Self {
            topic,
            name,
            to,
            wanted: AtomicBool::new(true),
            path: future.dir().to_owned(),
            end: AtomicI64::default(),
            size: AtomicI64::default(),
            recovery_point: AtomicI64::default(),
            work: Mutex::default(),
            ended: Notify::new(),
        };
        this.note(&future);
        *this.work.lock() = Some(future);
        this
    }

    fn key(&self) -> Key {
        (self.topic, self.name.partition.0)
    }

    fn note(&self, future: &FutureLog) {
        self.end.store(future.log_end_offset().0, Relaxed);
        self.size.store(future.size() as i64, Relaxed);
        self.recovery_point.store(future.recovery_point().0, Relaxed);
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// The offset after what was copied, and its bytes.
    pub fn progress(&self) -> (Offset, i64) {
        (Offset(self.end.load(Relaxed)), self.size.load(Relaxed))
    }
}

/// How a move goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many bytes were copied, and more are to come.
    Copied(u64),
    /// It is over, one way or the other.
    Over,
    /// Something was in the way; it may be better later.
    Failed,
}

/// All moves, in the order of their turns.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    state: Mutex<State>,
    /// Told of every new one.
    pub news: Notify,
    /// One request at a time changes what is moved where.
    pub(super) requests: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    all: HashMap<Key, Arc<Move>>,
    waiting: VecDeque<Arc<Move>>,
}

impl Moves {
    pub fn get(&self, key: &Key) -> Option<Arc<Move>> {
        self.state.lock().all.get(key).cloned()
    }

    /// Whether a replica is on its way: then its log may not be compacted, or the copy would be half the one, half the
    /// other.
    pub fn is_moving(&self, key: &Key) -> bool {
        self.state.lock().all.contains_key(key)
    }

    pub fn all(&self) -> Vec<Arc<Move>> {
        self.state.lock().all.values().cloned().collect()
    }

    pub(super) fn add(&self, new: Move) {
        let (new, mut state) = (Arc::new(new), self.state.lock());
        state.all.insert(new.key(), new.clone());
        state.waiting.push_back(new);
        drop(state);
        self.news.notify_one();
    }

    /// The one whose turn it is, until [`Moves::put_back`].
    pub fn next(&self) -> Option<Arc<Move>> {
        self.state.lock().waiting.pop_front()
    }

    pub fn put_back(&self, again: Arc<Move>) {
        let mut state = self.state.lock();
        let is_current = state.all.get(&again.key()).is_some_and(|known| Arc::ptr_eq(known, &again));
        if is_current && again.is_wanted() {
            state.waiting.push_back(again);
            drop(state);
            self.news.notify_one();
        }
    }

    fn forget(&self, over: &Move) {
        over.wanted.store(false, Relaxed);
        let mut state = self.state.lock();
        if state.all.get(&over.key()).is_some_and(|known| std::ptr::eq(&**known, over)) {
            state.all.remove(&over.key());
        }
        state.waiting.retain(|waiting| !std::ptr::eq(&**waiting, over));
        drop(state);
        over.ended.notify_waiters();
    }
}

impl Partitions {
    /// The replicas that are on their way.
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    /// Moves a replica to another directory, or leaves it where it is if that is the one; another move of it ends.
    pub async fn move_replica(
        self: &Arc<Self>,
        partition: Arc<Partition>,
        to: usize,
    ) -> Result<(), ErrorCode> {
        let _one_at_a_time = self.moves.requests.lock().await;
        let this = self.clone();
        let work = aqueduct_quorum::blocking::spawn(move || this.begin_move(&partition, to));
        work.await.unwrap_or(Err(ErrorCode::KafkaStorageError))
    }

    fn begin_move(&self, partition: &Arc<Partition>, to: usize) -> Result<(), ErrorCode> {
        let key = (partition.topic_id, partition.name().partition.0);
        if let Some(known) = self.moves.get(&key) {
            if known.to == to {
                return Ok(());
            }
            tracing::info!(partition = %known.name, "move to another log directory is called off");
            self.call_off(&known);
        }
        if partition.directory() == to {
            return Ok(());
        }
        let log = partition.log();
        let begun = self.directories.begin_future(to, &log, self.clock.now_ms());
        let future = begun.map_err(|error| {
            tracing::error!(partition = %partition.name(), %error, "move to another log directory cannot begin");
            ErrorCode::KafkaStorageError
        })?;
        tracing::info!(partition = %partition.name(), to = %future.dir().display(), "replica moves to another log directory");
        self.moves.add(Move::new(partition.topic_id, partition.name().clone(), to, future));
        // From here on none begins.
        log.interrupt_cleaning();
        if partition.is_deleted() {
            self.end_moves_of(partition.topic_id);
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        Ok(())
    }

    /// Ends a move and removes the copy, unless it has become the log by now. Blocks.
    pub(super) fn call_off(&self, known: &Move) {
        known.wanted.store(false, Relaxed);
        let mut work = known.work.lock();
        let is_over = self.moves.get(&known.key()).is_none_or(|current| !std::ptr::eq(&*current, known));
        if !is_over {
            if let Some(future) = work.take() {
                future.abandon();
            }
            self.directories.drop_future(known.to, &known.path, &known.name);
        }
        self.moves.forget(known);
    }

    /// Ends the moves of a topic that has been deleted. Blocks.
    pub(super) fn end_moves_of(&self, topic: Uuid) {
        self.moves.all().iter().filter(|known| known.topic == topic).for_each(|known| self.call_off(known));
        self.directories.drop_futures_of(topic);
    }

    /// Goes on with a move for a while.
    pub async fn go_on(self: &Arc<Self>, known: Arc<Move>, at_most: u64) -> Progress {
        let Some(topic) = self.metadata.image().topic_by_id(known.topic).cloned() else {
            let this = self.clone();
            let _ = aqueduct_quorum::blocking::spawn(move || this.call_off(&known)).await;
            return Progress::Over;
        };
        if !self.directories.is_usable(known.to) || self.is_out_of_reach(known.topic, known.name.partition) {
            tracing::error!(partition = %known.name, "move to another log directory ends: a directory has failed");
            known.work.lock().take();
            self.moves.forget(&known);
            return Progress::Over;
        }
        let Ok(partition) = self.hosted(&topic, known.name.partition).await else { return Progress::Failed };
        let this = self.clone();
        let work = aqueduct_quorum::blocking::spawn(move || {
            let done = this.stretch(&known, &partition, at_most.min(STRETCH));
            done.unwrap_or_else(|error| {
                if partition.is_deleted() || partition.is_offline() || !known.is_wanted() {
                    return Progress::Failed;
                }
                tracing::warn!(partition = %known.name, %error, "move to another log directory is held up");
                let at_source = matches!(&error, Error::Io { path, .. } if !path.starts_with(&known.path));
                if at_source {
                    partition.judge(&error);
                }
                this.directories.judge(known.to, &error);
                Progress::Failed
            })
        });
        work.await.unwrap_or(Progress::Failed)
    }

    fn stretch(&self, known: &Move, partition: &Arc<Partition>, at_most: u64) -> Result<Progress, Error> {
        let mut work = known.work.lock();
        if !known.is_wanted() {
            return Ok(Progress::Over);
        }
        let (log, now_ms) = (partition.log(), self.clock.now_ms());
        let future = match work.take() {
            Some(future) => future,
            None => {
                let point = Offset(known.recovery_point.load(Relaxed));
                self.directories.reopen_future(known.to, &known.path, point, &log, now_ms)?
            }
        };
        let mut bytes = 0;
        let is_there = loop {
            let chunk = CHUNK.min(usize::try_from(at_most - bytes).unwrap_or(CHUNK));
            let copied = future.copy(&log, chunk, now_ms)?;
            future.flush_closed_segments()?;
            known.note(&future);
            bytes += copied.bytes as u64;
            if copied.lag == 0 || bytes >= at_most || !known.is_wanted() {
                break copied.lag == 0;
            }
        };
        if is_there {
            future.flush()?;
            if self.swap(known, partition, &future, now_ms)? {
                return Ok(Progress::Over);
            }
        }
        *work = Some(future);
        Ok(Progress::Copied(bytes))
    }

    /// Has the copy take the place of the log; says whether it was near enough.
    fn swap(
        &self,
        known: &Move,
        partition: &Arc<Partition>,
        future: &FutureLog,
        now_ms: i64,
    ) -> Result<bool, Error> {
        let (log, from) = (partition.log(), partition.directory());
        let health = self.directories.health_of(known.to).clone();
        let publish = |moved: aqueduct_storage::Log| {
            let moved = Arc::new(moved);
            let place = Place { log: moved.clone(), directory: known.to, health };
            partition.move_to(place);
            self.directories.note(&known.name, known.topic, known.to);
            moved
        };
        if !future.take_over(&log, now_ms, publish)? {
            return Ok(false);
        }
        let moved = partition.log();
        if partition.is_deleted() || partition.is_offline() {
            moved.abandon();
        }
        // The old one goes only when all is on disk that speaks for the new one.
        let settled = moved.flush().map(|_| ()).and_then(|()| {
            let written =
                self.checkpoint(Checkpoint::LogStarts) && self.checkpoint(Checkpoint::RecoveryPoints);
            match written {
                true => Ok(()),
                false => Err(Error::DirectoryFailed { path: health_path(self, known.to) }),
            }
        });
        match settled.and_then(|()| self.directories.retire(from, &known.name)) {
            Ok(path) => {
                self.assign(known);
                let delay_ms = log.config().file_delete_delay_ms;
                let due_ms = now_ms.saturating_add(delay_ms);
                self.doomed.lock().push(Doomed { due_ms, delay_ms, directory: from, path });
            }
            Err(error) => {
                tracing::warn!(partition = %known.name, %error, "replica has moved, but its old directory stays until the next start");
                self.directories.judge(known.to, &error);
            }
        }
        self.moves.forget(known);
        tracing::info!(partition = %known.name, to = %moved.dir().display(), "replica has moved to another log directory");
        Ok(true)
    }

    /// Tells the metadata where a replica is now. Blocks; not to be called on a thread of the runtime.
    fn assign(&self, known: &Move) {
        let found = vec![(known.topic, known.name.partition, self.directories.id_of(known.to))];
        let command = Command::AssignDirectories { broker: self.settings.node_id, found };
        let outcome = tokio::runtime::Handle::current().block_on(self.metadata.submit(vec![command]));
        for error in outcome.into_iter().filter_map(Result::err) {
            tracing::error!(partition = %known.name, %error, "the metadata does not know that a replica has moved");
        }
    }

    /// Adds how far copies are on disk to what is written down of their directories.
    pub(super) fn add_future_points(&self, offsets: &mut [OffsetCheckpoint]) {
        for known in self.moves.all() {
            let point = Offset(known.recovery_point.load(Relaxed));
            offsets[known.to].insert(known.name.clone(), point);
        }
    }

    /// Makes all copies durable, for the process to end; returns the directories in which that failed. Blocks.
    pub(super) fn close_futures(&self) -> Vec<usize> {
        let mut failed = Vec::new();
        for known in self.moves.all() {
            let Some(future) = known.work.lock().take() else {
                failed.push(known.to);
                continue;
            };
            if let Err(error) = future.close() {
                tracing::error!(partition = %known.name, %error, "a copy is not on disk for certain");
                failed.push(known.to);
            }
            known.note(&future);
        }
        failed
    }

    /// Opens the logs that were on their way when the process before this one ended, so that they go on.
    pub async fn resume_moves(&self) {
        let image = self.metadata.image();
        for partition in self.directories.found_futures() {
            if let Some(topic) = image.topic(&partition.topic) {
                let _ = self.hosted(topic, PartitionIndex(partition.partition.0)).await;
            }
        }
    }
}

fn health_path(partitions: &Partitions, directory: usize) -> PathBuf {
    partitions.directories.health_of(directory).path().to_owned()
}

/// Time until a move is tried again that was held up.
pub(crate) const HELD_UP: Duration = Duration::from_secs(1);

/// Bytes that a move may copy at once at `rate` bytes a second, so that no wait is much longer than a second.
pub(crate) fn stretch_at(rate: f64) -> u64 {
    (rate.max(1.0).min(STRETCH as f64)) as u64
}
