//! The side of a relayed flow that leads to its asker: at the port that it names or, where a NAT
//! shows another one than it has, at the port that its knock comes from.

use std::{net::SocketAddr, sync::Arc};

use rap_mesh_core::{Caller, carrier::Carrier, holes::Limits};
use rap_proto::{
    Lane, NodeId, RefusalCode,
    wire::hop::{Reply, Request},
};
use tokio::{sync::mpsc, time::timeout};

use super::{Origin, handle, looks::Look, no_sockets, socket::FlowSocket};
use crate::{frames::write_frame, hops::MAX_WAITING, mesh::Mesh, pipe::Outlet};

const _: () = assert!(
    Limits::KNOCKED_FLOWS.of_one >= MAX_WAITING,
    "an asker that keeps to its own limit would be refused"
);

/// What an asker says of its own socket, and how it is told where to knock.
pub(super) struct Asker {
    pub(super) node: NodeId,
    pub(super) origin: Origin,
    pub(super) from_port: u16,
    pub(super) hop_port: Option<u16>,
    pub(super) tell: mpsc::Sender<Reply>,
}

impl Asker {
    /// A socket that speaks with the asker alone.
    pub(super) async fn socket(self, mesh: &Mesh, lane: Lane) -> Result<FlowSocket, RefusalCode> {
        if self.has_other_ports() {
            return self.knocked(mesh, lane).await;
        }
        let Self { origin, from_port, .. } = self;
        let asker = SocketAddr::new(origin.asker.ip(), from_port);
        FlowSocket::connect(&*mesh.network, lane, origin.own, asker).map_err(no_sockets)
    }

    /// Whether the port of its hop connection is another one here than there: then the port that it
    /// names is most likely none of its own here.
    fn has_other_ports(&self) -> bool {
        let is_other = self.hop_port.is_some_and(|own| own != self.origin.asker.port());
        is_other && self.origin.carrier == Carrier::Quic
    }

    async fn knocked(self, mesh: &Mesh, lane: Lane) -> Result<FlowSocket, RefusalCode> {
        let look = Look::open(mesh, &mesh.knocked_flows, self.node, lane, self.origin)?;
        let unheard = RefusalCode::PathUnavailable;
        self.tell.try_send(look.here()).map_err(|_| unheard)?;
        let heard = timeout(mesh.limits.knock_wait, look.knocked()).await.map_err(|_| unheard)?;
        heard.map_err(no_sockets)
    }
}

/// Decides on a request, and tells the asker where to knock meanwhile. `None` when it takes that not.
pub(super) async fn decide(
    mesh: &Arc<Mesh>,
    caller: Caller,
    origin: Origin,
    request: &Request,
    send: &mut Outlet,
) -> Option<Result<Reply, RefusalCode>> {
    let (tell, mut told) = mpsc::channel(1);
    let handling = handle(mesh, caller, origin, request, tell);
    tokio::pin!(handling);
    loop {
        tokio::select! {
            biased;
            Some(here) = told.recv() => {
                // An asker that reads nothing keeps no place.
                timeout(mesh.limits.knock_wait, write_frame(send, &here)).await.ok()?.ok()?;
            }
            outcome = &mut handling => return Some(outcome),
        }
    }
}
