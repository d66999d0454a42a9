//! One open channel: a byte stream with half-close.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use quinn::{ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use rap_mesh_core::ended::{Close, ended_code, ended_reason};
use rap_proto::observation::EndReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::sentence;

/// A channel's two directions. Shutting down the writer closes ours and leaves the other open.
/// A channel that is cut fails with an error whose [`end_reason`] says why.
#[derive(Debug)]
pub struct Channel {
    writer: ChannelWriter,
    reader: ChannelReader,
}

#[derive(Debug)]
pub struct ChannelWriter(SendStream);

#[derive(Debug)]
pub struct ChannelReader(RecvStream);

/// The error of a channel that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelEnded {
    pub reason: EndReason,
}

impl std::error::Error for ChannelEnded {}

impl fmt::Display for ChannelEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", sentence(self.reason), self.reason)
    }
}

/// Why a channel was cut, when its error says so.
pub fn end_reason(error: &io::Error) -> Option<EndReason> {
    let ended = error.get_ref()?.downcast_ref::<ChannelEnded>()?;
    Some(ended.reason)
}

impl Channel {
    pub(super) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { writer: ChannelWriter(send), reader: ChannelReader(recv) }
    }

    pub fn split(self) -> (ChannelWriter, ChannelReader) {
        (self.writer, self.reader)
    }
}

impl ChannelWriter {
    /// Gives the channel up without saying that what was written is complete.
    pub fn abort(mut self) {
        let code = ended_code(EndReason::ClientClosed);
        // A stream that is closed already needs no reset.
        let _ = self.0.reset(quinn::VarInt::from_u64(code).expect("a small constant"));
    }
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read_buf(context, buffer).map_err(read_error)
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes).map_err(write_error)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Finishing twice, or after the other side stopped listening, is no failure.
        let _ = self.0.finish();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}

fn read_error(error: ReadError) -> io::Error {
    let reason = match &error {
        ReadError::Reset(code) => ended_reason(code.into_inner()),
        ReadError::ConnectionLost(lost) => closed_because(lost),
        _ => None,
    };
    ended(reason).unwrap_or_else(|| error.into())
}

fn write_error(error: WriteError) -> io::Error {
    let reason = match &error {
        WriteError::Stopped(code) => ended_reason(code.into_inner()),
        WriteError::ConnectionLost(lost) => closed_because(lost),
        _ => None,
    };
    ended(reason).unwrap_or_else(|| error.into())
}

fn ended(reason: Option<EndReason>) -> Option<io::Error> {
    let reason = reason?;
    let kind = match reason {
        EndReason::TargetClosed => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::ConnectionAborted,
    };
    Some(io::Error::new(kind, ChannelEnded { reason }))
}

fn closed_because(error: &ConnectionError) -> Option<EndReason> {
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    match Close::from_code(close.error_code.into_inner())? {
        Close::Ended(reason) => Some(reason),
        Close::Done | Close::Refused(_) => None,
    }
}
