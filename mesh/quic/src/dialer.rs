//! How the mesh reaches a resource: a port that the agent implements with its adapter workers.
//! Byte streams are dialled; a channel of messages is taken on by whoever serves its kind.

use std::fmt;

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_proto::{ChannelKind, SessionId, refusal::Refusal, snapshot::Resource};
use tokio::io::{AsyncRead, AsyncWrite, Interest};

use crate::MessageChannel;

/// Opens byte streams to resources. Called only after every check passed.
pub trait Dialer: Send + Sync + 'static {
    /// Connects to the resource's target. Whoever implements it bounds the time that it takes;
    /// the mesh gives up after [`crate::TARGET_DIAL_TIMEOUT`].
    fn dial(&self, request: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>>;

    /// Who serves channels of messages. Where nobody does, they are refused.
    fn messages(&self) -> Option<&dyn MessageService> {
        None
    }

    /// Makes a span of the mesh part of the client's trace, and returns the trace context to pass
    /// on: the span's own. Where nobody traces, the context is passed on as it came.
    fn continue_trace(&self, span: &tracing::Span, traceparent: Option<String>) -> Option<String> {
        let _ = span;
        traceparent
    }
}

/// Takes channels of messages on, each kind as its policy promises. Called only after every check
/// passed; what it takes on is cut when one of them passes no more.
pub trait MessageService: Send + Sync + 'static {
    /// Takes the channel on, or says why not, within [`crate::TARGET_DIAL_TIMEOUT`]. What is
    /// returned resolves as [`Dialed::worker_died`] does.
    fn accept(
        &self,
        request: DialRequest,
        channel: MessageChannel,
    ) -> BoxFuture<'_, Result<BoxFuture<'static, ()>, Refusal>>;
}

/// What is to be dialled, and for whom.
#[derive(Debug, Clone)]
pub struct DialRequest {
    pub session: SessionId,
    pub resource: Resource,
    pub channel: ChannelKind,
    /// W3C Trace Context of the client's open, when it was sent and is well-formed.
    pub traceparent: Option<String>,
}

/// An open stream to a resource.
pub struct Dialed {
    /// Bytes to and from the target. Reading its end means that the target closed its direction;
    /// shutting it down closes ours.
    pub stream: Box<dyn ByteStream>,
    /// Resolves when the adapter worker behind the stream has died, or ends the stream because it
    /// stops, and never otherwise. The stream itself can still be open then.
    pub worker_died: BoxFuture<'static, ()>,
}

impl Dialed {
    /// A stream with no worker that could die.
    pub fn without_worker(stream: impl ByteStream) -> Self {
        let worker_died = futures_util::future::pending().boxed();
        Self { stream: Box::new(stream), worker_died }
    }
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed").finish_non_exhaustive()
    }
}

/// A byte stream with half-close.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Once the end was read: whether the other side has closed both directions. A target that
    /// closes one direction leaves the other usable; a worker closes both at once when it dies, or
    /// the connection that it holds a stream by.
    fn other_side_is_gone(&self) -> bool {
        false
    }
}

impl ByteStream for tokio::net::UnixStream {
    fn other_side_is_gone(&self) -> bool {
        let ready = self.ready(Interest::WRITABLE).now_or_never();
        ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_write_closed()))
    }
}

impl ByteStream for tokio::net::TcpStream {}
impl ByteStream for tokio::io::DuplexStream {}
