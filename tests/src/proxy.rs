//! A network that can be cut: connections to one port go on to another, until they do not.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Result;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Network {
    Up = 0,
    /// Nothing comes through and nobody is told, as when a cable is pulled; what was under way comes later.
    Silent = 1,
    /// Connections break and new ones are refused.
    Broken = 2,
    Gone = 3,
}

/// A port of its own that leads to another on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<AtomicU8>,
}

const LOOK: Duration = Duration::from_millis(20);

impl Proxy {
    /// Leads `listener`'s connections to `target`.
    pub fn start(listener: TcpListener, target: u16) -> Result<Self> {
        let port = listener.local_addr()?.port();
        let state = Arc::new(AtomicU8::new(Network::Up as u8));
        let shared = state.clone();
        listener.set_nonblocking(true)?;
        std::thread::spawn(move || {
            while !is(&shared, Network::Gone) {
                match listener.accept() {
                    Ok((client, _)) if !is(&shared, Network::Broken) => {
                        let shared = shared.clone();
                        std::thread::spawn(move || connect(client, target, &shared));
                    }
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        Ok(Self { port, state })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts or mends the network.
    pub fn set(&self, network: Network) {
        self.state.store(network as u8, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Network::Gone);
    }
}

fn is(state: &AtomicU8, network: Network) -> bool {
    state.load(Ordering::SeqCst) == network as u8
}

/// Waits while the network is silent; false where connections are to break.
fn pass(state: &AtomicU8) -> bool {
    while is(state, Network::Silent) {
        std::thread::sleep(LOOK);
    }
    is(state, Network::Up)
}

fn connect(client: TcpStream, target: u16, state: &Arc<AtomicU8>) {
    if !pass(state) {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { return };
    let back = state.clone();
    std::thread::spawn(move || copy(server, client, &back));
    copy(from, to, state);
}

fn copy(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut buffer = vec![0; 64 << 10];
    let set = from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(LOOK)));
    let set = set.and_then(|()| to.set_nonblocking(false)).and_then(|()| to.set_nodelay(true));
    while set.is_ok() && pass(state) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                if !pass(state) || to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
