//! A way for a through flow: a socket to an egress, for its client to speak TLS over.

use std::sync::Arc;

use rap_mesh_core::{
    View,
    carrier::Carrier,
    carriers::Reason,
    paths::{Candidate, egress_order},
};
use rap_proto::{Lane, NodeId, token::AccessClaims};
use tokio::net::TcpStream;

use super::{LaneKey, Ways, carriers::may_use, request::own_caller, stream};
use crate::mesh::Mesh;

/// A socket that leads to an egress, and the place among the flows on TCP that it has.
pub(crate) struct Way {
    pub(crate) key: LaneKey,
    pub(crate) stream: TcpStream,
    pub(crate) over: Candidate,
    _place: stream::Place,
}

/// Where a flow is already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Egress {
    pub(crate) node: NodeId,
    /// The path that it is to go over to, and over no other.
    pub(crate) over: Option<Candidate>,
    /// Whether what failed a moment ago is tried as well: it has had a way, and has nothing else.
    pub(crate) insists: bool,
}

impl Way {
    /// Nothing came from the egress: what that says of the path, this node finds out itself. A client can
    /// leave a path that works.
    pub(crate) fn look(&self, mesh: &Arc<Mesh>) {
        let (mesh, key, over) = (mesh.clone(), self.key, self.over);
        let tasks = mesh.bulk.clone();
        tasks.spawn(async move { stream::look(&mesh, key, over).await });
    }

    /// Whether it leads over a relay that is none for its lane any more, or over none where that is forbidden.
    pub(crate) fn leads_nowhere(&self, view: &View) -> bool {
        let LaneKey { organization, lane, .. } = self.key;
        let is_relay =
            |relay: &NodeId| view.relays(organization, lane).any(|known| known == *relay);
        let is_forbidden = !self.over.is_relayed() && !view.allows_direct();
        is_forbidden || !self.over.relays().iter().all(is_relay)
    }
}

/// The way to the first egress of the token that is reached on TCP, or to the one where the flow is.
/// `None` where a flow of this lane had better be an ordinary one: nothing is reached, another carrier
/// is chosen, or this node is the egress itself.
pub(crate) async fn find_way(
    mesh: &Arc<Mesh>,
    claims: &AccessClaims,
    lane: Lane,
    is_at: Option<Egress>,
) -> Option<Way> {
    // Keys and pictures run on QUIC.
    if Carrier::order(lane)[0] != Carrier::Tcp {
        return None;
    }
    let all = claims.egresses.keys().copied();
    let egresses = match is_at {
        Some(egress) => all.filter(|known| *known == egress.node).collect(),
        None => egress_order(claims.session, all),
    };
    for egress in egresses {
        if own_caller(mesh, egress).is_some() {
            return None;
        }
        let key = LaneKey { egress, organization: claims.organization, lane };
        if !may_use(mesh, key, Carrier::Tcp) {
            return None;
        }
        let chosen = match is_at {
            None => Some(suits(mesh, key)?),
            Some(_) => None,
        };
        let place = stream::Place::take(mesh)?;
        let reached = match is_at {
            Some(Egress { over: Some(over), .. }) => stream::reach_by(mesh, key, over).await,
            _ => {
                let insists = is_at.is_some_and(|egress| egress.insists);
                stream::reach(mesh, (key, Ways::All), insists).await.ok()
            }
        };
        if let Some((stream, over)) = reached {
            if let Some(reason) = chosen {
                mesh.lanes.choices.took(mesh, key, (Carrier::Tcp, reason));
            }
            return Some(Way { key, stream, over, _place: place });
        }
    }
    None
}

/// Why a new flow of the lane is tried on TCP first, if it is.
fn suits(mesh: &Arc<Mesh>, key: LaneKey) -> Option<Reason> {
    let chosen = mesh.lanes.choices.choose(mesh, key)?;
    if chosen.first == Carrier::Tcp {
        return Some(chosen.reason);
    }
    mesh.lanes.choices.choose_ahead(mesh, key, chosen);
    None
}
