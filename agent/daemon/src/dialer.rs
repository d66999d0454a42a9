//! How the mesh reaches resources: one connection to the worker's socket per channel, and the
//! target's socket where the worker hands it over.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_adapter_contract::{
    Open, Request, check_host,
    limit::{DIAL_TIMEOUT_MS, RESOLVE_TIMEOUT_MS},
};
use rap_mesh::{ByteStream, DialRequest, Dialed, Dialer};
use rap_proto::{RefusalCode, refusal::Refusal};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    answer::{self, Answer, AnswerError},
    telemetry,
    worker::{InUse, WorkerHandle, write_frame},
};

/// How long an open waits for a worker that is being started again.
const WORKER_WAIT: Duration = Duration::from_secs(2);
/// How long the worker may take to answer: its own limits, and a second for itself.
const OPEN_TIMEOUT: Duration = Duration::from_millis(DIAL_TIMEOUT_MS + RESOLVE_TIMEOUT_MS + 1_000);

pub(crate) type Serving = rap_watch::Receiver<Option<Arc<WorkerHandle>>>;

pub(crate) struct WorkerDialer {
    serving: Serving,
}

impl WorkerDialer {
    pub(crate) fn new(serving: Serving) -> Self {
        Self { serving }
    }
}

impl Dialer for WorkerDialer {
    fn dial(&self, request: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        let span = tracing::info_span!(
            "dial",
            session = %request.session,
            kind = %request.resource.kind,
            otel.kind = "client"
        );
        let traceparent = telemetry::continue_trace(&span, request.traceparent.as_deref());
        dial(self.serving.clone(), request, traceparent).instrument(span).boxed()
    }

    fn continue_trace(&self, span: &tracing::Span, traceparent: Option<String>) -> Option<String> {
        telemetry::continue_trace(span, traceparent.as_deref())
    }
}

async fn dial(
    mut serving: Serving,
    request: DialRequest,
    traceparent: Option<String>,
) -> Result<Dialed, Refusal> {
    let DialRequest { session, resource, .. } = request;
    if check_host(&resource.target.host).is_err() {
        let message = "the resource's address is not one that can be dialled";
        return Err(Refusal::new(RefusalCode::AddressNotAllowed, message));
    }
    let (worker, mut stream) = connect(&mut serving).await?;
    let in_use = worker.use_by(session);
    let open = Request::Open(Open {
        channel: worker.next_channel(),
        kind: resource.kind,
        host: resource.target.host,
        port: resource.target.port,
        allow_local: resource.target.allow_local,
        traceparent,
        takes_socket: true,
    });
    let asked = async {
        write_frame(&mut stream, &open).await?;
        answer::read(&stream).await
    };
    let answer = timeout(OPEN_TIMEOUT, asked).await.map_err(|_| unreachable())?;
    let died = worker.died.clone();
    match answer {
        Ok(Answer::Opened) => Ok(Dialed {
            worker_died: died.cancelled_owned().boxed(),
            stream: Box::new(Channel { stream, held: None, _in_use: in_use }),
        }),
        Ok(Answer::Handed(target)) => {
            let held = Arc::new(Held(stream));
            Ok(Dialed {
                worker_died: gone(died, held.clone()).boxed(),
                stream: Box::new(Channel { stream: target, held: Some(held), _in_use: in_use }),
            })
        }
        Ok(Answer::Refused(refusal)) => {
            tracing::info!(code = %refusal.code, "the worker refused");
            Err(refusal)
        }
        Err(error @ AnswerError::NoDescriptorLeft) => {
            tracing::warn!(%error, "a channel was refused");
            Err(too_many_files())
        }
        Err(error) => {
            tracing::warn!(%error, "the worker did not answer");
            Err(unavailable())
        }
    }
}

/// A connection to the worker of the moment; waits a little for the next one.
async fn connect(serving: &mut Serving) -> Result<(Arc<WorkerHandle>, UnixStream), Refusal> {
    let deadline = Instant::now() + WORKER_WAIT;
    loop {
        let worker = {
            let found = serving.wait_for(Option::is_some);
            let found = timeout_at(deadline, found).await.map_err(|_| unavailable())?;
            found.map_err(|_| unavailable())?.clone()
        };
        let Some(worker) = worker else { return Err(unavailable()) };
        match UnixStream::connect(&worker.socket).await {
            Ok(stream) => return Ok((worker, stream)),
            Err(error) if is_out_of_files(&error) => {
                tracing::warn!(%error, "a channel was refused");
                return Err(too_many_files());
            }
            Err(error) => {
                tracing::debug!(%error, "the worker is gone");
                let changed = timeout_at(deadline, serving.changed()).await;
                changed.map_err(|_| unavailable())?.map_err(|_| unavailable())?;
            }
        }
    }
}

fn unavailable() -> Refusal {
    Refusal::new(RefusalCode::WorkerUnavailable, "the adapter worker is being restarted")
}

/// The process or the host has as many as it may.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// It is this agent that has no place; the worker is well.
fn too_many_files() -> Refusal {
    Refusal::new(RefusalCode::LimitReached, "the node has as many files open as it may")
}

fn unreachable() -> Refusal {
    Refusal::new(RefusalCode::TargetUnreachable, "the resource did not answer in time")
}

/// Resolves when the worker is dead or dying, or ends this channel as it stops.
async fn gone(died: CancellationToken, held: Arc<Held>) {
    tokio::select! {
        biased;
        () = died.cancelled() => {}
        () = held.closed() => {}
    }
}

/// The worker's connection of a channel whose socket it handed over.
struct Held(UnixStream);

impl Held {
    async fn closed(&self) {
        let _ = self.0.async_io(Interest::READABLE, || Ok(self.peek()?)).await;
    }

    /// Asks the kernel, not the runtime, which may be told of it later than of the target's end.
    fn is_closed(&self) -> bool {
        self.peek() != Err(Errno::AGAIN)
    }

    /// The worker has nothing to say on it: whatever comes, or has come, says that the channel is over.
    fn peek(&self) -> Result<(), Errno> {
        recv(&self.0, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(drop)
    }
}

/// One channel: the worker's socket or the target's, counted while it is open.
struct Channel<S> {
    stream: S,
    /// Where the stream is the target's.
    held: Option<Arc<Held>>,
    _in_use: InUse,
}

impl<S: ByteStream> ByteStream for Channel<S> {
    fn other_side_is_gone(&self) -> bool {
        match &self.held {
            None => self.stream.other_side_is_gone(),
            // A worker that ends a target's connection closes its own before.
            Some(held) => held.is_closed(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Channel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Channel<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
