//! Faults at random.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use aqueduct_tests::random::Random;

use crate::nodes::{Cluster, NODES};

/// What is broken at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed(usize),
    /// Stopped cleanly.
    Stopped(usize),
    Frozen(usize),
    /// Neither hears the other.
    Cut(usize, usize),
    /// What the first sends the second does not get.
    CutOneWay(usize, usize),
    /// No other node hears it, or is heard by it; clients are.
    Isolated(usize),
}

impl Fault {
    fn any(random: &mut Random) -> Self {
        let (a, other) = (random.index(NODES), random.index(NODES - 1));
        let b = (a + 1 + other) % NODES;
        match random.below(12) {
            0..4 => Self::Killed(a),
            4..5 => Self::Stopped(a),
            5..7 => Self::Frozen(a),
            7..9 => Self::Cut(a.min(b), a.max(b)),
            9..10 => Self::CutOneWay(a, b),
            _ => Self::Isolated(a),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Killed(_) => "killed",
            Self::Stopped(_) => "stopped",
            Self::Frozen(_) => "frozen",
            Self::Cut(..) => "cut",
            Self::CutOneWay(..) => "cut one way",
            Self::Isolated(_) => "isolated",
        }
    }

    /// The node whose process is hit.
    fn process(self) -> Option<usize> {
        match self {
            Self::Killed(n) | Self::Stopped(n) | Self::Frozen(n) => Some(n),
            _ => None,
        }
    }

    /// What does not come through.
    fn ways(self) -> Vec<(usize, usize)> {
        match self {
            Self::Cut(a, b) => vec![(a, b), (b, a)],
            Self::CutOneWay(a, b) => vec![(a, b)],
            Self::Isolated(n) => {
                (0..NODES).filter(|other| *other != n).flat_map(|other| [(n, other), (other, n)]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the two get in each other's way.
    fn excludes(self, other: Self) -> bool {
        let same_process = self.process().is_some() && self.process() == other.process();
        same_process || !self.ways().is_empty() && !other.ways().is_empty()
    }

    fn inflict(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::Killed(n) => cluster.kill(n),
            Self::Stopped(n) => cluster.stop(n)?,
            Self::Frozen(n) => cluster.freeze(n, true)?,
            _ => self.ways().into_iter().try_for_each(|(from, to)| cluster.cut(from, to, true))?,
        }
        Ok(())
    }

    fn repair(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::Killed(n) | Self::Stopped(n) => cluster.launch(n),
            Self::Frozen(n) => cluster.freeze(n, false),
            _ => self.ways().into_iter().try_for_each(|(from, to)| cluster.cut(from, to, false)),
        }
    }
}

/// How often each thing happened.
pub type Counts = BTreeMap<&'static str, u32>;

/// Faults at random for so long, at most two at once; each heals by itself, and at the end all of them.
pub fn torment(cluster: &mut Cluster, random: &mut Random, length: Duration) -> Result<(Counts, Instant)> {
    let from = Instant::now();
    let mut open: BTreeMap<Fault, Instant> = BTreeMap::new();
    let mut counts = Counts::new();
    while from.elapsed() < length {
        let healed: Vec<Fault> =
            open.iter().filter(|(_, until)| **until <= Instant::now()).map(|(fault, _)| *fault).collect();
        for fault in healed {
            open.remove(&fault);
            println!("{:6.1} s: {fault:?} is over", from.elapsed().as_secs_f64());
            fault.repair(cluster)?;
        }
        let (fault, millis) = (Fault::any(random), 300 + random.below(8_000));
        if open.len() < 2 && !open.keys().any(|other| fault.excludes(*other)) {
            println!("{:6.1} s: {fault:?} for {millis} ms", from.elapsed().as_secs_f64());
            fault.inflict(cluster)?;
            open.insert(fault, Instant::now() + Duration::from_millis(millis));
            *counts.entry(fault.kind()).or_default() += 1;
        }
        std::thread::sleep(Duration::from_millis(500 + random.below(2500)));
    }
    for fault in open.into_keys() {
        fault.repair(cluster)?;
    }
    Ok((counts, Instant::now()))
}
