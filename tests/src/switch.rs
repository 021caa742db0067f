//! A network of namespaces that all reach each other and this machine, until they are cut off from one another.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::namespace::{NOBODY, ip, run};

/// A bridge with a namespace for each node. It is taken down when dropped, and with it whatever still runs in there.
#[derive(Debug)]
pub struct Switch {
    name: String,
    subnet: String,
    nodes: usize,
}

impl Switch {
    /// Makes the bridge and `nodes` namespaces, at most 32.
    ///
    /// # Errors
    /// Where this process may not, because it is not root's or there is no `ip`.
    pub fn create(nodes: usize) -> Result<Self> {
        let process = std::process::id();
        let [low, high, ..] = process.to_le_bytes();
        let subnet = format!("10.{}.{low}", 192 + (high & 63));
        let this = Self { name: format!("aq{process:x}s"), subnet, nodes };
        ip(&["link", "add", &this.name, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}.1/24", this.subnet), "dev", &this.name])?;
        ip(&["link", "set", &this.name, "up"])?;
        for node in 0..nodes {
            let (inside, here, there) = (this.namespace(node), this.cable(node), this.card(node));
            ip(&["netns", "add", &inside])?;
            ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &inside])?;
            ip(&["link", "set", &here, "master", &this.name, "up"])?;
            ip(&["-n", &inside, "addr", "add", &format!("{}/24", this.address(node)), "dev", &there])?;
            ip(&["-n", &inside, "link", "set", &there, "up"])?;
            ip(&["-n", &inside, "link", "set", "lo", "up"])?;
        }
        Ok(this)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}{node}", self.name)
    }

    fn cable(&self, node: usize) -> String {
        format!("{}{node}a", self.name)
    }

    fn card(&self, node: usize) -> String {
        format!("{}{node}b", self.name)
    }

    /// The address of a node, for all others and for this machine.
    pub fn address(&self, node: usize) -> String {
        format!("{}.{}", self.subnet, 10 + node)
    }

    /// A command that runs on a node; its process id is the program's.
    pub fn command(&self, node: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(node)]).arg(program);
        command
    }

    /// Loses what a node sends to another, or lets it through again. Nobody is told of lost packets.
    pub fn cut(&self, from: usize, to: usize, is_cut: bool) -> Result<()> {
        let (inside, address, card) = (self.namespace(from), self.address(to), self.card(from));
        let neighbour = ["-n", &inside, "neigh"];
        if is_cut {
            let rest = ["replace", &address, "lladdr", NOBODY, "nud", "permanent", "dev", &card];
            return ip(&[&neighbour[..], &rest].concat());
        }
        // Where there is none, it is asked for with the next packet.
        let _ = ip(&[&neighbour[..], &["del", &address, "dev", &card]].concat());
        Ok(())
    }
}

impl Switch {
    /// Has all that a node sends and gets go through lines of so many kbit/s, or as fast as they can. What waits for longer
    /// than two seconds is lost.
    pub fn slow(&self, node: usize, kbit: Option<u64>) -> Result<()> {
        let (inside, there, here) = (self.namespace(node), self.card(node), self.cable(node));
        for (namespace, card) in [(&["-n", &*inside][..], &there), (&[], &here)] {
            let rate = kbit.map(|kbit| format!("{kbit}kbit"));
            let limit =
                ["tbf", "rate", rate.as_deref().unwrap_or_default(), "burst", "16kb", "latency", "2s"];
            let (verb, limit) = if rate.is_some() { ("replace", &limit[..]) } else { ("del", &limit[..0]) };
            run("tc", &[namespace, &["qdisc", verb, "dev", card, "root"], limit].concat())?;
        }
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            let _ = ip(&["link", "del", &self.cable(node)]);
            let _ = ip(&["netns", "del", &self.namespace(node)]);
        }
        let _ = ip(&["link", "del", &self.name]);
    }
}
