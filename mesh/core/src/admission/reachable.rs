//! A relay's check of an egress that keeps itself reachable there, and what both ends of a lane may
//! ask for to find a direct path.
//!
//! Nobody gains a right by it: who may be connected to whom is asked for each flow, as ever.

use rap_proto::{NodeRole, RefusalCode, Timestamp, snapshot::Peer};

use super::{check_asker, scopes, share_an_organization, trusted_peer};
use crate::{Caller, View};

/// Whether `caller` may keep itself reachable at this relay.
pub fn admit_reachable(view: &View, caller: &Caller, now: Timestamp) -> Result<(), RefusalCode> {
    let asker = check_asker(view, caller, now)?;
    if relays_to(view, asker) { Ok(()) } else { Err(RefusalCode::RoleNotAssigned) }
}

/// Whether this relay tells `caller` from where its datagrams come: an egress that it relays to, or
/// an entry that it relays for.
pub fn admit_seen(view: &View, caller: &Caller, now: Timestamp) -> Result<(), RefusalCode> {
    let asker = check_asker(view, caller, now)?;
    let is_known =
        relays_to(view, asker) || is_with(view, NodeRole::RelayNode, asker, NodeRole::EntryNode);
    if is_known { Ok(()) } else { Err(RefusalCode::RoleNotAssigned) }
}

/// Whether this egress looks for a direct path with `caller`: an entry of an organization that it
/// is there for, as long as the platform allows such paths.
pub fn admit_meeting(view: &View, caller: &Caller, now: Timestamp) -> Result<(), RefusalCode> {
    if view.is_stale(now) {
        return Err(RefusalCode::SnapshotStale);
    }
    let entry = trusted_peer(view, caller)?;
    if !view.allows_direct() {
        return Err(RefusalCode::PathUnavailable);
    }
    let is_known = is_with(view, NodeRole::StreamWorker, entry, NodeRole::EntryNode);
    if is_known { Ok(()) } else { Err(RefusalCode::RoleNotAssigned) }
}

/// Whether one that was admitted may stay. A relay that drains still carries what it has.
pub fn may_stay_reachable(view: &View, caller: &Caller, now: Timestamp) -> bool {
    !view.must_stop(now) && trusted_peer(view, caller).is_ok_and(|peer| relays_to(view, peer))
}

/// Whether some organization has this node as relay and the peer as egress.
fn relays_to(view: &View, peer: &Peer) -> bool {
    is_with(view, NodeRole::RelayNode, peer, NodeRole::StreamWorker)
}

/// Whether some organization has this node and the peer in these roles.
fn is_with(view: &View, own: NodeRole, peer: &Peer, role: NodeRole) -> bool {
    scopes(&view.assignment.roles, own).any(|own| {
        scopes(&peer.roles, role).any(|other| share_an_organization([own, other, other]))
    })
}
