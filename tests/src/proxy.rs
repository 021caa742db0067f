//! A network that can be cut: connections to one port go on to another, until they do not.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Network {
    Up = 0,
    /// Nothing comes through and nobody is told, as when a cable is pulled; what was under way comes later.
    Silent = 1,
    /// Connections break and new ones are refused.
    Broken = 2,
    /// The same as silent for what the client sends alone: requests do not arrive, answers still do.
    Mute = 3,
    /// The same as silent for what the client is sent alone: requests arrive, and no answers.
    Deaf = 4,
    Gone = 5,
}

/// A port of its own that leads to another on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    /// Connections whose client id ends like this get no answers.
    held: Mutex<Option<String>>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// One connection through the proxy.
struct Link {
    shared: Arc<Shared>,
    /// Who the client says it is, once it has sent a request.
    client: OnceLock<String>,
}

const LOOK: Duration = Duration::from_millis(20);

impl Proxy {
    /// Leads `listener`'s connections to `target`.
    pub fn start(listener: TcpListener, target: u16) -> Result<Self> {
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { state: AtomicU8::new(Network::Up as u8), held: Mutex::new(None) });
        let theirs = shared.clone();
        listener.set_nonblocking(true)?;
        std::thread::spawn(move || {
            while !theirs.is(Network::Gone) {
                match listener.accept() {
                    Ok((client, _)) if !theirs.is(Network::Broken) => {
                        let link = Arc::new(Link { shared: theirs.clone(), client: OnceLock::new() });
                        std::thread::spawn(move || link.connect(client, target));
                    }
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        Ok(Self { port, shared })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts or mends the network.
    pub fn set(&self, network: Network) {
        self.shared.state.store(network as u8, Ordering::SeqCst);
    }

    /// Keeps answers from the clients whose id ends with `suffix`, until it is called with another, or with none.
    pub fn hold(&self, suffix: Option<&str>) {
        *self.shared.held.lock().unwrap_or_else(PoisonError::into_inner) = suffix.map(str::to_owned);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Network::Gone);
    }
}

impl Shared {
    fn is(&self, network: Network) -> bool {
        self.state.load(Ordering::SeqCst) == network as u8
    }

    fn holds(&self, client: &str) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_deref().is_some_and(|suffix| client.ends_with(suffix))
    }
}

impl Link {
    fn connect(self: Arc<Self>, client: TcpStream, target: u16) {
        // Without both ways there is no handshake.
        if !self.pass(Way::There) || !self.pass(Way::Back) {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
        let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { return };
        let back = self.clone();
        std::thread::spawn(move || back.copy(server, client, Way::Back));
        self.copy(from, to, Way::There);
    }

    /// Waits while nothing comes through this way; false where connections are to break.
    fn pass(&self, way: Way) -> bool {
        let one_way = if way == Way::There { Network::Mute } else { Network::Deaf };
        let is_held =
            || way == Way::Back && self.client.get().is_some_and(|client| self.shared.holds(client));
        while self.shared.is(Network::Silent) || self.shared.is(one_way) || is_held() {
            std::thread::sleep(LOOK);
        }
        !self.shared.is(Network::Broken) && !self.shared.is(Network::Gone)
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let mut buffer = vec![0; 64 << 10];
        let set = from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(LOOK)));
        let set = set.and_then(|()| to.set_nonblocking(false)).and_then(|()| to.set_nodelay(true));
        while set.is_ok() && self.pass(way) {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if way == Way::There
                        && self.client.get().is_none()
                        && let Some(id) = client_id(&buffer[..length])
                    {
                        let _ = self.client.set(id);
                    }
                    if !self.pass(way) || to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

/// The client id in the header of a request: after its length, key, version and correlation id.
fn client_id(frame: &[u8]) -> Option<String> {
    let length = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let id = frame.get(14..14 + usize::from(length))?;
    String::from_utf8(id.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_who_sends_it() {
        let mut frame = vec![0, 0, 0, 30, 0, 18, 0, 4, 0, 0, 0, 1, 0, 3];
        frame.extend_from_slice(b"abc\0rest");
        assert_eq!(client_id(&frame).as_deref(), Some("abc"));
        assert_eq!(client_id(&frame[..15]), None);
    }
}
