//! Three nodes, their clients and the network, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use aqueduct_broker::metadata::MetadataImage;
use parking_lot::Mutex;

use crate::calls;
use crate::faults::{Fault, Planned};
use crate::machine::{CLIENT_PORT, Machine, Stage};
use crate::net::{CLIENTS, Fabric, HOSTS, Host, Wires, ip};
use crate::random::Random;

/// Nobody sees a shorter time pass, in milliseconds.
pub const STEP_MS: u64 = 1;
/// After which a node that ended by itself is started again, as its supervisor would.
const AGAIN_MS: u64 = 300;

/// How slow the disk of who runs now is.
static SLOW_DISK_MS: AtomicU64 = AtomicU64::new(0);

pub struct World {
    pub now_ms: u64,
    pub fabric: Fabric,
    machines: Vec<Machine>,
    slow_disks: [u64; HOSTS],
    clients: Stage,
    /// When nodes that do not run are started.
    due: BTreeMap<Host, u64>,
    stopping: Vec<Host>,
    chance: Random,
    is_checked_ms: u64,
    /// By topic, partition and leader epoch: who leads.
    reigns: BTreeMap<(String, usize, i32), i32>,
    pub trace: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
    pub wrong: Vec<String>,
}

impl World {
    /// A world that begins now. One process has one.
    pub fn new(seed: u64) -> Result<Self> {
        calls::seed(seed);
        calls::set_time(0);
        let fabric = Fabric::new(Random::new(seed, "network"));
        aqueduct_client::injected::inject(Arc::new(Wires(fabric.clone())));
        let disks = Mutex::new(Random::new(seed, "disks"));
        aqueduct_quorum::blocking::run_inline(move || {
            let most = SLOW_DISK_MS.load(Ordering::Relaxed);
            std::time::Duration::from_millis(if most == 0 { 0 } else { disks.lock().below(most) })
        });
        let machines = (1..HOSTS).map(|host| Machine::new(host, fabric.clone())).collect::<Result<_>>()?;
        Ok(Self {
            now_ms: 0,
            machines,
            slow_disks: [0; HOSTS],
            clients: Stage::new(0)?,
            due: (1..HOSTS).map(|host| (host, 0)).collect(),
            stopping: Vec::new(),
            chance: Random::new(seed, "power"),
            is_checked_ms: 0,
            reigns: BTreeMap::new(),
            trace: Vec::new(),
            counts: BTreeMap::new(),
            wrong: Vec::new(),
            fabric,
        })
    }

    pub fn bootstrap() -> String {
        (1..HOSTS).map(|host| format!("{}:{CLIENT_PORT}", ip(host))).collect::<Vec<_>>().join(",")
    }

    pub fn note(&mut self, what: impl std::fmt::Display) {
        self.trace.push(format!("{:>7} {what}", self.now_ms));
    }

    /// Spawns a task of the clients.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        self.fabric.enter(CLIENTS);
        self.clients.spawn(task);
    }

    /// Moves all of it on by one step.
    pub fn step(&mut self) -> Result<()> {
        self.now_ms += STEP_MS;
        calls::set_time(self.now_ms);
        self.fabric.advance(self.now_ms);
        for at in 0..self.machines.len() {
            let host = self.machines[at].host;
            SLOW_DISK_MS.store(self.slow_disks[host], Ordering::Relaxed);
            self.machines[at].run_until(self.now_ms, STEP_MS);
            self.supervise(at)?;
        }
        SLOW_DISK_MS.store(0, Ordering::Relaxed);
        self.fabric.enter(CLIENTS);
        calls::set_wrong_by(0);
        self.clients.run_until(self.now_ms, STEP_MS);
        if self.now_ms >= self.is_checked_ms + 20 {
            self.is_checked_ms = self.now_ms;
            self.check_reigns();
        }
        Ok(())
    }

    /// Steps until something is so; an error where it is not within `limit_ms`.
    pub fn until(&mut self, what: &str, limit_ms: u64, mut is_so: impl FnMut(&Self) -> bool) -> Result<u64> {
        let began = self.now_ms;
        while !is_so(self) {
            if self.now_ms - began >= limit_ms {
                bail!("waited in vain for {what}, {limit_ms} ms; {}", self.describe());
            }
            self.step()?;
        }
        self.note(format_args!("{what}, after {} ms", self.now_ms - began));
        Ok(self.now_ms - began)
    }

    /// Starts what is due, and notices what has ended.
    fn supervise(&mut self, at: usize) -> Result<()> {
        let host = self.machines[at].host;
        if self.stopping.contains(&host) && self.machines[at].has_stopped()? {
            self.stopping.retain(|stopping| *stopping != host);
            self.note(format_args!("node {host} has stopped"));
        }
        if let Some(why) = self.machines[at].ended() {
            self.note(format_args!("node {host} ended by itself: {why}"));
            *self.counts.entry("ended by itself").or_default() += 1;
            self.stopping.retain(|stopping| *stopping != host);
            self.machines[at].kill()?;
            self.due.insert(host, self.now_ms + AGAIN_MS);
        }
        if self.due.get(&host).is_some_and(|due| *due <= self.now_ms) && !self.machines[at].is_running() {
            self.due.remove(&host);
            self.note(format_args!("node {host} starts"));
            self.machines[at].start(self.now_ms)?;
        }
        Ok(())
    }

    pub fn begin(&mut self, planned: &Planned) -> Result<bool> {
        let is_running = |world: &Self, host: Host| {
            world.machines[host - 1].handle().is_some() && !world.stopping.contains(&host)
        };
        let kind = match &planned.fault {
            Fault::Cut(ways) => {
                ways.iter().for_each(|(from, to)| self.fabric.cut(*from, *to));
                "cuts"
            }
            Fault::Slow(one, other, delay) => {
                self.fabric.slow(*one, *other, Some(*delay));
                "slow links"
            }
            Fault::Reset(one, other) => {
                self.fabric.reset(*one, *other);
                "resets"
            }
            Fault::Kill(host) if is_running(self, *host) => {
                self.machines[host - 1].kill()?;
                "kills"
            }
            // What is lost with one machine has to be elsewhere: that is all that replication promises.
            Fault::PowerOff(host) if is_running(self, *host) && self.is_whole() => {
                let loss = self.machines[host - 1].power_off(&mut self.chance)?;
                self.note(format_args!("node {host} loses {loss:?}"));
                "losses of power"
            }
            Fault::Stop(host) if is_running(self, *host) => {
                self.machines[host - 1].stop();
                self.stopping.push(*host);
                "stops"
            }
            Fault::Pause(host) if self.machines[host - 1].is_running() => {
                self.machines[host - 1].is_paused = true;
                "pauses"
            }
            Fault::Step(host, by) => {
                self.machines[host - 1].wrong_by_ms += by;
                "steps of clocks"
            }
            Fault::SlowDisk(host, most) => {
                self.slow_disks[*host] = *most;
                "slow disks"
            }
            _ => return Ok(false),
        };
        self.note(format_args!("{:?} begins", planned.fault));
        *self.counts.entry(kind).or_default() += 1;
        Ok(true)
    }

    pub fn end(&mut self, planned: &Planned) {
        match &planned.fault {
            Fault::Cut(ways) => ways.iter().for_each(|(from, to)| self.fabric.mend(*from, *to)),
            Fault::Slow(one, other, _) => self.fabric.slow(*one, *other, None),
            Fault::Kill(host) | Fault::PowerOff(host) | Fault::Stop(host) => {
                self.due.insert(*host, self.now_ms);
            }
            Fault::Pause(host) => self.machines[host - 1].is_paused = false,
            Fault::SlowDisk(host, _) => self.slow_disks[*host] = 0,
            Fault::Reset(..) | Fault::Step(..) => return,
        }
        self.note(format_args!("{:?} ends", planned.fault));
    }

    fn images(&self) -> Vec<Arc<MetadataImage>> {
        self.machines.iter().filter_map(Machine::handle).map(|handle| handle.image()).collect()
    }

    /// Whether all nodes run and, as far as each knows, every partition has a leader and all its replicas in sync.
    pub fn is_whole(&self) -> bool {
        let images = self.images();
        let is_whole = |image: &Arc<MetadataImage>| {
            image.brokers.keys().filter(|id| image.is_unfenced(**id)).count() == HOSTS - 1
                && image.topics().flat_map(|topic| &topic.partitions).all(|partition| {
                    partition.leader.0 > 0 && partition.isr.len() == partition.replicas.len()
                })
        };
        images.len() == HOSTS - 1 && self.stopping.is_empty() && images.iter().all(is_whole)
    }

    /// No epoch of a partition has two leaders.
    fn check_reigns(&mut self) {
        for image in self.images() {
            for topic in image.topics() {
                for (index, partition) in topic.partitions.iter().enumerate() {
                    if partition.leader.0 < 0 {
                        continue;
                    }
                    let reign = (topic.name.to_string(), index, partition.leader_epoch.0);
                    let leader = *self.reigns.entry(reign).or_insert(partition.leader.0);
                    if leader != partition.leader.0 && self.wrong.len() < 10 {
                        self.wrong.push(format!(
                            "{}-{index}: in epoch {} nodes {leader} and {} lead",
                            topic.name, partition.leader_epoch.0, partition.leader.0
                        ));
                    }
                }
            }
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for machine in &self.machines {
            let Some(handle) = machine.handle() else {
                text += &format!("node {} does not serve; ", machine.host);
                continue;
            };
            let image = handle.image();
            let fenced: Vec<i32> =
                image.brokers.keys().filter(|id| !image.is_unfenced(**id)).map(|id| id.0).collect();
            text += &format!(
                "node {} knows controller {:?}, fenced {fenced:?}",
                machine.host,
                handle.controller_id()
            );
            for topic in image.topics() {
                for (index, partition) in topic.partitions.iter().enumerate() {
                    if partition.leader.0 < 0 || partition.isr.len() < partition.replicas.len() {
                        let isr: Vec<i32> = partition.isr.iter().map(|id| id.0).collect();
                        text += &format!(
                            ", {}-{index} led by {} in sync {isr:?}",
                            topic.name, partition.leader.0
                        );
                    }
                }
            }
            text += "; ";
        }
        text
    }
}
