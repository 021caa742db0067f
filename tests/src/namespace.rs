//! A network of its own for one process, joined to this machine by a cable that can be cut.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// What does not come through the cable. Packets are lost without anybody being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Nothing,
    Both,
    /// What leaves the namespace.
    Out,
    /// What is sent into it.
    In,
}

/// A network namespace. It is taken down when dropped, and with it whatever still runs in its network.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    host: String,
    inside: String,
}

/// No card has this address: what is sent to it is lost on the way.
pub(crate) const NOBODY: &str = "02:00:00:00:00:99";

impl Namespace {
    /// Makes a namespace and its cable. `number` tells those of one program apart, from 0 to 63.
    ///
    /// # Errors
    /// Where this process may not, because it is not root's or there is no `ip`.
    pub fn create(number: u8) -> Result<Self> {
        let process = std::process::id();
        let name = format!("aq{process:x}n{number}");
        let [low, high, ..] = process.to_le_bytes();
        let subnet = format!("10.{}.{low}", 128 + (high & 63));
        let base = u16::from(number & 63) * 4;
        let this =
            Self { name, host: format!("{subnet}.{}", base + 1), inside: format!("{subnet}.{}", base + 2) };
        let (here, there) = (this.cable(), format!("{}b", this.name));
        let (host, inside) = (format!("{}/30", this.host), format!("{}/30", this.inside));
        ip(&["netns", "add", &this.name])?;
        ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &this.name])?;
        ip(&["addr", "add", &host, "dev", &here])?;
        ip(&["link", "set", &here, "up"])?;
        ip(&["-n", &this.name, "addr", "add", &inside, "dev", &there])?;
        ip(&["-n", &this.name, "link", "set", &there, "up"])?;
        ip(&["-n", &this.name, "link", "set", "lo", "up"])?;
        Ok(this)
    }

    fn cable(&self) -> String {
        format!("{}a", self.name)
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of this machine, as seen from inside.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address of what runs inside.
    pub fn inside(&self) -> &str {
        &self.inside
    }

    /// A command that runs inside; its process id is the program's.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Cuts the cable, or mends it.
    pub fn cut(&self, cut: Cut) -> Result<()> {
        let (here, there) = (self.cable(), format!("{}b", self.name));
        let out = ["-n", &self.name, "neigh"];
        lose(&out, &self.host, &there, matches!(cut, Cut::Both | Cut::Out))?;
        lose(&["neigh"], &self.inside, &here, matches!(cut, Cut::Both | Cut::In))
    }
}

/// Has packets to `address` go to a card that is not there, or to the right one again.
fn lose(neighbours: &[&str], address: &str, device: &str, lost: bool) -> Result<()> {
    if lost {
        let rest = ["replace", address, "lladdr", NOBODY, "nud", "permanent", "dev", device];
        return ip(&[neighbours, &rest].concat());
    }
    // Where there is none, it is asked for with the next packet.
    let _ = ip(&[neighbours, &["del", address, "dev", device]].concat());
    Ok(())
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.cable()]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    run("ip", arguments)
}

/// `ip` or its companion `tc`.
pub(crate) fn run(program: &'static str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().context(program)?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
