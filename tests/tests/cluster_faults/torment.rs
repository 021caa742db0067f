//! Faults at random.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use aqueduct_tests::random::Random;

use crate::damage::Damage;
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
    /// All that it sends and gets goes through a line of so many kbit/s.
    Slow(usize, u64),
    /// Its clock is so many milliseconds off.
    Clock(usize, i64),
    /// It starts with a clock that is as slow as the others can bear: records are no more than an hour of the future.
    StartedLate(usize),
    /// Its disk has no room; restarted afterwards, as a log directory that has failed stays so.
    Full(usize),
    /// Killed as by a loss of power.
    Damaged(usize, Damage),
}

const SLOWEST_MS: i64 = 3_500_000;

/// Kinds of faults; each comes as often as it is listed.
const DECK: [&str; 13] = [
    "killed",
    "killed",
    "stopped",
    "frozen",
    "cut",
    "cut one way",
    "isolated",
    "slow",
    "clock",
    "started late",
    "full disk",
    "torn",
    "flipped",
];

impl Fault {
    fn any(kind: &str, random: &mut Random) -> Self {
        let (a, other) = (random.index(NODES), random.index(NODES - 1));
        let b = (a + 1 + other) % NODES;
        match kind {
            "killed" => Self::Killed(a),
            "stopped" => Self::Stopped(a),
            "frozen" => Self::Frozen(a),
            "cut" => Self::Cut(a.min(b), a.max(b)),
            "cut one way" => Self::CutOneWay(a, b),
            "isolated" => Self::Isolated(a),
            "slow" => Self::Slow(a, 64 << random.below(5)),
            "clock" => {
                let most = [1_000, 10_000, 120_000, 3_600_000][random.index(4)];
                let millis = 1 + random.below(most) as i64;
                Self::Clock(a, if random.below(2) == 0 { millis } else { -millis })
            }
            "started late" => Self::StartedLate(a),
            "full disk" => Self::Full(a),
            "torn" => Self::Damaged(a, Damage::Torn),
            _ => Self::Damaged(a, Damage::Flipped),
        }
    }

    /// The node whose process is hit.
    fn process(self) -> Option<usize> {
        match self {
            Self::Killed(n)
            | Self::Stopped(n)
            | Self::Frozen(n)
            | Self::StartedLate(n)
            | Self::Full(n)
            | Self::Damaged(n, _) => Some(n),
            _ => None,
        }
    }

    /// The node whose clock is off.
    fn clock(self) -> Option<usize> {
        match self {
            Self::Clock(n, _) | Self::StartedLate(n) => Some(n),
            _ => None,
        }
    }

    /// Whether a process ends without having synced its logs.
    fn is_crash(self) -> bool {
        matches!(self, Self::Killed(_) | Self::Full(_) | Self::Damaged(..))
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
        let same_line = matches!((self, other), (Self::Slow(a, _), Self::Slow(b, _)) if a == b);
        let same_clock = self.clock().is_some() && self.clock() == other.clock();
        same_process || same_line || same_clock || !self.ways().is_empty() && !other.ways().is_empty()
    }

    fn inflict(self, cluster: &mut Cluster, random: &mut Random) -> Result<()> {
        match self {
            Self::Killed(n) => cluster.kill(n),
            Self::Stopped(n) => cluster.stop(n)?,
            Self::Frozen(n) => cluster.freeze(n, true)?,
            Self::Slow(n, kbit) => cluster.slow(n, Some(kbit))?,
            Self::Clock(n, millis) => cluster.step_clock(n, millis)?,
            Self::StartedLate(n) => {
                cluster.stop(n)?;
                cluster.step_clock(n, -SLOWEST_MS)?;
                cluster.launch(n)?;
            }
            Self::Full(n) => cluster.fill(n)?,
            Self::Damaged(n, damage) => {
                cluster.kill(n);
                let partitions = cluster.damage(n, damage, random)?;
                println!("          {partitions} partitions are damaged");
            }
            _ => self.ways().into_iter().try_for_each(|(from, to)| cluster.cut(from, to, true))?,
        }
        Ok(())
    }

    fn repair(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::Killed(n) | Self::Stopped(n) | Self::Damaged(n, _) => cluster.launch(n),
            Self::Frozen(n) => cluster.freeze(n, false),
            Self::Slow(n, _) => cluster.slow(n, None),
            Self::Clock(n, _) | Self::StartedLate(n) => cluster.step_clock(n, 0),
            Self::Full(n) => {
                cluster.kill(n);
                cluster.free(n)?;
                cluster.launch(n)
            }
            _ => self.ways().into_iter().try_for_each(|(from, to)| cluster.cut(from, to, false)),
        }
    }

    /// How long it lasts, in milliseconds.
    fn length(self, most: u64, random: &mut Random) -> u64 {
        let least = match self {
            // Pages that are in use already take some more; it starts meanwhile.
            Self::Full(_) | Self::StartedLate(_) => 2_000,
            _ => 300,
        };
        least + random.below(most)
    }
}

/// How often each thing happened.
pub type Counts = BTreeMap<&'static str, u32>;

/// Faults at random for so long, at most two at once; each heals by itself, and at the end all of them. Each kind comes at
/// least once, where it takes no more than three times as long.
///
/// `in_sync` says whether all replicas are: logs are damaged only then, and no others until they are again. Where `spares` is
/// set no other node crashes either until then: a node cannot tell a log that has lost its end from one that has not, so
/// that of three that all crashed the one with the damage may lead (no more unclean stops than `min.insync.replicas` less one
/// are what Apache Kafka promises to survive).
pub fn torment(
    cluster: &mut Cluster,
    spares: bool,
    random: &mut Random,
    length: Duration,
    mut in_sync: impl FnMut() -> bool,
) -> Result<(Counts, Instant)> {
    const BETWEEN_DAMAGES: Duration = Duration::from_secs(10);
    // The controller has noticed by then who was away.
    const NOTICED: Duration = Duration::from_secs(5);
    let from = Instant::now();
    let most = if length < Duration::from_secs(60) { 2_500 } else { 8_000 };
    let (mut open, mut counts) = (BTreeMap::<Fault, Instant>::new(), Counts::new());
    let (mut deck, mut is_first, mut next) = (Vec::new(), true, None);
    let (mut damaged, mut is_whole) = (None::<Instant>, true);
    loop {
        let over: Vec<Fault> =
            open.iter().filter(|(_, until)| **until <= Instant::now()).map(|(fault, _)| *fault).collect();
        for fault in over {
            open.remove(&fault);
            println!("{:6.1} s: {fault:?} is over", from.elapsed().as_secs_f64());
            fault.repair(cluster)?;
            if matches!(fault, Fault::Damaged(..)) {
                damaged = Some(Instant::now());
            }
        }
        is_whole = is_whole || damaged.is_some_and(|since| since.elapsed() > NOTICED) && in_sync();
        let (is_late, is_too_late) = (from.elapsed() >= length, from.elapsed() >= 3 * length);
        if is_too_late || is_late && !is_first {
            break;
        }
        if deck.is_empty() && next.is_none() {
            deck = shuffled(random);
        }
        let kind = match next.take() {
            Some(kind) => kind,
            None => deck.pop().unwrap_or(DECK[0]),
        };
        let fault = Fault::any(kind, random);
        let is_soon = damaged.is_some_and(|last| last.elapsed() < BETWEEN_DAMAGES);
        let is_damage = matches!(fault, Fault::Damaged(..));
        let is_too_much = !is_whole && if spares { fault.is_crash() } else { is_damage };
        let must_wait = is_soon && is_damage || is_too_much;
        if must_wait && deck.iter().any(|kind| !Fault::any(kind, &mut Random::new(1)).is_crash()) {
            deck.insert(0, kind);
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let may = match fault {
            _ if is_too_much => false,
            Fault::Damaged(..) => open.is_empty() && !is_soon && in_sync(),
            _ => open.len() < 2 && !open.keys().any(|other| fault.excludes(*other)),
        };
        if may {
            let millis = fault.length(most, random);
            println!("{:6.1} s: {fault:?} for {millis} ms", from.elapsed().as_secs_f64());
            fault.inflict(cluster, random)?;
            if matches!(fault, Fault::Damaged(..)) {
                (damaged, is_whole) = (None, false);
            }
            open.insert(fault, Instant::now() + Duration::from_millis(millis));
            *counts.entry(kind).or_default() += 1;
            is_first &= !deck.is_empty();
            std::thread::sleep(Duration::from_millis(500 + random.below(most.min(2_500))));
        } else {
            next = Some(kind);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    for fault in open.into_keys() {
        fault.repair(cluster)?;
    }
    Ok((counts, Instant::now()))
}

fn shuffled(random: &mut Random) -> Vec<&'static str> {
    let mut deck = DECK.to_vec();
    for last in (1..deck.len()).rev() {
        deck.swap(last, random.index(last + 1));
    }
    deck
}
