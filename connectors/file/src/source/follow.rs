//! Reads a file that grows, and notices when it is cut or replaced.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Read at a time: big enough that system calls do not matter, small enough for the caches.
const CHUNK: usize = 256 * 1024;
/// No line is longer; without a bound, a file without line ends would fill the memory.
pub const LONGEST_LINE: usize = 64 * 1024 * 1024;
/// How long a replaced file must stay quiet before its successor is read: who writes it may still hold it open.
const GRACE: Duration = Duration::from_secs(2);

/// What one look at the file gave.
#[derive(Debug)]
pub enum Look {
    /// There is no file of this name.
    Missing,
    /// Nothing new.
    Quiet,
    /// The unfinished line and what follows it.
    Read(Vec<u8>),
    /// Reading starts again at the first byte, for this reason.
    StartedAgain(Cause),
    /// The path names something that is not a regular file.
    NotRegular,
    /// A line of more than [`LONGEST_LINE`] bytes.
    LineTooLong,
}

/// Why reading starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The file is shorter than what has been read of it.
    Truncated { length: u64 },
    /// The path names another file now.
    Replaced,
}

/// A file and how far it has been read.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<Open>,
    /// Bytes of the file that have been read, or are to be skipped.
    read: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: (u64, u64),
    /// Since when the path names another file and this one is quiet.
    replaced_since: Option<Instant>,
}

impl Follower {
    /// Follows `path` from byte `position`.
    pub fn new(path: impl Into<PathBuf>, position: u64) -> Self {
        Self { path: path.into(), open: None, read: position }
    }

    /// Reads on. `unfinished` is the part of a line that was read already; it starts the bytes that are given.
    pub fn look(&mut self, unfinished: &Bytes) -> io::Result<Look> {
        let Some(open) = &mut self.open else { return self.open() };
        let metadata = open.file.metadata()?;
        if metadata.len() < self.read {
            self.start_again()?;
            return Ok(Look::StartedAgain(Cause::Truncated { length: metadata.len() }));
        }
        if metadata.len() == self.read {
            return self.quiet();
        }
        open.replaced_since = None;
        if unfinished.len() > LONGEST_LINE {
            return Ok(Look::LineTooLong);
        }
        let wanted = usize::try_from(metadata.len() - self.read).unwrap_or(CHUNK).min(CHUNK);
        let mut bytes = Vec::with_capacity(unfinished.len() + wanted);
        bytes.extend_from_slice(unfinished);
        let got = (&mut open.file).take(wanted as u64).read_to_end(&mut bytes)?;
        self.read += got as u64;
        Ok(if got == 0 { Look::Quiet } else { Look::Read(bytes) })
    }

    fn open(&mut self) -> io::Result<Look> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Look::Missing),
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Look::NotRegular);
        }
        let mut look = Look::Quiet;
        if metadata.len() < self.read {
            self.read = 0;
            look = Look::StartedAgain(Cause::Truncated { length: metadata.len() });
        }
        file.seek(SeekFrom::Start(self.read))?;
        self.open = Some(Open { file, identity: identity(&metadata), replaced_since: None });
        match look {
            // Go on at once: the first poll should give lines.
            Look::Quiet => self.look(&Bytes::new()),
            look => Ok(look),
        }
    }

    /// At the end of the file: has another taken its place?
    fn quiet(&mut self) -> io::Result<Look> {
        let Some(open) = &mut self.open else { return Ok(Look::Quiet) };
        let now_there = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            // Moved away and not made again: its new name may still be written to.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Look::Quiet),
            Err(e) => return Err(e),
        };
        if identity(&now_there) == open.identity {
            open.replaced_since = None;
            return Ok(Look::Quiet);
        }
        let since = *open.replaced_since.get_or_insert_with(Instant::now);
        if since.elapsed() < GRACE {
            return Ok(Look::Quiet);
        }
        self.open = None;
        self.read = 0;
        Ok(Look::StartedAgain(Cause::Replaced))
    }

    fn start_again(&mut self) -> io::Result<()> {
        self.read = 0;
        match &mut self.open {
            Some(open) => open.file.seek(SeekFrom::Start(0)).map(drop),
            None => Ok(()),
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
