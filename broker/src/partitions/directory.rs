//! One log directory as the node sees it: in use, full, or failed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aqueduct_storage::{Error, Fault};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Between two lines in the log that say the same.
const REPEAT: Duration = Duration::from_secs(10);

/// The health of a directory, shared with every partition in it.
#[derive(Debug)]
pub(crate) struct Health {
    path: PathBuf,
    failed: AtomicBool,
    reason: Mutex<Option<String>>,
    full: AtomicBool,
    said: Mutex<Option<Instant>>,
    /// Told when a directory fails.
    news: Arc<Notify>,
}

impl Health {
    pub fn new(path: &Path, news: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            failed: AtomicBool::new(false),
            reason: Mutex::default(),
            full: AtomicBool::new(false),
            said: Mutex::default(),
            news,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing in the directory may be used any more.
    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Takes the directory out of service, until the next start.
    pub fn fail(&self, reason: &str) {
        let mut known = self.reason.lock();
        if known.is_some() {
            return;
        }
        *known = Some(reason.to_owned());
        self.failed.store(true, Ordering::Release);
        tracing::error!(path = %self.path.display(), reason,
            "log directory has failed: its partitions are offline until the node starts anew with the directory in order");
        self.news.notify_one();
    }

    /// Draws the consequences of a failure in the directory. `probe` tells whether the directory still works.
    pub fn judge(&self, error: &Error, probe: impl FnOnce() -> Result<(), Error>) {
        match error.fault() {
            Fault::None => {}
            Fault::Space => {
                self.full.store(true, Ordering::Release);
                let mut said = self.said.lock();
                if said.is_none_or(|at| at.elapsed() > REPEAT) {
                    *said = Some(Instant::now());
                    tracing::error!(path = %self.path.display(), %error,
                        "no space is left: writes are refused until there is; free space, or lower retention");
                }
            }
            Fault::Directory => self.fail(&error.to_string()),
            Fault::Unclear => {
                if let Err(probed) = probe()
                    && !matches!(probed.fault(), Fault::None | Fault::Space)
                {
                    self.fail(&error.to_string());
                }
            }
        }
    }

    /// Takes note of a write that went well.
    pub fn wrote(&self) {
        if self.full.load(Ordering::Relaxed) && self.full.swap(false, Ordering::AcqRel) {
            *self.said.lock() = None;
            tracing::info!(path = %self.path.display(), "there is space again: writes are accepted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(action: &'static str, code: i32) -> Error {
        Error::Io { action, path: "/d/t-0/0.log".into(), source: std::io::Error::from_raw_os_error(code) }
    }

    fn failed_after(error: &Error, probe: Result<(), Error>) -> bool {
        let health = Health::new(Path::new("/d"), Arc::default());
        health.judge(error, || probe);
        health.is_failed()
    }

    #[test]
    fn only_what_the_disk_is_to_blame_for_takes_it_out_of_service() {
        let (eio, enospc, erofs, emfile, enoent) = (5, 28, 30, 24, 2);
        assert!(failed_after(&error("append to", eio), Ok(())));
        assert!(failed_after(&error("append to", erofs), Ok(())));
        assert!(failed_after(&error("sync", enospc), Ok(())), "what a failed sync lost is unknown");
        assert!(!failed_after(&error("append to", enospc), Ok(())));
        assert!(!failed_after(&error("open", emfile), Ok(())));
        assert!(!failed_after(&error("open", enoent), Ok(())), "one file is missing");
        assert!(failed_after(&error("open", enoent), Err(error("list", enoent))), "so is the directory");
    }
}
