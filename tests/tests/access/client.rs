//! A client that logs in by PLAIN and speaks the raw protocol.

use std::fmt::Debug;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use aqueduct_protocol::{Request, frame};
use bytes::{Bytes, BytesMut};

pub struct Client {
    stream: TcpStream,
    next: i32,
    bootstrap: String,
    user: String,
}

impl Client {
    pub fn login(bootstrap: &str, user: &str) -> Result<Self> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, next: 0, bootstrap: bootstrap.into(), user: user.into() };
        client.call(&SaslHandshakeRequest { mechanism: "PLAIN".into() }, 1)?;
        let token = format!("\0{user}\0{user}-secret");
        let answer =
            client.call(&SaslAuthenticateRequest { auth_bytes: Bytes::from(token.into_bytes()) }, 2)?;
        ensure!(answer.error_code == 0, "login of {user}: {answer:?}");
        Ok(client)
    }

    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.next += 1;
        let mut out = BytesMut::new();
        frame::encode_request(&mut out, request, version, self.next, Some(&"tester".into()))?;
        self.stream.write_all(&out)?;
        let mut size = [0; 4];
        self.stream
            .read_exact(&mut size)
            .with_context(|| format!("{} {version} to {} was not answered", R::NAME, self.bootstrap))?;
        let mut bytes = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut bytes)?;
        Ok(frame::decode_response::<R>(bytes.into(), version)?.1)
    }

    /// Every error code in the answer, in order, or that the connection was closed.
    pub fn codes<R: Request>(&mut self, request: &R, version: i16) -> String
    where
        R::Response: Debug,
    {
        match self.call(request, version) {
            Ok(response) => {
                let text = format!("{response:?}");
                let number = |text: &str| {
                    text.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect::<String>()
                };
                let mut codes: Vec<String> = text.split("error_code: ").skip(1).map(number).collect();
                codes.sort();
                format!("{} {version}: {}", R::NAME, codes.join(" "))
            }
            Err(error) => {
                let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                assert_ne!(kind, Some(ErrorKind::WouldBlock), "{error:#}");
                if let Ok(anew) = Self::login(&self.bootstrap, &self.user) {
                    *self = anew;
                }
                format!("{} {version}: closed", R::NAME)
            }
        }
    }
}
