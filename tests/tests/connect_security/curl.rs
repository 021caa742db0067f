//! curl, as one caller of a worker uses it; what it is told is kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long anything is waited for.
pub const LIMIT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    /// In lower case and without those that differ from one answer to the next, or from one server to the other.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    /// With lists of methods in order: the reference has that of Java's hashes.
    pub fn in_order(mut self) -> Self {
        let sorted = |text: &str| {
            let mut words: Vec<&str> = text.split(',').map(str::trim).collect();
            words.sort_unstable();
            words.join(",")
        };
        for name in ["allow", "access-control-allow-methods"] {
            if let Some(list) = self.headers.get_mut(name) {
                *list = sorted(list);
            }
        }
        if !self.body.starts_with(['{', '[']) {
            self.body = sorted(&self.body);
        }
        self
    }
}

/// Trusts one authority.
pub struct Curl {
    ca: String,
    heard: RefCell<String>,
}

impl Curl {
    /// `ca` is a PEM file.
    pub fn trusting(ca: String) -> Self {
        Self { ca, heard: RefCell::default() }
    }

    /// All answers so far, and what programs beside curl were told ([`Curl::note`]).
    pub fn heard(&self) -> String {
        self.heard.borrow().clone()
    }

    /// Keeps what another program was told.
    pub fn note(&self, text: &str) {
        self.heard.borrow_mut().push_str(text);
    }

    /// Runs curl with `options`, trusting nobody but whom they say.
    pub fn plainly(url: &str, options: &[&str]) -> Result<Output> {
        let mut command = Command::new("curl");
        command.args(["-sSi", "--path-as-is", "--max-time", "60"]).args(options).arg(url);
        command.output().context("curl")
    }

    /// Sends a request, a GET where `options` say nothing else.
    ///
    /// # Errors
    /// curl's words, where there is no answer.
    pub fn ask(&self, url: &str, options: &[&str]) -> Result<Reply> {
        let trust = ["--cacert", &self.ca];
        let output = Self::plainly(url, &[&trust[..], options].concat())?;
        if !output.status.success() {
            bail!("{url}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8(output.stdout)?;
        self.note(&text);
        let (head, body) = text.split_once("\r\n\r\n").context("no headers")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
        let of_the_moment = ["date", "server", "content-length", "transfer-encoding"];
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Ok(Reply {
            status: status.parse()?,
            headers: headers.filter(|(name, _)| !of_the_moment.contains(&&**name)).collect(),
            body: body.to_owned(),
        })
    }

    /// The answer once a rebalance is over that may be in the way of one.
    pub fn settled(&self, url: &str, options: &[&str]) -> Result<Reply> {
        let began = Instant::now();
        loop {
            let reply = self.ask(url, options)?;
            if !matches!(reply.status, 409 | 503) || began.elapsed() > LIMIT {
                return Ok(reply);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A request that has to succeed, then.
    pub fn done(&self, url: &str, options: &[&str]) -> Result<String> {
        let reply = self.settled(url, options)?;
        ensure!((200..300).contains(&reply.status), "{url}: {} {}", reply.status, reply.body);
        Ok(reply.body)
    }

    /// Asks until the answer holds `part`.
    pub fn until(&self, url: &str, options: &[&str], part: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let reply = self.ask(url, options)?;
            if reply.body.contains(part) {
                return Ok(());
            }
            ensure!(began.elapsed() < LIMIT, "{url}: no {part} in {}", reply.body);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
