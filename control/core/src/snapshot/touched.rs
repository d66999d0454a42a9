//! Which nodes' snapshots an event may change.
//!
//! INVARIANT: when the sections of a node differ before and after an event, [`changed`] names the
//! node, from what [`touched`] named before and after. Naming one too many costs a manifest; naming
//! one too few would let two different snapshots carry one version.

use std::collections::BTreeSet;

use rap_events::{
    DomainEvent, Envelope, cluster::ClusterEvent, node::NodeEvent, organization::OrganizationEvent,
    resource::ResourceEvent, user::UserEvent, vpn_connection::VpnConnectionEvent,
};
use rap_proto::{NodeId, OrganizationId, PoolId, ResourceId, SessionId, UserId, VpnConnectionId};

use super::{
    bandwidth::{is_entry, shapes},
    paths::ends_paths,
    scope::visible_roles,
};
use crate::{
    lease::carriers,
    state::{Node, State},
};

/// The nodes that the event concerns as far as `state` knows. Asked before and after it is folded.
pub(crate) fn touched(state: &State, event: &DomainEvent, envelope: &Envelope) -> BTreeSet<NodeId> {
    let id = envelope.stream.id;
    match event {
        DomainEvent::Cluster(event) => cluster(state, event),
        DomainEvent::Organization(event) => match event {
            OrganizationEvent::Created(_)
            | OrganizationEvent::Renamed(_)
            | OrganizationEvent::QuotasSet(_) => BTreeSet::new(),
            OrganizationEvent::BandwidthGranted(_)
            | OrganizationEvent::BandwidthRuled(_)
            | OrganizationEvent::CarriersRuled(_) => {
                shapers(state, OrganizationId::from_uuid(id)).collect()
            }
            OrganizationEvent::Removed(_) => {
                let id = OrganizationId::from_uuid(id);
                organization(state, id).into_iter().chain(shapers(state, id)).collect()
            }
            OrganizationEvent::Suspended(_) | OrganizationEvent::Resumed(_) => {
                organization(state, OrganizationId::from_uuid(id))
            }
        },
        DomainEvent::User(event) => match event {
            // A membership can stand before its user's creation in the same append.
            UserEvent::Created(_)
            | UserEvent::Disabled(_)
            | UserEvent::Enabled(_)
            | UserEvent::Erased(_) => state
                .users()
                .organizations_of(UserId::from_uuid(id))
                .flat_map(|organization| servers(state, organization))
                .collect(),
            _ => BTreeSet::new(),
        },
        DomainEvent::Membership(_) | DomainEvent::Policy(_) => {
            envelope.organization.map(|id| servers(state, id)).unwrap_or_default()
        }
        DomainEvent::Node(event) => node(state, event, NodeId::from_uuid(id)),
        DomainEvent::Pool(_) => pool(state, PoolId::from_uuid(id)).collect(),
        DomainEvent::Resource(event) => {
            let held = state.resources().get(ResourceId::from_uuid(id)).map(|held| held.pool);
            let named = match event {
                ResourceEvent::Created(event) => Some(event.pool),
                ResourceEvent::Changed(event) => Some(event.pool),
                ResourceEvent::Removed(_)
                | ResourceEvent::Labelled(_)
                | ResourceEvent::Carried(_) => None,
            };
            held.into_iter().chain(named).flat_map(|id| pool(state, id)).collect()
        }
        // Terminated, or heard of again after its denial was forgotten; see `changed`.
        DomainEvent::Session(_) => state.sessions().denied_at(SessionId::from_uuid(id)).collect(),
        DomainEvent::VpnConnection(event) => {
            connection(state, event, VpnConnectionId::from_uuid(id))
        }
        DomainEvent::Login(_)
        | DomainEvent::ApiToken(_)
        | DomainEvent::JoinToken(_)
        | DomainEvent::NodeReport(_)
        | DomainEvent::Guessing(_)
        | DomainEvent::Authority(_)
        | DomainEvent::Leadership(_) => BTreeSet::new(),
    }
}

/// Whom the cluster's own events concern: everybody, or those that they are about.
fn cluster(state: &State, event: &ClusterEvent) -> BTreeSet<NodeId> {
    let concerned: fn(&&Node) -> bool = match event {
        ClusterEvent::Bootstrapped(_)
        | ClusterEvent::ControlKeyAdded(_)
        | ClusterEvent::SnapshotsRenewed(_)
        | ClusterEvent::MeshRuled(_)
        | ClusterEvent::StaleRuled(_) => |_: &&Node| true,
        ClusterEvent::CarriersRuled(_) => |node: &&Node| is_entry(node),
        ClusterEvent::PathsRuled(_) => |node: &&Node| ends_paths(node),
        ClusterEvent::SetupCodeReplaced(_) | ClusterEvent::SetupCompleted(_) => |_: &&Node| false,
    };
    state.nodes().approved().filter(concerned).map(|node| node.id).collect()
}

/// The nodes that learn of the event: of those that it concerned before and that it concerns after
/// it was folded.
pub(crate) fn changed(
    event: &DomainEvent,
    before: &BTreeSet<NodeId>,
    after: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    match event {
        // A snapshot says of a session only that it is denied. Where it stays so nothing changes:
        // what nodes tell of it then costs no manifests.
        DomainEvent::Session(_) => before ^ after,
        _ => before | after,
    }
}

/// The nodes that serve an egress pool of the organization.
fn servers(state: &State, organization: OrganizationId) -> BTreeSet<NodeId> {
    state.pools().of(organization).flat_map(|found| pool(state, found.id)).collect()
}

/// The nodes that serve an egress pool of the organization or may carry one of its connections.
fn organization(state: &State, id: OrganizationId) -> BTreeSet<NodeId> {
    let connections = state.vpn_connections().of(id);
    let carriers = connections.flat_map(|found| carriers(state, found)).map(|node| node.id);
    carriers.chain(servers(state, id)).collect()
}

/// The nodes that keep to the organization's bandwidth rules.
fn shapers(state: &State, organization: OrganizationId) -> impl Iterator<Item = NodeId> {
    let keeps = move |node: &&Node| shapes(node, organization);
    state.nodes().approved().filter(keeps).map(|node| node.id)
}

/// Of a lease only its holder is told, of everything else all that may carry the connection. A
/// node that holds its lease and may no longer is told by the event that took the permission away.
fn connection(state: &State, event: &VpnConnectionEvent, id: VpnConnectionId) -> BTreeSet<NodeId> {
    let Some(found) = state.vpn_connections().get(id) else { return BTreeSet::new() };
    match event {
        VpnConnectionEvent::LeaseGranted(_)
        | VpnConnectionEvent::LeaseReleased(_)
        | VpnConnectionEvent::LeaseFenced(_) => found.lease.iter().map(|held| held.node).collect(),
        VpnConnectionEvent::DrainRequested(_) => BTreeSet::new(),
        VpnConnectionEvent::Created(_)
        | VpnConnectionEvent::NodesAllowed(_)
        | VpnConnectionEvent::Enabled(_)
        | VpnConnectionEvent::Disabled(_)
        | VpnConnectionEvent::Removed(_) => carriers(state, found).map(|node| node.id).collect(),
    }
}

fn pool(state: &State, id: PoolId) -> impl Iterator<Item = NodeId> {
    state.nodes().in_pool(id).map(|node| node.id)
}

fn node(state: &State, event: &NodeEvent, id: NodeId) -> BTreeSet<NodeId> {
    match event {
        NodeEvent::Requested(_)
        | NodeEvent::Rejected(_)
        | NodeEvent::CertificateIssued(_)
        | NodeEvent::CapabilitiesReported(_)
        | NodeEvent::WitnessKeyRecorded(_) => BTreeSet::new(),
        NodeEvent::PoolsAssigned(_) | NodeEvent::BandwidthCapped(_) => BTreeSet::from([id]),
        NodeEvent::Approved(_)
        | NodeEvent::RolesAssigned(_)
        | NodeEvent::AddressesChanged(_)
        | NodeEvent::DrainingStarted(_)
        | NodeEvent::DrainingEnded(_)
        | NodeEvent::Placed(_)
        | NodeEvent::Revoked(_) => {
            let Some(changed) = state.nodes().get(id) else { return BTreeSet::new() };
            let viewers = state
                .nodes()
                .approved()
                .filter(|viewer| !visible_roles(viewer, changed).is_empty())
                .map(|viewer| viewer.id);
            viewers.chain([id]).collect()
        }
    }
}
