//! What the same bytes cost at least: received from a socket and written to a file, and sent from a file to a socket.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_tests::process::{Process, accepts, free_port};
use tempfile::TempDir;

use super::Args as BrokerArgs;
use super::throughput::Scenario;
use crate::measure::cpu_seconds;
use crate::report::Report;

/// As much as a consumer asks of one partition at once.
const FETCH: usize = 1 << 20;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    file: PathBuf,
    /// Bytes that one request brings.
    #[arg(long)]
    piece: usize,
}

/// Notes the floors beside the scenarios that move plain bytes.
pub fn measure(args: &BrokerArgs, scenarios: &[Scenario], report: &mut Report) -> Result<()> {
    for batch_kib in [64, 16] {
        let of_batch = |scenario: &&Scenario| scenario.is_plain() && scenario.batch_kib == batch_kib;
        let plain: Vec<_> = scenarios.iter().filter(of_batch).collect();
        if plain.is_empty() {
            continue;
        }
        let (received, sent) = floors((batch_kib << 10) as usize, args.mib())?;
        for scenario in plain {
            report.add(&format!("produce: {}", scenario.name()), "broker CPU s/GiB", "floor", received);
            if let Some(name) = scenario.consumed() {
                report.add(&format!("consume: {name}"), "broker CPU s/GiB", "floor", sent);
            }
        }
    }
    Ok(())
}

/// CPU seconds a GiB of receiving and writing, and of sending.
fn floors(piece: usize, mib: u64) -> Result<(f64, f64)> {
    let dir = TempDir::with_prefix("bench-floor-")?;
    let (port, file) = (free_port()?, dir.path().join("bytes"));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--port", &port.to_string(), "--piece", &piece.to_string(), "--file"]).arg(&file);
    let mut server = Process::start("floor", &mut command, &dir.path().join("log"))?;
    server.wait_until(Duration::from_secs(10), || accepts(port))?;
    let gib = mib as f64 / 1024.0;
    let before = cpu_seconds(server.id())?;
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    let bytes = vec![7u8; piece];
    for _ in 0..(mib << 20) / piece as u64 {
        socket.write_all(&bytes)?;
    }
    socket.shutdown(std::net::Shutdown::Write)?;
    // The other side ends when it has written all.
    socket.read_to_end(&mut Vec::new())?;
    let received = cpu_seconds(server.id())?;
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.shutdown(std::net::Shutdown::Write)?;
    let (mut buffer, from) = (vec![0; FETCH], Instant::now());
    while socket.read(&mut buffer)? > 0 {}
    eprintln!("  floor: sent {:.0} MiB/s", mib as f64 / from.elapsed().as_secs_f64());
    let sent = cpu_seconds(server.id())?;
    Ok(((received - before) / gib, (sent - received) / gib))
}

/// A connection that brings bytes has them written to the file; one that brings none gets the file.
pub fn serve(args: &Args) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", args.port))?;
    let mut buffer = vec![0; args.piece];
    loop {
        let (mut socket, _) = listener.accept()?;
        let first = socket.read(&mut buffer)?;
        if first > 0 {
            let mut file = File::create(&args.file)?;
            file.write_all(&buffer[..first])?;
            loop {
                let read = socket.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                file.write_all(&buffer[..read])?;
            }
        } else if let Ok(file) = File::open(&args.file) {
            let end = file.metadata()?.len();
            let mut at = 0;
            while at < end {
                let want = FETCH.min((end - at) as usize);
                rustix::fs::sendfile(&socket, &file, Some(&mut at), want).context("sendfile")?;
            }
        }
    }
}
