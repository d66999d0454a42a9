//! A way for a through flow: a socket to an egress, for its client to speak TLS over.

use std::sync::Arc;

use rap_mesh_core::{
    carrier::Carrier,
    paths::{Candidate, egress_order},
};
use rap_proto::{Lane, NodeId, token::AccessClaims};
use tokio::net::TcpStream;

use super::{LaneKey, Ways, carriers::may_use, request::own_caller, stream};
use crate::mesh::Mesh;

/// A socket that leads to an egress, and the place among the flows on TCP that it has.
pub(crate) struct Way {
    pub(crate) key: LaneKey,
    pub(crate) socket: TcpStream,
    pub(crate) over: Candidate,
    _place: stream::Place,
}

impl Way {
    /// Nothing came from the egress on it.
    pub(crate) fn led_nowhere(&self, mesh: &Mesh) {
        stream::led_nowhere(mesh, self.key.egress, self.over);
    }
}

/// The way to the first egress of the token that is reached on TCP, or to the one where the flow `is_at`,
/// over the path that it is to go over to if there is one. `None` where a flow of this lane had better be an ordinary one: nothing is reached, another carrier
/// is chosen, or this node is the egress itself.
pub(crate) async fn find_way(
    mesh: &Arc<Mesh>,
    claims: &AccessClaims,
    lane: Lane,
    is_at: Option<(NodeId, Option<Candidate>)>,
) -> Option<Way> {
    let all = claims.egresses.keys().copied();
    let egresses = match is_at {
        Some((egress, _)) => all.filter(|known| *known == egress).collect(),
        None => egress_order(claims.session, all),
    };
    for egress in egresses {
        if own_caller(mesh, egress).is_some() {
            return None;
        }
        let key = LaneKey { egress, organization: claims.organization, lane };
        let begins = is_at.is_none();
        if !may_use(mesh, key, Carrier::Tcp) || (begins && !suits(mesh, key)) {
            return None;
        }
        let place = stream::Place::take(mesh)?;
        if let Some((_, Some(over))) = is_at
            && let Some(socket) = stream::reach_by(mesh, key, over).await
        {
            return Some(Way { key, socket, over, _place: place });
        }
        // A flow that has nothing else tries what failed a moment ago.
        if let Ok((socket, over)) = stream::reach(mesh, (key, Ways::All), !begins).await {
            return Some(Way { key, socket, over, _place: place });
        }
    }
    None
}

/// Whether a new flow of the lane is tried on TCP first.
fn suits(mesh: &Arc<Mesh>, key: LaneKey) -> bool {
    let choices = &mesh.lanes.choices;
    let chosen = choices.choose(mesh, key);
    match chosen.first {
        Carrier::Tcp => choices.took(mesh, key, (Carrier::Tcp, chosen.reason)),
        Carrier::Quic => choices.choose_ahead(mesh, key, chosen),
    }
    chosen.first == Carrier::Tcp
}
