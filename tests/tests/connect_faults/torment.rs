//! Faults and changes at random.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_tests::aqueduct::{Answer, curl};
use aqueduct_tests::process::signal;
use aqueduct_tests::proxy::Network;
use serde_json::json;

use crate::world::{PAIRS, WORKERS, World, names};
use aqueduct_tests::random::Random;

/// What is broken at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    WorkerKilled(usize),
    WorkerStopped(usize),
    WorkerCut(usize, Network),
    /// It hears nothing of what is written to the config topic: as the leader or as a member it falls behind the others.
    WorkerBehind(usize),
    BrokerKilled,
    BrokerStopped,
    /// Both at once.
    BothKilled(usize),
}

/// The ending of the client id with which workers read the config topic.
pub const READS_CONFIGS: &str = "-configs";

impl Fault {
    fn any(random: &mut Random) -> Self {
        let n = random.index(WORKERS);
        match random.below(14) {
            0..3 => Self::WorkerKilled(n),
            3..5 => Self::WorkerStopped(n),
            5..9 => {
                let how = [Network::Silent, Network::Broken, Network::Mute, Network::Deaf];
                Self::WorkerCut(n, how[random.index(how.len())])
            }
            9..11 => Self::WorkerBehind(n),
            11 => Self::BrokerKilled,
            12 => Self::BrokerStopped,
            _ => Self::BothKilled(n),
        }
    }

    /// Longest that it lasts, in milliseconds.
    fn longest(self) -> u64 {
        if self.hits_broker() { 3000 } else { 12_000 }
    }

    fn hits_broker(self) -> bool {
        matches!(self, Self::BrokerKilled | Self::BrokerStopped | Self::BothKilled(_))
    }

    /// The worker whose process is hit.
    fn process(self) -> Option<usize> {
        match self {
            Self::WorkerKilled(n) | Self::WorkerStopped(n) | Self::BothKilled(n) => Some(n),
            _ => None,
        }
    }

    /// Whether the two get in each other's way.
    fn excludes(self, other: Self) -> bool {
        let same_process = self.process().is_some() && self.process() == other.process();
        let same_cable = match (self, other) {
            (Self::WorkerCut(a, _), Self::WorkerCut(b, _)) => a == b,
            (Self::WorkerBehind(a), Self::WorkerBehind(b)) => a == b,
            _ => false,
        };
        same_process || same_cable || self.hits_broker() && other.hits_broker()
    }

    fn kind(self) -> &'static str {
        match self {
            Self::WorkerKilled(_) => "worker killed",
            Self::WorkerStopped(_) => "worker stopped",
            Self::WorkerCut(_, Network::Silent) => "worker cut off",
            Self::WorkerCut(_, Network::Mute | Network::Deaf) => "worker cut off one way",
            Self::WorkerCut(..) => "connections broken",
            Self::WorkerBehind(_) => "worker kept behind",
            Self::BrokerKilled => "broker killed",
            Self::BrokerStopped => "broker stopped",
            Self::BothKilled(_) => "broker and worker killed",
        }
    }
}

/// Something asked of the REST API while there are faults.
struct Change {
    name: String,
    what: &'static str,
    answer: JoinHandle<Result<Answer>>,
}

/// Asks all workers until one has taken it; any may.
fn resume(urls: Vec<String>) {
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(60)
        && !urls.iter().any(|url| curl("PUT", url, None).is_ok_and(|answer| answer.status == 202))
    {
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How often each thing happened.
pub type Counts = BTreeMap<&'static str, u32>;

impl World {
    fn inflict(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::WorkerKilled(n) => self.workers[n].process().kill(),
            Fault::WorkerStopped(n) => signal(self.workers[n].process().id(), "STOP")?,
            Fault::WorkerCut(n, how) => self.proxies[n].set(how),
            Fault::WorkerBehind(n) => self.proxies[n].hold(Some(READS_CONFIGS)),
            Fault::BrokerKilled => self.server.kill(),
            Fault::BrokerStopped => signal(self.server.process_id(), "STOP")?,
            Fault::BothKilled(n) => {
                self.workers[n].process().kill();
                self.server.kill();
            }
        }
        Ok(())
    }

    fn repair(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::WorkerKilled(n) => self.workers[n].launch(),
            Fault::WorkerStopped(n) => signal(self.workers[n].process().id(), "CONT"),
            Fault::WorkerCut(n, _) => {
                self.proxies[n].set(Network::Up);
                Ok(())
            }
            Fault::WorkerBehind(n) => {
                self.proxies[n].hold(None);
                Ok(())
            }
            Fault::BrokerKilled => self.server.restart(),
            Fault::BrokerStopped => signal(self.server.process_id(), "CONT"),
            Fault::BothKilled(n) => {
                self.server.restart()?;
                self.workers[n].launch()
            }
        }
    }

    /// Faults at random for so long, and changes to connectors in between; each fault heals by itself, and at the end all of
    /// them. Says how often each thing happened, and when the last fault was over.
    pub fn torment(&mut self, random: &mut Random, length: Duration) -> Result<(Counts, Instant)> {
        let from = Instant::now();
        let mut open: BTreeMap<Fault, Instant> = BTreeMap::new();
        let (mut counts, mut changes) = (Counts::new(), Vec::new());
        while from.elapsed() < length {
            let healed: Vec<Fault> =
                open.iter().filter(|(_, until)| **until <= Instant::now()).map(|(fault, _)| *fault).collect();
            for fault in healed {
                open.remove(&fault);
                println!("{:6.1} s: {fault:?} is over", from.elapsed().as_secs_f64());
                self.repair(fault)?;
            }
            let fault = Fault::any(random);
            let millis = 300 + random.below(fault.longest());
            if open.len() < 3 && !open.keys().any(|other| fault.excludes(*other)) {
                println!("{:6.1} s: {fault:?} for {millis} ms", from.elapsed().as_secs_f64());
                self.inflict(fault)?;
                open.insert(fault, Instant::now() + Duration::from_millis(millis));
                *counts.entry(fault.kind()).or_default() += 1;
            }
            if random.below(3) == 0 {
                let stopped: Vec<usize> = open.keys().filter_map(|fault| fault.process()).collect();
                if let Some(change) = self.change(random, &stopped) {
                    println!("{:6.1} s: {} of {}", from.elapsed().as_secs_f64(), change.what, change.name);
                    changes.push(change.answer);
                    *counts.entry("connector changed").or_default() += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(500 + random.below(2500)));
        }
        for fault in open.into_keys() {
            self.repair(fault)?;
        }
        let healed = Instant::now();
        // What was asked during the faults must not come after what is asked when they are over.
        changes.into_iter().for_each(|answer| drop(answer.join()));
        Ok((counts, healed))
    }

    /// Pauses some connector for a moment, restarts it or sets it anew. That this fails while everything does is no wonder.
    fn change(&self, random: &mut Random, stopped: &[usize]) -> Option<Change> {
        let name = names().nth(random.index(2 * PAIRS))?;
        let (n, kind, mark) = (random.index(WORKERS), random.below(3), random.below(1000));
        let worker = self.workers.get(n).filter(|_| !stopped.contains(&n))?;
        let (method, what, body) = match kind {
            0 => ("PUT", "pause", None),
            1 => ("POST", "restart?includeTasks=true", None),
            _ => ("PUT", "config", Some(self.config(&name, mark))),
        };
        let url = worker.url(&format!("/connectors/{name}/{what}"));
        let again =
            (0..WORKERS).map(|n| self.workers[n].url(&format!("/connectors/{name}/resume"))).collect();
        let answer = std::thread::spawn(move || {
            let answer = curl(method, &url, body.as_ref());
            if kind == 0 {
                std::thread::sleep(Duration::from_millis(1000 + 2 * mark));
                resume(again);
            }
            answer
        });
        Some(Change { name, what, answer })
    }

    /// The settings of a connector, with one that makes a difference to the worker alone.
    fn config(&self, name: &str, mark: u64) -> serde_json::Value {
        let pair = name.rsplit('-').next().and_then(|pair| pair.parse().ok()).unwrap_or(0);
        let mut config = if name.starts_with("source") { self.source(pair) } else { self.sink(pair) };
        config["errors.retry.delay.max.ms"] = json!((60_000 + mark).to_string());
        config
    }

    /// Has every connector run that was paused.
    pub fn resume(&self) -> Result<()> {
        for name in names() {
            // Any worker may write it, and one may still be starting.
            let from = Instant::now();
            let path = format!("/connectors/{name}/resume");
            while !self.workers.iter().any(|w| w.rest("PUT", &path, None).is_ok_and(|a| a.status == 202)) {
                if from.elapsed() > Duration::from_secs(60) {
                    let last = self.workers[0].rest("PUT", &path, None);
                    return last.and(Ok(())).context(format!("{name} cannot be resumed"));
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }
}
