//! Answers onto a socket: bytes from memory, slices of files by `sendfile`.

use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use aqueduct_protocol::fetch_plan::Chunk;
use bytes::{Buf, Bytes};
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use aqueduct_storage::{Fault, Slice, fault_of};

/// Writes all of `bytes`; `more` tells the kernel that more follows at once, so that it fills its packets.
pub(crate) async fn bytes(stream: &TcpStream, mut bytes: Bytes, more: bool) -> io::Result<()> {
    let flags = flags(more);
    while !bytes.is_empty() {
        let sent = write(stream, || Ok(rustix::net::send(stream, &bytes, flags)?)).await?;
        bytes.advance(sent);
    }
    Ok(())
}

/// Writes the pieces of one answer in order; returns how many bytes of them came from files.
pub(crate) async fn chunks(stream: &TcpStream, chunks: Vec<Chunk<Slice>>) -> io::Result<usize> {
    let mut from_files = 0;
    let mut inline: Vec<Bytes> = Vec::new();
    for chunk in chunks {
        match chunk {
            Chunk::Inline(bytes) => inline.push(bytes),
            Chunk::File(range) => {
                gathered(stream, &mut inline, true).await?;
                from_files += range.len;
                file(stream, range).await?;
            }
        }
    }
    gathered(stream, &mut inline, false).await?;
    Ok(from_files)
}

/// Writes buffers with as few calls as it takes.
async fn gathered(stream: &TcpStream, buffers: &mut Vec<Bytes>, more: bool) -> io::Result<()> {
    const AT_ONCE: usize = 64;
    let mut next = 0;
    while next < buffers.len() {
        let last = buffers.len().min(next + AT_ONCE);
        let more = more || last < buffers.len();
        let mut sent = write(stream, || {
            let slices: Vec<IoSlice<'_>> =
                buffers[next..last].iter().map(|bytes| IoSlice::new(bytes)).collect();
            let mut ancillary = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(stream, &slices, &mut ancillary, flags(more))?)
        })
        .await?;
        while next < buffers.len() && sent >= buffers[next].len() {
            sent -= buffers[next].len();
            next += 1;
        }
        if sent > 0 {
            buffers[next].advance(sent);
        }
    }
    buffers.clear();
    Ok(())
}

/// Sends a slice of a file without taking it through this process.
async fn file(stream: &TcpStream, range: Slice) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    transfer(stream, &range).await.map_err(|error| named(&range, error))
}

/// Says which file failed, where it is one that did.
fn named(range: &Slice, error: io::Error) -> io::Error {
    match fault_of(&error) {
        Fault::Directory => io::Error::new(error.kind(), FileFailed::new(range, error)),
        _ => error,
    }
}

/// A log file could not be read while it was sent.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct FileFailed {
    pub path: PathBuf,
    source: io::Error,
}

impl FileFailed {
    fn new(range: &Slice, source: io::Error) -> Self {
        // Slices carry no names: this is looked up only once something is wrong.
        let descriptor = range.file().map_or(-1, |file| file.as_raw_fd());
        let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap_or_default();
        Self { path, source }
    }

    /// The failure inside of an error of [`chunks`].
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The operating system's error.
    pub fn cause(&self) -> io::Error {
        match self.source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(self.source.to_string()),
        }
    }
}

async fn transfer(stream: &TcpStream, range: &Slice) -> io::Result<()> {
    let was_read = warm(range).await?;
    let (mut at, mut left) = (range.position, range.len);
    while left > 0 {
        let sent =
            write(stream, || Ok(rustix::fs::sendfile(stream, range.file()?.as_fd(), Some(&mut at), left)?))
                .await?;
        if sent == 0 {
            // The answer's size is on the wire already: only closing is left.
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "log file is shorter than it was"));
        }
        left -= sent;
    }
    if was_read && range.read_once {
        /// What was read ahead the time before, and sent since then.
        const AGAIN: u64 = 2 * AHEAD as u64;
        let from = range.position.saturating_sub(AGAIN);
        advise(range, from, end(range) - from, Advice::DontNeed)?;
    }
    Ok(())
}

/// Brings a range into the page cache on a thread that may block, where it is not there already: `sendfile` would keep
/// this thread, and every connection on it, waiting for the disk. Tells whether the disk is read, for the range or for what
/// follows it.
async fn warm(range: &Slice) -> io::Result<bool> {
    if range.len == 0 {
        return Ok(false);
    }
    let last = end(range) - 1;
    // Who reads much at once goes on where this ends.
    let reads_on = range.len >= READ_AT_ONCE && !is_cached(range, last + range.len as u64)?;
    if reads_on {
        let range = range.clone();
        aqueduct_quorum::blocking::spawn(move || read_ahead(&range, end(&range), AHEAD.max(range.len)));
    }
    let mut places = (range.position..last).step_by(READ_AT_ONCE).chain([last]);
    if places.try_fold(true, |so_far, at| Ok::<_, io::Error>(so_far && is_cached(range, at)?))? {
        return Ok(reads_on);
    }
    let range = range.clone();
    let touched = aqueduct_quorum::blocking::spawn(move || -> io::Result<bool> {
        let mut page = [0u8; 1];
        let (first, end) = (range.position, end(&range));
        read_ahead(&range, first, range.len)?;
        for at in (first..end).step_by(64 << 10) {
            rustix::io::pread(range.file()?.as_fd(), &mut page, at)?;
        }
        Ok(true)
    });
    touched.await.map_err(|_| io::Error::other("the node is shutting down"))?
}

/// As far as the kernel reads ahead by default, and with one piece of advice; what lies between two such steps comes and goes
/// together, more or less.
const READ_AT_ONCE: usize = 128 << 10;
/// What is read while a range is on its way to the client.
const AHEAD: usize = 4 << 20;

/// Has the kernel read a part of the range's file, without waiting for it.
fn read_ahead(range: &Slice, from: u64, length: usize) -> io::Result<()> {
    let end = from + length as u64;
    let mut parts = (from..end).step_by(READ_AT_ONCE);
    parts.try_for_each(|at| advise(range, at, end.min(at + READ_AT_ONCE as u64) - at, Advice::WillNeed))
}

fn advise(range: &Slice, from: u64, length: u64, advice: Advice) -> io::Result<()> {
    Ok(rustix::fs::fadvise(range.file()?.as_fd(), from, NonZeroU64::new(length), advice)?)
}

/// As the call that warms, for those who read the range themselves.
pub(super) async fn warmed(range: &Slice) -> io::Result<()> {
    warm(range).await.map(drop).map_err(|error| named(range, error))
}

/// Reads into `buffer`, as much as one call gives but never nothing.
pub(super) fn read_at(range: &Slice, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let read = range.file().and_then(|file| Ok(rustix::io::pread(file.as_fd(), buffer, at)?));
    match read {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "log file is shorter than it was")),
        read => read.map_err(|error| named(range, error)),
    }
}

fn end(range: &Slice) -> u64 {
    range.position + range.len as u64
}

fn is_cached(range: &Slice, at: u64) -> io::Result<bool> {
    let mut page = [0u8; 1];
    let mut buffers = [io::IoSliceMut::new(&mut page)];
    match rustix::io::preadv2(range.file()?.as_fd(), &mut buffers, at, ReadWriteFlags::NOWAIT) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        // Not every file system can tell.
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn flags(more: bool) -> SendFlags {
    if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL }
}

async fn write(stream: &TcpStream, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match stream.try_io(Interest::WRITABLE, &mut call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        let range = |position, len| {
            let base_offset = aqueduct_protocol::ids::Offset(0);
            Chunk::File(Slice::new(file.clone(), position, len, base_offset))
        };
        let pieces = vec![
            Chunk::Inline(Bytes::from_static(b"head")),
            range(5, 2_000_000),
            Chunk::Inline(Bytes::from_static(b"middle")),
            Chunk::Inline(Bytes::from_static(b"!")),
            range(0, 0),
            range(1, 3),
            Chunk::Inline(Bytes::from_static(b"tail")),
        ];
        let mut expected = b"head".to_vec();
        expected.extend(&content[5..2_000_005]);
        expected.extend(b"middle!\x01\x02\x03tail");
        let sender = tokio::spawn(async move {
            chunks(&stream, pieces).await.unwrap();
            bytes(&stream, Bytes::from(vec![7u8; 500_000]), false).await.unwrap();
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        sender.await.unwrap();
        assert_eq!(received.len(), expected.len() + 500_000);
        assert!(received[..expected.len()] == expected[..]);
    }

    /// Sends the first part of a file a MiB at a time, as a follower fetches it, and tells whether that is in memory then.
    async fn is_cached_after(content: &[u8], is_cold_before: bool) -> bool {
        const SENT: usize = 12 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(content).unwrap();
        file.sync_all().unwrap();
        let slice = |position, len| {
            let mut slice = Slice::new(
                Arc::new(file.try_clone().unwrap()),
                position,
                len,
                aqueduct_protocol::ids::Offset(0),
            );
            slice.read_once = true;
            slice
        };
        if is_cold_before {
            advise(&slice(0, 1), 0, content.len() as u64, Advice::DontNeed).unwrap();
        }
        let mut received = vec![0; 1 << 20];
        for at in (0..SENT).step_by(received.len()) {
            let piece = vec![Chunk::File(slice(at as u64, received.len()))];
            let (sent, read) = tokio::join!(chunks(&stream, piece), client.read_exact(&mut received));
            assert_eq!((sent.unwrap(), read.unwrap()), (1 << 20, 1 << 20));
            assert!(received == content[at..at + received.len()]);
        }
        is_cached(&slice(0, 1), 1 << 19).unwrap()
    }

    #[tokio::test]
    async fn what_is_copied_leaves_the_page_cache_if_it_was_not_there_before() {
        let content: Vec<u8> = (0..48 << 20).map(|i: u32| (i >> 10) as u8).collect();
        assert!(is_cached_after(&content, false).await, "others may read it");
        let mut probe = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        probe.write_all(&content[..1 << 20]).unwrap();
        probe.sync_all().unwrap();
        let probe = Slice::new(Arc::new(probe), 0, 1 << 20, aqueduct_protocol::ids::Offset(0));
        advise(&probe, 0, 1 << 20, Advice::DontNeed).unwrap();
        // On some file systems nothing ever leaves it.
        let forgets = !is_cached(&probe, 1 << 19).unwrap();
        assert_eq!(is_cached_after(&content, true).await, !forgets);
    }
}
