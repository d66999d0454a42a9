//! One open channel: a byte stream with half-close.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use rap_mesh_core::{
    carrier::MAX_DATA,
    ended::{Close, ended_code, ended_reason},
};
use rap_proto::observation::EndReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{session::sentence, through::WayStream};
use crate::{
    pieces::{PIECES, write_first},
    pipe::{Broken, Inlet, Outlet, Unsent},
};

/// What is best written at once: fewer bytes cost more each, more are cut.
pub const BEST_WRITE: usize = MAX_DATA;

/// A channel's two directions. What was written is sent by [`AsyncWrite::poll_flush`] at the latest.
/// Shutting down the writer closes ours and leaves the other open.
/// A channel that is cut fails with an error whose [`end_reason`] says why.
#[derive(Debug)]
pub struct Channel {
    writer: ChannelWriter,
    reader: ChannelReader,
}

#[derive(Debug)]
pub struct ChannelWriter {
    outlet: Outlet,
    /// Of a through flow that lasts no longer than its way.
    _way: Option<Box<WayStream>>,
}

#[derive(Debug)]
pub struct ChannelReader(Inlet);

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
    pub(super) fn new(send: Outlet, recv: Inlet) -> Self {
        Self { writer: ChannelWriter { outlet: send, _way: None }, reader: ChannelReader(recv) }
    }

    /// The same of a through flow that does not outlive its way.
    pub(super) fn beside(send: Outlet, recv: Inlet, way: WayStream) -> Self {
        let writer = ChannelWriter { outlet: send, _way: Some(Box::new(way)) };
        Self { writer, reader: ChannelReader(recv) }
    }

    pub fn split(self) -> (ChannelWriter, ChannelReader) {
        (self.writer, self.reader)
    }
}

impl ChannelReader {
    /// Waits for what arrives next, as it is, in as many pieces as there are and fit in `pieces`, which is not
    /// empty. 0 is the end.
    ///
    /// # Errors
    /// As reading: see [`end_reason`].
    pub async fn pieces(&mut self, pieces: &mut [Bytes]) -> io::Result<usize> {
        self.0.pieces(pieces).await.map_err(read_error)
    }

    /// Writes all that arrives to `to`, until the end. `to` is not flushed and stays open.
    ///
    /// # Errors
    /// As reading: see [`end_reason`]; and as writing to `to`.
    pub async fn copy_to(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut pieces: [Bytes; PIECES] = Default::default();
        loop {
            let count = self.pieces(&mut pieces).await?;
            if count == 0 {
                return Ok(());
            }
            let received = &mut pieces[..count];
            let bytes = received.iter().map(Bytes::len).sum();
            write_first(to, received, bytes).await?;
        }
    }
}

impl ChannelWriter {
    /// Sends all of it, as it is: nothing is copied, and nothing waits for a flush.
    ///
    /// # Errors
    /// As writing: see [`end_reason`].
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.outlet.write_pieces(&mut [bytes]).await.map_err(write_error)
    }

    /// Gives the channel up without saying that what was written is complete.
    pub fn abort(mut self) {
        self.outlet.reset(ended_code(EndReason::ClientClosed));
    }
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(context, buffer).map_err(read_error)
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.outlet.poll_write(context, bytes).map_err(write_error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outlet.poll_flush(context).map_err(write_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Finishing twice, or after the other side stopped listening, is no failure.
        self.outlet.poll_finish(context).map(Ok)
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

fn read_error(broken: Broken) -> io::Error {
    match broken {
        Broken::Reset(code) => {
            let otherwise = io::ErrorKind::ConnectionReset;
            ended_reason(code).map_or_else(|| otherwise.into(), ended)
        }
        Broken::Lost(close) => lost(close),
    }
}

fn write_error(unsent: Unsent) -> io::Error {
    match unsent {
        Unsent::Stopped(code) => {
            let otherwise = io::ErrorKind::ConnectionReset;
            ended_reason(code).map_or_else(|| otherwise.into(), ended)
        }
        Unsent::Lost(close) => lost(close),
    }
}

fn lost(close: Option<Close>) -> io::Error {
    match close {
        Some(Close::Ended(reason)) => ended(reason),
        Some(Close::Done | Close::Refused(_)) | None => io::ErrorKind::NotConnected.into(),
    }
}

fn ended(reason: EndReason) -> io::Error {
    let kind = match reason {
        EndReason::TargetClosed => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, ChannelEnded { reason })
}
