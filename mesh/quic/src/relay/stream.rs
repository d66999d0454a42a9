//! Relayed streams: a ticket for the asker, and two sockets that the kernel joins when it comes
//! back with it.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures_util::FutureExt as _;
use rap_mesh_core::{Caller, admission::admit_set_up};
use rap_proto::{
    Lane, Moment, NodeId, RefusalCode,
    wire::{
        PREAMBLE,
        hop::{Reply, TICKET_TTL_MS},
    },
};
use rap_splice::pass_in_turns;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::OwnedSemaphorePermit};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Running, State,
    reachable::{Back, called_back},
    turns::Carried,
};
use crate::{
    mesh::{Mesh, locked},
    race::race,
    tcp::{InLane, dialled, within},
};

/// How long the target's own connection is waited for before its address is tried as well.
const BACK_HEAD_START: Duration = Duration::from_millis(400);

/// What is expected of whoever brings a ticket. There are no more of them than the table of flows
/// has places.
#[derive(Default)]
pub(super) struct Tickets {
    waiting: BTreeMap<[u8; 32], Expected>,
}

struct Expected {
    flow: u64,
    from: IpAddr,
    to: Towards,
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
    let peer = admit_set_up(&view, &caller, (target, lane), mesh.clock.now())?;
    let ticket = new_ticket()?;
    let mut state = locked(&mesh.relay.state);
    let flow = state.table.set_up_stream(mesh.clock.moment(), caller.node, target, lane)?;
    let to =
        Towards::Target { asker: caller.node, node: target, addresses: peer.addresses.clone() };
    expect(mesh, &mut state, ticket, flow, from, to);
    tracing::debug!(flow, asker = %caller.node, %target, %lane, "stream set up");
    Ok(Reply::StreamReady { ticket })
}

/// Where a stream goes.
pub(super) enum Towards {
    Target {
        asker: NodeId,
        node: NodeId,
        addresses: Vec<SocketAddr>,
    },
    /// The next relay, and the ticket that it gave.
    Relay(SocketAddr, [u8; 32]),
}

pub(super) fn new_ticket() -> Result<[u8; 32], RefusalCode> {
    let mut ticket = [0; 32];
    let random = rap_pki::tls::provider().secure_random;
    random.fill(&mut ticket).map_err(|_| RefusalCode::PathUnavailable)?;
    Ok(ticket)
}

/// Waits for whoever brings the ticket of a flow that has its place.
pub(super) fn expect(
    mesh: &Mesh,
    state: &mut State,
    ticket: [u8; 32],
    flow: u64,
    from: IpAddr,
    to: Towards,
) {
    let until = mesh.clock.moment() + Duration::from_millis(TICKET_TTL_MS);
    let expected = Expected { flow, from, to, until };
    state.tickets.waiting.insert(ticket, expected);
}

/// Joins a connection that came with a ticket to the target that the ticket is for.
pub(crate) async fn join(
    mesh: Arc<Mesh>,
    asker: TcpStream,
    from: SocketAddr,
    ticket: [u8; 32],
    place: OwnedSemaphorePermit,
) {
    let back = mesh.reachable.came_back(&ticket, Back(asker, place));
    let Err(Back(asker, place)) = back else { return };
    let mut state = locked(&mesh.relay.state);
    let Some(expected) = state.tickets.waiting.remove(&ticket) else {
        return mesh.refused(RefusalCode::Malformed, None);
    };
    let Expected { flow, from: expected, to, .. } = expected;
    if from.ip().to_canonical() != expected {
        state.table.remove(flow);
        return mesh.refused(RefusalCode::PeerNotTrusted, None);
    }
    let lane = state.table.flow(flow).map(|flow| flow.lane);
    let (Some(lane), Ok(carried)) = (lane, state.carry(&mesh.relay.turns, flow)) else {
        state.table.remove(flow);
        return mesh.refused(RefusalCode::LimitReached, None);
    };
    let over = mesh.clone();
    let task = mesh.bulk.spawn(async move {
        let _place = place;
        if let Err(error) = carry(&over, (asker, lane), to, carried).await {
            tracing::debug!(%error, flow, "a relayed stream broke");
        }
        let mut state = locked(&over.relay.state);
        state.table.remove(flow);
        state.running.remove(&flow);
    });
    state.running.insert(flow, Running { forwarding: None, _task: AbortOnDropHandle::new(task) });
}

/// Passes bytes both ways, in its turns, until both ends have closed, or one of them breaks.
async fn carry(
    mesh: &Mesh,
    (asker, lane): (TcpStream, Lane),
    to: Towards,
    carried: Carried,
) -> io::Result<()> {
    let (target, _place) = match to {
        Towards::Target { asker, node, addresses } => {
            reached(mesh, asker, (node, &addresses)).await?
        }
        Towards::Relay(address, ticket) => {
            let mut relay = within(dialled(address)).await?;
            relay.write_all(&[&PREAMBLE[..], &ticket].concat()).await?;
            (relay, None)
        }
    };
    let in_lane = |stream| InLane::new(stream, lane, &mesh.controllers);
    let (asker, target) = (in_lane(&asker), in_lane(&target));
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    tokio::try_join!(
        pass_in_turns(&asker, &target, &up, &carried.up),
        pass_in_turns(&target, &asker, &down, &carried.down),
    )?;
    Ok(())
}

/// A connection to the end of a path: one that its node makes, if it keeps itself reachable here,
/// and one to its first address that answers, when that one does not come or not soon.
async fn reached(
    mesh: &Mesh,
    asker: NodeId,
    (node, addresses): (NodeId, &[SocketAddr]),
) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    let back = async {
        let back = called_back(mesh, asker, node).await;
        back.map(|Back(stream, place)| (stream, Some(place)))
    };
    let dialling = async {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match within(dialled(*address)).await {
                Ok(stream) => return Ok((stream, None)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    };
    let attempts = vec![(Duration::ZERO, back.boxed()), (BACK_HEAD_START, dialling.boxed())];
    race(attempts).await.map_err(|mut failures: Vec<io::Error>| {
        failures.pop().unwrap_or_else(|| io::ErrorKind::NotConnected.into())
    })
}
