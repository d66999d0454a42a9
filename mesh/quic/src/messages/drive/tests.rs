#![allow(clippy::unwrap_used)]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use rap_mesh_core::channel::{Message, Policy};
use rap_proto::ChannelKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, duplex, split};

use super::super::{Cut, MessageChannel};

/// Two halves of a stream that is flushed no sooner than its reader was told that the other side has
/// ended.
struct FlushedLast<T>(T, Arc<AtomicBool>);

impl<R: AsyncRead + Unpin> AsyncRead for FlushedLast<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        self.1.fetch_or(buffer.filled().len() == before, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for FlushedLast<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The reader's end wakes the task that waits here.
        if self.1.load(Ordering::SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A channel whose stream flushes last, and its other side.
fn flushed_last(pipe: usize) -> (MessageChannel, MessageChannel) {
    let policy = Policy::of(ChannelKind::Control).unwrap();
    let (near, far) = duplex(pipe);
    let ended = Arc::<AtomicBool>::default();
    let (reader, writer) = split(near);
    let reader = FlushedLast(reader, ended.clone());
    let last = MessageChannel::start(policy, reader, FlushedLast(writer, ended));
    let (reader, writer) = split(far);
    (last, MessageChannel::start(policy, reader, writer))
}

#[tokio::test]
async fn what_the_other_side_heard_is_finished_although_it_ended_before_the_flush() {
    let (last, other) = flushed_last(1024);
    other.finish().await.unwrap();
    assert_eq!(last.receive().await, Ok(None));
    // The other side has heard everything now, and leaves.
    last.finish().await.unwrap();
    assert_eq!(other.receive().await, Ok(None));
}

#[tokio::test]
async fn what_was_not_written_when_the_other_side_left_is_not_finished() {
    let (last, other) = flushed_last(8);
    last.send(Message { key: None, bytes: vec![0; 64].into() }).await.unwrap();
    other.finish().await.unwrap();
    drop(other);
    assert_eq!(last.finish().await, Err(Cut::Lost));
}

#[tokio::test]
async fn two_directions_that_are_always_ready_take_turns() {
    use std::future::{pending, ready};
    let mut turns = super::Turns::default();
    for _ in 0..3 {
        assert_eq!(turns.next(ready("read"), ready("put")).await, "read");
        assert_eq!(turns.next(ready("read"), ready("put")).await, "put");
    }
    // Whichever is not ready holds up nothing, and goes first once it is.
    assert_eq!(turns.next(pending(), ready("put")).await, "put");
    assert_eq!(turns.next(ready("read"), ready("put")).await, "read");
    assert_eq!(turns.next(ready("read"), pending()).await, "read");
    assert_eq!(turns.next(ready("read"), ready("put")).await, "put");
}
