//! A bare connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_protocol::Request;
use aqueduct_protocol::frame::{decode_response, encode_request};
use aqueduct_protocol::header::peek_correlation_id;
use aqueduct_tests::server::Server;
use bytes::{Bytes, BytesMut};

/// What is taken for no answer at all.
const SILENCE: Duration = Duration::from_secs(90);

pub struct Socket {
    stream: TcpStream,
    next_id: i32,
}

impl Socket {
    pub fn open(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], server.port())))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self { stream, next_id: 100 })
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends a frame with this content.
    pub fn write_frame(&mut self, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len())?;
        self.write(&[&size.to_be_bytes(), content].concat())
    }

    /// The next frame without its size, or nothing where the other side has closed the connection.
    pub fn read(&mut self) -> Result<Option<Bytes>> {
        let mut size = [0; 4];
        match self.stream.read_exact(&mut size) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            Err(error) => return Err(error).context("no answer and no end of the connection"),
        }
        let mut frame = BytesMut::zeroed(u32::from_be_bytes(size) as usize);
        self.stream.read_exact(&mut frame)?;
        Ok(Some(frame.freeze()))
    }

    /// `closed` or `answered`.
    pub fn fate(&mut self) -> Result<&'static str> {
        Ok(if self.read()?.is_none() { "closed" } else { "answered" })
    }

    /// Sends a request without waiting and gives its correlation id.
    pub fn start<R: Request>(&mut self, request: &R, version: i16) -> Result<i32> {
        self.next_id += 1;
        let mut frame = BytesMut::new();
        encode_request(&mut frame, request, version, self.next_id, Some(&"wire".into()))?;
        self.write(&frame)?;
        Ok(self.next_id)
    }

    /// Reads the answer to a request, which must be the next frame.
    pub fn finish<R: Request>(&mut self, id: i32, version: i16) -> Result<R::Response> {
        let frame = self.read()?.with_context(|| format!("{} {version}: connection closed", R::NAME))?;
        ensure!(peek_correlation_id(&frame)? == id, "{} {version}: answer to another request", R::NAME);
        Ok(decode_response::<R>(frame, version)?.1)
    }

    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let id = self.start(request, version)?;
        self.finish::<R>(id, version)
    }
}
