//! The ends of connections, as nodes and clients use them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use aqueduct_client::injected::{Acceptor, Network, Socket};
use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Event, Fabric, PIECE, WINDOW};

/// The network as nodes and clients know it.
#[derive(Debug)]
pub struct Wires(pub Fabric);

impl Network for Wires {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        let (fabric, address) = (self.0.clone(), address.parse::<SocketAddr>());
        async move {
            let address = address.map_err(|_| io::Error::other("addresses only"))?;
            let end = End { id: fabric.with(|state| state.connect(address))?, side: 0, fabric };
            poll_fn(|cx| end.poll_open(cx)).await?;
            Ok(Box::new(end) as Box<dyn Socket>)
        }
        .boxed()
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Acceptor>> {
        self.0.with(|state| state.listen(address))?;
        Ok(Box::new(Door { fabric: self.0.clone(), address }))
    }
}

/// Where connections arrive.
#[derive(Debug)]
struct Door {
    fabric: Fabric,
    address: SocketAddr,
}

impl Acceptor for Door {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, SocketAddr)>> {
        poll_fn(move |cx| {
            let next = self.fabric.with(|state| {
                let backlog = state.listeners.get_mut(&self.address)?;
                let next = backlog.waiting.pop_front();
                if next.is_none() {
                    backlog.waker = Some(cx.waker().clone());
                }
                next
            });
            match next {
                Some((id, from)) => {
                    let end: Box<dyn Socket> = Box::new(End { fabric: self.fabric.clone(), id, side: 1 });
                    Poll::Ready(Ok((end, from)))
                }
                None => Poll::Pending,
            }
        })
        .boxed()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.fabric.with(|state| state.stop_listening(self.address));
    }
}

/// One end of a connection.
#[derive(Debug)]
struct End {
    fabric: Fabric,
    id: u64,
    side: usize,
}

impl End {
    fn poll_open(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.fabric.with(|state| {
            let Some(connection) = state.connections.get_mut(&self.id) else { return reset() };
            if connection.is_refused {
                return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
            }
            if connection.is_open {
                return Poll::Ready(Ok(()));
            }
            let side = &mut connection.sides[self.side];
            if side.is_reset {
                return reset();
            }
            side.reader = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

fn reset<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.fabric.with(|state| {
            let Some(connection) = state.connections.get_mut(&this.id) else { return reset() };
            let [one, other] = &mut connection.sides;
            let (own, peer) = if this.side == 0 { (one, other) } else { (other, one) };
            if own.is_reset {
                return reset();
            }
            let Some(first) = own.inbox.front_mut() else {
                if own.is_ended {
                    return Poll::Ready(Ok(()));
                }
                own.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let count = first.len().min(buffer.remaining());
            buffer.put_slice(&first[..count]);
            first.advance(count);
            if first.is_empty() {
                own.inbox.pop_front();
            }
            peer.outstanding = peer.outstanding.saturating_sub(count);
            state.wakers.extend(peer.writer.take());
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.fabric.with(|state| {
            let Some(connection) = state.connections.get_mut(&this.id) else { return reset() };
            let own = &mut connection.sides[this.side];
            if own.is_reset {
                return reset();
            }
            if own.outstanding >= WINDOW {
                own.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = bytes.len().min(PIECE);
            own.outstanding += count;
            state.send(this.id, this.side, Event::Data(Bytes::copy_from_slice(&bytes[..count])));
            Poll::Ready(Ok(count))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.fabric.with(|state| state.send(this.id, this.side, Event::End));
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.fabric.with(|state| state.close(self.id, self.side));
    }
}
