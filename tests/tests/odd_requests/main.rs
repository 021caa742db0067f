//! Every API in every version is asked the same odd things of our broker and of Apache Kafka's: nothing, null, twice the
//! same, numbers below zero and far too large, names of nobody, frames cut short. The answers must be the same.

mod read;
mod schema;
mod write;

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aqueduct_tests::server::{Kind, Server};
use aqueduct_tests::tools::Driver;

use read::response;
use schema::{Message, apis};
use write::{Chance, request};

/// Requests for each version of an API.
const ROUNDS: u32 = 12;

/// APIs whose answers tell of the broker itself, and are compared elsewhere or by none.
const LEFT_OUT: &[&str] = &[
    // The list of APIs and features: `connection` of the wire tests.
    "ApiVersions",
    // Which loggers there are, and every config of each: the wire tests and the tools' scripts.
    "DescribeConfigs",
    // Sizes and free space.
    "DescribeLogDirs",
    // Offsets of the metadata's own log.
    "DescribeQuorum",
    // Which groups others left behind, and for how long: the schedules of groups.
    "ListGroups",
];

const SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "5"),
    ("num.partitions", "1"),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:ANONYMOUS"),
];

#[test]
fn odd_requests_get_the_same_answers() -> Result<()> {
    let servers =
        [Server::start_with(Kind::Aqueduct, SETTINGS)?, Server::start_with(Kind::ApacheKafka, SETTINGS)?];
    let mut sockets = [Socket::open(&servers[0])?, Socket::open(&servers[1])?];
    let only = std::env::var("ODD_API").ok();
    let mut tools = [Driver::start()?, Driver::start()?];
    let mut are_gone = true;
    let (mut differences, mut asked) = (String::new(), 0);
    for (number, api) in apis()?.iter().enumerate() {
        if LEFT_OUT.contains(&api.as_str()) || only.as_ref().is_some_and(|only| only != api) {
            continue;
        }
        // Until they are deleted, the topics that requests name stay.
        if std::mem::take(&mut are_gone) {
            servers.iter().zip(&mut tools).try_for_each(|(server, tools)| topics(server, tools))?;
        }
        are_gone = api == "DeleteTopics";
        let (ask, answer) =
            (Message::load(&format!("{api}Request"))?, Message::load(&format!("{api}Response"))?);
        for version in ask.versions.all() {
            let mut chance = Chance::new(number as u64 * 1000 + version as u64);
            for round in 0..ROUNDS {
                let case = format!("{number}-{version}-{round}");
                let written = request(&ask, version, &case, &mut chance);
                let mut frame = written.bytes;
                // The last ones are not whole.
                if round == ROUNDS - 1 {
                    frame.truncate(frame.len() / 2);
                }
                let seen = sockets.each_mut().map(|socket| socket.ask(&ask, &answer, version, &frame));
                // Silence is an answer of its own kind: it must not end the comparison.
                let [ours, theirs] = seen.map(|seen| seen.unwrap_or_else(|error| format!("{error:#}")));
                asked += 1;
                if ours != theirs && !is_known(api, &ours, &theirs) {
                    let cut = if round == ROUNDS - 1 { " (cut)" } else { "" };
                    let difference =
                        format!("{api} {version}{cut} {}\n  ours   {ours}\n  theirs {theirs}", written.shown);
                    println!("{difference}");
                    let _ = writeln!(differences, "{difference}");
                }
            }
        }
    }
    println!("{asked} requests");
    assert!(
        differences.is_empty(),
        "{} of {asked} differ:\n{differences}",
        differences.matches("\n  ours").count()
    );
    Ok(())
}

/// Differences with a reason, which `docs/compatibility.md` gives.
fn is_known(api: &str, ours: &str, theirs: &str) -> bool {
    // The cluster of Apache Kafka is formatted with a value of its own, and a message of success has no meaning.
    let theirs = theirs
        .replace("ErrorCode=0 ErrorMessage=some", "ErrorCode=0 ErrorMessage=none")
        .replace(r#""min.insync.replicas" Value="1" ReadOnly=0 ConfigSource=3"#, DEFAULT_MIN_ISR);
    let theirs = theirs.as_str();
    const DEFAULT_MIN_ISR: &str = r#""min.insync.replicas" Value="1" ReadOnly=0 ConfigSource=5"#;
    const NO_ANSWER: &str = "no answer and no end of the connection";
    // Where Apache Kafka fails within, we say what is wrong.
    let fails_within = theirs.contains("ErrorCode=-1 ")
        || theirs.contains("ErrorCode=-1}")
        || theirs.starts_with(NO_ANSWER)
        || theirs == "closed" && ours.contains("ErrorCode=42 ");
    match api {
        // An auto-created topic is there at once.
        "Metadata" if theirs.contains("ErrorCode=3 ") && ours.contains("Partitions=[{ErrorCode=0 ") => true,
        // Parts of an entity, a feature or a user that a request has twice are refused, whatever else is wrong with them.
        "AlterClientQuotas" | "UpdateFeatures" if ours.contains("ErrorCode=42 ") => true,
        "AlterUserScramCredentials" if ours.contains("ErrorCode=92 ") => true,
        // Numbers of no meaning: nothing is found, or an error.
        "DescribeAcls" if theirs.contains("Resources=[]") && ours.contains("ErrorCode=42 ") => true,
        _ => fails_within && !ours.starts_with(NO_ANSWER) || says_more(ours, theirs),
    }
}

/// Whether the answers are the same but for messages that only ours has.
fn says_more(ours: &str, theirs: &str) -> bool {
    let parts = |text: &str| text.split("ErrorMessage=").map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (parts(ours), parts(theirs));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(our, their)| {
            our == their
                || our.strip_prefix("some").is_some_and(|our| their.strip_prefix("none") == Some(our))
        })
}

/// The topics that requests name, however often they were deleted.
fn topics(server: &Server, tools: &mut Driver) -> Result<()> {
    for (topic, partitions) in [("odd.a", "2"), ("odd.b", "1")] {
        let bootstrap = server.bootstrap();
        let args = ["--bootstrap-server", &bootstrap, "--create", "--if-not-exists", "--topic", topic];
        tools.tool(
            "org.apache.kafka.tools.TopicCommand",
            &[&args[..], &["--partitions", partitions]].concat(),
        )?;
    }
    Ok(())
}

struct Socket {
    address: SocketAddr,
    stream: TcpStream,
    next_id: i32,
}

impl Socket {
    fn open(server: &Server) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
        Ok(Self { address, stream: connect(address)?, next_id: 1 })
    }

    /// The answer in words; `closed` where the connection ends instead.
    fn ask(&mut self, ask: &Message, answer: &Message, version: i16, body: &[u8]) -> Result<String> {
        for _ in 0..20 {
            let text = self.once(ask, answer, version, body)?;
            // What is about to be there: a coordinator, an end of a transaction.
            let busy = ["ErrorCode=14 ", "ErrorCode=15 ", "ErrorCode=51 "];
            if !busy.iter().any(|code| text.contains(code)) {
                return Ok(text);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.once(ask, answer, version, body)
    }

    fn once(&mut self, ask: &Message, answer: &Message, version: i16, body: &[u8]) -> Result<String> {
        self.next_id += 1;
        let mut frame = Vec::new();
        frame.extend(ask.key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(self.next_id.to_be_bytes());
        frame.extend([0, 3]);
        frame.extend(b"odd");
        if ask.flexible.has(version) {
            frame.push(0);
        }
        frame.extend(body);
        self.stream.write_all(&u32::try_from(frame.len())?.to_be_bytes())?;
        self.stream.write_all(&frame)?;
        let read = self.read();
        if !matches!(read, Ok(Some(_))) {
            self.stream = connect(self.address)?;
        }
        let Some(bytes) = read? else { return Ok("closed".to_owned()) };
        let (id, mut rest) = bytes.split_at_checked(4).context("no correlation id")?;
        if id != self.next_id.to_be_bytes() {
            bail!("{} {version}: answer to another request", ask.name);
        }
        // The header of an answer has tags where its body has; but for ApiVersions.
        if answer.flexible.has(version) {
            rest = rest.get(1..).context("no tags")?;
        }
        response(answer, version, rest)
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let mut size = [0; 4];
        match self.stream.read_exact(&mut size) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            Err(error) => return Err(error).context("no answer and no end of the connection"),
        }
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(Some(frame))
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(4)))?;
    Ok(stream)
}
