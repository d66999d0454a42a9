//! Between a flow, of a lane or of a client, and a resource's byte stream, at the egress.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::future::{BoxFuture, Shared};
use rap_mesh_core::{
    ended::{ended_code, ended_reason},
    shape::Direction,
};
use rap_proto::observation::EndReason;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::timeout,
};

use super::{CopyEnd, Counters, Halves, Side, natural};
use crate::{
    ByteStream,
    mesh::locked,
    pipe::{Broken, Inlet, Outlet, Unsent},
    shaping::Shaped,
};

/// What is read from a resource at once.
const BUFFER: usize = 64 * 1024;
/// A buffer with less room than this is replaced.
const MIN_ROOM: usize = 8 * 1024;
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
    loop {
        let mut chunk = match from.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                // A target that is gone meanwhile shows it in the other direction.
                let _ = to.shutdown().await;
                return CopyEnd::Finished;
            }
            // Whichever side this is: what comes up comes from the client.
            Err(Broken::Reset(code)) => {
                return CopyEnd::Cut(ended_reason(code).unwrap_or(EndReason::ClientClosed));
            }
            Err(Broken::Lost(close)) => return CopyEnd::Cut(side.lost_because(close)),
        };
        while !chunk.is_empty() {
            let part = chunk.split_to(shaped.pass(Direction::Up, chunk.len()).await);
            if to.write_all(&part).await.is_err() {
                let reason = EndReason::TargetClosed;
                // What the target still sends is passed on; only this direction ends here.
                from.stop(ended_code(reason));
                return CopyEnd::Stopped(Some(reason));
            }
            count.fetch_add(part.len() as u64, Ordering::Relaxed);
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
        if buffer.capacity() < MIN_ROOM {
            buffer.reserve(BUFFER);
        }
        let read = tokio::select! {
            biased;
            read = from.read_buf(&mut buffer) => read,
            unsent = &mut stopped => return unwanted(unsent, side),
        };
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => {
                return CopyEnd::Cut(worker.broke().await);
            }
        }
        let mut bytes = buffer.split().freeze();
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

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **locked(&self.0)).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **locked(&self.0)).poll_shutdown(context)
    }
}
