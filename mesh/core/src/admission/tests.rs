#![allow(clippy::unwrap_used)]

mod onward;
mod reachable;
mod through;

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{
    AttachmentId, Authority, Digest, Generation, Leased, MessageId, OrganizationId, ResourceId,
    ResourceKind, SessionId, Signer, UserId, VpnConnectionId,
    key::LocalKey,
    snapshot::{Assignment, Manifest, Peers, Place, Resources, StalePolicy, Target, Trust},
    token::ChannelGrant,
};

use super::*;
use crate::Sections;

const CLUSTER: ClusterId = ClusterId::from_u128(1);
const OWN: NodeId = NodeId::from_u128(2);
const ENTRY: NodeId = NodeId::from_u128(3);
const EGRESS: NodeId = NodeId::from_u128(4);
const ACME: OrganizationId = OrganizationId::from_u128(5);
const OTHER: OrganizationId = OrganizationId::from_u128(6);
const USER: UserId = UserId::from_u128(7);
const RESOURCE: ResourceId = ResourceId::from_u128(8);
const NOW: Timestamp = Timestamp::from_unix_millis(1_000_000_000);

/// What a test changes before it asks.
struct Given {
    authority: Authority,
    manifest: Manifest,
    sections: Sections,
    claims: AccessClaims,
}

fn scope(role: NodeRole, organizations: &[OrganizationId]) -> RoleScope {
    let all = organizations.is_empty();
    let organizations = (!all).then(|| organizations.iter().copied().collect());
    RoleScope { role, organizations }
}

fn peer(node: NodeId, role: NodeRole, organizations: &[OrganizationId]) -> Peer {
    let key = Digest::of(node.uuid().as_bytes());
    Peer { node, key, roles: vec![scope(role, organizations)], addresses: Vec::new() }
}

fn caller(node: NodeId) -> Caller {
    Caller { cluster: CLUSTER, node, key: Digest::of(node.uuid().as_bytes()) }
}

fn client_key() -> LocalKey {
    LocalKey::from_random(&[9; 32]).unwrap()
}

fn given(role: NodeRole) -> Given {
    let manifest = Manifest {
        cluster: CLUSTER,
        node: OWN,
        authority_epoch: 1,
        version: 10,
        issued_at: NOW,
        expires_at: Timestamp::from_unix_millis(2_000_000_000),
        stale_policy: StalePolicy::Stop,
        sections: BTreeMap::new(),
    };
    let assignment = Assignment {
        name: "own".parse().unwrap(),
        draining: false,
        roles: vec![scope(role, &[ACME])],
        pools: BTreeSet::new(),
    };
    let trust = Trust {
        authorities: Vec::new(),
        control_keys: Vec::new(),
        denied_nodes: BTreeSet::new(),
        denied_sessions: BTreeSet::new(),
    };
    let peers = vec![
        peer(ENTRY, NodeRole::EntryNode, &[ACME]),
        peer(EGRESS, NodeRole::StreamWorker, &[ACME]),
    ];
    let resource = Resource {
        id: RESOURCE,
        organization: ACME,
        kind: ResourceKind::Ssh,
        target: Target { host: "db".to_owned(), port: 22, allow_local: false },
        users: BTreeSet::from([USER]),
        carried: None,
    };
    let resources = Resources { resources: vec![resource] };
    let lanes = BTreeSet::from([Lane::Interactive]);
    let claims = AccessClaims {
        id: MessageId::from_u128(1),
        cluster: CLUSTER,
        authority_epoch: 1,
        organization: ACME,
        user: USER,
        session: SessionId::from_u128(1),
        attachment: AttachmentId::from_u128(1),
        resource: RESOURCE,
        kind: ResourceKind::Ssh,
        entries: BTreeSet::from([OWN, ENTRY]),
        egresses: BTreeMap::from([(OWN, 10)]),
        channels: BTreeMap::from([(ChannelKind::Stream, ChannelGrant { lanes, max_open: 1 })]),
        not_before: NOW,
        connect_by: Timestamp::from_unix_millis(1_000_120_000),
        expires_at: Timestamp::from_unix_millis(1_000_600_000),
        client_key: client_key().public_key(),
        leased: None,
    };
    let sections = Sections {
        assignment,
        trust,
        peers: Peers { peers },
        resources,
        bandwidth: Default::default(),
        places: Default::default(),
        paths: Default::default(),
        mesh: Default::default(),
    };
    Given { authority: Authority::Healthy, manifest, sections, claims }
}

impl Given {
    fn view(&self) -> View {
        let mut view = View::new(&self.manifest, self.sections.clone());
        view.authority = self.authority;
        view
    }

    fn admit_client(&self) -> Result<(), RefusalCode> {
        let proof = Proof::make(b"token", [1; 32], &client_key());
        let presented = Presented { claims: &self.claims, token: b"token", proof: &proof };
        admit_client(&self.view(), presented, &[1; 32], NOW)
    }

    fn admit_flow(&self, caller: &Caller) -> Result<(), RefusalCode> {
        let proof = Proof::make(b"token", [1; 32], &client_key());
        let presented = Presented { claims: &self.claims, token: b"token", proof: &proof };
        let lane = Lane::Interactive;
        admit_flow(&self.view(), caller, presented, ChannelKind::Stream, lane, NOW).map(drop)
    }

    /// What is said of a relay: it carries keys and pictures.
    fn narrow(&mut self, relay: NodeId) {
        let relayed_lanes = BTreeSet::from([Lane::Interactive, Lane::Media]).try_into().unwrap();
        let place = Place { relayed_lanes, ..Place::default() };
        self.sections.places.nodes.insert(relay, place);
    }

    fn admit_set_up(&self) -> Result<(), RefusalCode> {
        admit_set_up(&self.view(), &caller(ENTRY), (EGRESS, Lane::Bulk), NOW).map(drop)
    }
}

#[test]
fn a_proof_of_another_connection_or_token_is_refused() {
    let given = given(NodeRole::EntryNode);
    assert_eq!(given.admit_client(), Ok(()));
    let proof = Proof::make(b"token", [1; 32], &client_key());
    let check = |token, exported| {
        let presented = Presented { claims: &given.claims, token, proof: &proof };
        admit_client(&given.view(), presented, exported, NOW)
    };
    assert_eq!(check(b"token", &[2; 32]), Err(RefusalCode::TokenWrongKey));
    assert_eq!(check(b"other", &[1; 32]), Err(RefusalCode::TokenWrongKey));
}

#[test]
fn an_entry_that_was_revoked_itself_accepts_nobody() {
    let mut given = given(NodeRole::EntryNode);
    given.sections.trust.denied_nodes.insert(OWN);
    assert_eq!(given.admit_client(), Err(RefusalCode::PeerNotTrusted));
}

#[test]
fn a_flow_needs_an_entry_that_the_token_names_and_this_node_knows_by_its_key() {
    let given = given(NodeRole::StreamWorker);
    assert_eq!(given.admit_flow(&caller(ENTRY)), Ok(()));
    assert_eq!(given.admit_flow(&caller(EGRESS)), Err(RefusalCode::TokenWrongAudience));
    let other_key = Caller { key: Digest::of(b"other"), ..caller(ENTRY) };
    assert_eq!(given.admit_flow(&other_key), Err(RefusalCode::PeerNotTrusted));
    let other_cluster = Caller { cluster: ClusterId::from_u128(9), ..caller(ENTRY) };
    assert_eq!(given.admit_flow(&other_cluster), Err(RefusalCode::PeerNotTrusted));
}

#[test]
fn a_flow_needs_a_token_that_names_this_egress_at_a_version_it_has() {
    let mut given = given(NodeRole::StreamWorker);
    given.claims.egresses = BTreeMap::from([(OWN, 11)]);
    assert_eq!(given.admit_flow(&caller(ENTRY)), Err(RefusalCode::SnapshotBehind));
    given.manifest.version = 11;
    assert_eq!(given.admit_flow(&caller(ENTRY)), Ok(()));
    given.claims.egresses = BTreeMap::from([(EGRESS, 1)]);
    assert_eq!(given.admit_flow(&caller(ENTRY)), Err(RefusalCode::TokenWrongAudience));
}

#[test]
fn what_carries_messages_runs_on_the_lane_of_its_kind_whatever_the_token_says() {
    let mut given = given(NodeRole::EntryNode);
    let lanes: BTreeSet<Lane> = Lane::ALL.iter().copied().collect();
    for kind in [ChannelKind::Stream, ChannelKind::Input, ChannelKind::Render] {
        let grant = ChannelGrant { lanes: lanes.clone(), max_open: 1 };
        given.claims.channels.insert(kind, grant);
    }
    let view = given.view();
    let admit = |kind, lane| admit_channel(&view, &given.claims, kind, lane, NOW);
    let refused = Err(RefusalCode::ChannelNotPermitted);
    for (lane, input, render) in [
        (Lane::Interactive, Ok(()), refused),
        (Lane::Media, refused, Ok(())),
        (Lane::Bulk, refused, refused),
    ] {
        assert_eq!(admit(ChannelKind::Stream, lane), Ok(()), "{lane}");
        assert_eq!(admit(ChannelKind::Input, lane), input, "{lane}");
        assert_eq!(admit(ChannelKind::Render, lane), render, "{lane}");
    }
}

#[test]
fn a_resource_of_another_organization_is_absent() {
    let mut given = given(NodeRole::StreamWorker);
    given.sections.resources.resources[0].organization = OTHER;
    assert_eq!(given.admit_flow(&caller(ENTRY)), Err(RefusalCode::AccessDenied));
}

#[test]
fn a_carried_resource_is_reached_with_a_token_of_its_connection_and_of_no_other() {
    let connection = VpnConnectionId::from_u128(7);
    let leased = |connection| Some(Leased { connection, generation: Generation::new(3) });
    let check = |carried, leased| {
        let mut given = given(NodeRole::StreamWorker);
        given.sections.resources.resources[0].carried = carried;
        given.claims.leased = leased;
        let ends = flow_must_end(&given.view(), Some(&caller(ENTRY)), &given.claims, NOW);
        (given.admit_flow(&caller(ENTRY)), ends)
    };
    let refused = (Err(RefusalCode::AccessDenied), Some(EndReason::Terminated));
    assert_eq!(check(Some(connection), leased(connection)), (Ok(()), None));
    assert_eq!(check(Some(connection), None), refused);
    assert_eq!(check(None, leased(connection)), refused);
    assert_eq!(check(Some(connection), leased(VpnConnectionId::from_u128(8))), refused);
}

#[test]
fn a_relay_serves_where_all_three_share_an_organization() {
    let check = |own: &[OrganizationId], entry: &[OrganizationId], egress: &[OrganizationId]| {
        let mut given = given(NodeRole::RelayNode);
        given.sections.assignment.roles = vec![scope(NodeRole::RelayNode, own)];
        given.sections.peers.peers = vec![
            peer(ENTRY, NodeRole::EntryNode, entry),
            peer(EGRESS, NodeRole::StreamWorker, egress),
        ];
        given.admit_set_up()
    };
    // An empty list stands for every organization.
    assert_eq!(check(&[], &[], &[]), Ok(()));
    assert_eq!(check(&[], &[ACME], &[ACME, OTHER]), Ok(()));
    assert_eq!(check(&[OTHER], &[], &[ACME, OTHER]), Ok(()));
    let refused = Err(RefusalCode::RoleNotAssigned);
    assert_eq!(check(&[OTHER], &[ACME], &[ACME]), refused);
    assert_eq!(check(&[], &[ACME], &[OTHER]), refused);
    assert_eq!(check(&[ACME], &[ACME, OTHER], &[OTHER]), refused);
}

#[test]
fn a_relay_serves_entries_towards_egresses_and_nobody_else() {
    let given = given(NodeRole::RelayNode);
    assert_eq!(given.admit_set_up(), Ok(()));
    let backwards =
        admit_set_up(&given.view(), &caller(EGRESS), (ENTRY, Lane::Bulk), NOW).map(drop);
    assert_eq!(backwards, Err(RefusalCode::RoleNotAssigned));
    let stranger = (NodeId::from_u128(99), Lane::Bulk);
    let unknown = admit_set_up(&given.view(), &caller(ENTRY), stranger, NOW).map(drop);
    assert_eq!(unknown, Err(RefusalCode::PeerNotTrusted));
}

#[test]
fn a_relay_refuses_the_lanes_that_it_is_not_to_carry_whoever_asks() {
    let mut given = given(NodeRole::RelayNode);
    let admit = |given: &Given, lane| {
        admit_set_up(&given.view(), &caller(ENTRY), (EGRESS, lane), NOW).map(drop)
    };
    given.narrow(EGRESS);
    assert_eq!(admit(&given, Lane::Bulk), Ok(()), "what is said of another node");
    given.narrow(OWN);
    assert_eq!(admit(&given, Lane::Interactive), Ok(()));
    assert_eq!(admit(&given, Lane::Bulk), Err(RefusalCode::LaneNotRelayed));
    given.sections.peers.peers.clear();
    assert_eq!(
        admit(&given, Lane::Bulk),
        Err(RefusalCode::PeerNotTrusted),
        "a stranger is told nothing"
    );
}

#[test]
fn a_relay_that_is_stale_or_draining_sets_nothing_up_and_keeps_what_runs() {
    let mut given = given(NodeRole::RelayNode);
    given.sections.assignment.draining = true;
    assert_eq!(given.admit_set_up(), Err(RefusalCode::NodeDraining));
    given.manifest.expires_at = Timestamp::from_unix_millis(0);
    given.manifest.stale_policy = StalePolicy::KeepSessions;
    assert_eq!(given.admit_set_up(), Err(RefusalCode::SnapshotStale));
    assert!(relay_may_continue(&given.view(), ENTRY, EGRESS, NOW));
    given.manifest.stale_policy = StalePolicy::Stop;
    assert!(!relay_may_continue(&given.view(), ENTRY, EGRESS, NOW));
}

#[test]
fn a_connection_of_a_node_that_is_not_known_yet_may_wait_but_not_of_a_revoked_one() {
    let mut given = given(NodeRole::StreamWorker);
    let unknown = caller(NodeId::from_u128(99));
    assert!(may_stay_connected(&given.view(), &unknown));
    let other_key = Caller { key: Digest::of(b"other"), ..caller(ENTRY) };
    assert!(!may_stay_connected(&given.view(), &other_key));
    given.sections.trust.denied_nodes.insert(unknown.node);
    assert!(!may_stay_connected(&given.view(), &unknown));
}

#[test]
fn a_running_flow_ends_for_the_reason_that_changed() {
    let check = |change: fn(&mut Given)| {
        let mut given = given(NodeRole::StreamWorker);
        change(&mut given);
        flow_must_end(&given.view(), Some(&caller(ENTRY)), &given.claims, NOW)
    };
    assert_eq!(check(|_| {}), None);
    assert_eq!(check(|given| given.sections.assignment.draining = true), None);
    let denied = |given: &mut Given| {
        given.sections.trust.denied_sessions.insert(given.claims.session);
    };
    assert_eq!(check(denied), Some(EndReason::Terminated));
    let withdrawn = |given: &mut Given| given.sections.resources.resources.clear();
    assert_eq!(check(withdrawn), Some(EndReason::Terminated));
    let entry_revoked = |given: &mut Given| {
        given.sections.trust.denied_nodes.insert(ENTRY);
    };
    assert_eq!(check(entry_revoked), Some(EndReason::NodeLeft));
    let role_lost = |given: &mut Given| given.sections.assignment.roles.clear();
    assert_eq!(check(role_lost), Some(EndReason::NodeLeft));
    let stale = |given: &mut Given| given.manifest.expires_at = Timestamp::from_unix_millis(0);
    assert_eq!(check(stale), Some(EndReason::NodeLeft));
}

#[test]
fn a_degraded_node_takes_what_was_authorized_before_and_nothing_later() {
    for (role, since, admitted) in [
        (NodeRole::EntryNode, NOW, Ok(())),
        (NodeRole::EntryNode, Timestamp::from_unix_millis(999_999_999), Err(())),
        (NodeRole::StreamWorker, NOW, Ok(())),
        (NodeRole::StreamWorker, Timestamp::from_unix_millis(999_999_999), Err(())),
    ] {
        let mut given = given(role);
        given.authority = Authority::Degraded { since };
        let outcome = match role {
            NodeRole::EntryNode => given.admit_client(),
            _ => given.admit_flow(&caller(ENTRY)),
        };
        assert_eq!(outcome, admitted.map_err(|()| RefusalCode::AuthorityLost), "{role}");
    }
}

#[test]
fn an_isolated_node_begins_nothing_and_ends_what_its_stale_policy_says() {
    let since = Timestamp::from_unix_millis(2_000_000);
    let check = |policy| {
        let mut relay = given(NodeRole::RelayNode);
        relay.authority = Authority::Isolated { since };
        relay.manifest.stale_policy = policy;
        assert_eq!(relay.admit_set_up(), Err(RefusalCode::AuthorityLost));
        let mut entry = given(NodeRole::EntryNode);
        entry.authority = Authority::Isolated { since };
        entry.manifest.stale_policy = policy;
        assert_eq!(entry.admit_client(), Err(RefusalCode::AuthorityLost));
        let ends = client_must_end(&entry.view(), &entry.claims, NOW);
        (ends, relay_may_continue(&relay.view(), ENTRY, EGRESS, NOW))
    };
    assert_eq!(check(StalePolicy::KeepSessions), (None, true));
    assert_eq!(check(StalePolicy::Stop), (Some(EndReason::NodeLeft), false));
}
