//! Between a flow, of a lane or of a client, and a resource's byte stream, at the egress.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, Shared};
use rap_mesh_core::{
    carrier::MAX_DATA,
    ended::{ended_code, ended_reason},
    shape::Direction,
};
use rap_proto::observation::EndReason;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::timeout,
};

use super::{CopyEnd, Counters, Halves, Side, natural, passed_on};
use crate::{
    ByteStream,
    mesh::locked,
    pieces::{LITTLE, PIECES, write_first},
    pipe::{Broken, Inlet, Outlet, Unsent},
    shaping::Shaped,
};

/// What is read from a resource at once: what fills one part of a lane on TCP. A few bytes more would
/// make a part of their own, with a TLS record and a call to the kernel for each.
const BUFFER: usize = MAX_DATA;
/// How long the supervisor may take to notice that the worker, whose stream just closed in both
/// directions, is dead.
const WORKER_EXIT_WAIT: Duration = Duration::from_millis(500);
/// The same when the client had closed before: then the stream closes in any case.
const WORKER_EXIT_GLANCE: Duration = Duration::from_millis(10);

type Death = Shared<BoxFuture<'static, ()>>;

/// Copies both ways until both directions are closed, one of them is cut, the worker dies, or
/// `over` says so; `shaped` says how fast. Returns why the flow ended.
pub(crate) async fn splice_target(
    from: &mut Halves<'_>,
    side: Side,
    target: Box<dyn ByteStream>,
    worker_died: Death,
    shaped: &Shaped,
    counters: &Counters,
    over: impl Future<Output = EndReason>,
) -> EndReason {
    let reader = Half(Arc::new(Mutex::new(target)));
    let writer = Half(reader.0.clone());
    let up_open = AtomicBool::new(true);
    let cut = {
        let up = upwards(from.recv, side, writer, shaped, &counters.up);
        let worker = Worker { died: worker_died.clone(), up_open: &up_open };
        let down = downwards(reader, from.send, side, shaped, &counters.down, worker);
        tokio::pin!(up, down, over, worker_died);
        let mut down_open = true;
        let mut first = None;
        loop {
            let end = tokio::select! {
                biased;
                reason = &mut over => break reason,
                () = &mut worker_died => break EndReason::WorkerDied,
                end = &mut up, if up_open.load(Ordering::Relaxed) => {
                    up_open.store(false, Ordering::Relaxed);
                    first.get_or_insert(match &end {
                        CopyEnd::Stopped(reason) => reason.unwrap_or(EndReason::TargetClosed),
                        _ => EndReason::ClientClosed,
                    });
                    end
                }
                end = &mut down, if down_open => {
                    down_open = false;
                    first.get_or_insert(match &end {
                        CopyEnd::Stopped(_) => EndReason::ClientClosed,
                        _ => EndReason::TargetClosed,
                    });
                    end
                }
            };
            if let CopyEnd::Cut(reason) = end {
                break reason;
            }
            if !up_open.load(Ordering::Relaxed) && !down_open {
                return natural(first);
            }
        }
    };
    from.cut(cut);
    cut
}

async fn upwards(
    from: &mut Inlet,
    side: Side,
    mut to: Half,
    shaped: &Shaped,
    count: &AtomicU64,
) -> CopyEnd {
    let mut pieces: [Bytes; PIECES] = Default::default();
    loop {
        let received = match from.pieces(&mut pieces).await {
            Ok(0) => {
                // A target that is gone meanwhile shows it in the other direction.
                let _ = to.shutdown().await;
                return CopyEnd::Finished;
            }
            // Whichever side this is: what comes up comes from the client.
            Err(Broken::Reset(code)) => {
                return CopyEnd::Cut(ended_reason(code).unwrap_or(EndReason::ClientClosed));
            }
            Err(Broken::Lost(close)) => return CopyEnd::Cut(side.lost_because(close)),
            Ok(count) => &mut pieces[..count],
        };
        let mut left: usize = received.iter().map(Bytes::len).sum();
        while left > 0 {
            let passing = async {
                let granted = shaped.pass(Direction::Up, left).await;
                write_first(&mut to, received, granted).await.map(|()| granted)
            };
            let Ok(granted) = passed_on((from, side), passing).await else {
                let reason = EndReason::TargetClosed;
                // What the target still sends is passed on; only this direction ends here.
                from.stop(ended_code(reason));
                return CopyEnd::Stopped(Some(reason));
            };
            count.fetch_add(granted as u64, Ordering::Relaxed);
            left -= granted;
        }
    }
}

async fn downwards(
    mut from: Half,
    to: &mut Outlet,
    side: Side,
    shaped: &Shaped,
    count: &AtomicU64,
    worker: Worker<'_>,
) -> CopyEnd {
    let stopped = to.stopped();
    tokio::pin!(stopped);
    let mut buffer = BytesMut::new();
    loop {
        let read = tokio::select! {
            biased;
            read = poll_fn(|context| poll_read(&mut from, &mut buffer, context)) => read,
            unsent = &mut stopped => return unwanted(unsent, side),
        };
        let mut bytes = match read {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => bytes,
            Err(_) => {
                return CopyEnd::Cut(worker.broke().await);
            }
        };
        while !bytes.is_empty() {
            let granted = tokio::select! {
                biased;
                granted = shaped.pass(Direction::Down, bytes.len()) => granted,
                unsent = &mut stopped => return unwanted(unsent, side),
            };
            match to.write_pieces(&mut [bytes.split_to(granted)]).await {
                Ok(()) => count.fetch_add(granted as u64, Ordering::Relaxed),
                Err(unsent) => return unwanted(unsent, side),
            };
        }
    }
    if locked(&from.0).other_side_is_gone() && worker.broke().await == EndReason::WorkerDied {
        return CopyEnd::Cut(EndReason::WorkerDied);
    }
    to.finish().await;
    CopyEnd::Finished
}

/// Reads what there is; nothing is the end. While nothing comes, no buffer is kept for it. A buffer with little
/// room is replaced. Little is copied out of it: whoever keeps it until it is acknowledged would keep the whole
/// buffer.
fn poll_read(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    if buffer.capacity() < LITTLE {
        buffer.reserve(BUFFER);
    }
    let Poll::Ready(read) = pin!(from.read_buf(buffer)).poll(context) else {
        *buffer = BytesMut::new();
        return Poll::Pending;
    };
    Poll::Ready(read.map(|length| {
        if length >= LITTLE {
            return buffer.split().freeze();
        }
        let little = Bytes::copy_from_slice(buffer);
        buffer.clear();
        little
    }))
}

fn unwanted(unsent: Unsent, side: Side) -> CopyEnd {
    match unsent {
        Unsent::Stopped(code) => CopyEnd::Stopped(ended_reason(code)),
        Unsent::Lost(close) => CopyEnd::Cut(side.lost_because(close)),
    }
}

/// What is known of the worker behind a stream.
struct Worker<'a> {
    died: Death,
    /// Whether the client may still send.
    up_open: &'a AtomicBool,
}

impl Worker<'_> {
    /// Why its stream broke in both directions: it died, or the target reset it.
    async fn broke(self) -> EndReason {
        let up_open = self.up_open.load(Ordering::Relaxed);
        let wait = if up_open { WORKER_EXIT_WAIT } else { WORKER_EXIT_GLANCE };
        match timeout(wait, self.died).await {
            Ok(()) => EndReason::WorkerDied,
            Err(_) => EndReason::TargetClosed,
        }
    }
}

/// One direction of a resource's stream. Both are polled by the same task, so nobody waits for
/// the lock.
struct Half(Arc<Mutex<Box<dyn ByteStream>>>);

impl AsyncRead for Half {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut **locked(&self.0)).poll_read(context, buffer)
    }
}

impl AsyncWrite for Half {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **locked(&self.0)).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **locked(&self.0)).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        locked(&self.0).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **locked(&self.0)).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **locked(&self.0)).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn no_buffer_is_kept_while_nothing_comes_and_none_by_what_is_little() {
        let (mut far, mut near) = duplex(2 * BUFFER);
        let mut buffer = BytesMut::new();
        let waits =
            poll_fn(|context| Poll::Ready(poll_read(&mut near, &mut buffer, context).is_pending()));
        assert!(waits.await);
        assert_eq!(buffer.capacity(), 0);

        far.write_all(&[1; LITTLE - 1]).await.unwrap();
        let little = poll_fn(|context| poll_read(&mut near, &mut buffer, context)).await.unwrap();
        assert_eq!(little, [1; LITTLE - 1][..]);
        assert_eq!(buffer.capacity(), BUFFER, "all of it is there for what comes next");
        far.write_all(&[2; LITTLE]).await.unwrap();
        let more = poll_fn(|context| poll_read(&mut near, &mut buffer, context)).await.unwrap();
        assert_eq!(more, [2; LITTLE][..]);
        assert_eq!(buffer.capacity(), BUFFER - LITTLE, "it is not copied");

        drop(far);
        let end = poll_fn(|context| poll_read(&mut near, &mut buffer, context)).await.unwrap();
        assert!(end.is_empty());
    }
}
