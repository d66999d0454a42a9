//! The resource: it counts, or it echoes, as the session's number says.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh::{ByteStream, DialRequest, Dialed, Dialer};
use rap_proto::refusal::Refusal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cluster::Target;

/// What an echo holds before it takes no more.
const MAX_HELD: usize = 64 * 1024;

pub(crate) struct Resource;

impl Dialer for Resource {
    fn dial(&self, request: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        let dialed = match Target::of(request.session) {
            Target::Counts => Dialed::without_worker(Count::default()),
            Target::Echoes => Dialed::without_worker(Echo::default()),
        };
        async { Ok(dialed) }.boxed()
    }
}

/// Takes everything; after the end it gives the number of bytes, once.
#[derive(Default)]
struct Count {
    bytes: u64,
    ended: bool,
    told: bool,
    reader: Option<Waker>,
}

impl ByteStream for Count {}

impl AsyncWrite for Count {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bytes += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        wake(&mut self.reader);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Count {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ended {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if !self.told {
            self.told = true;
            buffer.put_slice(&self.bytes.to_be_bytes());
        }
        Poll::Ready(Ok(()))
    }
}

/// Gives back what it gets.
#[derive(Default)]
struct Echo {
    held: Vec<u8>,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl ByteStream for Echo {}

impl AsyncWrite for Echo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = bytes.len().min(MAX_HELD - self.held.len());
        if length == 0 && !bytes.is_empty() {
            self.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.held.extend_from_slice(&bytes[..length]);
        wake(&mut self.reader);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        wake(&mut self.reader);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Echo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() && !self.ended {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = self.held.len().min(buffer.remaining());
        buffer.put_slice(&self.held[..length]);
        self.held.drain(..length);
        wake(&mut self.writer);
        Poll::Ready(Ok(()))
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}
