#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use rap_proto::snapshot::RoleScope;

use super::*;
use crate::world::Platform;

fn found(platform: &Platform, pair: Pair<'_>) -> Vec<(Constraint, &'static str)> {
    let ruled_out = pair.ruled_out(platform.state());
    ruled_out.into_iter().map(|one| (one.constraint, one.reason)).collect()
}

fn role(role: NodeRole, only: Option<OrganizationId>) -> RoleScope {
    RoleScope { role, organizations: only.map(|only| BTreeSet::from([only])) }
}

fn carry_no_bulk(node: &mut Node) {
    node.roles = vec![role(NodeRole::RelayNode, None)];
    node.relayed_lanes = BTreeSet::from([Lane::Interactive, Lane::Media]).try_into().unwrap();
}

#[test]
fn each_of_the_eight_has_its_reason() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    platform.carry(acme);
    platform.release(acme);
    let state = platform.state();
    let node = |id| state.nodes().get(id).unwrap();
    let (entry, egress) = (node(platform.entry), node(acme.egress));
    let carried = state.resources().get(acme.resource).unwrap();
    let resource = crate::state::Resource { carried: None, ..carried.clone() };
    let now = platform.world.now;
    let pair = Pair { viewer: entry, other: egress, resource: Some(&resource), now, frozen: false };
    assert_eq!(found(&platform, pair), []);

    let with = |change: &dyn Fn(&mut Node)| {
        let mut other = egress.clone();
        change(&mut other);
        other
    };
    let cases = [
        (
            Constraint::ClusterMembership,
            with(&|it| it.standing = NodeStanding::Pending),
            "its enrollment waits for approval",
        ),
        (
            Constraint::ClusterMembership,
            with(&|it| it.standing = NodeStanding::Rejected),
            "its enrollment was rejected",
        ),
        (
            Constraint::IdentityTrust,
            with(&|it| it.standing = NodeStanding::Revoked),
            "its enrollment was revoked",
        ),
        (
            Constraint::CertificateValidity,
            with(&|it| it.certificate_expires_at = Some(Timestamp::default())),
            "its certificate was not renewed in time",
        ),
        (
            Constraint::OrganizationScope,
            with(&|it| it.roles = vec![role(NodeRole::StreamWorker, Some(platform.globex.id))]),
            "its role is not for the resource's organization",
        ),
        (Constraint::Lane, with(&carry_no_bulk), "it does not relay the lane bulk"),
        (Constraint::RoleAssignment, with(&|it| it.roles.clear()), "no role was assigned to it"),
        (
            Constraint::RoleAssignment,
            with(&|it| it.roles = vec![role(NodeRole::EntryNode, None)]),
            "nodes with the roles of these two have nothing to say to each other",
        ),
        (
            Constraint::Placement,
            with(&|it| it.pools.clear()),
            "the resource is reached from another egress pool",
        ),
    ];
    let mut reached = BTreeSet::from([Constraint::AuthorityState]);
    for (constraint, other, reason) in &cases {
        let all = found(&platform, Pair { other, ..pair });
        assert!(all.contains(&(*constraint, *reason)), "{constraint}: {all:?}");
        reached.insert(*constraint);
    }
    let frozen = Pair { frozen: true, ..pair };
    let why = "control has no quorum and grants nothing new";
    assert_eq!(found(&platform, frozen), [(Constraint::AuthorityState, why)]);
    assert_eq!(reached.len(), Constraint::ALL.len(), "a constraint without a case");
    let carried = Pair { resource: Some(carried), ..pair };
    let why = "nobody holds the lease of the resource's connection";
    assert_eq!(found(&platform, carried), [(Constraint::Placement, why)]);
}

#[test]
fn without_a_resource_it_is_asked_whether_the_two_may_know_of_each_other() {
    let platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let node = |id| platform.state().nodes().get(id).unwrap();
    let (entry, relay) = (node(platform.entry), node(platform.relay));
    let now = platform.world.now;
    let pair = Pair { viewer: entry, other: relay, resource: None, now, frozen: false };
    assert_eq!(found(&platform, pair), []);
    let entry_of_globex =
        Node { roles: vec![role(NodeRole::EntryNode, Some(globex.id))], ..entry.clone() };
    let apart = Pair { viewer: &entry_of_globex, other: node(acme.egress), ..pair };
    let why = "the two serve no organization together";
    assert_eq!(found(&platform, apart), [(Constraint::OrganizationScope, why)]);
    let egresses = Pair { viewer: node(globex.egress), other: node(acme.egress), ..pair };
    let why = "nodes with the roles of these two have nothing to say to each other";
    assert_eq!(found(&platform, egresses), [(Constraint::RoleAssignment, why)]);
    let bare = Node { roles: Vec::new(), ..entry.clone() };
    let why = "no role was assigned to the node that asks";
    let asks = Pair { viewer: &bare, ..pair };
    assert_eq!(found(&platform, asks), [(Constraint::RoleAssignment, why)]);
}

#[test]
fn a_relay_is_asked_for_the_resources_organization_and_not_for_its_pool() {
    let platform = Platform::new();
    let acme = platform.acme;
    let node = |id| platform.state().nodes().get(id).unwrap();
    let (entry, relay) = (node(platform.entry), node(platform.relay));
    let resource = platform.state().resources().get(acme.resource);
    let now = platform.world.now;
    let pair = Pair { viewer: entry, other: relay, resource, now, frozen: false };
    assert_eq!(found(&platform, pair), []);
    let other =
        &Node { roles: vec![role(NodeRole::RelayNode, Some(platform.globex.id))], ..relay.clone() };
    let why = "its role is not for the resource's organization";
    let found = found(&platform, Pair { other, ..pair });
    assert_eq!(found, [(Constraint::OrganizationScope, why)]);
}
