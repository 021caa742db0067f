//! TLS of listeners and of the client between workers, read again when a file of keys or certificates changes.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aqueduct_connect_worker::ConfigMap;
use aqueduct_security::Error;
use aqueduct_security::tls::TlsOptions;

/// Between two looks for changed files.
const FILE_CHECK: Duration = Duration::from_secs(1);

type Stamp = Option<(SystemTime, u64)>;

/// What is made of `ssl.*` settings and their files, as the files are now.
pub struct Reloading<T> {
    options: TlsOptions,
    make: fn(&TlsOptions) -> Result<T, Error>,
    now: Mutex<Now<T>>,
}

struct Now<T> {
    made: T,
    stamps: Vec<(PathBuf, Stamp)>,
    looked: Instant,
}

impl<T: Clone> Reloading<T> {
    /// Reads settings without their prefix, and their files: blocks.
    ///
    /// # Errors
    /// Settings and files that cannot be used.
    pub fn read(settings: &ConfigMap, make: fn(&TlsOptions) -> Result<T, Error>) -> Result<Self, Error> {
        let options = TlsOptions::read(&|key| settings.get(key).cloned())?;
        // Taken before the files are read, so that a change in between is seen as one.
        let stamps = stamps(&options);
        let now = Now { made: make(&options)?, stamps, looked: Instant::now() };
        Ok(Self { options, make, now: Mutex::new(now) })
    }

    /// What there is now. Looks at the files once a second at most; where they cannot be used the last good ones stay.
    pub fn current(&self) -> T {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.looked.elapsed() >= FILE_CHECK {
            now.looked = Instant::now();
            let stamps = stamps(&self.options);
            if stamps != now.stamps {
                match (self.make)(&self.options) {
                    Ok(made) => {
                        now.made = made;
                        tracing::info!("keys and certificates of REST have changed and are in use");
                    }
                    Err(error) => {
                        tracing::error!(%error, "changed keys or certificates of REST cannot be used, the last ones stay");
                    }
                }
                now.stamps = stamps;
            }
        }
        now.made.clone()
    }
}

fn stamps(options: &TlsOptions) -> Vec<(PathBuf, Stamp)> {
    let stamp = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let stamp = metadata.and_then(|found| Some((found.modified().ok()?, found.len())));
        (path, stamp)
    };
    options.files().into_iter().map(stamp).collect()
}
