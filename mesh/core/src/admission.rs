//! Who is let in: the checks of an entry, an egress and a relay, in the order that gives the
//! most exact refusal.
//!
//! Each check is a function of the node's [`View`], the request and the time. Nothing here asks
//! the control plane.

mod onward;
mod reachable;
mod through;

use rap_proto::{
    ChannelKind, ClusterId, KeyId, Lane, NodeId, NodeRole, RefusalCode, Timestamp,
    observation::{Claimed, EndReason},
    signed::{self, OpenError, Verified},
    snapshot::{Peer, Resource, RoleScope},
    token::{AccessClaims, Proof},
};

pub use onward::{Next, admit_onward, flow_may_continue};
pub use reachable::{admit_meeting, admit_reachable, admit_seen, may_stay_reachable};
pub use through::{Vouched, admit_through, check_voucher, may_lead_through};

use crate::{View, channel::Policy, view::peer_has_role};

/// The node behind a connection, as its verified certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub key: KeyId,
}

/// A token whose signature was verified, with the proof that came with it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    pub claims: &'a AccessClaims,
    pub token: &'a [u8],
    pub proof: &'a Proof,
}

/// Verifies a token's signature with the keys of the view.
pub fn open_token(view: &View, token: &[u8]) -> Result<Verified<AccessClaims>, RefusalCode> {
    signed::open(token, view.control_keys()).map_err(|error| match error {
        OpenError::NotTrusted { .. } => RefusalCode::TokenUntrusted,
        OpenError::Envelope(_) | OpenError::WrongType { .. } | OpenError::Payload(_) => {
            RefusalCode::Malformed
        }
    })
}

/// What the audit may repeat of verified claims.
pub fn claimed(claims: &AccessClaims) -> Claimed {
    Claimed {
        organization: claims.organization,
        user: claims.user,
        session: claims.session,
        resource: claims.resource,
    }
}

/// An entry's check of a new client. `exported` is this connection's exported value.
pub fn admit_client(
    view: &View,
    presented: Presented<'_>,
    exported: &[u8; 32],
    now: Timestamp,
) -> Result<(), RefusalCode> {
    check_holder(view, presented, exported)?;
    presented.claims.check_connect(now)?;
    check_entry(view, presented.claims, now)
}

/// An entry's check of a newer token for a connected client: the same session, held by the same
/// key on the same connection.
pub fn admit_refresh(
    view: &View,
    current: &AccessClaims,
    presented: Presented<'_>,
    exported: &[u8; 32],
    now: Timestamp,
) -> Result<(), RefusalCode> {
    check_holder(view, presented, exported)?;
    let newer = presented.claims;
    let same = newer.session == current.session
        && newer.organization == current.organization
        && newer.user == current.user
        && newer.resource == current.resource
        && newer.client_key == current.client_key
        && newer.leased == current.leased;
    if !same {
        return Err(RefusalCode::AccessDenied);
    }
    newer.check_connect(now)?;
    check_entry(view, newer, now)
}

/// An entry's check of a new channel of an admitted client.
pub fn admit_channel(
    view: &View,
    claims: &AccessClaims,
    channel: ChannelKind,
    lane: Lane,
    now: Timestamp,
) -> Result<(), RefusalCode> {
    claims.check_open(now)?;
    check_entry(view, claims, now)?;
    check_channel(claims, channel, lane)
}

/// An egress' check of a new flow; returns the resource to dial.
pub fn admit_flow<'v>(
    view: &'v View,
    caller: &Caller,
    presented: Presented<'_>,
    channel: ChannelKind,
    lane: Lane,
    now: Timestamp,
) -> Result<&'v Resource, RefusalCode> {
    let Presented { claims, token, proof } = presented;
    check_cluster(view, claims)?;
    if !proof.holds(token, &claims.client_key) {
        return Err(RefusalCode::TokenWrongKey);
    }
    admit_from(view, caller, claims, (channel, lane), now)
}

/// The same, once it is known that the key's holder asks.
fn admit_from<'v>(
    view: &'v View,
    caller: &Caller,
    claims: &AccessClaims,
    (channel, lane): (ChannelKind, Lane),
    now: Timestamp,
) -> Result<&'v Resource, RefusalCode> {
    claims.check_open(now)?;
    if !claims.entries.contains(&caller.node) {
        return Err(RefusalCode::TokenWrongAudience);
    }
    let floor = *claims.egresses.get(&view.node).ok_or(RefusalCode::TokenWrongAudience)?;
    check_own(view, NodeRole::StreamWorker, claims, now)?;
    if view.version < floor {
        return Err(RefusalCode::SnapshotBehind);
    }
    let peer = trusted_peer(view, caller)?;
    if !peer_has_role(peer, NodeRole::EntryNode, claims.organization) {
        return Err(RefusalCode::RoleNotAssigned);
    }
    let resource = granted_resource(view, claims).ok_or(RefusalCode::AccessDenied)?;
    check_channel(claims, channel, lane)?;
    Ok(resource)
}

/// What carries messages runs on the lane of its kind, whatever the token says.
fn check_channel(
    claims: &AccessClaims,
    channel: ChannelKind,
    lane: Lane,
) -> Result<(), RefusalCode> {
    claims.check_channel(channel, lane)?;
    match Policy::of(channel) {
        Some(policy) if policy.lane != lane => Err(RefusalCode::ChannelNotPermitted),
        _ => Ok(()),
    }
}

/// A relay's check of a flow that `caller` asks for; returns the target.
pub fn admit_set_up<'v>(
    view: &'v View,
    caller: &Caller,
    (target, lane): (NodeId, Lane),
    now: Timestamp,
) -> Result<&'v Peer, RefusalCode> {
    let asker = check_asker(view, caller, now)?;
    let target = view.peer(target).ok_or(RefusalCode::PeerNotTrusted)?;
    if !relays_between(view, asker, target) {
        return Err(RefusalCode::RoleNotAssigned);
    }
    check_lane(view, view.node, lane)?;
    Ok(target)
}

/// Whether a node relays a lane, as far as the view tells.
fn check_lane(view: &View, relay: NodeId, lane: Lane) -> Result<(), RefusalCode> {
    if view.relayed_lanes(relay).has(lane) { Ok(()) } else { Err(RefusalCode::LaneNotRelayed) }
}

/// The peer behind a connection, when this node still speaks with it.
pub fn trusted_peer<'v>(view: &'v View, caller: &Caller) -> Result<&'v Peer, RefusalCode> {
    view.peer(caller.node)
        .filter(|peer| peer.key == caller.key && caller.cluster == view.cluster)
        .ok_or(RefusalCode::PeerNotTrusted)
}

/// Whether a connection of `caller` may stay at all. A node that the view does not know yet may:
/// its requests are refused one by one, after the view had the time to catch up.
pub fn may_stay_connected(view: &View, caller: &Caller) -> bool {
    caller.cluster == view.cluster
        && !view.is_denied(caller.node)
        && view.peer(caller.node).is_none_or(|peer| peer.key == caller.key)
}

/// At an entry: why a running session has to end under this view, if it has to.
pub fn client_must_end(view: &View, claims: &AccessClaims, now: Timestamp) -> Option<EndReason> {
    must_end(view, NodeRole::EntryNode, claims, now)
}

/// At an egress: why a running flow has to end under this view, if it has to. A through flow outlives
/// the entry that it came through, and has no `caller`.
pub fn flow_must_end(
    view: &View,
    caller: Option<&Caller>,
    claims: &AccessClaims,
    now: Timestamp,
) -> Option<EndReason> {
    if let Some(reason) = must_end(view, NodeRole::StreamWorker, claims, now) {
        return Some(reason);
    }
    if caller.is_some_and(|caller| !may_lead_through(view, caller, claims.organization)) {
        return Some(EndReason::NodeLeft);
    }
    granted_resource(view, claims).is_none().then_some(EndReason::Terminated)
}

/// At a relay: whether a flow that was set up earlier may go on.
pub fn relay_may_continue(view: &View, asker: NodeId, target: NodeId, now: Timestamp) -> bool {
    !view.must_stop(now)
        && match (view.peer(asker), view.peer(target)) {
            (Some(asker), Some(target)) => relays_between(view, asker, target),
            _ => false,
        }
}

fn check_cluster(view: &View, claims: &AccessClaims) -> Result<(), RefusalCode> {
    let same = claims.cluster == view.cluster && claims.authority_epoch == view.authority_epoch;
    if same { Ok(()) } else { Err(RefusalCode::TokenWrongCluster) }
}

fn check_holder(
    view: &View,
    Presented { claims, token, proof }: Presented<'_>,
    exported: &[u8; 32],
) -> Result<(), RefusalCode> {
    check_cluster(view, claims)?;
    let holds = proof.exported == *exported && proof.holds(token, &claims.client_key);
    if holds { Ok(()) } else { Err(RefusalCode::TokenWrongKey) }
}

fn check_entry(view: &View, claims: &AccessClaims, now: Timestamp) -> Result<(), RefusalCode> {
    if !claims.entries.contains(&view.node) {
        return Err(RefusalCode::TokenWrongAudience);
    }
    check_own(view, NodeRole::EntryNode, claims, now)
}

fn check_own(
    view: &View,
    role: NodeRole,
    claims: &AccessClaims,
    now: Timestamp,
) -> Result<(), RefusalCode> {
    if view.is_stale(now) {
        return Err(RefusalCode::SnapshotStale);
    }
    // What was authorized when control had no quorum any more was authorized by a minority.
    if !view.authority.covers(claims.not_before) {
        return Err(RefusalCode::AuthorityLost);
    }
    if view.is_denied(view.node) {
        return Err(RefusalCode::PeerNotTrusted);
    }
    if view.trust.denied_sessions.contains(&claims.session) {
        return Err(RefusalCode::SessionTerminated);
    }
    if !view.assignment.has_role(role, claims.organization) {
        return Err(RefusalCode::RoleNotAssigned);
    }
    if view.assignment.draining {
        return Err(RefusalCode::NodeDraining);
    }
    Ok(())
}

/// A relay's check of whoever asks it for anything; returns the asker.
fn check_asker<'v>(
    view: &'v View,
    caller: &Caller,
    now: Timestamp,
) -> Result<&'v Peer, RefusalCode> {
    if view.is_stale(now) {
        return Err(RefusalCode::SnapshotStale);
    }
    if view.authority.is_isolated() {
        return Err(RefusalCode::AuthorityLost);
    }
    let asker = trusted_peer(view, caller)?;
    if view.assignment.draining {
        return Err(RefusalCode::NodeDraining);
    }
    Ok(asker)
}

fn must_end(
    view: &View,
    role: NodeRole,
    claims: &AccessClaims,
    now: Timestamp,
) -> Option<EndReason> {
    let terminated = view.trust.denied_sessions.contains(&claims.session);
    let left = view.must_stop(now)
        || view.is_denied(view.node)
        || !view.assignment.has_role(role, claims.organization);
    match (terminated, left) {
        (true, _) => Some(EndReason::Terminated),
        (false, true) => Some(EndReason::NodeLeft),
        (false, false) => None,
    }
}

fn granted_resource<'v>(view: &'v View, claims: &AccessClaims) -> Option<&'v Resource> {
    view.resource(claims.resource).filter(|resource| {
        resource.organization == claims.organization
            && resource.kind == claims.kind
            && resource.carried == claims.leased.map(|leased| leased.connection)
            && resource.users.contains(&claims.user)
    })
}

/// Whether some organization has this node as relay, the asker as entry and the target as egress.
fn relays_between(view: &View, asker: &Peer, target: &Peer) -> bool {
    let own = scopes(&view.assignment.roles, NodeRole::RelayNode);
    own.flat_map(|own| scopes(&asker.roles, NodeRole::EntryNode).map(move |entry| (own, entry)))
        .any(|(own, entry)| {
            scopes(&target.roles, NodeRole::StreamWorker)
                .any(|egress| share_an_organization([own, entry, egress]))
        })
}

pub(crate) fn scopes(roles: &[RoleScope], role: NodeRole) -> impl Iterator<Item = &RoleScope> {
    roles.iter().filter(move |scope| scope.role == role)
}

pub(crate) fn share_an_organization(scopes: [&RoleScope; 3]) -> bool {
    let smallest =
        scopes.iter().filter_map(|scope| scope.organizations.as_ref()).min_by_key(|set| set.len());
    match smallest {
        None => true,
        Some(set) => {
            set.iter().any(|organization| scopes.iter().all(|scope| scope.covers(*organization)))
        }
    }
}

#[cfg(test)]
mod tests;
