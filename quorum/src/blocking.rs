//! Work that blocks, off the threads of the tasks.
//!
//! Everything of a node that waits for a disk goes through [`spawn`]. A process that simulates nodes calls [`run_inline`]
//! first: then such work is done where it is asked for, so that the order of what happens depends on nothing but the
//! order of the tasks.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Sleep;

/// How long the disk takes for a piece of work, in a process that simulates.
type Delay = Box<dyn Fn() -> Duration + Send + Sync>;

static INLINE: OnceLock<Delay> = OnceLock::new();

/// From now on blocking work is done at once, on the thread that asks for it; its result comes after `delay`. For
/// processes that simulate: it cannot be taken back.
pub fn run_inline(delay: impl Fn() -> Duration + Send + Sync + 'static) {
    let _ = INLINE.set(Box::new(delay));
}

/// Whether there are no threads for such work.
pub fn is_inline() -> bool {
    INLINE.get().is_some()
}

/// Does work that blocks; resolves to its result. Dropping the future does not end the work.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    let Some(delay) = INLINE.get() else { return Blocking::Thread(tokio::task::spawn_blocking(work)) };
    let (delay, result) = (delay(), work());
    let sleep = (!delay.is_zero()).then(|| Box::pin(tokio::time::sleep(delay)));
    Blocking::Inline(sleep, Some(result))
}

/// The result of blocking work, when it is done.
#[derive(Debug)]
pub enum Blocking<T> {
    Thread(JoinHandle<T>),
    Inline(Option<Pin<Box<Sleep>>>, Option<T>),
}

impl<T> Unpin for Blocking<T> {}

impl<T> Future for Blocking<T> {
    /// An error where the work has panicked, or the runtime ends.
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Thread(handle) => Pin::new(handle).poll(cx),
            Self::Inline(sleep, result) => {
                if let Some(sleep) = sleep {
                    ready!(sleep.as_mut().poll(cx));
                }
                Poll::Ready(Ok(result.take().expect("a future that is done is not polled again")))
            }
        }
    }
}
