//! What the operating system says of a process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// CPU time of a process so far, user and system, in seconds.
pub fn cpu_seconds(id: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name in parentheses may hold blanks.
    let after = stat.rsplit_once(") ").context("no name in stat")?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // The kernel counts in hundredths of a second wherever Linux runs today.
    Ok(ticks as f64 / 100.0)
}

/// Resident memory of a process now and at its peak, in MiB.
pub fn memory_mib(id: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let of = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    };
    Ok((of("VmRSS:")?, of("VmHWM:")?))
}

/// Milliseconds from `from` to the first answer to a Metadata request that lists a broker.
pub fn first_metadata(port: u16, from: Instant, limit: Duration) -> Result<f64> {
    while from.elapsed() < limit {
        if answers(port).unwrap_or(false) {
            return Ok(from.elapsed().as_secs_f64() * 1000.0);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("no broker answered on port {port} within {limit:?}")
}

/// One Metadata request, version 1, for no topics.
fn answers(port: u16) -> Result<bool> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.write_all(b"\0\0\0\x13\0\x03\0\x01\0\0\0\x01\0\x05bench\0\0\0\0")?;
    let mut head = [0; 12];
    socket.read_exact(&mut head)?;
    Ok(i32::from_be_bytes([head[8], head[9], head[10], head[11]]) > 0)
}

/// Times, to be told by their percentiles.
#[derive(Default)]
pub struct Percentiles(Vec<f64>);

impl Percentiles {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    /// The percentile in milliseconds.
    pub fn at(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * percent / 100.0) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}
