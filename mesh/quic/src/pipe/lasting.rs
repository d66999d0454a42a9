//! Flows that outlive their connection: both directions of one, as `rap_mesh_core::resume` counts
//! them, over one [`Leg`] after another.
//!
//! A connection that is lost is no end. Readers wait, writers are held back, and the [`Keeper`] sees
//! to it that another connection comes, or that the flow is given up.

mod held;
mod leg;
mod store;

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use rap_mesh_core::{
    carrier::{Carrier, MAX_DATA},
    ended::{Close, DONE},
    resume::{End, RESUME_WITHIN, Refused},
};
use tokio::{io::ReadBuf, time::timeout};

use super::{Broken, Inlet, Outlet, Short, Unsent};
use crate::mesh::locked;
use held::Held;

pub(crate) use leg::Leg;
pub(crate) use store::{OfStore, Store};

/// Who brings a flow its next connection.
pub(crate) trait Keeper: Send + Sync {
    /// The flow is detached. Called with the flow locked: it only starts what has to be done.
    fn lost(self: Arc<Self>, flow: Lasting);

    /// The flow had better be on another carrier than this. Called with the flow locked, as above; nothing
    /// is done where nobody chooses.
    fn leaves(self: Arc<Self>, _flow: Lasting, _carrier: Carrier) {}

    /// Whether another connection can come at all.
    fn is_hopeful(&self) -> bool {
        true
    }
}

/// A lasting flow, for whoever keeps it.
#[derive(Clone)]
pub(crate) struct Lasting(Arc<Mutex<Held>>);

/// Dropping it before the end stops the other side.
pub(crate) struct LastingInlet {
    held: Arc<Mutex<Held>>,
    rest: Bytes,
}

/// Dropping it unfinished resets the direction.
pub(crate) struct LastingOutlet {
    held: Arc<Mutex<Held>>,
}

/// A flow that was opened on this leg. What it keeps is counted in `store`; `kept` is dropped
/// with it.
pub(crate) fn lasting(
    leg: Leg,
    keeper: Arc<dyn Keeper>,
    store: OfStore,
    kept: Option<Box<dyn Any + Send>>,
) -> (Outlet, Inlet, Lasting) {
    let held = Arc::new_cyclic(|me| Mutex::new(Held::new(me.clone(), leg, keeper, store, kept)));
    let outlet = Outlet::Lasting(LastingOutlet { held: held.clone() });
    let inlet = Inlet::Lasting(LastingInlet { held: held.clone(), rest: Bytes::new() });
    (outlet, inlet, Lasting(held))
}

impl Lasting {
    /// Goes on over another connection.
    pub(crate) fn attach(&self, leg: Leg, generation: u32, received: u64) -> Result<(), Refused> {
        locked(&self.0).attach(leg, generation, received)
    }

    /// Goes on over the connection on which somebody asked for it and was answered, which has this
    /// place. One that is no good is left, and another can come. Returns whether it goes on.
    pub(crate) fn go_on(
        &self,
        (send, recv, place): (Outlet, Inlet, impl Any + Send),
        generation: u32,
        received: u64,
    ) -> bool {
        let Some(leg) = Leg::new(send, recv) else { return false };
        let attached = self.attach(leg.in_place(place), generation, received);
        attached.inspect_err(|error| tracing::info!(?error, "a flow does not go on")).is_ok()
    }

    /// How far this side came, for asking for another connection, or granting it, while the one of
    /// now stays. To be followed by [`Self::attach`] or [`Self::withdraw`] of the same generation.
    pub(crate) fn offer(&self, generation: u32) -> Result<u64, Refused> {
        locked(&self.0).offer(generation)
    }

    /// No other connection came. Does nothing after one did, or after a newer offer.
    pub(crate) fn withdraw(&self, generation: u32) {
        locked(&self.0).withdraw(generation);
    }

    /// Whether it has a connection on this carrier, and needs one.
    pub(crate) fn is_carried_on(&self, carrier: Carrier) -> bool {
        locked(&self.0).is_carried_on(carrier)
    }

    /// Whether it has a connection, and needs one.
    pub(crate) fn is_attached(&self) -> bool {
        let held = locked(&self.0);
        !held.is_over() && !held.flow.is_detached()
    }

    /// Leaves the connection of now. Returns how far this side came.
    pub(crate) fn detach(&self) -> u64 {
        let mut held = locked(&self.0);
        held.detach();
        held.flow.received()
    }

    /// Leaves the connection of that generation, unless another came since.
    pub(crate) fn detach_if(&self, generation: u32) {
        let mut held = locked(&self.0);
        if held.flow.generation() == generation {
            held.detach();
        }
    }

    /// Leaves the connection of now if it is on this carrier.
    pub(crate) fn detach_from(&self, carrier: Carrier) {
        let mut held = locked(&self.0);
        if held.carrier() == Some(carrier) {
            held.detach();
        }
    }

    pub(crate) fn generation(&self) -> u32 {
        locked(&self.0).flow.generation()
    }

    /// Whether nothing waits for another connection any more.
    pub(crate) fn needs_nothing(&self) -> bool {
        let held = locked(&self.0);
        held.is_over() || !held.flow.is_detached()
    }

    /// Ends the flow when it is detached for too long. Returns whether it is over.
    pub(crate) fn expire(&self) -> bool {
        locked(&self.0).expire()
    }

    /// How long it cannot be detached for too long.
    pub(crate) fn may_rest_for(&self) -> Duration {
        locked(&self.0).may_rest_for()
    }

    pub(crate) fn give_up(&self, close: Option<Close>) {
        locked(&self.0).give_up(close);
    }

    pub(crate) fn downgrade(&self) -> WeakLasting {
        WeakLasting(Arc::downgrade(&self.0))
    }
}

/// The same, for a register that does not keep it alive.
#[derive(Clone)]
pub(crate) struct WeakLasting(std::sync::Weak<Mutex<Held>>);

impl WeakLasting {
    pub(crate) fn upgrade(&self) -> Option<Lasting> {
        self.0.upgrade().map(Lasting)
    }
}

impl LastingInlet {
    pub(super) fn carrier(&self) -> Option<Carrier> {
        locked(&self.held).carrier()
    }

    pub(super) fn leave(&self, carrier: Carrier) {
        locked(&self.held).leave(carrier);
    }

    pub(super) async fn pieces(&mut self, pieces: &mut [Bytes]) -> Result<usize, Broken> {
        poll_fn(|context| self.poll_pieces(context, pieces)).await
    }

    pub(super) async fn ahead(&self) -> Infallible {
        poll_fn(|context| {
            locked(&self.held).poll_ahead(context);
            Poll::Pending
        })
        .await
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        poll_fn(|context| self.poll_next(context)).await
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

    pub(super) async fn read_exact(&mut self, room: &mut [u8]) -> Result<(), Short> {
        let mut buffer = ReadBuf::new(room);
        while buffer.remaining() > 0 {
            let before = buffer.remaining();
            poll_fn(|context| self.poll_read(context, &mut buffer)).await.map_err(Short::Broken)?;
            if buffer.remaining() == before {
                return Err(Short::Finished);
            }
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, code: u64) {
        locked(&self.held).stop(code);
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        let mut piece = [Bytes::new()];
        let count = ready!(self.poll_pieces(context, &mut piece))?;
        let [piece] = piece;
        Poll::Ready(Ok((count > 0).then_some(piece)))
    }

    fn poll_pieces(
        &mut self,
        context: &mut Context<'_>,
        pieces: &mut [Bytes],
    ) -> Poll<Result<usize, Broken>> {
        if !self.rest.is_empty() {
            pieces[0] = std::mem::take(&mut self.rest);
            return Poll::Ready(Ok(1));
        }
        locked(&self.held).poll_pieces(context, pieces)
    }
}

impl LastingOutlet {
    pub(super) fn carrier(&self) -> Option<Carrier> {
        locked(&self.held).carrier()
    }

    pub(super) fn leave(&self, carrier: Carrier) {
        locked(&self.held).leave(carrier);
    }

    pub(super) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), Unsent> {
        poll_fn(|context| {
            let mut held = locked(&self.held);
            loop {
                ready!(held.poll_ready(context))?;
                if pieces.iter().all(Bytes::is_empty) {
                    return Poll::Ready(Ok(()));
                }
                for piece in pieces.iter_mut() {
                    if held.has_room() {
                        held.send(std::mem::take(piece));
                    }
                }
            }
        })
        .await
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Unsent>> {
        let mut held = locked(&self.held);
        ready!(held.poll_ready(context))?;
        let length = bytes.len().min(MAX_DATA);
        held.send(Bytes::copy_from_slice(&bytes[..length]));
        // What the kernel does not take now, the next call waits for.
        if let Poll::Ready(Err(error)) = held.poll_ready(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(length))
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        locked(&self.held).poll_ready(context)
    }

    pub(super) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        locked(&self.held).poll_finish(context)
    }

    pub(super) fn reset(&mut self, code: u64) {
        let mut held = locked(&self.held);
        held.end(End::Reset(code));
        held.wake();
    }

    pub(super) fn stopped(&self) -> impl Future<Output = Unsent> + Send + use<> {
        let held = self.held.clone();
        poll_fn(move |context| locked(&held).poll_stopped(context))
    }
}

impl Drop for LastingInlet {
    fn drop(&mut self) {
        self.stop(DONE);
        leave(&self.held);
    }
}

impl Drop for LastingOutlet {
    fn drop(&mut self) {
        locked(&self.held).end(End::Reset(DONE));
        leave(&self.held);
    }
}

/// A direction is of no use to anybody any more. After the last, the flow lives on until both
/// sides know how it ended.
fn leave(held: &Arc<Mutex<Held>>) {
    let last = {
        let mut held = locked(held);
        held.handles -= 1;
        held.handles == 0 && !held.is_over()
    };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !last {
        return;
    }
    {
        let mut held = locked(held);
        if held.is_forsaken() || !held.reserve() {
            return held.give_up(None);
        }
    }
    let held = held.clone();
    runtime.spawn(async move {
        let settled = poll_fn(|context| locked(&held).poll_settled(context));
        let _ = timeout(RESUME_WITHIN, settled).await;
        locked(&held).give_up(None);
    });
}

impl fmt::Debug for LastingInlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastingInlet").finish_non_exhaustive()
    }
}

impl fmt::Debug for LastingOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastingOutlet").finish_non_exhaustive()
    }
}
