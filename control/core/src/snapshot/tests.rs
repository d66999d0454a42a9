#![allow(clippy::unwrap_used)]

mod bandwidth;
mod connections;
mod histories;
mod mesh;
mod paths;
mod places;

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use rap_events::{
    Personal,
    cluster::{Cluster, ClusterCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand},
    session::{Seen, SessionCommand, TerminationCause},
    user::{User, UserCommand},
};
use rap_proto::{
    NodeId, NodeRole, OrganizationId, OrganizationRole, RefusalCode, UserId, codec,
    observation::{EndReason, Vantage},
    snapshot::{Assignment, Peers, Resources, RoleScope, Section, Trust},
    token::{CLOCK_SKEW_MS, GRANT_TTL_MS},
};
use serde_bytes::ByteBuf;

use super::{Compiled, Compiler, NotCompiled, SNAPSHOT_TTL, compile};
use crate::{
    State,
    state::DENIAL_KEPT_MS,
    world::{Platform, Tenant, check_golden, key, name, uuid},
};

fn section<S: Section>(state: &State, node: NodeId) -> Option<S> {
    let compiled = compile(state, node).unwrap();
    let digest = compiled.manifest.sections.get(S::NAME)?;
    Some(S::from_bytes(&compiled.sections[digest]).unwrap())
}

/// Everything that a node is sent, in one piece.
pub(super) fn all_bytes(compiled: &Compiled) -> Vec<u8> {
    let sections = compiled.sections.values().flatten().copied();
    codec::encode(&compiled.manifest).into_iter().chain(sections).collect()
}

pub(super) fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What of a tenant must stand in no other tenant's snapshot.
pub(super) fn marks(tenant: Tenant, called: &str) -> Vec<Vec<u8>> {
    let ids = [
        tenant.id.uuid(),
        tenant.owner.uuid(),
        tenant.admin.uuid(),
        tenant.user.uuid(),
        tenant.pool.uuid(),
        tenant.resource.uuid(),
        tenant.policy.uuid(),
        tenant.egress.uuid(),
        tenant.session.uuid(),
    ];
    let ids = ids.iter().map(|id| id.as_bytes().to_vec());
    ids.chain([called.as_bytes().to_vec()]).collect()
}

fn version(platform: &Platform, node: NodeId) -> u64 {
    compile(platform.state(), node).unwrap().manifest.version
}

#[test]
fn an_organizations_node_is_told_nothing_of_another_organization() {
    let platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    for (node, foreign, called) in [(acme.egress, globex, "globex"), (globex.egress, acme, "acme")]
    {
        let bytes = all_bytes(&compile(platform.state(), node).unwrap());
        for mark in marks(foreign, called) {
            assert!(!holds(&bytes, &mark), "{called} in the other's snapshot: {mark:02x?}");
        }
    }
    let own = all_bytes(&compile(platform.state(), acme.egress).unwrap());
    assert!(holds(&own, acme.resource.uuid().as_bytes()), "its own resource is there");
}

#[test]
fn a_shared_peers_scope_shows_only_the_organizations_that_both_serve() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let both = Some(BTreeSet::from([acme.id, globex.id]));
    platform.must::<Node>(
        platform.entry.uuid(),
        NodeCommand::AssignRoles {
            roles: vec![RoleScope { role: NodeRole::EntryNode, organizations: both }],
        },
    );
    let peers: Peers = section(platform.state(), acme.egress).unwrap();
    let only = |role| {
        let organizations = Some(BTreeSet::from([acme.id]));
        vec![RoleScope { role, organizations }]
    };
    let told = [NodeRole::EntryNode, NodeRole::RelayNode].map(only);
    assert!(peers.peers.iter().map(|peer| &peer.roles).eq(&told), "{peers:?}");
    let bytes = all_bytes(&compile(platform.state(), acme.egress).unwrap());
    assert!(!holds(&bytes, globex.id.uuid().as_bytes()));
}

#[test]
fn each_role_learns_of_the_peers_that_it_speaks_with() {
    let platform = Platform::new();
    let peers = |node| -> BTreeSet<NodeId> {
        let peers: Peers = section(platform.state(), node).unwrap();
        peers.peers.iter().map(|peer| peer.node).collect()
    };
    let (acme, globex) = (platform.acme.egress, platform.globex.egress);
    assert_eq!(peers(platform.entry), BTreeSet::from([platform.relay, acme, globex]));
    assert_eq!(peers(platform.relay), BTreeSet::from([platform.entry, acme, globex]));
    assert_eq!(peers(acme), BTreeSet::from([platform.entry, platform.relay]));
}

#[test]
fn relays_that_share_an_organization_know_each_other_and_nobody_elses() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let relay_of = |platform: &mut Platform, n, called, organization| {
        let only = Some(BTreeSet::from([organization]));
        let roles = vec![RoleScope { role: NodeRole::RelayNode, organizations: only }];
        platform.world.node(n, called, Some(organization), roles, &[])
    };
    let before = version(&platform, platform.relay);
    let of_acme = relay_of(&mut platform, 0x31, "acme-relay", acme.id);
    assert!(version(&platform, platform.relay) > before, "it is told at once");
    let of_globex = relay_of(&mut platform, 0x32, "globex-relay", globex.id);
    let relays = |node| -> BTreeSet<(NodeId, Option<BTreeSet<OrganizationId>>)> {
        let peers: Peers = section(platform.state(), node).unwrap();
        let roles = peers
            .peers
            .iter()
            .flat_map(|peer| peer.roles.iter().map(move |scope| (peer.node, scope)));
        let relays = roles.filter(|(_, scope)| scope.role == NodeRole::RelayNode);
        relays.map(|(node, scope)| (node, scope.organizations.clone())).collect()
    };
    let acme_only = Some(BTreeSet::from([acme.id]));
    let globex_only = Some(BTreeSet::from([globex.id]));
    assert_eq!(relays(of_acme), BTreeSet::from([(platform.relay, acme_only.clone())]));
    let both = BTreeSet::from([(of_acme, acme_only.clone()), (of_globex, globex_only)]);
    assert_eq!(relays(platform.relay), both);
    let of_egress = BTreeSet::from([(of_acme, acme_only.clone()), (platform.relay, acme_only)]);
    assert_eq!(relays(acme.egress), of_egress, "where it can keep itself reachable");
}

#[test]
fn a_relay_and_an_entry_are_told_of_no_resource_and_no_user() {
    let platform = Platform::new();
    let acme = platform.acme;
    for node in [platform.entry, platform.relay] {
        assert!(section::<Resources>(platform.state(), node).is_none());
        let bytes = all_bytes(&compile(platform.state(), node).unwrap());
        for id in [acme.resource.uuid(), acme.user.uuid(), acme.pool.uuid(), acme.policy.uuid()] {
            assert!(!holds(&bytes, id.as_bytes()));
        }
        assert!(!holds(&bytes, b"ssh.acme.example"));
    }
}

#[test]
fn an_egress_is_told_the_users_that_a_policy_permits() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let users = |platform: &Platform| -> BTreeSet<rap_proto::UserId> {
        let found: Resources = section(platform.state(), acme.egress).unwrap();
        found.resources.into_iter().flat_map(|resource| resource.users).collect()
    };
    assert_eq!(users(&platform), BTreeSet::from([acme.user]));
    let disable = UserCommand::Disable { reason: String::new() };
    platform.must::<User>(acme.user.uuid(), disable);
    assert_eq!(users(&platform), BTreeSet::new());
    platform.must::<User>(acme.user.uuid(), UserCommand::Enable);
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
    assert_eq!(users(&platform), BTreeSet::new());
}

#[test]
fn no_snapshot_holds_a_personal_field_and_whoever_is_erased_is_told_to_nobody() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let (newcomer, canary) = (uuid(0x901), b"what was sealed of somebody");
    let display_name = Personal::Sealed(ByteBuf::from(canary.to_vec()));
    platform.must::<User>(newcomer, UserCommand::Create { name: name("newcomer"), display_name });
    platform.world.member(acme.id, UserId::from_uuid(newcomer), OrganizationRole::User);
    assert!(holds(&platform.state().to_bytes(), canary), "the state has it");
    for node in [acme.egress, platform.entry, platform.relay] {
        assert!(!holds(&all_bytes(&compile(platform.state(), node).unwrap()), canary));
    }
    let told = |platform: &Platform| {
        let bytes = all_bytes(&compile(platform.state(), acme.egress).unwrap());
        holds(&bytes, acme.user.uuid().as_bytes())
    };
    assert!(told(&platform));
    let before = version(&platform, acme.egress);
    platform.must::<User>(acme.user.uuid(), UserCommand::Erase);
    assert!(!told(&platform) && version(&platform, acme.egress) > before);
    platform.must::<User>(newcomer, UserCommand::Erase);
    assert!(!holds(&platform.state().to_bytes(), canary), "nor does the state keep it");
}

#[test]
fn a_pool_without_the_role_gives_no_resources() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let pools = BTreeSet::from([acme.pool, globex.pool]);
    platform.must::<Node>(acme.egress.uuid(), NodeCommand::AssignPools { pools });
    let found: Resources = section(platform.state(), acme.egress).unwrap();
    let ids: Vec<_> = found.resources.iter().map(|resource| resource.id).collect();
    assert_eq!(ids, vec![acme.resource], "the role covers acme only");
    platform.must::<Node>(acme.egress.uuid(), NodeCommand::AssignRoles { roles: Vec::new() });
    assert!(section::<Resources>(platform.state(), acme.egress).is_none());
}

#[test]
fn a_suspended_organization_is_reached_by_nobody() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let suspend = OrganizationCommand::Suspend { reason: String::new() };
    platform.must::<Organization>(acme.id.uuid(), suspend);
    let found: Resources = section(platform.state(), acme.egress).unwrap();
    assert!(found.resources.is_empty());
    platform.must::<Organization>(acme.id.uuid(), OrganizationCommand::Resume);
    let found: Resources = section(platform.state(), acme.egress).unwrap();
    assert_eq!(found.resources.len(), 1);
}

#[test]
fn only_an_approved_node_has_a_snapshot() {
    let mut platform = Platform::new();
    let egress = platform.acme.egress;
    let unknown = NodeId::from_uuid(uuid(0xdead));
    let refused = |platform: &Platform, node| compile(platform.state(), node).unwrap_err();
    assert_eq!(refused(&platform, unknown), NotCompiled::NotApproved(unknown));
    platform.must::<Node>(egress.uuid(), NodeCommand::Revoke { note: String::new() });
    assert_eq!(refused(&platform, egress), NotCompiled::NotApproved(egress));
}

#[test]
fn a_revoked_node_is_no_peer_and_is_denied_where_it_was_known() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme.egress, platform.globex.egress);
    let before = version(&platform, globex);
    platform.must::<Node>(acme.uuid(), NodeCommand::Revoke { note: String::new() });
    let trust: Trust = section(platform.state(), platform.entry).unwrap();
    assert_eq!(trust.denied_nodes, BTreeSet::from([acme]));
    let peers: Peers = section(platform.state(), platform.entry).unwrap();
    assert!(peers.peers.iter().all(|peer| peer.node != acme));
    let trust: Trust = section(platform.state(), globex).unwrap();
    assert!(trust.denied_nodes.is_empty(), "another organization never knew it");
    assert_eq!(version(&platform, globex), before);
    assert_eq!(version(&platform, platform.entry), platform.state().position());
}

#[test]
fn a_terminated_session_is_denied_at_its_nodes_until_it_ended_and_its_token_expired() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let denied = |platform: &Platform, node| -> usize {
        let trust: Trust = section(platform.state(), node).unwrap();
        trust.denied_sessions.len()
    };
    let renew = |platform: &mut Platform| {
        platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
    };
    let terminate = SessionCommand::Terminate { cause: TerminationCause::Requested };
    platform.world.session(acme.session, terminate);
    assert_eq!(denied(&platform, acme.egress), 1);
    assert_eq!(denied(&platform, platform.entry), 1);
    assert_eq!(denied(&platform, platform.relay), 0);
    assert_eq!(denied(&platform, platform.globex.egress), 0);

    platform.world.advance(3_600_000);
    renew(&mut platform);
    assert_eq!(denied(&platform, acme.egress), 1, "no node said that it ended");
    let seen = Seen { node: platform.entry, sequence: 1, at: platform.world.now };
    let reason = EndReason::Terminated;
    platform.world.session(
        acme.session,
        SessionCommand::RecordEnded { seen, reason, bytes_up: 0, bytes_down: 0 },
    );
    renew(&mut platform);
    assert_eq!(denied(&platform, acme.egress), 0);

    let globex = platform.globex;
    let terminate = SessionCommand::Terminate { cause: TerminationCause::Requested };
    platform.world.session(globex.session, terminate);
    platform.world.advance(DENIAL_KEPT_MS + 1);
    renew(&mut platform);
    assert_eq!(denied(&platform, globex.egress), 0, "no list grows for ever");
}

#[test]
fn what_is_told_of_a_denied_session_changes_no_snapshot() {
    let mut platform = Platform::new();
    let (acme, entry) = (platform.acme, platform.entry);
    let terminate = SessionCommand::Terminate { cause: TerminationCause::Requested };
    platform.world.session(acme.session, terminate);
    let denied = platform.state().position();
    let told = |platform: &mut Platform, sequence: u64| {
        let seen = Seen { node: entry, sequence, at: platform.world.now };
        let from = Some(Vantage::Entry);
        platform.world.session(acme.session, SessionCommand::RecordStarted { seen, from });
        let (reason, bytes_up, bytes_down) = (EndReason::Terminated, 0, 0);
        let seen = Seen { sequence: sequence + 1, ..seen };
        let ended = SessionCommand::RecordEnded { seen, reason, bytes_up, bytes_down };
        platform.world.session(acme.session, ended);
    };
    let before =
        [entry, acme.egress].map(|node| all_bytes(&compile(platform.state(), node).unwrap()));
    told(&mut platform, 1);
    assert_eq!(platform.state().position(), denied + 2);
    for (node, before) in [entry, acme.egress].into_iter().zip(before) {
        assert_eq!(version(&platform, node), denied);
        assert!(all_bytes(&compile(platform.state(), node).unwrap()) == before);
    }
    // The denial was forgotten: to begin again takes it up again, and the nodes are told of that.
    platform.world.advance(GRANT_TTL_MS + CLOCK_SKEW_MS + 1);
    platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
    assert_eq!(platform.state().sessions().denied_at(acme.session).count(), 0);
    let renewed = platform.state().position();
    told(&mut platform, 3);
    for node in [entry, acme.egress] {
        assert_eq!(version(&platform, node), renewed + 1, "by the start, and not by the end");
    }
}

#[test]
fn a_late_refusal_of_a_session_whose_denial_was_forgotten_is_told_to_its_nodes() {
    let mut platform = Platform::new();
    let (acme, entry) = (platform.acme, platform.entry);
    let terminate = SessionCommand::Terminate { cause: TerminationCause::Requested };
    platform.world.session(acme.session, terminate);
    platform.world.advance(DENIAL_KEPT_MS + 1);
    platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
    assert_eq!(platform.state().sessions().denied_at(acme.session).count(), 0);
    let seen = Seen { node: entry, sequence: 1, at: platform.world.now };
    let code = RefusalCode::SessionTerminated;
    platform.world.session(acme.session, SessionCommand::RecordRefused { seen, code });
    let trust: Trust = section(platform.state(), acme.egress).unwrap();
    assert_eq!(trust.denied_sessions, [acme.session].into());
    assert_eq!(version(&platform, acme.egress), platform.state().position());
}

#[test]
fn what_ended_and_is_terminated_is_denied_until_its_token_expired() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let denied = |platform: &Platform| -> usize {
        let trust: Trust = section(platform.state(), acme.egress).unwrap();
        trust.denied_sessions.len()
    };
    let seen = Seen { node: platform.entry, sequence: 1, at: platform.world.now };
    let (reason, bytes_up, bytes_down) = (EndReason::ClientLost, 0, 0);
    let ended = SessionCommand::RecordEnded { seen, reason, bytes_up, bytes_down };
    platform.world.session(acme.session, ended);
    assert_eq!(denied(&platform), 0);
    let terminate = SessionCommand::Terminate { cause: TerminationCause::Requested };
    platform.world.session(acme.session, terminate);
    assert_eq!(denied(&platform), 1);
    assert_eq!(version(&platform, acme.egress), platform.state().position(), "it is told at once");
    for (later, expected) in [(GRANT_TTL_MS + CLOCK_SKEW_MS, 1), (1, 0)] {
        platform.world.advance(later);
        platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
        assert_eq!(denied(&platform), expected);
    }
}

#[test]
fn a_version_is_the_position_of_the_last_event_that_touched_the_node() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let before = version(&platform, globex.egress);
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
    assert_eq!(version(&platform, acme.egress), platform.state().position());
    assert_eq!(version(&platform, globex.egress), before, "it concerns acme's egress only");
    let (entry, relay) = (version(&platform, platform.entry), version(&platform, platform.relay));
    assert!(entry < platform.state().position() && relay < platform.state().position());
    platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
    for node in [platform.entry, platform.relay, acme.egress, globex.egress] {
        assert_eq!(version(&platform, node), platform.state().position());
    }
}

#[test]
fn a_renewal_changes_the_times_and_no_section() {
    let mut platform = Platform::new();
    let egress = platform.acme.egress;
    let before = compile(platform.state(), egress).unwrap();
    let content = platform.state().nodes().get(egress).unwrap().content_version;
    platform.world.advance(6 * 3_600_000);
    platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
    let after = compile(platform.state(), egress).unwrap();
    assert_eq!(after.sections, before.sections);
    assert_eq!(after.manifest.issued_at, platform.world.now);
    assert_eq!(after.manifest.expires_at, platform.world.now + SNAPSHOT_TTL);
    assert_eq!(platform.state().nodes().get(egress).unwrap().content_version, content);
}

#[test]
fn a_snapshot_does_not_depend_on_what_came_after_its_version() {
    let mut platform = Platform::new();
    let before = compile(platform.state(), platform.acme.egress).unwrap();
    platform.world.advance(1_000);
    platform.world.person(0x900, "newcomer");
    platform.must::<Policy>(platform.globex.policy.uuid(), PolicyCommand::Remove);
    assert_eq!(compile(platform.state(), platform.acme.egress).unwrap(), before);
    assert_eq!(compile(&platform.world.replay(), platform.acme.egress).unwrap(), before);
}

#[test]
fn draining_and_a_new_key_reach_the_nodes() {
    let mut platform = Platform::new();
    platform.must::<Node>(platform.entry.uuid(), NodeCommand::StartDraining);
    let own: Assignment = section(platform.state(), platform.entry).unwrap();
    assert!(own.draining);
    platform
        .must::<Cluster>(platform.cluster.uuid(), ClusterCommand::AddControlKey { key: key(2) });
    for node in [platform.entry, platform.relay, platform.acme.egress] {
        let trust: Trust = section(platform.state(), node).unwrap();
        assert_eq!(trust.control_keys, vec![key(1), key(2)]);
    }
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused() {
    let platform = Platform::new();
    let compiled = compile(platform.state(), platform.entry).unwrap();
    let actual = compiled.sections.values().map(Vec::len).max().unwrap();
    let within =
        |limit| Compiler::default().compile_within(platform.state(), platform.entry, limit);
    assert_eq!(within(actual).unwrap(), compiled);
    let limit = actual - 1;
    let expected = NotCompiled::SectionTooLarge { section: "peers", actual, limit };
    assert_eq!(within(limit).unwrap_err(), expected);
}

#[test]
fn the_compiled_bytes_are_frozen() {
    let platform = Platform::new();
    let mut actual = String::new();
    for (title, node) in [
        ("entry", platform.entry),
        ("relay", platform.relay),
        ("egress of acme", platform.acme.egress),
    ] {
        let compiled = compile(platform.state(), node).unwrap();
        writeln!(actual, "{title}\nmanifest {}", hex(&codec::encode(&compiled.manifest))).unwrap();
        for (name, digest) in &compiled.manifest.sections {
            writeln!(actual, "{name} {}", hex(&compiled.sections[digest])).unwrap();
        }
        assert!(
            compiled.manifest.expires_at.since(platform.world.now) == Duration::from_secs(86_400)
        );
    }
    check_golden("snapshot.txt", &actual);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
