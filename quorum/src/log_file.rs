//! The log on disk, and the vote.
//!
//! ```text
//! log:   "AQQLOG01" | crc32c u32 | what was purged | { length u32 | crc32c of length | crc32c of entries | entries... }*
//! vote:  "AQQVOT01" | crc32c u32 | vote
//! ```
//! One block is one append, synced before anything else is written: only the last one can be torn, and it is cut off. Any
//! other block that does not add up is damage. Purging and truncating put a new file in place of the old one.
//!
//! Entries stay on disk; in memory is where each of them is.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::{get_entry, get_opt_log_id, get_vote, put_entry, put_opt_log_id, put_vote};
use crate::disk::{Disk, FileKind};
use crate::error::StartError;
use crate::identity::{seal, unseal};
use crate::types::{Entry, LogId, Vote};

const LOG_MAGIC: &[u8; 8] = b"AQQLOG01";
const VOTE_MAGIC: &[u8; 8] = b"AQQVOT01";
/// Magic, checksum, and the id of the last purged entry.
const HEAD_BYTES: usize = 8 + 4 + 17;
const BLOCK_HEAD_BYTES: usize = 12;
/// Entries are read in batches of about this size.
const READ_BYTES: usize = 4 << 20;

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    id: LogId,
    at: u64,
    length: usize,
}

/// The log of one node.
pub(crate) struct LogFile {
    disk: Arc<dyn Disk>,
    purged: Option<LogId>,
    slots: VecDeque<Slot>,
    /// Where the next block goes.
    end: u64,
    vote: Option<Vote>,
    /// Set by the first write that failed: what is on disk is not known any more.
    broken: Option<String>,
}

impl LogFile {
    /// Opens what is there, or begins anew.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        let io = |file: FileKind| move |source| StartError::Io { place: file.name().into(), source };
        let vote = match disk.read(FileKind::Vote).map_err(io(FileKind::Vote))? {
            None => None,
            Some(content) => {
                let vote = unseal(VOTE_MAGIC, content).and_then(|mut body| get_vote(&mut body));
                Some(vote.ok_or_else(|| damaged(FileKind::Vote, 0, "it is not what was written"))?)
            }
        };
        let mut log = Self { disk, purged: None, slots: VecDeque::new(), end: 0, vote, broken: None };
        match log.disk.read(FileKind::Log).map_err(io(FileKind::Log))? {
            Some(content) => log.recover(&content)?,
            None => {
                let head = head(None);
                log.disk.replace(FileKind::Log, &head).map_err(io(FileKind::Log))?;
                log.end = head.len() as u64;
            }
        }
        Ok(log)
    }

    fn recover(&mut self, content: &Bytes) -> Result<(), StartError> {
        let damaged = |at: usize, why: &str| damaged(FileKind::Log, at as u64, why);
        let first = content.slice(..content.len().min(HEAD_BYTES));
        let mut body =
            unseal(LOG_MAGIC, first).ok_or_else(|| damaged(0, "its head is not what was written"))?;
        self.purged = get_opt_log_id(&mut body).ok_or_else(|| damaged(12, "its head cannot be read"))?;
        let mut at = HEAD_BYTES;
        while let Some(block) = read_block(content, at).map_err(|why| damaged(at, why))? {
            let mut entries = block.clone();
            while entries.has_remaining() {
                let start = at + BLOCK_HEAD_BYTES + (block.len() - entries.len());
                let before = entries.len();
                let entry =
                    get_entry(&mut entries).ok_or_else(|| damaged(start, "an entry cannot be read"))?;
                if self.next_index().is_some_and(|next| next != entry.log_id.index) {
                    return Err(damaged(start, "an entry is missing"));
                }
                let length = before - entries.len();
                self.slots.push_back(Slot { id: entry.log_id, at: start as u64, length });
            }
            at += BLOCK_HEAD_BYTES + block.len();
        }
        if at < content.len() {
            tracing::warn!(bytes = content.len() - at, "the log of the quorum ends in a torn write, cut off");
            let cut = self.disk.cut(FileKind::Log, at as u64);
            cut.map_err(|source| StartError::Io { place: FileKind::Log.name().into(), source })?;
        }
        self.end = at as u64;
        Ok(())
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        self.vote
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }

    fn next_index(&self) -> Option<u64> {
        self.last().map(|id| id.index + 1)
    }

    /// Keeps a vote; it is on disk when this returns.
    pub(crate) fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let mut body = BytesMut::new();
        put_vote(&mut body, vote);
        self.write(|disk| disk.replace(FileKind::Vote, &seal(VOTE_MAGIC, &body)))?;
        self.vote = Some(*vote);
        Ok(())
    }

    /// Adds entries that follow on the last one; they are on disk when this returns.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut expected = self.next_index();
        let (mut body, mut slots) = (BytesMut::new(), Vec::with_capacity(entries.len()));
        for entry in entries {
            if expected.is_some_and(|expected| expected != entry.log_id.index) {
                return Err(io::Error::other(format!("entry {} leaves a hole in the log", entry.log_id)));
            }
            expected = Some(entry.log_id.index + 1);
            let start = body.len();
            put_entry(&mut body, entry);
            let at = self.end + (BLOCK_HEAD_BYTES + start) as u64;
            slots.push(Slot { id: entry.log_id, at, length: body.len() - start });
        }
        let block = block(&body);
        let at = self.end;
        self.write(|disk| disk.append(FileKind::Log, at, &block))?;
        self.end += block.len() as u64;
        self.slots.extend(slots);
        Ok(())
    }

    /// Removes the entries from an index on.
    pub(crate) fn truncate(&mut self, from: u64) -> io::Result<()> {
        let keep = self.slots.partition_point(|slot| slot.id.index < from);
        if keep == self.slots.len() {
            return Ok(());
        }
        self.rewrite(self.purged, 0, keep)
    }

    /// Removes the entries up to and with an id, which a snapshot has.
    pub(crate) fn purge(&mut self, upto: LogId) -> io::Result<()> {
        if self.purged >= Some(upto) {
            return Ok(());
        }
        let drop = self.slots.partition_point(|slot| slot.id.index <= upto.index);
        self.rewrite(Some(upto), drop, self.slots.len())
    }

    /// Puts a file with the entries of these slots in place of the one that is there.
    fn rewrite(&mut self, purged: Option<LogId>, from: usize, to: usize) -> io::Result<()> {
        let mut content = BytesMut::from(&head(purged)[..]);
        let mut slots = VecDeque::new();
        let mut body = BytesMut::new();
        for slot in self.slots.range(from..to) {
            let bytes = self.disk.read_at(FileKind::Log, slot.at, slot.length)?;
            let at = (content.len() + BLOCK_HEAD_BYTES + body.len()) as u64;
            slots.push_back(Slot { at, ..*slot });
            body.put_slice(&bytes);
        }
        if !body.is_empty() {
            content.unsplit(block(&body));
        }
        self.write(|disk| disk.replace(FileKind::Log, &content))?;
        (self.purged, self.slots, self.end) = (purged, slots, content.len() as u64);
        Ok(())
    }

    /// Entries of a range, as many as are there, and not many more than fit into one message.
    pub(crate) fn read(&self, from: u64, to: u64, limited: bool) -> io::Result<Vec<Entry>> {
        let start = self.slots.partition_point(|slot| slot.id.index < from);
        let mut found = Vec::new();
        let mut size = 0;
        for slot in self.slots.range(start..).take_while(|slot| slot.id.index < to) {
            size += slot.length;
            if limited && size > READ_BYTES && !found.is_empty() {
                break;
            }
            let mut bytes = self.disk.read_at(FileKind::Log, slot.at, slot.length)?;
            let entry = get_entry(&mut bytes).filter(|entry| entry.log_id == slot.id);
            found.push(
                entry.ok_or_else(|| io::Error::other(format!("entry {} cannot be read back", slot.id)))?,
            );
        }
        Ok(found)
    }

    fn write(&mut self, act: impl FnOnce(&dyn Disk) -> io::Result<()>) -> io::Result<()> {
        if let Some(why) = &self.broken {
            return Err(io::Error::other(format!("an earlier write failed: {why}")));
        }
        act(&*self.disk).inspect_err(|error| self.broken = Some(error.to_string()))
    }
}

fn damaged(file: FileKind, at: u64, why: &str) -> StartError {
    StartError::Damaged { file: file.name(), at, why: why.to_owned() }
}

fn head(purged: Option<LogId>) -> Bytes {
    let mut body = BytesMut::new();
    put_opt_log_id(&mut body, purged);
    seal(LOG_MAGIC, &body)
}

fn block(body: &[u8]) -> BytesMut {
    let length = (body.len() as u32).to_be_bytes();
    let mut out = BytesMut::with_capacity(body.len() + BLOCK_HEAD_BYTES);
    out.put_slice(&length);
    out.put_u32(crc32c::crc32c(&length));
    out.put_u32(crc32c::crc32c(body));
    out.put_slice(body);
    out
}

/// The block at a position; `None` at the end, and where a torn write begins.
fn read_block(content: &Bytes, at: usize) -> Result<Option<Bytes>, &'static str> {
    let mut rest = content.slice(at..);
    if rest.len() < BLOCK_HEAD_BYTES {
        return Ok(None);
    }
    let length = rest.get_u32();
    let (head_crc, crc) = (rest.get_u32(), rest.get_u32());
    if rest.iter().all(|byte| *byte == 0) {
        // The file grew, but this part of it never came to the disk: no block has a body of zeros.
        return Ok(None);
    }
    if head_crc != crc32c::crc32c(&length.to_be_bytes()) {
        return Err("the head of a block is not what was written");
    }
    let length = length as usize;
    if length > rest.len() {
        return Ok(None);
    }
    let is_last = length == rest.len();
    let body = rest.split_to(length);
    match crc32c::crc32c(&body) == crc {
        true => Ok(Some(body)),
        false if is_last => Ok(None),
        false => Err("a block is not what was written"),
    }
}

#[cfg(test)]
#[path = "log_file_tests.rs"]
mod tests;
