//! A network in place of the machine's own, for processes that simulate whole nodes.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// One end of a connection.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug> Socket for T {}

/// Where connections arrive.
pub trait Acceptor: Send + Sync + Debug {
    fn address(&self) -> SocketAddr;

    /// The next connection and where it comes from.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, SocketAddr)>>;
}

/// What connects processes.
pub trait Network: Send + Sync {
    /// Connects to `HOST:PORT`.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Socket>>>;

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Acceptor>>;
}

static INJECTED: OnceLock<Arc<dyn Network>> = OnceLock::new();

/// From now on this process has no other network, for clients and for nodes. It cannot be taken back.
pub fn inject(network: Arc<dyn Network>) {
    let _ = INJECTED.set(network);
}

/// The network that was injected, if any.
pub fn injected() -> Option<&'static Arc<dyn Network>> {
    INJECTED.get()
}
