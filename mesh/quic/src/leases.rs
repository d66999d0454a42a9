//! What the mesh asks of the node's leases: a port that the agent implements with its disk and its
//! lease holders.

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh_core::fence::Held;
use rap_proto::{Leased, VpnConnectionId};

/// The fence's memory, and what this node holds itself.
pub trait Leases: Send + Sync + 'static {
    /// Makes a mark of the fence durable: after a power cut it, or a higher one, is among
    /// [`MeshOptions::marks`](crate::MeshOptions::marks).
    fn keep(&self, mark: Leased) -> BoxFuture<'_, Result<(), MarkNotKept>>;

    /// What this node holds of a connection's lease at this moment. Asked for every read and
    /// write of a leased channel, so it reads a clock and waits for nothing.
    fn held(&self, connection: VpnConnectionId) -> Option<Held>;

    /// Changes when [`Self::held`] says something else for another reason than time.
    fn changes(&self) -> rap_watch::Receiver<()>;
}

/// The mark may be lost: whatever waited for it must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fence's mark was not made durable")]
pub struct MarkNotKept;

/// Of a node that holds no lease and remembers none: it serves no leased channel.
#[derive(Debug)]
pub struct NoLeases(rap_watch::Sender<()>);

impl Default for NoLeases {
    fn default() -> Self {
        Self(rap_watch::Sender::new(()))
    }
}

impl Leases for NoLeases {
    fn keep(&self, _: Leased) -> BoxFuture<'_, Result<(), MarkNotKept>> {
        std::future::ready(Err(MarkNotKept)).boxed()
    }

    fn held(&self, _: VpnConnectionId) -> Option<Held> {
        None
    }

    fn changes(&self) -> rap_watch::Receiver<()> {
        self.0.subscribe()
    }
}
