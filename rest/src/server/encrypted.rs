//! A listener whose connections come out of it after their TLS handshake. Handshakes run beside each other, so that a slow
//! peer holds up nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ServerTls;

/// Handshakes under way at once; more peers wait in the listener's backlog.
const MAX_HANDSHAKES: usize = 256;
/// How long a handshake may take.
const LIMIT: Duration = Duration::from_secs(30);

type Connection = (TlsStream<TcpStream>, SocketAddr);

pub struct Encrypted {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<ServerTls>,
    handshakes: JoinSet<Option<Connection>>,
}

impl Encrypted {
    pub fn new(listener: TcpListener, address: SocketAddr, tls: Arc<ServerTls>) -> Self {
        Self { listener, address, tls, handshakes: JoinSet::new() }
    }

    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let tls = self.tls.clone();
        self.handshakes.spawn(async move {
            // Changed files are read here: that blocks.
            let config = tokio::task::spawn_blocking(move || tls.current()).await.ok()?;
            match tokio::time::timeout(LIMIT, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => Some((stream, peer)),
                Ok(Err(error)) => {
                    tracing::debug!(client = %peer, %error, "TLS handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!(client = %peer, "TLS handshake took too long");
                    None
                }
            }
        });
    }
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.listener.accept(), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer),
                    Err(error) => {
                        // Out of file descriptors, most likely: trying again at once would only spin.
                        tracing::warn!(%error, "connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}
