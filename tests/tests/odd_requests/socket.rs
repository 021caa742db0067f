//! A connection that asks anything, and says in words what comes back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aqueduct_tests::server::Server;

use crate::answer::Answer;
use crate::read::response;
use crate::schema::Message;

/// Codes of what is about to be there: a leader, a coordinator, an end of a transaction.
const BUSY: [i16; 5] = [6, 14, 15, 16, 51];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Socket {
    address: SocketAddr,
    stream: TcpStream,
    next_id: i32,
}

impl Socket {
    pub fn open(server: &Server) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
        Ok(Self { address, stream: connect(address)?, next_id: 1 })
    }

    /// The answer; `closed` where the connection ends instead.
    pub fn ask(&mut self, ask: &Message, answer: &Message, version: i16, body: &[u8]) -> Result<Answer> {
        for _ in 0..20 {
            let said = self.once(ask, answer, version, body)?;
            if !is_busy(&said) {
                return Ok(said);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.once(ask, answer, version, body)
    }

    /// The topics that requests name, however often they were deleted.
    pub fn create_topics(&mut self) -> Result<()> {
        let (ask, answer) = (Message::load("CreateTopicsRequest")?, Message::load("CreateTopicsResponse")?);
        let mut body = Vec::new();
        let topics = [("odd.a", 2i32), ("odd.b", 1)];
        body.extend((topics.len() as i32).to_be_bytes());
        for (name, partitions) in topics {
            body.extend((name.len() as i16).to_be_bytes());
            body.extend(name.as_bytes());
            body.extend(partitions.to_be_bytes());
            body.extend(1i16.to_be_bytes());
            // No assignments, no configs.
            body.extend([0; 8]);
        }
        body.extend(30_000i32.to_be_bytes());
        body.push(0);
        let codes = self.ask(&ask, &answer, 2, &body)?.codes();
        // Or there already.
        if codes.iter().any(|code| ![0, 36].contains(code)) {
            bail!("topics cannot be created: {codes:?}");
        }
        // Until the broker's own view has them.
        let (ask, answer) = (Message::load("MetadataRequest")?, Message::load("MetadataResponse")?);
        let mut body = Vec::from((topics.len() as i32).to_be_bytes());
        for (name, _) in topics {
            body.extend((name.len() as i16).to_be_bytes());
            body.extend(name.as_bytes());
        }
        body.push(0);
        for _ in 0..3000 {
            if codes.iter().all(|code| *code == 36) {
                return Ok(());
            }
            let seen = self.ask(&ask, &answer, 4, &body)?;
            if seen.codes().iter().all(|code| *code == 0) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the topics do not come")
    }

    fn once(&mut self, ask: &Message, answer: &Message, version: i16, body: &[u8]) -> Result<Answer> {
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
        let Some(bytes) = read? else { return Ok(Answer::Word("closed".to_owned())) };
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

pub fn is_busy(said: &Answer) -> bool {
    said.codes().iter().any(|code| BUSY.contains(code))
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
