//! Follows what sinks commit and write while the faults happen, and reads at the end what sources stored.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use aqueduct_protocol::Decode as _;
use aqueduct_protocol::messages::{OffsetCommitKey, OffsetCommitValue};
use bytes::Buf as _;

use crate::ledger::{Line, Sink, Stored};
use crate::log_files::LogFile;

/// Partitions of `__consumer_offsets` and of the topic of source offsets.
pub const OFFSETS_PARTITIONS: i32 = 5;
const PAUSE: Duration = Duration::from_millis(40);

/// The number in a line such as `<12>`. What a killed worker has cut off is none.
pub fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split('<').filter_map(|part| part.split_once('>')?.0.parse().ok())
}

/// Lines of the topic of a pair that count, in order of the log.
pub fn lines(file: &mut LogFile) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for counted in file.read()? {
        let value = counted.record.value.as_deref().unwrap_or_default();
        let number = numbers(std::str::from_utf8(value)?).next().context("a record without a number")?;
        lines.push(Line { number, offset: counted.record.offset.0, appended: counted.appended });
    }
    Ok(lines)
}

/// Offsets that sources stored, by the number of their pair.
pub fn stored(data: &Path, pairs: usize) -> Result<Vec<Vec<Stored>>> {
    let mut all = vec![Vec::new(); pairs];
    for partition in 0..OFFSETS_PARTITIONS {
        for counted in LogFile::new(data, "connect-offsets", partition).read()? {
            let (Some(key), Some(value)) = (&counted.record.key, &counted.record.value) else { continue };
            let key: serde_json::Value = serde_json::from_slice(key)?;
            let value: serde_json::Value = serde_json::from_slice(value)?;
            let pair = key[0].as_str().and_then(|name| name.strip_prefix("source-")?.parse::<usize>().ok());
            let (Some(pair), Some(position)) = (pair, value["position"].as_u64()) else { continue };
            let place = format!("connect-offsets-{partition}@{}", counted.record.offset.0);
            all[pair].push(Stored { position, place, at: counted.counts_from });
        }
    }
    Ok(all)
}

/// A file that others append to.
struct Output {
    path: PathBuf,
    at: u64,
    /// The beginning of a line whose end is not there yet.
    rest: String,
}

impl Output {
    /// Numbers that have been written since the last call.
    fn read(&mut self) -> Result<Vec<u64>> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.at += file.read_to_end(&mut bytes)? as u64;
        self.rest.push_str(std::str::from_utf8(&bytes)?);
        let end = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let found = numbers(&self.rest[..end]).collect();
        self.rest.drain(..end);
        Ok(found)
    }
}

/// What the watch has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Offsets that groups of sinks committed.
    pub commits: u64,
    /// Commits that were ahead of the file.
    pub wrong: Vec<String>,
}

/// Follows all sinks in a thread of its own.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

impl Watch {
    /// `data` is the broker's folder of logs, `outputs` the files of the sinks by pair.
    pub fn start(data: &Path, outputs: Vec<PathBuf>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, data) = (stop.clone(), data.to_owned());
        let thread = std::thread::spawn(move || {
            let mut follower = Follower::new(&data, outputs);
            loop {
                let last = told.load(Ordering::Relaxed);
                follower.step()?;
                if last {
                    return Ok(follower.end());
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { stop, thread }
    }

    /// Ends it.
    pub fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch over the sinks panicked"))?
    }
}

struct Follower {
    commits: Vec<LogFile>,
    topics: Vec<LogFile>,
    outputs: Vec<Output>,
    sinks: Vec<Sink>,
    wrong: Vec<String>,
}

impl Follower {
    fn new(data: &Path, outputs: Vec<PathBuf>) -> Self {
        let pairs = outputs.len();
        let output = |path| Output { path, at: 0, rest: String::new() };
        Self {
            commits: (0..OFFSETS_PARTITIONS).map(|p| LogFile::new(data, "__consumer_offsets", p)).collect(),
            topics: (0..pairs).map(|pair| LogFile::new(data, &format!("lines-{pair}"), 0)).collect(),
            outputs: outputs.into_iter().map(output).collect(),
            sinks: (0..pairs).map(|_| Sink::default()).collect(),
            wrong: Vec::new(),
        }
    }

    /// The commits first: what they cover must be in the files by then.
    fn step(&mut self) -> Result<()> {
        for file in &mut self.commits {
            for counted in file.read()? {
                let (Some(key), Some(value)) = (counted.record.key, counted.record.value) else { continue };
                if let Some((pair, offset)) = commit(key, value)?
                    && let Some(sink) = self.sinks.get_mut(pair)
                {
                    sink.commit(offset);
                }
            }
        }
        for (output, sink) in self.outputs.iter_mut().zip(&mut self.sinks) {
            output.read()?.into_iter().for_each(|number| sink.wrote(number));
        }
        for (topic, sink) in self.topics.iter_mut().zip(&mut self.sinks) {
            lines(topic)?.iter().for_each(|line| sink.line(line.offset, line.number));
        }
        for (pair, sink) in self.sinks.iter_mut().enumerate() {
            self.wrong.extend(sink.check(pair));
        }
        ensure!(self.wrong.len() < 100, "commits are ahead of the files:\n{}", self.wrong.join("\n"));
        Ok(())
    }

    fn end(self) -> Seen {
        Seen { commits: self.sinks.iter().map(|sink| sink.commits).sum(), wrong: self.wrong }
    }
}

/// The pair and the offset, where the record is a sink's commit.
fn commit(mut key: bytes::Bytes, mut value: bytes::Bytes) -> Result<Option<(usize, i64)>> {
    // Others are the groups themselves.
    if !matches!(key.get_i16(), 0 | 1) {
        return Ok(None);
    }
    let key = OffsetCommitKey::decode(&mut key, 0)?;
    let version = value.get_i16();
    let value = OffsetCommitValue::decode(&mut value, version)?;
    let pair = key.group.strip_prefix("connect-sink-").and_then(|pair| pair.parse().ok());
    Ok(pair.map(|pair| (pair, value.offset)))
}
