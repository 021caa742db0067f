//! The network: connections between hosts, with delays, cuts of either direction, and machines that fall silent.
//!
//! Bytes keep their order in each direction of a connection. What is sent over a direction that is cut waits for its end, as
//! TCP would send it again; a machine without power answers nothing, and to nothing; one that is back resets connections
//! that it does not know.

mod socket;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::random::Random;

pub use socket::Wires;

/// A machine: 0 has all clients, the others are numbered as their nodes.
pub type Host = usize;
pub const CLIENTS: Host = 0;
pub const HOSTS: usize = 4;

/// So much is on its way in one direction of a connection, or waits to be read.
const WINDOW: usize = 256 << 10;
const PIECE: usize = 64 << 10;

/// How long something takes between two hosts, in milliseconds; drawn anew for each piece.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    pub least: u64,
    pub most: u64,
}

const USUAL: Delay = Delay { least: 1, most: 2 };

#[derive(Clone, Copy, Debug)]
struct Link {
    cuts: u32,
    delay: Delay,
}

/// What arrives at one side of a connection.
#[derive(Debug)]
enum Event {
    Open,
    Accepted,
    Refused,
    Data(Bytes),
    End,
    Reset,
}

#[derive(Debug)]
struct Arrival {
    connection: u64,
    /// The side that it arrives at.
    side: usize,
    event: Event,
}

#[derive(Debug, Default)]
struct Side {
    host: Host,
    inbox: VecDeque<Bytes>,
    /// Sent and not yet read by the other.
    outstanding: usize,
    /// Nothing that is sent arrives before this.
    arrives: u64,
    is_ended: bool,
    is_reset: bool,
    /// Who held it has dropped it.
    is_closed: bool,
    /// Its machine lost power.
    is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Connection {
    sides: [Side; 2],
    to: SocketAddr,
    is_open: bool,
    is_refused: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    waiting: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// Who runs now.
    current: Host,
    now: u64,
    sequence: u64,
    arrivals: BTreeMap<(u64, u64), Arrival>,
    held: BTreeMap<(Host, Host), Vec<(u64, Arrival)>>,
    links: [[Link; HOSTS]; HOSTS],
    has_power: [bool; HOSTS],
    listeners: BTreeMap<SocketAddr, Backlog>,
    connections: BTreeMap<u64, Connection>,
    wakers: Vec<Waker>,
    digest: u32,
    carried: u64,
}

/// All connections; clones share them.
#[derive(Clone, Debug)]
pub struct Fabric(Arc<Mutex<State>>);

impl Fabric {
    pub fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(State {
            random,
            current: CLIENTS,
            now: 0,
            sequence: 0,
            arrivals: BTreeMap::new(),
            held: BTreeMap::new(),
            links: [[Link { cuts: 0, delay: USUAL }; HOSTS]; HOSTS],
            has_power: [true; HOSTS],
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            wakers: Vec::new(),
            digest: 0,
            carried: 0,
        })))
    }

    /// Changes the state, then wakes whom that concerns.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (result, wakers) = {
            let mut state = self.0.lock();
            let result = act(&mut state);
            (result, std::mem::take(&mut state.wakers))
        };
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Whose code runs from now on.
    pub fn enter(&self, host: Host) {
        self.with(|state| state.current = host);
    }

    /// Moves the time on, and has arrive what is due.
    pub fn advance(&self, now: u64) {
        self.with(|state| {
            state.now = now;
            while let Some(first) = state.arrivals.first_entry() {
                if first.key().0 > now {
                    break;
                }
                let ((_, sequence), arrival) = first.remove_entry();
                state.arrive(sequence, arrival);
            }
        });
    }

    /// Cuts one direction; cuts add up.
    pub fn cut(&self, from: Host, to: Host) {
        self.with(|state| state.links[from][to].cuts += 1);
    }

    /// Takes one cut away.
    pub fn mend(&self, from: Host, to: Host) {
        self.with(|state| {
            let link = &mut state.links[from][to];
            link.cuts = link.cuts.saturating_sub(1);
            if link.cuts == 0 {
                let now = state.now;
                for (sequence, arrival) in state.held.remove(&(from, to)).unwrap_or_default() {
                    state.arrivals.insert((now, sequence), arrival);
                }
            }
        });
    }

    /// Makes both directions slow, or as they were.
    pub fn slow(&self, one: Host, other: Host, delay: Option<Delay>) {
        self.with(|state| {
            for (from, to) in [(one, other), (other, one)] {
                state.links[from][to].delay = delay.unwrap_or(USUAL);
            }
        });
    }

    /// Breaks all connections between two hosts.
    pub fn reset(&self, one: Host, other: Host) {
        self.with(|state| {
            for connection in state.connections.values_mut() {
                let hosts = [connection.sides[0].host, connection.sides[1].host];
                if hosts == [one, other] || hosts == [other, one] {
                    for side in &mut connection.sides {
                        side.is_reset = true;
                        state.wakers.extend([side.reader.take(), side.writer.take()].into_iter().flatten());
                    }
                }
            }
        });
    }

    /// A machine falls silent: nobody is told.
    pub fn power_off(&self, host: Host) {
        self.with(|state| {
            state.has_power[host] = false;
            state.listeners.retain(|address, _| host_of(*address) != Some(host));
            for connection in state.connections.values_mut() {
                connection
                    .sides
                    .iter_mut()
                    .filter(|side| side.host == host)
                    .for_each(|side| side.is_gone = true);
            }
        });
    }

    pub fn power_on(&self, host: Host) {
        self.with(|state| state.has_power[host] = true);
    }

    /// What tells two histories apart, and how many pieces arrived.
    pub fn digest(&self) -> (u32, u64) {
        let state = self.0.lock();
        (state.digest, state.carried)
    }
}

/// The address of a host.
pub fn ip(host: Host) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, host as u8))
}

fn host_of(address: SocketAddr) -> Option<Host> {
    match address.ip() {
        IpAddr::V4(ip) => Some(usize::from(ip.octets()[3])).filter(|host| *host < HOSTS),
        IpAddr::V6(_) => None,
    }
}

impl State {
    /// Has something arrive at the other side, after the delay of the link.
    fn send(&mut self, id: u64, from: usize, event: Event) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.sides[from].is_gone {
            return;
        }
        let (source, target) = (connection.sides[from].host, connection.sides[1 - from].host);
        let delay = self.links[source][target].delay;
        let at = self.now + self.random.within(delay.least, delay.most);
        let at = at.max(connection.sides[from].arrives);
        connection.sides[from].arrives = at;
        self.sequence += 1;
        let arrival = Arrival { connection: id, side: 1 - from, event };
        self.arrivals.insert((at, self.sequence), arrival);
    }

    fn arrive(&mut self, sequence: u64, arrival: Arrival) {
        let Arrival { connection: id, side: at, .. } = arrival;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (source, target) = (connection.sides[1 - at].host, connection.sides[at].host);
        if self.links[source][target].cuts > 0 {
            self.held.entry((source, target)).or_default().push((sequence, arrival));
            return;
        }
        if !self.has_power[target] {
            return;
        }
        self.digest = arrival.event.digest(self.digest, [self.now, id, at as u64]);
        self.carried += 1;
        tracing::trace!(target: "wire", at = self.now, connection = id, from = source, to = target, digest = self.digest, event = ?arrival.event);
        let side = &mut connection.sides[at];
        if side.is_gone {
            // The machine is back and knows nothing of it.
            if !matches!(arrival.event, Event::Reset) {
                side.is_gone = false;
                side.is_closed = true;
                self.send(id, at, Event::Reset);
            }
            return;
        }
        match arrival.event {
            Event::Open => {
                let (to, from) = (connection.to, SocketAddr::new(ip(source), 40_000 + (id % 20_000) as u16));
                let answer = match self.listeners.get_mut(&to) {
                    Some(backlog) => {
                        backlog.waiting.push_back((id, from));
                        self.wakers.extend(backlog.waker.take());
                        Event::Accepted
                    }
                    None => Event::Refused,
                };
                self.send(id, at, answer);
                return;
            }
            Event::Accepted => connection.is_open = true,
            Event::Refused => connection.is_refused = true,
            Event::Data(_) if side.is_closed => {
                self.send(id, at, Event::Reset);
                return;
            }
            Event::Data(bytes) => side.inbox.push_back(bytes),
            Event::End => side.is_ended = true,
            Event::Reset => side.is_reset = true,
        }
        let side = &mut connection.sides[at];
        self.wakers.extend(side.reader.take());
        if side.is_reset {
            self.wakers.extend(side.writer.take());
        }
        self.tidy(id);
    }

    /// Who held a side lets go of it.
    fn close(&mut self, id: u64, at: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let side = &mut connection.sides[at];
            if !side.is_closed {
                side.is_closed = true;
                self.send(id, at, Event::End);
            }
            self.tidy(id);
        }
    }

    /// Forgets a connection that nobody holds and that has told its end.
    fn tidy(&mut self, id: u64) {
        let is_over = |side: &Side| side.is_gone || side.is_closed && (side.is_ended || side.is_reset);
        if self.connections.get(&id).is_some_and(|connection| connection.sides.iter().all(is_over)) {
            self.connections.remove(&id);
        }
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<()> {
        if self.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.listeners.insert(address, Backlog::default());
        Ok(())
    }

    fn stop_listening(&mut self, address: SocketAddr) {
        let backlog = self.listeners.remove(&address).unwrap_or_default();
        backlog.waiting.into_iter().for_each(|(id, _)| self.close(id, 1));
    }

    fn connect(&mut self, to: SocketAddr) -> io::Result<u64> {
        let host = host_of(to).ok_or(io::ErrorKind::HostUnreachable)?;
        self.sequence += 1;
        let id = self.sequence;
        let sides = [self.current, host].map(|host| Side { host, ..Side::default() });
        let connection = Connection { sides, to, is_open: false, is_refused: false };
        self.connections.insert(id, connection);
        self.send(id, 0, Event::Open);
        Ok(id)
    }
}

impl Event {
    fn digest(&self, so_far: u32, place: [u64; 3]) -> u32 {
        let mut digest = so_far;
        for number in place {
            digest = crc32c::crc32c_append(digest, &number.to_le_bytes());
        }
        let content: &[u8] = match self {
            Self::Open => b"open",
            Self::Accepted => b"accepted",
            Self::Refused => b"refused",
            Self::Data(bytes) => bytes,
            Self::End => b"end",
            Self::Reset => b"reset",
        };
        crc32c::crc32c_append(digest, content)
    }
}
