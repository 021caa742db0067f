//! The bytes of a connection, plain or encrypted. Plain ones keep the socket's own calls, `sendfile` among them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use aqueduct_client::injected::Socket;
use aqueduct_protocol::fetch_plan::Chunk;
use aqueduct_storage::Slice;
use bytes::Bytes;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::send;

/// Read from a file and encrypted at once.
const FILE_PIECE: usize = 64 << 10;

/// One connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Of a simulated network; never encrypted.
    Injected(Box<dyn Socket>),
}

impl Stream {
    /// Resolves when there is something to read, or the end of it.
    pub async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            Self::Tls(stream) => poll_fn(|cx| Pin::new(&mut **stream).poll_fill_buf(cx).map_ok(drop)).await,
            // Its bytes are read when they are there: what has no bytes yet is no reason to give up room.
            Self::Injected(_) => Ok(()),
        }
    }

    /// Writes all of `bytes`.
    pub async fn bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Plain(stream) => send::bytes(stream, bytes, false).await,
            Self::Tls(stream) => {
                stream.write_all(&bytes).await?;
                stream.flush().await
            }
            Self::Injected(stream) => stream.write_all(&bytes).await,
        }
    }

    /// Writes the pieces of one answer in order.
    pub async fn chunks(&mut self, chunks: Vec<Chunk<Slice>>) -> io::Result<()> {
        match self {
            Self::Plain(stream) => send::chunks(stream, chunks).await.map(drop),
            Self::Tls(stream) => copied(stream, chunks).await,
            Self::Injected(stream) => copied(stream, chunks).await,
        }
    }

    /// Says that nothing more will come, where the protocol has a way to say it.
    pub async fn close(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = stream.shutdown().await;
        }
    }
}

/// Writes pieces, files among them by way of memory.
async fn copied(stream: &mut (impl AsyncWrite + Unpin), chunks: Vec<Chunk<Slice>>) -> io::Result<()> {
    let mut piece = Vec::new();
    for chunk in chunks {
        match chunk {
            Chunk::Inline(bytes) => stream.write_all(&bytes).await?,
            Chunk::File(range) if range.is_empty() => {}
            Chunk::File(range) => {
                send::warmed(&range).await?;
                let (mut at, mut left) = (range.position, range.len);
                while left > 0 {
                    piece.resize(left.min(FILE_PIECE), 0);
                    let read = send::read_at(&range, &mut piece, at)?;
                    stream.write_all(&piece[..read]).await?;
                    (at, left) = (at + read as u64, left - read);
                }
            }
        }
    }
    stream.flush().await
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
