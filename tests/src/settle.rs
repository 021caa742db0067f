//! Waiting until a broker of Apache Kafka has read back what its controller has written: it answers a change earlier, and
//! on a busy machine describes for a moment what was before.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::server::{Kind, Server};

/// A config of a group that nobody joins.
const KEY: &str = "consumer.session.timeout.ms";
const GROUP: u8 = 32;
const DESCRIBE_CONFIGS: (u16, u16) = (32, 1);
const INCREMENTAL_ALTER_CONFIGS: (u16, u16) = (44, 0);

/// Waits until the broker describes all that was changed so far. Ours does at once.
pub fn settle(server: &Server) -> Result<()> {
    Settler::connect(server)?.settle()
}

/// A connection to settle more than once.
pub struct Settler {
    stream: Option<TcpStream>,
    group: String,
}

impl Settler {
    /// Connects, where the broker is Apache Kafka's.
    pub fn connect(server: &Server) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let group = format!("settled-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        if server.kind() == Kind::Aqueduct {
            return Ok(Self { stream: None, group });
        }
        let stream = TcpStream::connect(("127.0.0.1", server.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: Some(stream), group })
    }

    /// Waits until the broker describes all that was changed so far.
    pub fn settle(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        // What came with the first of these changes may be described before it works, but it does before the second.
        for value in ["45001", "45002"] {
            let resource =
                [&[0, 0, 0, 1, GROUP], &*string(&self.group), &[0, 0, 0, 1], &*string(KEY)].concat();
            let change = [&*resource, &[0], &*string(value), &[0]].concat();
            let answer = ask(stream, INCREMENTAL_ALTER_CONFIGS, &change)?;
            ensure!(answer.get(12..14) == Some(&[0, 0][..]), "{KEY} of {}: {answer:?}", self.group);
            let deadline = Instant::now() + Duration::from_secs(60);
            let question = [&*resource, &[0]].concat();
            while !contains(&ask(stream, DESCRIBE_CONFIGS, &question)?, value) {
                ensure!(Instant::now() < deadline, "the broker does not describe what was changed");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn contains(answer: &[u8], text: &str) -> bool {
    answer.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Asks and gives the answer, which begins with the correlation id.
fn ask(stream: &mut TcpStream, (key, version): (u16, u16), body: &[u8]) -> Result<Vec<u8>> {
    let head = [key.to_be_bytes(), version.to_be_bytes(), [0, 0], [0, 1], [0xff, 0xff]].concat();
    let size = u32::try_from(head.len() + body.len())?;
    stream.write_all(&[&size.to_be_bytes()[..], &head, body].concat())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
