//! A relay's checks of one leg of a path over several relays.
//!
//! The request names the organization, what is left of the path, and its end. Each relay checks from
//! its own snapshot that it, its asker and the next node are there for the organization, and that the
//! relays among them carry the lane. What is left gets shorter by one relay on each leg, so that no path goes
//! on for ever.

use rap_proto::{
    NodeId, NodeRole, OrganizationId, RefusalCode, Timestamp,
    snapshot::Peer,
    wire::hop::{MAX_HOPS, Onward},
};

use super::{check_asker, check_lane, relay_may_continue};
use crate::{
    Caller, View,
    flows::{Flow, Passage},
    view::peer_has_role,
};

/// Where an admitted leg leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<'v> {
    /// To the end of the path.
    Target(&'v Peer),
    /// To another relay, which is to be asked for the rest.
    Relay(&'v Peer, Onward),
}

impl<'v> Next<'v> {
    pub const fn peer(&self) -> &'v Peer {
        match *self {
            Self::Target(peer) | Self::Relay(peer, _) => peer,
        }
    }

    pub const fn role(&self) -> NodeRole {
        match self {
            Self::Target(_) => NodeRole::StreamWorker,
            Self::Relay(..) => NodeRole::RelayNode,
        }
    }
}

/// A relay's check of a leg that `caller` asks for; returns where it leads.
pub fn admit_onward<'v>(
    view: &'v View,
    caller: &Caller,
    onward: &Onward,
    now: Timestamp,
) -> Result<Next<'v>, RefusalCode> {
    let asker = check_asker(view, caller, now)?;
    check_shape(view.node, caller.node, onward)?;
    let Onward { relays, target, lane, organization } = onward;
    if !carries_for(view, asker, *organization) {
        return Err(RefusalCode::RoleNotAssigned);
    }
    check_lane(view, view.node, *lane)?;
    // An entry is in front of all relays; a relay that asks is one of them.
    if !peer_has_role(asker, NodeRole::EntryNode, *organization) && relays.len() + 2 > MAX_HOPS {
        return Err(RefusalCode::Malformed);
    }
    let ahead = relays.iter().map(|relay| (*relay, NodeRole::RelayNode));
    for (node, role) in ahead.chain([(*target, NodeRole::StreamWorker)]) {
        check_ahead(view, node, role, *organization)?;
        if role == NodeRole::RelayNode {
            check_lane(view, node, *lane)?;
        }
    }
    let known = |node| view.peer(node).ok_or(RefusalCode::PeerNotTrusted);
    let Some((next, rest)) = relays.split_first() else { return Ok(Next::Target(known(*target)?)) };
    let rest =
        Onward { relays: rest.to_vec(), target: *target, lane: *lane, organization: *organization };
    Ok(Next::Relay(known(*next)?, rest))
}

/// At a relay: whether a flow that was set up earlier may go on, alone or as one leg of many.
pub fn flow_may_continue(view: &View, flow: &Flow, now: Timestamp) -> bool {
    if check_lane(view, view.node, flow.lane).is_err() {
        return false;
    }
    let Some(Passage { organization, next_role }) = flow.passage else {
        return relay_may_continue(view, flow.asker, flow.target, now);
    };
    let (Some(asker), Some(next)) = (view.peer(flow.asker), view.peer(flow.target)) else {
        return false;
    };
    let carries_lane =
        next_role != NodeRole::RelayNode || check_lane(view, flow.target, flow.lane).is_ok();
    !view.must_stop(now)
        && carries_lane
        && carries_for(view, asker, organization)
        && peer_has_role(next, next_role, organization)
}

/// Nobody is on the path twice, and it is no longer than any path.
fn check_shape(own: NodeId, asker: NodeId, onward: &Onward) -> Result<(), RefusalCode> {
    let Onward { relays, target, .. } = onward;
    let ends = [own, asker, *target];
    let is_loop =
        |(place, relay): (usize, &NodeId)| ends.contains(relay) || relays[..place].contains(relay);
    let loops = relays.len() < MAX_HOPS && relays.iter().enumerate().any(is_loop);
    if relays.len() >= MAX_HOPS || loops || *target == own || *target == asker {
        return Err(RefusalCode::Malformed);
    }
    Ok(())
}

/// Whether this node is a relay for the organization, and the asker an entry or a relay for it.
fn carries_for(view: &View, asker: &Peer, organization: OrganizationId) -> bool {
    view.assignment.has_role(NodeRole::RelayNode, organization)
        && [NodeRole::EntryNode, NodeRole::RelayNode]
            .iter()
            .any(|role| peer_has_role(asker, *role, organization))
}

/// Whom this node knows must be what the path takes it for; whom it does not know, the next relay
/// judges.
fn check_ahead(
    view: &View,
    node: NodeId,
    role: NodeRole,
    organization: OrganizationId,
) -> Result<(), RefusalCode> {
    if view.is_denied(node) {
        return Err(RefusalCode::PeerNotTrusted);
    }
    match view.peer(node) {
        Some(peer) if !peer_has_role(peer, role, organization) => Err(RefusalCode::RoleNotAssigned),
        _ => Ok(()),
    }
}
