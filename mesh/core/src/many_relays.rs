//! Views of many relays, and what was measured of them: what tests and measurements of route decisions
//! are made from.

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{
    ClusterId, Digest, LaneSet, NodeId, NodeRole, OrganizationId, Preference, Timestamp,
    bandwidth::Bandwidth,
    mesh::Mesh,
    paths::Paths,
    snapshot::{
        Assignment, Manifest, Peer, Peers, Places, Resources, RoleScope, StalePolicy, Trust,
    },
};

use crate::{
    Sections, View,
    score::{Candidate, Identity, Measured},
};

pub const CLUSTER: ClusterId = ClusterId::from_u128(1);
/// Whose view it is.
pub const OWN: NodeId = NodeId::from_u128(1);
const ISSUED_AT: Timestamp = Timestamp::from_unix_millis(1_000);

/// The id of a relay, which nobody else has whose number is less than a hundred thousand.
pub const fn relay(number: u128) -> NodeId {
    NodeId::from_u128(100_000 + number)
}

/// A node that forwards for one organization, or for all of them.
pub fn forwarding(node: NodeId, organization: Option<OrganizationId>) -> Peer {
    let organizations = organization.map(|one| BTreeSet::from([one]));
    Peer {
        node,
        key: Digest::of(&node.uuid().as_u128().to_be_bytes()),
        roles: vec![RoleScope { role: NodeRole::RelayNode, organizations }],
        addresses: Vec::new(),
    }
}

/// A view that names these peers, of whom these are denied.
pub fn view_of(peers: Vec<Peer>, denied_nodes: BTreeSet<NodeId>, places: Places) -> View {
    let manifest = Manifest {
        cluster: CLUSTER,
        node: OWN,
        authority_epoch: 1,
        version: 1,
        issued_at: ISSUED_AT,
        expires_at: ISSUED_AT,
        stale_policy: StalePolicy::KeepSessions,
        sections: BTreeMap::new(),
    };
    let assignment = Assignment {
        name: "entry".parse().expect("a plain word"),
        draining: false,
        roles: Vec::new(),
        pools: BTreeSet::new(),
    };
    let trust = Trust {
        authorities: Vec::new(),
        control_keys: Vec::new(),
        denied_nodes,
        denied_sessions: BTreeSet::new(),
    };
    let sections = Sections {
        assignment,
        trust,
        peers: Peers { peers },
        resources: Resources::default(),
        bandwidth: Bandwidth::default(),
        places,
        paths: Paths::default(),
        mesh: Mesh::default(),
    };
    View::new(&manifest, sections)
}

/// A view of the first so many relays, which forward for everybody.
pub fn view(relays: u128) -> View {
    let peers = (0..relays).map(|number| forwarding(relay(number), None)).collect();
    view_of(peers, BTreeSet::new(), Places::default())
}

/// A node that proved its key, of which this was measured.
pub fn known(node: NodeId, measured: Measured) -> Candidate<'static> {
    Candidate {
        node,
        cluster: CLUSTER,
        identity: Identity::Proven,
        certificate_until: None,
        roles: Vec::new().into(),
        authority_epoch: 1,
        region: None,
        preference: Preference::Neutral,
        relayed_lanes: LaneSet::ALL,
        measured,
    }
}

/// The same, of which no more is known than the round trip.
pub fn known_by_rtt(node: NodeId, rtt_us: u32) -> Candidate<'static> {
    known(node, Measured { rtt_us: Some(rtt_us), ..Measured::default() })
}
