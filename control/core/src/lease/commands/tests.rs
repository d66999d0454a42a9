#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rap_events::{
    lease::{self, DatabaseTime, LeaseRow},
    log::Append,
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    vpn_connection::{ReleaseReason, VpnConnection, VpnConnectionCommand},
};
use rap_proto::{
    Generation, LeaseClass, NodeRole, Timestamp, VpnConnectionId,
    bus::{LeaseReport, MAX_REPORTED_CONNECTIONS, ReportedConnection},
    snapshot::RoleScope,
};

use super::*;
use crate::{
    lease::{HAND_OVER_LIMIT, carriers, may_renew, wishes::wishes},
    state::State,
    world::{Platform, Tenant},
};

const CLASS: LeaseClass = LeaseClass::Fast;

/// Two tenants whose egress carries the tenant's connection under generation 1.
fn platform() -> (Platform, Tenant) {
    let mut platform = Platform::new();
    let acme = platform.acme;
    connector(&mut platform, acme);
    (platform, acme)
}

fn connector(platform: &mut Platform, tenant: Tenant) {
    let scope = |role| RoleScope { role, organizations: Some(BTreeSet::from([tenant.id])) };
    let roles = [NodeRole::StreamWorker, NodeRole::VpnConnector].map(scope).to_vec();
    platform.must::<Node>(tenant.egress.uuid(), NodeCommand::AssignRoles { roles });
}

fn give(platform: &mut Platform, tenant: Tenant, command: VpnConnectionCommand) {
    platform.must::<VpnConnection>(tenant.connection.uuid(), command);
}

fn found(state: &State, tenant: Tenant) -> &crate::state::VpnConnection {
    state.vpn_connections().get(tenant.connection).unwrap()
}

fn node(state: &State, tenant: Tenant) -> &crate::state::Node {
    state.nodes().get(tenant.egress).unwrap()
}

/// What the table makes of a change.
fn change(
    row: Option<LeaseRow>,
    tenant: Tenant,
    given: &Given,
    at: DatabaseTime,
) -> Result<LeaseRow, rap_events::AppendError> {
    let stream = lease(tenant.connection);
    let append = Append { leases: vec![given.change.clone()], ..empty_append() };
    let rows = row.map(|row| (stream.clone(), row)).into_iter().collect();
    lease::apply(&append, &rows, at).map(|changed| changed[&stream])
}

fn empty_append() -> Append {
    Append {
        request_hash: rap_proto::Digest::of(b""),
        actor: rap_events::Actor::System { process: "test".to_owned() },
        ..Append::plain(rap_proto::CommandId::from_u128(1), Timestamp::default(), Vec::new())
    }
}

#[test]
fn a_grant_over_a_lease_that_ran_out_fences_it_and_rows_and_stream_agree() {
    let (mut platform, acme) = platform();
    let ttl = CLASS.ttl();
    let at = DatabaseTime { now: platform.world.now + ttl + ttl, timeline: 1 };
    // Renewed once since the grant, which the stream does not know.
    let row = LeaseRow {
        generation: 1,
        holder: acme.egress.uuid(),
        ttl_ms: CLASS.ttl_ms(),
        renewed_at: platform.world.now + Duration::from_secs(1),
        valid_until: platform.world.now + Duration::from_secs(1) + ttl,
        ended: false,
    };
    let to = (acme.egress, Generation::new(2), CLASS);
    let given = grant(acme.connection, to, Some(&row), at);
    assert_eq!(given.commands.len(), 2);
    for command in given.commands.clone() {
        give(&mut platform, acme, command);
    }
    let held = found(platform.state(), acme).lease.unwrap();
    assert_eq!((held.generation, held.granted_at), (2, at.now));
    let moved = change(Some(row), acme, &given, at).unwrap();
    assert_eq!((moved.generation, moved.valid_until), (2, at.now + ttl));
    let elsewhere = DatabaseTime { timeline: 2, ..at };
    change(Some(row), acme, &given, elsewhere).unwrap_err();
    // Renewed in the meantime: it is not over after all.
    let renewed = LeaseRow { valid_until: at.now + ttl, ..row };
    change(Some(renewed), acme, &given, at).unwrap_err();
}

#[test]
fn a_release_and_a_fence_end_the_present_generation() {
    let (mut platform, acme) = platform();
    let now = platform.world.now + Duration::from_secs(1);
    let given = release(acme.connection, Generation::new(1), ReleaseReason::Drained, now);
    for command in given.commands {
        give(&mut platform, acme, command);
    }
    let after = found(platform.state(), acme);
    assert_eq!((after.lease, after.free_from), (None, now));

    let (mut platform, acme) = self::platform();
    let valid_until = platform.world.now + CLASS.ttl();
    let row = LeaseRow {
        generation: 1,
        holder: acme.egress.uuid(),
        ttl_ms: CLASS.ttl_ms(),
        renewed_at: platform.world.now,
        valid_until,
        ended: false,
    };
    for command in fence(acme.connection, &row).commands {
        give(&mut platform, acme, command);
    }
    assert_eq!(found(platform.state(), acme).free_from, valid_until);
}

#[test]
fn why_a_lease_was_given_back_follows_from_what_people_wanted() {
    let (mut platform, acme) = platform();
    let reason = |platform: &Platform, stopping| {
        let state = platform.state();
        release_reason(state, node(state, acme), found(state, acme), stopping)
    };
    assert_eq!(reason(&platform, false), ReleaseReason::Failed);
    assert_eq!(reason(&platform, true), ReleaseReason::NodeStopping);
    give(&mut platform, acme, VpnConnectionCommand::RequestDrain);
    assert_eq!(reason(&platform, true), ReleaseReason::Drained);
    give(&mut platform, acme, VpnConnectionCommand::Disable);
    assert_eq!(reason(&platform, true), ReleaseReason::Disabled);
}

#[test]
fn people_want_a_connection_carried_by_connectors_of_its_organization_alone() {
    let (mut platform, acme) = platform();
    let globex = platform.globex;
    let nodes = BTreeSet::new();
    give(&mut platform, acme, VpnConnectionCommand::AllowNodes { nodes });
    connector(&mut platform, globex);
    let all = wishes(platform.state());
    assert_eq!(*all.desired[&acme.connection].nodes, [acme.egress], "any of its own");
    assert_eq!(*all.desired[&globex.connection].nodes, [globex.egress]);
    assert_eq!(all.desired[&acme.connection].drain, None);
    assert_eq!(all.revisions[&acme.connection], found(platform.state(), acme).stamp.revision);

    let reported = |connection| ReportedConnection {
        connection,
        ready: true,
        floor: Generation::new(3),
        holding: None,
    };
    let connections = vec![reported(acme.connection), reported(globex.connection)];
    let report = LeaseReport { draining: false, connections };
    let believed = all.believe(acme.egress, &report);
    assert_eq!(believed.into_keys().collect::<Vec<_>>(), [acme.connection], "only of its own");
    let connections = vec![reported(globex.connection); MAX_REPORTED_CONNECTIONS];
    let connections = connections.into_iter().chain([reported(acme.connection)]).collect();
    let report = LeaseReport { draining: false, connections };
    assert!(all.believe(acme.egress, &report).is_empty(), "what is too much is not read");

    give(&mut platform, acme, VpnConnectionCommand::RequestDrain);
    platform.must::<Node>(globex.egress.uuid(), NodeCommand::StartDraining);
    let command = OrganizationCommand::Suspend { reason: "unpaid".to_owned() };
    platform.must::<Organization>(globex.id.uuid(), command);
    let all = wishes(platform.state());
    assert_eq!(all.desired[&acme.connection].drain, Some(Generation::new(1)));
    assert!(!all.desired[&globex.connection].enabled, "nothing of a suspended organization");
    assert_eq!(all.draining, BTreeSet::from([globex.egress]));
}

#[test]
fn all_nodes_are_looked_at_once_for_each_organization_and_not_for_each_connection() {
    let (mut platform, acme) = platform();
    let globex = platform.globex;
    connector(&mut platform, globex);
    let more: Vec<_> = (1..=3).map(VpnConnectionId::from_u128).collect();
    for (number, id) in more.iter().enumerate() {
        let create = VpnConnectionCommand::Create {
            organization: acme.id,
            name: format!("more-{number}").parse().unwrap(),
            class: CLASS,
            nodes: BTreeSet::new(),
            enabled: true,
        };
        platform.must::<VpnConnection>(id.uuid(), create);
    }
    let nodes = BTreeSet::from([globex.egress, acme.egress]);
    give(&mut platform, acme, VpnConnectionCommand::AllowNodes { nodes });
    let state = platform.state();
    let all = wishes(state);
    for found in state.vpn_connections().iter() {
        let naive = state.nodes().iter().filter(|node| may_carry(node, found));
        let expected: Vec<_> = naive.map(|node| node.id).collect();
        assert_eq!(*all.desired[&found.id].nodes, expected[..], "{}", found.name);
        assert!(carriers(state, found).map(|node| node.id).eq(expected));
    }
    // One list, made once, is what every connection that names no node has.
    let lists: Vec<_> = more.iter().map(|id| &all.desired[id].nodes).collect();
    assert!(lists.iter().all(|list| !list.is_empty() && Arc::ptr_eq(list, lists[0])));
}

#[test]
fn who_may_hold_no_longer_is_renewed_until_it_could_have_handed_over() {
    let (mut platform, acme) = platform();
    let renewed_as = |platform: &Platform, generation, after| {
        let state = platform.state();
        let found = (found(state, acme), Generation::new(generation));
        may_renew(state, node(state, acme), found, platform.world.now + after)
    };
    let renewed = |platform: &Platform, after| renewed_as(platform, 1, after);
    let long = Duration::from_secs(3_600);
    assert!(renewed(&platform, long));
    give(&mut platform, acme, VpnConnectionCommand::Disable);
    assert!(renewed(&platform, HAND_OVER_LIMIT - Duration::from_millis(1)));
    assert!(!renewed(&platform, HAND_OVER_LIMIT));
    assert!(renewed_as(&platform, 2, HAND_OVER_LIMIT), "this state has not seen the grant yet");
    give(&mut platform, acme, VpnConnectionCommand::Enable);
    assert!(renewed(&platform, long));
    platform.must::<Node>(acme.egress.uuid(), NodeCommand::AssignRoles { roles: Vec::new() });
    assert!(!renewed(&platform, Duration::ZERO), "without the role it is over at once");
    assert_eq!(carriers(platform.state(), found(platform.state(), acme)).count(), 0);
}
