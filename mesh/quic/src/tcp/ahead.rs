//! Reading many TLS records with one call to the kernel, without a buffer where nothing comes.
//!
//! rustls asks for a few KiB at a time. A connection that is idle, as most of a node's thousands
//! are, keeps nothing here.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use rap_proto::Lane;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::{controllers::Controllers, sending::Sending};

/// What is read from the kernel at once: four TLS records.
const READ_BYTES: usize = 64 * 1024;

pub(crate) struct ReadAhead<S> {
    stream: S,
    read: BytesMut,
    sending: Option<Sending>,
}

impl<S> ReadAhead<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new(), sending: None }
    }

    pub(super) const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What is sent is of this lane: bulk keeps the queue of its path short.
    pub(crate) fn keep_queue_short(&mut self, lane: Lane, controllers: &Controllers) {
        self.sending = Sending::of(lane, controllers);
    }
}

impl<S: AsFd> ReadAhead<S> {
    fn wrote(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some(sending) = &mut self.sending {
            match &wrote {
                Poll::Ready(Ok(bytes)) => sending.took(&self.stream, *bytes),
                Poll::Pending => sending.blocks(),
                Poll::Ready(Err(_)) => {}
            }
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, read, .. } = &mut *self;
        if read.is_empty() {
            read.reserve(READ_BYTES);
            let received = pin!(stream.read_buf(read)).poll(context);
            if read.is_empty() {
                *read = BytesMut::new();
            }
            ready!(received)?;
        }
        let length = read.len().min(buffer.remaining());
        buffer.put_slice(&read[..length]);
        read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::{io::AsyncWriteExt as _, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn what_is_read_ahead_comes_in_order_and_an_idle_reader_keeps_no_buffer() {
        let (mut far, near) = UnixStream::pair().unwrap();
        let mut reader = ReadAhead::new(near);
        let sent: Vec<u8> = (0..=250).cycle().take(READ_BYTES + 10).collect();
        far.write_all(&sent).await.unwrap();
        let mut received = vec![0; sent.len()];
        reader.read_exact(&mut received[..10]).await.unwrap();
        assert!(reader.read.len() >= READ_BYTES - 10, "one read took as much as may be");
        reader.read_exact(&mut received[10..]).await.unwrap();
        assert_eq!(received, sent);

        let waiting = std::future::poll_fn(|context| {
            let mut room = [0; 16];
            Poll::Ready(Pin::new(&mut reader).poll_read(context, &mut ReadBuf::new(&mut room)))
        });
        assert!(waiting.await.is_pending());
        assert_eq!(reader.read.capacity(), 0);

        drop(far);
        assert_eq!(reader.read(&mut [0; 16]).await.unwrap(), 0);
    }
}
