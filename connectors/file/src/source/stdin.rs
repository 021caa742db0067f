//! Standard input of the process.

use std::io::Read;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

const CHUNK: usize = 64 * 1024;

/// Standard input as chunks. There is one reader for the whole process, so that a task that is restarted misses nothing.
pub type Chunks = Arc<Mutex<mpsc::Receiver<Bytes>>>;

/// Gives the process's reader, and starts it when it is asked for first.
///
/// A thread of its own reads, and nobody joins it: a read of standard input cannot be called off, and must not hold up
/// the end of the process.
pub fn chunks() -> Chunks {
    static READER: OnceLock<Chunks> = OnceLock::new();
    let reader = READER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel(4);
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            let mut buffer = vec![0; CHUNK];
            loop {
                match input.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) if sender.blocking_send(Bytes::copy_from_slice(&buffer[..n])).is_ok() => {}
                    Ok(_) => return,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::error!(%error, "standard input cannot be read any more");
                        return;
                    }
                }
            }
        });
        Arc::new(Mutex::new(receiver))
    });
    Arc::clone(reader)
}
