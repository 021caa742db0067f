//! What goes wrong, and when: all of it follows from the seed.

use crate::net::{CLIENTS, Delay, HOSTS, Host};
use crate::random::Random;

/// Something that goes wrong for a while.
#[derive(Clone, Debug)]
pub enum Fault {
    /// These directions carry nothing.
    Cut(Vec<(Host, Host)>),
    Slow(Host, Host, Delay),
    /// Connections between two hosts break.
    Reset(Host, Host),
    /// The process ends at once.
    Kill(Host),
    /// The machine loses its power.
    PowerOff(Host),
    /// A stop in order.
    Stop(Host),
    /// The process stands still.
    Pause(Host),
    /// The clock of the day moves by so many milliseconds, and stays so.
    Step(Host, i64),
    /// The disk takes up to so many milliseconds for everything.
    SlowDisk(Host, u64),
}

/// A fault, with its beginning and its end in milliseconds after the load began.
#[derive(Clone, Debug)]
pub struct Planned {
    pub at: u64,
    pub until: u64,
    pub fault: Fault,
}

/// Faults within so many milliseconds.
pub fn plan(random: &mut Random, within: u64) -> Vec<Planned> {
    let count = random.within(3, 8);
    let mut planned: Vec<Planned> = (0..count)
        .map(|_| {
            let at = random.below(within);
            let lasts = if random.chance(50) { random.within(50, 800) } else { random.within(800, 3_500) };
            let fault = draw(random);
            let is_over = matches!(fault, Fault::Reset(..) | Fault::Step(..));
            Planned { at, until: if is_over { at } else { at + lasts }, fault }
        })
        .collect();
    planned.sort_by_key(|planned| planned.at);
    planned
}

fn draw(random: &mut Random) -> Fault {
    let node = random.within(1, HOSTS as u64 - 1) as Host;
    // Another node, or the clients.
    let other = match random.below(HOSTS as u64 - 1) as Host {
        host if host >= node => host + 1,
        host => host,
    };
    match random.below(16) {
        0 | 1 => Fault::Cut(vec![(node, other), (other, node)]),
        2 => Fault::Cut(vec![(node, other)]),
        3 => Fault::Cut(vec![(other, node)]),
        4 => Fault::Cut(others(node).flat_map(|other| [(node, other), (other, node)]).collect()),
        5 => Fault::Cut(others(node).filter(|other| *other != CLIENTS).map(|other| (node, other)).collect()),
        6 => {
            let least = random.within(5, 100);
            Fault::Slow(node, other, Delay { least, most: least + random.below(200) })
        }
        7 => Fault::Reset(node, other),
        8 | 9 => Fault::Kill(node),
        10 | 11 => Fault::PowerOff(node),
        12 => Fault::Stop(node),
        13 => Fault::Pause(node),
        14 => {
            let by = [-3_600_000, -5_000, -300, 300, 5_000, 3_600_000];
            Fault::Step(node, by[random.below(by.len() as u64) as usize])
        }
        _ => Fault::SlowDisk(node, random.within(5, 150)),
    }
}

fn others(host: Host) -> impl Iterator<Item = Host> {
    (0..HOSTS).filter(move |other| *other != host)
}
