//! Files that are opened when they are needed, of which only so many stay open.
//!
//! A node has several files for each partition and most of them rest; descriptors are scarce, and the limit on them is
//! the whole process's. So is this list: the files used longest ago are closed, by the clock algorithm.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use crate::Error;
use crate::error::IoContext;

static OPEN_FILES: OpenFiles = OpenFiles::new(4096);

/// How many files of logs stay open while nobody uses them, in this process.
pub fn keep_open_at_most(files: usize) {
    OPEN_FILES.capacity.store(files.max(16), Ordering::Relaxed);
}

/// One file, open or not. Who has got its handle keeps it, whatever becomes of the file here.
#[derive(Debug)]
pub(crate) struct LazyFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Used since the list last looked.
    used: AtomicBool,
    listed: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct State {
    path: Arc<Path>,
    file: Option<Arc<File>>,
}

impl LazyFile {
    pub(crate) fn new(path: Arc<Path>) -> Self {
        let (used, listed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { state: Mutex::new(State { path, file: None }), used, listed }) }
    }

    /// The file, for reading and writing.
    pub(crate) fn get(&self) -> Result<Arc<File>, Error> {
        let mut state = self.inner.state.lock();
        self.inner.used.store(true, Ordering::Relaxed);
        if let Some(file) = &state.file {
            return Ok(file.clone());
        }
        let file = OpenOptions::new().read(true).write(true).open(&state.path).at("open", &state.path)?;
        let file = Arc::new(file);
        state.file = Some(file.clone());
        drop(state);
        OPEN_FILES.add(&self.inner);
        Ok(file)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> Arc<Path> {
        self.inner.state.lock().path.clone()
    }

    /// Follows the file to a new name.
    pub(crate) fn renamed(&self, path: Arc<Path>) {
        self.hold().renamed(path);
    }

    /// Has everybody who needs the file wait, while it is renamed.
    pub(crate) fn hold(&self) -> HeldFile<'_> {
        HeldFile(self.inner.state.lock())
    }

    /// Closes the file until it is needed again.
    pub(crate) fn rest(&self) {
        self.inner.state.lock().file = None;
    }
}

/// A file that nobody opens or closes meanwhile.
pub(crate) struct HeldFile<'a>(MutexGuard<'a, State>);

impl HeldFile<'_> {
    /// Follows the file to a new name.
    pub(crate) fn renamed(&mut self, path: Arc<Path>) {
        self.0.path = path;
    }
}

/// The files that are open, in the order in which they were opened or last passed over.
struct OpenFiles {
    capacity: AtomicUsize,
    list: Mutex<VecDeque<Weak<Inner>>>,
}

impl OpenFiles {
    const fn new(capacity: usize) -> Self {
        Self { capacity: AtomicUsize::new(capacity), list: Mutex::new(VecDeque::new()) }
    }

    fn add(&self, inner: &Arc<Inner>) {
        if inner.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut list = self.list.lock();
        list.push_back(Arc::downgrade(inner));
        let capacity = self.capacity.load(Ordering::Relaxed);
        // Each file is passed over at most once, as passing over takes its mark away.
        let mut passes = 2 * list.len();
        while list.len() > capacity && passes > 0 {
            passes -= 1;
            let Some(oldest) = list.pop_front() else { return };
            let Some(inner) = oldest.upgrade() else { continue };
            if inner.used.swap(false, Ordering::Relaxed) {
                list.push_back(oldest);
                continue;
            }
            inner.listed.store(false, Ordering::Release);
            let closed = inner.state.lock().file.take();
            drop(closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use super::*;

    fn is_open(file: &LazyFile) -> bool {
        file.inner.state.lock().file.is_some()
    }

    #[test]
    fn the_files_used_longest_ago_are_closed_and_open_again_where_they_are_now() {
        let dir = tempfile::tempdir().unwrap();
        let pool = OpenFiles::new(3);
        let files: Vec<LazyFile> = (0..6)
            .map(|n| {
                let path = dir.path().join(n.to_string());
                std::fs::write(&path, n.to_string()).unwrap();
                LazyFile::new(PathBuf::into_boxed_path(path).into())
            })
            .collect();
        let open = |file: &LazyFile| {
            let mut text = String::new();
            let mut handle = &*file.get().unwrap();
            std::io::Seek::rewind(&mut handle).unwrap();
            handle.read_to_string(&mut text).unwrap();
            pool.add(&file.inner);
            text
        };
        for (n, file) in files.iter().enumerate() {
            // The list of the process has it already; this one is to have it, too.
            let _ = file.get().unwrap();
            file.inner.listed.store(false, Ordering::Release);
            assert_eq!(open(file), n.to_string());
        }
        assert_eq!(files.iter().filter(|file| is_open(file)).count(), 3);
        let closed = files.iter().position(|file| !is_open(file)).unwrap();
        let moved = dir.path().join("moved");
        std::fs::rename(files[closed].path(), &moved).unwrap();
        files[closed].renamed(moved.into_boxed_path().into());
        assert_eq!(open(&files[closed]), closed.to_string());
        files[closed].rest();
        assert!(!is_open(&files[closed]));
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let file = LazyFile::new(Path::new("/nonexistent/00.log").into());
        assert!(file.get().unwrap_err().to_string().contains("/nonexistent/00.log"));
    }
}
