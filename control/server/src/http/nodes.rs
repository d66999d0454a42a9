//! Nodes: hosts that asked for enrollment, and what they may do.

use rap_control_core::{
    Action, Target,
    state::{Node as Found, NodeStanding},
};
use rap_events::{
    keys,
    node::{self, NodeCommand},
};
use rap_proto::{
    BitRate, NodeId,
    api::{
        ApproveNode, Because, Changed, Node, NodeAuthority, NodeState, Page, PlaceNode,
        SetNodePools, SetNodeRoles,
    },
    authority::AuthorityChange,
};

use super::{
    answer::Done,
    call::Call,
    endpoint::Nothing,
    failure::{Failure, invalid, not_found},
    node_roles, page, reference,
};

pub(super) async fn list(call: Call) -> Result<Page<Node>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let seen = call.state.nodes().iter();
    let seen = seen.filter(|node| call.may(Action::ReadNode, Target::Node(node.id)));
    page::of(&call, seen, |node| node.id, |node| show(&call, node))
}

pub(super) async fn get(call: Call) -> Result<Node, Failure> {
    let id = target(&call)?;
    call.allow(Action::ReadNode, Target::Node(id))?;
    call.state.nodes().get(id).map(|node| show(&call, node)).ok_or_else(|| not_found().into())
}

/// The approver says which key was seen on the host: another one is never approved by mistake.
pub(super) async fn approve(call: Call, body: ApproveNode) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::ApproveNode, Target::Node(id))?;
    let key = call.state.nodes().get(id).map(|node| node.key.id()).ok_or_else(not_found)?;
    if key != body.fingerprint {
        return Err(invalid("fingerprint", "fingerprint_matches", "another host's key"));
    }
    change(call, id, NodeCommand::Approve).await
}

pub(super) async fn reject(call: Call, body: Because) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::RejectNode, Target::Node(id))?;
    change(call, id, NodeCommand::Reject { reason: body.reason }).await
}

pub(super) async fn revoke(call: Call, body: Because) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::RevokeNode, Target::Node(id))?;
    change(call, id, NodeCommand::Revoke { note: body.reason }).await
}

pub(super) async fn drain(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::DrainNode, Target::Node(id))?;
    change(call, id, NodeCommand::StartDraining).await
}

pub(super) async fn undrain(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::DrainNode, Target::Node(id))?;
    change(call, id, NodeCommand::EndDraining).await
}

pub(super) async fn set_roles(call: Call, body: SetNodeRoles) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::AssignNodeRoles, Target::Node(id))?;
    node_roles::check_roles(&call, &body.roles)?;
    change(call, id, NodeCommand::AssignRoles { roles: body.roles }).await
}

pub(super) async fn set_pools(call: Call, body: SetNodePools) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::AssignNodePools, Target::Node(id))?;
    let owner = call.state.nodes().get(id).and_then(|node| node.organization);
    node_roles::check_pools(&call.state, owner, &body.pools)?;
    change(call, id, NodeCommand::AssignPools { pools: body.pools }).await
}

pub(super) async fn place(call: Call, body: PlaceNode) -> Result<Done<Changed>, Failure> {
    let id = target(&call)?;
    call.allow(Action::PlaceNode, Target::Node(id))?;
    let PlaceNode { region, preference, relayed_lanes } = body;
    change(call, id, NodeCommand::Place { region, preference, relayed_lanes }).await
}

async fn change(call: Call, id: NodeId, command: NodeCommand) -> Result<Done<Changed>, Failure> {
    let mut work = call.work();
    let mut loaded = work.load::<node::Node>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let (frees_key, frees_name) = match &command {
        NodeCommand::Reject { .. } => (true, true),
        NodeCommand::Revoke { .. } => (false, true),
        _ => (false, false),
    };
    let (name, key) = (loaded.state.name.clone(), loaded.state.key);
    let events = work.decide(&mut loaded, command)?;
    if let Some(name) = name.filter(|_| frees_name && !events.is_empty()) {
        work.release(keys::node_name(&name));
    }
    if let Some(key) = key.filter(|_| frees_key && !events.is_empty()) {
        work.release(keys::node_key(&key.id()));
    }
    call.commit(work, Changed { revision: loaded.revision }).await
}

fn target(call: &Call) -> Result<NodeId, Failure> {
    let named = call.reference("node")?;
    reference::node(&call.state, &named).map(|node| node.id).ok_or_else(|| not_found().into())
}

fn show(call: &Call, node: &Found) -> Node {
    Node {
        id: node.id,
        name: node.name.clone(),
        state: match node.standing {
            NodeStanding::Pending => NodeState::Pending,
            NodeStanding::Approved => NodeState::Approved,
            NodeStanding::Rejected => NodeState::Rejected,
            NodeStanding::Revoked => NodeState::Revoked,
        },
        fingerprint: node.key.id(),
        addresses: node.addresses.clone(),
        capabilities: node.capabilities.clone(),
        roles: node.roles.clone(),
        pools: node.pools.iter().copied().collect(),
        organization: node.organization,
        draining: node.draining,
        agent_version: node.agent_version.clone(),
        requested_at: node.stamp.created_at,
        certificate_expires_at: node.certificate_expires_at,
        renewal: node.renewal,
        snapshot_version: node.version,
        live: call.app.live.get(node.id),
        authority: authority(call, node),
        region: node.region.clone(),
        preference: node.preference,
        relayed_lanes: (!node.relayed_lanes.is_all()).then(|| node.relayed_lanes.into()),
        bandwidth_cap_bits_per_second: node.bandwidth_cap.map(BitRate::bits_per_second),
        revision: node.stamp.revision,
    }
}

/// How control is reached is no organization's, whosever the node is.
fn authority(call: &Call, node: &Found) -> Option<NodeAuthority> {
    let told = node.authority.as_ref()?;
    let AuthorityChange { standing, without_ms, epoch, sequence, .. } = told.change;
    call.may(Action::ReadPlatformAudit, Target::Platform).then_some(NodeAuthority {
        standing,
        since: told.observed_at,
        without_ms,
        epoch,
        sequence,
    })
}
