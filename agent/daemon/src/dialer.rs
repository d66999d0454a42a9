//! How the mesh reaches resources: one connection to the worker's socket per channel.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_adapter_contract::{
    Open, OpenReply, Request, check_host,
    limit::{DIAL_TIMEOUT_MS, RESOLVE_TIMEOUT_MS},
};
use rap_mesh::{ByteStream, DialRequest, Dialed, Dialer};
use rap_proto::{RefusalCode, refusal::Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tracing::Instrument as _;

use crate::{
    telemetry,
    worker::{InUse, WorkerHandle, read_frame, write_frame},
};

/// How long an open waits for a worker that is being started again.
const WORKER_WAIT: Duration = Duration::from_secs(2);
/// How long the worker may take to answer: its own limits, and a second for itself.
const OPEN_TIMEOUT: Duration = Duration::from_millis(DIAL_TIMEOUT_MS + RESOLVE_TIMEOUT_MS + 1_000);

pub(crate) type Serving = watch::Receiver<Option<Arc<WorkerHandle>>>;

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
    });
    let asked = async {
        write_frame(&mut stream, &open).await?;
        read_frame::<OpenReply>(&mut stream).await
    };
    let reply = timeout(OPEN_TIMEOUT, asked).await.map_err(|_| unreachable())?;
    match reply {
        Ok(OpenReply::Opened) => Ok(Dialed {
            worker_died: worker.died.clone().cancelled_owned().boxed(),
            stream: Box::new(Channel { stream, _in_use: in_use }),
        }),
        Ok(OpenReply::Refused(refusal)) => {
            tracing::info!(code = %refusal.code, "the worker refused");
            Err(refusal)
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

fn unreachable() -> Refusal {
    Refusal::new(RefusalCode::TargetUnreachable, "the resource did not answer in time")
}

/// One channel: the worker's socket, counted while it is open.
struct Channel {
    stream: UnixStream,
    _in_use: InUse,
}

impl ByteStream for Channel {
    fn other_side_is_gone(&self) -> bool {
        self.stream.other_side_is_gone()
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Channel {
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
