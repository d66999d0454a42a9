//! One leg of a path over several relays: this relay asks the next one for the rest of it, and joins
//! what that one answers to what it was asked for. While the flow runs, it looks after the next leg;
//! each of the two ends with the other.

use std::{net::SocketAddr, sync::Arc};

use rap_mesh_core::{
    Caller,
    admission::{Next, admit_onward},
    flows::{FlowTable, Passage},
};
use rap_proto::{
    Lane, Moment, NodeId, RefusalCode,
    wire::hop::{Onward, Reply},
};

use super::{
    Origin,
    asker::Asker,
    canonical, forwarding, no_sockets,
    place::Place,
    socket::{FlowSocket, Promised},
    stream::{Towards, new_ticket},
    towards,
};
use crate::{
    hops::{self, OnwardRefused, RelayedFlow},
    mesh::{Mesh, locked},
};

/// Why a leg was not set up: this relay refuses, or somebody behind it did.
enum NotSetUp {
    Here(RefusalCode),
    Onward(OnwardRefused),
}

impl From<RefusalCode> for NotSetUp {
    fn from(code: RefusalCode) -> Self {
        Self::Here(code)
    }
}

impl From<OnwardRefused> for NotSetUp {
    fn from(refused: OnwardRefused) -> Self {
        Self::Onward(refused)
    }
}

impl NotSetUp {
    fn told(self) -> Result<Reply, RefusalCode> {
        match self {
            Self::Here(code) => Err(code),
            Self::Onward(refused) => Ok(refused.onward()),
        }
    }
}

pub(super) async fn set_up(
    mesh: &Arc<Mesh>,
    caller: Caller,
    asker: Asker,
    onward: &Onward,
) -> Result<Reply, RefusalCode> {
    set_up_flow(mesh, caller, asker, onward).await.or_else(NotSetUp::told)
}

pub(super) async fn set_up_stream(
    mesh: &Arc<Mesh>,
    caller: Caller,
    origin: Origin,
    onward: &Onward,
) -> Result<Reply, RefusalCode> {
    set_up_joined(mesh, caller, origin, onward).await.or_else(NotSetUp::told)
}

async fn set_up_flow(
    mesh: &Arc<Mesh>,
    caller: Caller,
    asker: Asker,
    onward: &Onward,
) -> Result<Reply, NotSetUp> {
    if asker.from_port == 0 {
        return Err(RefusalCode::Malformed.into());
    }
    let (place, leg) = take_place(mesh, caller, onward, FlowTable::set_up)?;
    let near = async { Ok(asker.socket(mesh, onward.lane).await?) };
    let far = follow(mesh, (caller.node, onward.lane), leg);
    let (near, (far, beyond)) = tokio::try_join!(near, far)?;
    let (forwarding, port) = forwarding(mesh, near, far)?;
    let flow = place.keep_running(forwarding, beyond)?;
    tracing::debug!(flow, asker = %caller.node, lane = %onward.lane, "leg of a path set up");
    Ok(Reply::FlowReady { flow, port })
}

async fn set_up_joined(
    mesh: &Arc<Mesh>,
    caller: Caller,
    origin: Origin,
    onward: &Onward,
) -> Result<Reply, NotSetUp> {
    let (place, leg) = take_place(mesh, caller, onward, FlowTable::set_up_stream)?;
    let to = match leg {
        Leg::Target(node, addresses) => Towards::Target { asker: caller.node, node, addresses },
        Leg::Relay(relay, rest) => {
            let beyond = hops::set_up_stream_onward(mesh, relay, rest).await?;
            Towards::Relay(beyond.address, beyond.ticket)
        }
    };
    let ticket = new_ticket()?;
    let flow = place.keep_expecting(ticket, origin.asker.ip(), to)?;
    tracing::debug!(flow, asker = %caller.node, lane = %onward.lane, "leg of a stream set up");
    Ok(Reply::StreamReady { ticket })
}

/// The socket that a leg leads on from, and the flow behind it if there is a relay.
async fn follow(
    mesh: &Arc<Mesh>,
    (asker, lane): (NodeId, Lane),
    leg: Leg,
) -> Result<(FlowSocket, Option<RelayedFlow>), NotSetUp> {
    match leg {
        Leg::Target(node, addresses) => {
            let socket = towards(mesh, lane, asker, (node, &addresses)).await?;
            Ok((socket, None))
        }
        Leg::Relay(relay, rest) => {
            let (socket, beyond) = lead_on(mesh, relay, rest).await?;
            let socket = socket.connect(canonical(beyond.address)).map_err(no_sockets)?;
            Ok((socket, Some(beyond)))
        }
    }
}

/// Asks the next relay for a flow from a port of this node: the socket that has it comes along.
async fn lead_on(
    mesh: &Arc<Mesh>,
    relay: NodeId,
    rest: Onward,
) -> Result<(Promised, RelayedFlow), NotSetUp> {
    let hop = hops::connected(mesh, relay).await.map_err(OnwardRefused::from)?;
    let bound = Promised::bind(&*mesh.network, rest.lane, hop.own(), hop.remote());
    let socket = bound.map_err(no_sockets)?;
    let beyond = hops::set_up_onward(mesh, (relay, hop), rest, &socket).await?;
    Ok((socket, beyond))
}

/// Where a leg leads, in values of its own: what it was admitted by may change meanwhile.
enum Leg {
    Target(NodeId, Vec<SocketAddr>),
    Relay(NodeId, Onward),
}

type SetUp = fn(&mut FlowTable, Moment, NodeId, NodeId, Lane) -> Result<u64, RefusalCode>;

fn take_place<'m>(
    mesh: &'m Arc<Mesh>,
    caller: Caller,
    onward: &Onward,
    set_up: SetUp,
) -> Result<(Place<'m>, Leg), RefusalCode> {
    let view = mesh.view();
    let next = admit_onward(&view, &caller, onward, mesh.clock.now())?;
    let (peer, role) = (next.peer(), next.role());
    let passage = Passage { organization: onward.organization, next_role: role };
    let mut state = locked(&mesh.relay.state);
    let now = mesh.clock.moment();
    let flow = set_up(&mut state.table, now, caller.node, peer.node, onward.lane)?;
    state.table.lead_on(flow, passage)?;
    let leg = match next {
        Next::Target(peer) => Leg::Target(peer.node, peer.addresses.clone()),
        Next::Relay(peer, rest) => Leg::Relay(peer.node, rest),
    };
    Ok((Place::new(mesh, onward.lane, flow), leg))
}
