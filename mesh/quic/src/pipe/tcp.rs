//! The two directions of a flow on a TLS connection of its own, as `rap_mesh_core::carrier` cuts
//! them into parts.

mod fill;
mod link;

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use rap_mesh_core::{
    carrier::{MAX_DATA, Parts},
    ended::DONE,
};
use rap_proto::Lane;
use tokio::{io::ReadBuf, sync::OwnedSemaphorePermit};

use super::{Broken, Short, Unsent};
use crate::{
    mesh::locked,
    tcp::{Controllers, TlsIo},
};
use link::Link;

pub(super) use fill::poll_fill;

type Shared = Arc<Mutex<Link>>;

/// Dropping it before the end stops the other side.
pub(crate) struct TcpInlet {
    link: Shared,
    /// What was received and not asked for yet.
    rest: Bytes,
}

/// Dropping it unfinished resets the direction.
pub(crate) struct TcpOutlet {
    link: Shared,
}

/// The directions of a connection whose handshake is complete. `place` is given back when the
/// connection is closed.
pub(crate) fn pipe(io: TlsIo, place: Option<OwnedSemaphorePermit>) -> (TcpOutlet, TcpInlet) {
    let link = Arc::new(Mutex::new(Link::new(io, place)));
    (TcpOutlet { link: link.clone() }, TcpInlet { link, rest: Bytes::new() })
}

/// Takes the connection from under both directions: it, its place, what was received of it, and how
/// far its parts are. `None` when part of what was received was asked for by halves.
pub(super) fn unpipe(
    outlet: TcpOutlet,
    inlet: TcpInlet,
) -> Option<(TlsIo, Option<OwnedSemaphorePermit>, BytesMut, Parts)> {
    let whole = inlet.rest.is_empty() && Arc::ptr_eq(&outlet.link, &inlet.link);
    let taken = whole.then(|| locked(&inlet.link).take())?;
    // Nothing is below them any more.
    drop((outlet, inlet));
    taken
}

impl TcpInlet {
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Broken>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        locked(&self.link).poll_next(context)
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Broken>> {
        let Some(mut bytes) = ready!(self.poll_next(context))? else { return Poll::Ready(Ok(())) };
        buffer.put_slice(&bytes.split_to(bytes.len().min(buffer.remaining())));
        self.rest = bytes;
        Poll::Ready(Ok(()))
    }

    pub(super) async fn read_exact(&mut self, mut room: &mut [u8]) -> Result<(), Short> {
        while !room.is_empty() {
            let mut bytes = self.next().await.map_err(Short::Broken)?.ok_or(Short::Finished)?;
            let length = bytes.len().min(room.len());
            let (here, after) = std::mem::take(&mut room).split_at_mut(length);
            bytes.copy_to_slice(here);
            room = after;
            self.rest = bytes;
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, code: u64) {
        locked(&self.link).stop(code);
    }
}

impl TcpOutlet {
    pub(super) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), Unsent> {
        poll_fn(|context| {
            let mut link = locked(&self.link);
            loop {
                ready!(link.poll_ready(context))?;
                if pieces.iter().all(Bytes::is_empty) {
                    return Poll::Ready(Ok(()));
                }
                link.send(pieces)?;
            }
        })
        .await
    }

    /// Takes what fits one part, as soon as the last one is on its way. Returns its length.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Unsent>> {
        let mut link = locked(&self.link);
        ready!(link.poll_ready(context))?;
        let length = bytes.len().min(MAX_DATA);
        if length > 0 {
            link.send(&mut [Bytes::copy_from_slice(&bytes[..length])])?;
            // What the kernel does not take now, the next call waits for.
            if let Poll::Ready(Err(error)) = link.poll_ready(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(length))
    }

    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        locked(&self.link).poll_ready(context)
    }

    pub(crate) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        locked(&self.link).poll_finish(context)
    }

    pub(super) async fn finish(&mut self) {
        poll_fn(|context| self.poll_finish(context)).await;
    }

    pub(crate) fn reset(&mut self, code: u64) {
        locked(&self.link).reset(code);
    }

    /// Closes the connection at once. What either direction would say as it is dropped is not said.
    pub(super) fn abandon(&self) {
        let taken = locked(&self.link).take();
        drop(taken);
    }

    pub(super) fn keep_queue_short(&self, lane: Lane, controllers: &Controllers) {
        locked(&self.link).keep_queue_short(lane, controllers);
    }

    pub(super) fn stopped(&self) -> impl Future<Output = Unsent> + Send + use<> {
        let link = self.link.clone();
        poll_fn(move |context| locked(&link).poll_stopped(context))
    }
}

impl Drop for TcpInlet {
    fn drop(&mut self) {
        self.stop(DONE);
    }
}

impl Drop for TcpOutlet {
    fn drop(&mut self) {
        self.reset(DONE);
    }
}

impl fmt::Debug for TcpInlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpInlet").finish_non_exhaustive()
    }
}

impl fmt::Debug for TcpOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpOutlet").finish_non_exhaustive()
    }
}
