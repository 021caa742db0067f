//! The bytes of a connection, plain or encrypted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::injected::Socket;
use crate::error::{Error, Result};

/// One connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Of a simulated network; never encrypted.
    Injected(Box<dyn Socket>),
}

impl Stream {
    /// Encrypts a connection to `broker` (`host:port`).
    pub async fn encrypt(broker: &str, stream: TcpStream, config: Arc<rustls::ClientConfig>) -> Result<Self> {
        let failed = |why: String| Error::Tls { broker: broker.to_owned(), why };
        let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream))),
            Err(error) => match tls_error(&error) {
                Some(found) => Err(failed(explained(found))),
                None => Err(Error::Connect { broker: broker.to_owned(), source: Arc::new(error) }),
            },
        }
    }
}

/// What TLS has to say in an error of input or output, if it is that.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What is wrong, and what to change.
pub(super) fn explained(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error as Tls};
    let remedy = match error {
        Tls::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "the broker's certificate is signed by nobody in the trust store: put its CA into ssl.truststore.location"
        }
        Tls::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the broker's certificate has expired: renew it on the broker"
        }
        Tls::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => {
            "the broker's certificate is for another host: use a name that it holds in bootstrap.servers and \
             advertised.listeners, or set ssl.endpoint.identification.algorithm to nothing"
        }
        Tls::InvalidMessage(_) => {
            "does the broker speak TLS on that port? Check security.protocol and the port"
        }
        Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::CertificateExpired,
        ) => {
            "the broker wants a client certificate that it trusts: set ssl.keystore.location to one that its trust \
             store vouches for"
        }
        Tls::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion) => {
            "no version or cipher suite in common: compare ssl.enabled.protocols and ssl.cipher.suites"
        }
        _ => return error.to_string(),
    };
    format!("{error}; {remedy}")
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Self::Injected(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::Injected(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Injected(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Injected(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
