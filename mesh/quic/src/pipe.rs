//! One flow's two directions, whichever carrier they are on: what arrives at an [`Inlet`], what
//! leaves through an [`Outlet`].
//!
//! Both carriers end a direction in the same ways. It is finished by its sender, reset by its
//! sender, or stopped by its receiver, the last two with a code of `rap_mesh_core::ended`; or the
//! connection below is lost.

mod copies;
mod lasting;
mod tcp;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::Either;
use quinn::{ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use rap_mesh_core::{
    carrier::Carrier,
    ended::{Close, DONE},
};

pub(crate) use lasting::{
    Keeper, Lasting, LastingInlet, LastingOutlet, Leg, Store, WeakLasting, lasting,
};
use rap_proto::Lane;
pub(crate) use tcp::{TcpInlet, TcpOutlet, pipe};
use tokio::io::ReadBuf;

use crate::{mesh::code, pieces::gather, tcp::Controllers};

/// The most that [`Inlet::chunk`] returns at once.
const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) enum Inlet {
    Quic(RecvStream),
    Tcp(TcpInlet),
    Lasting(LastingInlet),
}

#[derive(Debug)]
pub(crate) enum Outlet {
    Quic(SendStream),
    Tcp(TcpOutlet),
    Lasting(LastingOutlet),
}

/// Why nothing more arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The sender cut its direction, with this code.
    Reset(u64),
    /// The connection is gone, and what it said then.
    Lost(Option<Close>),
}

/// Why nothing more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The receiver wants no more, with this code.
    Stopped(u64),
    Lost(Option<Close>),
}

/// Why a direction did not bring as many bytes as were wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    Finished,
    Broken(Broken),
}

/// Gives a connection up without a word: neither direction ends, and what it was asked to carry may
/// go on elsewhere.
pub(crate) fn abandon(outlet: Outlet, inlet: Inlet) {
    if let Outlet::Tcp(outlet) = &outlet {
        outlet.abandon();
    }
    drop((outlet, inlet));
}

/// A connection on which a flow is asked for. The far end may have moved the flow to it when the
/// answer is waited for no longer: then its end is a loss, and must not be an end of the flow.
pub(crate) struct Asking(pub(crate) Option<(Outlet, Inlet)>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some((outlet, inlet)) = self.0.take() {
            abandon(outlet, inlet);
        }
    }
}

impl Inlet {
    /// Receives what is there, in as many pieces as fit. 0 is the end.
    pub(crate) async fn pieces(&mut self, pieces: &mut [Bytes]) -> Result<usize, Broken> {
        match self {
            Self::Quic(stream) => {
                stream.read_chunks(pieces).await.map(Option::unwrap_or_default).map_err(broken)
            }
            Self::Tcp(inlet) => match inlet.next().await? {
                Some(bytes) => {
                    pieces[0] = bytes;
                    Ok(1)
                }
                None => Ok(0),
            },
            Self::Lasting(inlet) => inlet.pieces(pieces).await,
        }
    }

    /// Waits for something else, and meanwhile receives what comes within the flow's credit: nobody reads it
    /// yet, and it would take the window that all flows of a lane share. A flow that outlives no connection
    /// has no such credit.
    pub(crate) async fn ahead_until<T>(&self, done: impl Future<Output = T>) -> T {
        let Self::Lasting(inlet) = self else { return done.await };
        tokio::select! {
            biased;
            done = done => done,
            never = inlet.ahead() => match never {},
        }
    }

    /// Receives one piece of at most [`CHUNK`] bytes. `None` is the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::Quic(stream) => {
                let read = stream.read_chunk(CHUNK, true).await.map_err(broken)?;
                Ok(read.map(|chunk| chunk.bytes))
            }
            Self::Tcp(inlet) => inlet.next().await,
            Self::Lasting(inlet) => inlet.next().await,
        }
    }

    pub(crate) async fn read_exact(&mut self, room: &mut [u8]) -> Result<(), Short> {
        match self {
            Self::Quic(stream) => stream.read_exact(room).await.map_err(|error| match error {
                ReadExactError::FinishedEarly(_) => Short::Finished,
                ReadExactError::ReadError(error) => Short::Broken(broken(error)),
            }),
            Self::Tcp(inlet) => inlet.read_exact(room).await,
            Self::Lasting(inlet) => inlet.read_exact(room).await,
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Broken>> {
        match self {
            Self::Quic(stream) => stream.poll_read_buf(context, buffer).map_err(broken),
            Self::Tcp(inlet) => inlet.poll_read(context, buffer),
            Self::Lasting(inlet) => inlet.poll_read(context, buffer),
        }
    }

    /// What brings it at the moment, if anything does.
    pub(crate) fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Quic(_) => Some(Carrier::Quic),
            Self::Tcp(_) => Some(Carrier::Tcp),
            Self::Lasting(inlet) => inlet.carrier(),
        }
    }

    /// Has the flow go over from this carrier to another, if it can.
    pub(crate) fn leave(&self, carrier: Carrier) {
        if let Self::Lasting(inlet) = self {
            inlet.leave(carrier);
        }
    }

    /// Wants no more. A direction that has ended needs no stopping.
    pub(crate) fn stop(&mut self, reason: u64) {
        match self {
            Self::Quic(stream) => {
                let _ = stream.stop(code(reason));
            }
            Self::Tcp(inlet) => inlet.stop(reason),
            Self::Lasting(inlet) => inlet.stop(reason),
        }
    }
}

impl Outlet {
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Unsent> {
        match self {
            Self::Quic(stream) => stream.write_all(bytes).await.map_err(unsent),
            Self::Tcp(outlet) => outlet.write(&mut [Bytes::copy_from_slice(bytes)]).await,
            Self::Lasting(outlet) => outlet.write(&mut [Bytes::copy_from_slice(bytes)]).await,
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Unsent>> {
        match self {
            Self::Quic(stream) => Pin::new(stream).poll_write(context, bytes).map_err(unsent),
            Self::Tcp(outlet) => outlet.poll_write(context, bytes),
            Self::Lasting(outlet) => outlet.poll_write(context, bytes),
        }
    }

    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        match self {
            Self::Quic(_) => Poll::Ready(Ok(())),
            Self::Tcp(outlet) => outlet.poll_flush(context),
            Self::Lasting(outlet) => outlet.poll_flush(context),
        }
    }

    pub(crate) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Quic(stream) => {
                let _ = stream.finish();
                Poll::Ready(())
            }
            Self::Tcp(outlet) => outlet.poll_finish(context),
            Self::Lasting(outlet) => outlet.poll_finish(context),
        }
    }

    /// Sends all pieces. They are empty afterwards.
    pub(crate) async fn write_pieces(&mut self, pieces: &mut [Bytes]) -> Result<(), Unsent> {
        match self {
            Self::Quic(stream) => {
                gather(pieces);
                stream.write_all_chunks(pieces).await.map_err(unsent)
            }
            Self::Tcp(outlet) => outlet.write(pieces).await,
            Self::Lasting(outlet) => {
                gather(pieces);
                outlet.write(pieces).await
            }
        }
    }

    /// What carries it at the moment, if anything does.
    pub(crate) fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Quic(_) => Some(Carrier::Quic),
            Self::Tcp(_) => Some(Carrier::Tcp),
            Self::Lasting(outlet) => outlet.carrier(),
        }
    }

    /// What is sent on a connection of its own is of this lane: bulk keeps the queue of its path short.
    pub(crate) fn keep_queue_short(&self, lane: Lane, controllers: &Controllers) {
        if let Self::Tcp(outlet) = self {
            outlet.keep_queue_short(lane, controllers);
        }
    }

    /// Has the flow go over from this carrier to another, if it can.
    pub(crate) fn leave(&self, carrier: Carrier) {
        if let Self::Lasting(outlet) = self {
            outlet.leave(carrier);
        }
    }

    /// Says that this direction is complete. A receiver that wanted no more is told nothing else.
    pub(crate) async fn finish(&mut self) {
        match self {
            Self::Quic(stream) => {
                if stream.finish().is_err() {
                    let _ = stream.reset(code(DONE));
                }
            }
            Self::Tcp(outlet) => outlet.finish().await,
            Self::Lasting(outlet) => {
                std::future::poll_fn(|context| outlet.poll_finish(context)).await;
            }
        }
    }

    /// Cuts this direction. One that was finished needs no cutting.
    pub(crate) fn reset(&mut self, reason: u64) {
        match self {
            Self::Quic(stream) => {
                let _ = stream.reset(code(reason));
            }
            Self::Tcp(outlet) => outlet.reset(reason),
            Self::Lasting(outlet) => outlet.reset(reason),
        }
    }

    /// Resolves when the receiver stops this direction, or when nobody can be at the other end any
    /// more; also while nothing is sent.
    pub(crate) fn stopped(&self) -> impl Future<Output = Unsent> + Send + use<> {
        match self {
            Self::Quic(stream) => {
                let stopped = stream.stopped();
                Either::Left(async move {
                    match stopped.await {
                        Ok(Some(code)) => Unsent::Stopped(code.into_inner()),
                        // Whoever reads or writes is told.
                        Ok(None) | Err(_) => std::future::pending().await,
                    }
                })
            }
            Self::Tcp(outlet) => Either::Right(Either::Left(outlet.stopped())),
            Self::Lasting(outlet) => Either::Right(Either::Right(outlet.stopped())),
        }
    }
}

pub(crate) fn lost(error: &ConnectionError) -> Option<Close> {
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    Close::from_code(close.error_code.into_inner())
}

fn broken(error: ReadError) -> Broken {
    match error {
        ReadError::Reset(code) => Broken::Reset(code.into_inner()),
        ReadError::ConnectionLost(error) => Broken::Lost(lost(&error)),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            Broken::Lost(None)
        }
    }
}

fn unsent(error: WriteError) -> Unsent {
    match error {
        WriteError::Stopped(code) => Unsent::Stopped(code.into_inner()),
        WriteError::ConnectionLost(error) => Unsent::Lost(lost(&error)),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => Unsent::Lost(None),
    }
}
