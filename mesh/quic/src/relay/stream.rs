//! Relayed streams: a ticket for the asker, and two sockets that the kernel joins when it comes
//! back with it.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rap_mesh_core::{Caller, admission::admit_set_up};
use rap_proto::{
    Lane, Moment, NodeId, RefusalCode,
    wire::hop::{Reply, TICKET_TTL_MS},
};
use rap_splice::pass;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};
use tokio_util::task::AbortOnDropHandle;

use super::Running;
use crate::{
    mesh::{Mesh, locked},
    tcp::{dialled, within},
};

/// What is expected of whoever brings a ticket. There are no more of them than the table of flows
/// has places.
#[derive(Default)]
pub(super) struct Tickets {
    waiting: BTreeMap<[u8; 32], Expected>,
}

struct Expected {
    flow: u64,
    from: IpAddr,
    target: Vec<SocketAddr>,
    until: Moment,
}

impl Tickets {
    /// Removes the tickets that nobody brought in time, and returns their flows.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<u64> {
        let late = self.waiting.extract_if(.., |_, expected| expected.until <= now);
        late.map(|(_, expected)| expected.flow).collect()
    }

    pub(super) fn forget(&mut self, flow: u64) {
        self.waiting.retain(|_, expected| expected.flow != flow);
    }
}

/// Gives `caller` a ticket for a stream to `target`.
pub(super) fn set_up(
    mesh: &Arc<Mesh>,
    caller: Caller,
    from: IpAddr,
    target: NodeId,
    lane: Lane,
) -> Result<Reply, RefusalCode> {
    let view = mesh.view();
    let peer = admit_set_up(&view, &caller, target, mesh.clock.now())?;
    let mut ticket = [0; 32];
    let random = rap_pki::tls::provider().secure_random;
    random.fill(&mut ticket).map_err(|_| RefusalCode::PathUnavailable)?;
    let now = mesh.clock.moment();
    let mut state = locked(&mesh.relay.state);
    let flow = state.table.set_up_stream(now, caller.node, target, lane)?;
    let until = now + Duration::from_millis(TICKET_TTL_MS);
    let expected = Expected { flow, from, target: peer.addresses.clone(), until };
    state.tickets.waiting.insert(ticket, expected);
    tracing::debug!(flow, asker = %caller.node, %target, %lane, "stream set up");
    Ok(Reply::StreamReady { ticket })
}

/// Joins a connection that came with a ticket to the target that the ticket is for.
pub(crate) async fn join(
    mesh: Arc<Mesh>,
    asker: TcpStream,
    from: SocketAddr,
    ticket: [u8; 32],
    place: OwnedSemaphorePermit,
) {
    let mut state = locked(&mesh.relay.state);
    let Some(Expected { flow, from: expected, target, .. }) = state.tickets.waiting.remove(&ticket)
    else {
        return mesh.refused(RefusalCode::Malformed, None);
    };
    if from.ip().to_canonical() != expected {
        state.table.remove(flow);
        return mesh.refused(RefusalCode::PeerNotTrusted, None);
    }
    let over = mesh.clone();
    let task = mesh.tasks.spawn(async move {
        let _place = place;
        if let Err(error) = carry(asker, &target).await {
            tracing::debug!(%error, flow, "a relayed stream broke");
        }
        let mut state = locked(&over.relay.state);
        state.table.remove(flow);
        state.running.remove(&flow);
    });
    state.running.insert(flow, Running { forwarding: None, _task: AbortOnDropHandle::new(task) });
}

/// Passes bytes both ways until both ends have closed, or one of them breaks.
async fn carry(asker: TcpStream, target: &[SocketAddr]) -> io::Result<()> {
    let mut connecting = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in target {
        connecting = within(dialled(*address)).await;
        if connecting.is_ok() {
            break;
        }
    }
    let target = connecting?;
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    tokio::try_join!(pass(&asker, &target, &up), pass(&target, &asker, &down))?;
    Ok(())
}
