//! A broker to test against: ours, or Apache Kafka's as the reference that says what to expect.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::aqueduct::Broker;
use crate::kafka::Kafka;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Aqueduct,
    ApacheKafka,
}

impl Kind {
    /// Both, for tests that compare.
    pub const BOTH: [Self; 2] = [Self::Aqueduct, Self::ApacheKafka];
}

/// A running broker of either kind, with the same settings.
pub enum Server {
    Aqueduct(Box<Broker>),
    ApacheKafka(Box<Kafka>),
}

/// Settings that keep tests quick and equal on both kinds.
const SETTINGS: &[(&str, &str)] = &[("offsets.topic.num.partitions", "5")];

impl Server {
    /// Starts a broker on a free port with an empty data directory.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, &[])
    }

    /// The same with more lines in `server.properties`.
    pub fn start_with(kind: Kind, settings: &[(&str, &str)]) -> Result<Self> {
        let all = [SETTINGS, settings].concat();
        Ok(match kind {
            Kind::Aqueduct => Self::Aqueduct(Box::new(Broker::start_with(&all)?)),
            Kind::ApacheKafka => Self::ApacheKafka(Box::new(Kafka::start_with(&all)?)),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Aqueduct(_) => Kind::Aqueduct,
            Self::ApacheKafka(_) => Kind::ApacheKafka,
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::Aqueduct(broker) => broker.port(),
            Self::ApacheKafka(kafka) => kafka.port(),
        }
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Folder of the logs.
    pub fn data(&self) -> PathBuf {
        match self {
            Self::Aqueduct(broker) => broker.data(),
            Self::ApacheKafka(kafka) => kafka.data(),
        }
    }

    /// Kills the process without warning.
    pub fn kill(&mut self) {
        match self {
            Self::Aqueduct(broker) => broker.process().kill(),
            Self::ApacheKafka(kafka) => kafka.kill(),
        }
    }

    /// Stops the process cleanly.
    pub fn stop(&mut self) -> Result<()> {
        match self {
            Self::Aqueduct(broker) => broker.process().terminate(Duration::from_secs(60)),
            Self::ApacheKafka(kafka) => kafka.stop(),
        }
    }

    /// Starts the process again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        match self {
            Self::Aqueduct(broker) => broker.restart(),
            Self::ApacheKafka(kafka) => kafka.restart(),
        }
    }

    /// The last lines that the process printed.
    pub fn log_tail(&mut self) -> String {
        match self {
            Self::Aqueduct(broker) => broker.process().log_tail(),
            Self::ApacheKafka(kafka) => kafka.process().log_tail(),
        }
    }

    /// Id of the process.
    pub fn process_id(&mut self) -> u32 {
        match self {
            Self::Aqueduct(broker) => broker.process().id(),
            Self::ApacheKafka(kafka) => kafka.process().id(),
        }
    }
}

/// A broker that all tests of one program share, and what ends it with the program.
struct Shared {
    server: Server,
    _watch: Child,
}

/// The broker of this kind that the tests of this program share: started by the first that asks, ended when the program
/// ends.
///
/// # Errors
/// Where it did not start, to every test that asks.
pub fn shared(kind: Kind) -> Result<&'static Server> {
    static SHARED: [OnceLock<Result<Shared, String>>; 2] = [OnceLock::new(), OnceLock::new()];
    // Two JVMs that start at once on two cores take longer than one after the other.
    static STARTING: Mutex<()> = Mutex::new(());
    let slot = &SHARED[usize::from(kind == Kind::ApacheKafka)];
    let start = || -> Result<Shared> {
        let _one_at_a_time = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut server = Server::start(kind)?;
        let watch = watch(&mut server)?;
        Ok(Shared { server, _watch: watch })
    };
    let shared = slot.get_or_init(|| start().map_err(|e| format!("{e:#}")));
    shared.as_ref().map(|s| &s.server).map_err(|e| anyhow!("{kind:?} did not start: {e}"))
}

/// What is static is never dropped: a shell that reads from a pipe of ours sees it close when this program ends, however
/// it ends, and then ends the server and removes its folder.
fn watch(server: &mut Server) -> Result<Child> {
    let dir = server.data();
    let dir = dir.parent().context("the data folder has a parent")?;
    let id = server.process_id().to_string();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' INT TERM; read -r _; kill -9 \"$1\" 2>/dev/null; sleep 0.2; rm -rf \"$2\"",
        "sh",
    ]);
    command.arg(id).arg(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("sh")
}

/// A program of a stock client, such as `python checks.py BOOTSTRAP`, that prints `PASS name` or `FAIL name: why` for
/// each check: runs it to its end.
///
/// # Errors
/// With all that it printed, where it fails or has checked nothing.
pub fn run_checks(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    let text = crate::kafka::text_of(&shown, &output)?;
    anyhow::ensure!(
        text.lines().any(|line| line.starts_with("PASS "))
            && !text.lines().any(|line| line.starts_with("FAIL ")),
        "{shown}:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Makes each named function of type `fn(&Server) -> anyhow::Result<()>` two tests, `name::aqueduct` and
/// `name::apache_kafka`, on the broker of each kind that the program shares.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn aqueduct() -> anyhow::Result<()> {
                super::$name($crate::server::shared($crate::server::Kind::Aqueduct)?)
            }

            #[test]
            fn apache_kafka() -> anyhow::Result<()> {
                super::$name($crate::server::shared($crate::server::Kind::ApacheKafka)?)
            }
        }
    )*};
}
