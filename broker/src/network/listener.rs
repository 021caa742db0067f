//! Accepts connections and gives each a task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_client::injected::{self, Acceptor};
use bytestring::ByteString;
use tokio::net::{TcpListener, TcpSocket};

use super::connection;
use super::entrance::{Entrance, Places};
use super::stream::Stream;
use crate::api::Client;
use crate::config::{ConfigError, Listener, LiveSettings, Settings};
use crate::error::Error;
use crate::node::Node;
use crate::security::Principal;

/// Between two looks for changed key stores.
const FILE_CHECK: Duration = Duration::from_secs(1);

/// A listener and its open socket.
#[derive(Debug)]
pub(crate) struct Door {
    pub listener: Listener,
    /// As bound: never with port 0.
    pub address: SocketAddr,
    socket: Socket,
}

/// Where connections come in.
#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Injected(Box<dyn Acceptor>),
}

impl Socket {
    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Injected(acceptor) => Ok(acceptor.address()),
        }
    }

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                Ok((Stream::Plain(stream), address))
            }
            Self::Injected(acceptor) => {
                let (stream, address) = acceptor.accept().await?;
                Ok((Stream::Injected(stream), address))
            }
        }
    }
}

/// Opens the sockets of listeners.
pub(crate) async fn bind(listeners: &[Listener], settings: &Settings) -> Result<Vec<Door>, Error> {
    let mut doors = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let failed = |source| Error::Bind { address: listener.to_string(), source };
        let socket = bind_one(listener, settings).await.map_err(failed)?;
        let address = socket.address().map_err(failed)?;
        doors.push(Door { listener: listener.clone(), address, socket });
    }
    Ok(doors)
}

async fn bind_one(listener: &Listener, settings: &Settings) -> io::Result<Socket> {
    let host = if listener.host.is_empty() { "0.0.0.0" } else { &listener.host };
    if let Some(network) = injected::injected() {
        let ip = host.parse().map_err(|_| io::Error::other("this network has addresses, not names"))?;
        return Ok(Socket::Injected(network.listen(SocketAddr::new(ip, listener.port))?));
    }
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in tokio::net::lookup_host((host, listener.port)).await? {
        match open(address, settings) {
            Ok(listener) => return Ok(Socket::Tcp(listener)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn open(address: SocketAddr, settings: &Settings) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Buffers are inherited by accepted sockets. Left alone, the kernel sizes them by what the connection carries.
    if let Some(size) = settings.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(size) = settings.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    socket.bind(address)?;
    socket.listen(settings.listen_backlog.max(1024))
}

/// Reads what the listeners need, and has it checked when settings are to change.
pub(crate) fn secure(doors: &[Door], live: &LiveSettings) -> Result<Vec<Arc<Entrance>>, ConfigError> {
    let settings = live.current();
    let mut all = Vec::with_capacity(doors.len());
    for door in doors {
        let entrance = Arc::new(Entrance::read(door.listener.clone(), &settings)?);
        live.register(entrance.clone());
        all.push(entrance);
    }
    Ok(all)
}

/// Takes over changed settings and changed files of keys and certificates until the node stops.
pub(crate) async fn watch(all: Vec<Arc<Entrance>>, node: Arc<Node>) {
    let mut settings = node.live.watch();
    let has_tls = all.iter().any(|entrance| entrance.security.listener.protocol.is_tls());
    let mut ticks = tokio::time::interval(FILE_CHECK);
    loop {
        let changed = tokio::select! {
            changed = settings.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            _ = ticks.tick(), if has_tls => false,
            () = node.tasks.stopping() => return,
        };
        let (now, all) = (settings.borrow_and_update().clone(), all.clone());
        let read = aqueduct_quorum::blocking::spawn(move || {
            for entrance in all {
                if changed {
                    entrance.refresh(&now);
                } else if entrance.security.files_changed() {
                    entrance.security.refresh(&now);
                }
            }
        });
        if read.await.is_err() {
            return;
        }
    }
}

/// Accepts until the node stops.
pub(crate) async fn run(door: Door, entrance: Arc<Entrance>, node: Arc<Node>) {
    let listener: ByteString = door.listener.name.as_str().into();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&door.socket, &entrance, &node) => accepted,
            () = node.tasks.stopping() => return,
        };
        let Some((stream, address, place)) = accepted else { continue };
        let ip = address.ip().to_canonical();
        let client = Client {
            host: format!("/{ip}"),
            ip,
            principal: Principal::anonymous(),
            listener: listener.clone(),
        };
        let (connection_node, entrance) = (node.clone(), entrance.clone());
        node.tasks.spawn(async move {
            // A future as large as a handler's frame stays off the listener's stack.
            let ended = Box::pin(connection::serve(stream, client, &entrance, connection_node)).await;
            drop(place);
            if ended.is_fault() {
                tracing::warn!(client = %address, reason = %ended, "connection closed");
            } else {
                tracing::debug!(client = %address, reason = %ended, "connection closed");
            }
        });
    }
}

async fn accept(listener: &Socket, entrance: &Entrance, node: &Node) -> Option<(Stream, SocketAddr, Places)> {
    match entrance.wait(&node.limits, listener.accept()).await {
        Ok((stream, address, places)) => {
            let Some(place) = places else {
                tracing::warn!(client = %address, "connection refused: max.connections.per.ip is reached");
                return None;
            };
            if let Some(pause) =
                node.usage.connect(&node.metadata.image().quotas, address.ip().to_canonical())
            {
                tracing::debug!(client = %address, "connection refused: connection_creation_rate is reached");
                node.tasks.spawn(async move {
                    // Closed at once, it would be tried again at once.
                    tokio::time::sleep(pause).await;
                    drop((stream, place));
                });
                return None;
            }
            Some((stream, address, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: trying again at once would only spin.
            tracing::warn!(%error, "connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
