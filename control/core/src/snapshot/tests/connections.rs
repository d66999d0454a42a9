//! What nodes are told of the connections that they may carry.

use std::{collections::BTreeSet, fmt::Write as _};

use rap_events::{
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    vpn_connection::{ReleaseReason, VpnConnection, VpnConnectionCommand},
};
use rap_proto::{
    Generation, NodeId, NodeRole,
    snapshot::{Connection, Connections, RoleScope, Section as _},
};

use super::{all_bytes, check_golden, compile, hex, holds, section, version};
use crate::{
    state::State,
    world::{Platform, Tenant},
};

/// What a node is told of the connections.
fn told(state: &State, node: NodeId) -> Vec<Connection> {
    section::<Connections>(state, node).map(|found| found.connections).unwrap_or_default()
}

fn connector(platform: &mut Platform, node: NodeId, tenant: Tenant) {
    let organizations = Some(BTreeSet::from([tenant.id]));
    let roles = vec![RoleScope { role: NodeRole::VpnConnector, organizations }];
    platform.must::<Node>(node.uuid(), NodeCommand::AssignRoles { roles });
}

fn give(platform: &mut Platform, tenant: Tenant, command: VpnConnectionCommand) {
    platform.must::<VpnConnection>(tenant.connection.uuid(), command);
}

#[test]
fn only_nodes_that_may_carry_a_connection_know_of_it() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let nobody = [platform.entry, platform.relay, acme.egress, globex.egress];
    for node in nobody {
        assert_eq!(told(platform.state(), node), [], "without the role");
        let bytes = all_bytes(&compile(platform.state(), node).unwrap());
        assert!(!holds(&bytes, acme.connection.uuid().as_bytes()));
    }
    connector(&mut platform, acme.egress, acme);
    connector(&mut platform, globex.egress, globex);
    // A node of the platform that serves the organization, but is not among the named nodes.
    let relay = platform.relay;
    connector(&mut platform, relay, acme);
    assert_eq!(told(platform.state(), relay), []);
    let nodes = BTreeSet::new();
    give(&mut platform, acme, VpnConnectionCommand::AllowNodes { nodes });
    let expected = Connection {
        id: acme.connection,
        organization: acme.id,
        class: rap_proto::LeaseClass::Fast,
        enabled: true,
        granted: Some(Generation::new(1)),
    };
    assert_eq!(told(platform.state(), acme.egress), [expected]);
    let other = Connection { granted: None, ..expected };
    assert_eq!(told(platform.state(), relay), [other], "whose lease it is, others do not learn");
    let bytes = all_bytes(&compile(platform.state(), globex.egress).unwrap());
    assert!(!holds(&bytes, acme.connection.uuid().as_bytes()));
}

#[test]
fn a_lease_touches_its_holder_and_a_wish_all_who_may_carry() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let relay = platform.relay;
    connector(&mut platform, acme.egress, acme);
    connector(&mut platform, relay, acme);
    let nodes = BTreeSet::new();
    give(&mut platform, acme, VpnConnectionCommand::AllowNodes { nodes });
    let versions = |platform: &Platform| (version(platform, acme.egress), version(platform, relay));
    let before = versions(&platform);
    let released_at = platform.world.now;
    let (generation, reason) = (1, ReleaseReason::Drained);
    let release = VpnConnectionCommand::ReleaseLease { generation, reason, released_at };
    give(&mut platform, acme, release);
    let released = versions(&platform);
    assert!(released.0 > before.0 && released.1 == before.1);
    assert_eq!(told(platform.state(), acme.egress)[0].granted, None);
    give(&mut platform, acme, VpnConnectionCommand::Disable);
    let disabled = versions(&platform);
    assert!(disabled.0 > released.0 && disabled.1 > released.1);
    give(&mut platform, acme, VpnConnectionCommand::Enable);
    assert!(told(platform.state(), relay)[0].enabled);
    platform.must::<Organization>(acme.id.uuid(), suspend());
    assert!(!told(platform.state(), relay)[0].enabled);
    assert!(versions(&platform).1 > disabled.1);
}

fn suspend() -> OrganizationCommand {
    OrganizationCommand::Suspend { reason: "unpaid".to_owned() }
}

#[test]
fn the_bytes_of_a_connectors_snapshot_are_frozen() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    connector(&mut platform, acme.egress, acme);
    let compiled = compile(platform.state(), acme.egress).unwrap();
    let mut actual = String::new();
    let digest = compiled.manifest.sections[Connections::NAME];
    writeln!(actual, "connections {}", hex(&compiled.sections[&digest])).unwrap();
    check_golden("connections.txt", &actual);
}
