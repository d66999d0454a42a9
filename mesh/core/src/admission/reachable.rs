//! A relay's check of an egress that keeps itself reachable there.
//!
//! It gains no right by it: who may be connected to whom is asked for each flow, as ever.

use rap_proto::{NodeRole, RefusalCode, Timestamp, snapshot::Peer};

use super::{check_asker, scopes, share_an_organization, trusted_peer};
use crate::{Caller, View};

/// Whether `caller` may keep itself reachable at this relay.
pub fn admit_reachable(view: &View, caller: &Caller, now: Timestamp) -> Result<(), RefusalCode> {
    let asker = check_asker(view, caller, now)?;
    if relays_to(view, asker) { Ok(()) } else { Err(RefusalCode::RoleNotAssigned) }
}

/// Whether one that was admitted may stay. A relay that drains still carries what it has.
pub fn may_stay_reachable(view: &View, caller: &Caller, now: Timestamp) -> bool {
    !view.must_stop(now) && trusted_peer(view, caller).is_ok_and(|peer| relays_to(view, peer))
}

/// Whether some organization has this node as relay and the peer as egress.
fn relays_to(view: &View, peer: &Peer) -> bool {
    scopes(&view.assignment.roles, NodeRole::RelayNode).any(|own| {
        scopes(&peer.roles, NodeRole::StreamWorker)
            .any(|egress| share_an_organization([own, egress, egress]))
    })
}
