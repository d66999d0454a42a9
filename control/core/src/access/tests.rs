#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_events::{
    membership::{Membership, MembershipCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicyDocument, PolicySpec},
    resource::{Resource, ResourceCommand},
    session::{Grant, Seen, SessionAuthorized, SessionCommand, SessionRequested, TerminationCause},
    user::{User, UserCommand},
};
use rap_proto::{
    AttachmentId, ChannelKind, Generation, Lane, Leased, MessageId, NodeId, NodeRole,
    OrganizationRole, PolicyId, RefusalCode, ResourceKind, SessionId, WeekHour,
    observation::EndReason,
    snapshot::{Resources, RoleScope, Section as _, Target},
    token::{
        AccessClaims, CLOCK_SKEW_MS, CONNECT_TTL_MS, GRANT_TTL_MS, MAX_AUDIENCE, STREAM_LANES,
    },
};

use super::{
    AccessIds, AccessRequest, Asked, Authorized, Denied, LIVENESS_MS, Live, Liveness, Obstacle,
    authorize_session, explain, granted_claims, permits, reachable,
};
use crate::{
    snapshot::compile,
    state::SessionPhase,
    world::{Platform, Tenant, key, name, uuid},
};

fn request(tenant: Tenant) -> AccessRequest {
    AccessRequest {
        organization: tenant.id,
        user: tenant.user,
        asked: Asked::Id(tenant.resource),
        client_key: key(77),
        refresh: None,
    }
}

fn ids(n: u128) -> AccessIds {
    AccessIds {
        token: MessageId::from_uuid(uuid(n)),
        session: SessionId::from_uuid(uuid(n)),
        attachment: AttachmentId::from_uuid(uuid(n)),
    }
}

fn ask(
    platform: &Platform,
    live: &Liveness,
    request: &AccessRequest,
) -> Result<Authorized, Denied> {
    authorize_session(platform.state(), live, request, ids(0x7000), platform.world.now)
}

fn code(platform: &Platform, request: &AccessRequest) -> RefusalCode {
    ask(platform, &Liveness::new(), request).unwrap_err().code
}

fn drain(platform: &mut Platform, node: NodeId) {
    platform.must::<Node>(node.uuid(), NodeCommand::StartDraining);
}

#[test]
fn the_claims_say_what_was_granted() {
    let platform = Platform::new();
    let (acme, now) = (platform.acme, platform.world.now);
    let authorized = ask(&platform, &Liveness::new(), &request(acme)).unwrap();
    let claims = &authorized.claims;
    assert_eq!(claims.entries, BTreeSet::from([platform.entry]));
    let floor = compile(platform.state(), acme.egress).unwrap().manifest.version;
    assert_eq!(claims.egresses, BTreeMap::from([(acme.egress, floor)]));
    assert_eq!((claims.user, claims.organization), (acme.user, acme.id));
    assert_eq!((claims.resource, claims.kind), (acme.resource, ResourceKind::Ssh));
    assert_eq!(claims.client_key, key(77));
    assert_eq!(claims.connect_by, now + Duration::from_millis(CONNECT_TTL_MS));
    assert_eq!(claims.expires_at, now + Duration::from_millis(GRANT_TTL_MS));
    assert_eq!(authorized.grant.policies, BTreeSet::from([acme.policy]));
    assert_eq!(claims.check_connect(now), Ok(()));
}

/// Puts rules in place of the tenant's lists.
fn rewrite(platform: &mut Platform, tenant: Tenant, rules: &str) {
    let document = PolicyDocument { text: rules.to_owned(), tests: Vec::new() };
    platform.must::<Policy>(tenant.policy.uuid(), PolicyCommand::Rewrite { document });
}

fn lanes(claims: &AccessClaims) -> &BTreeSet<Lane> {
    &claims.channels[&ChannelKind::Stream].lanes
}

#[test]
fn a_token_names_media_where_a_rule_that_permits_gives_it() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let usual = BTreeSet::from(STREAM_LANES);
    let with_media = BTreeSet::from([Lane::Interactive, Lane::Media, Lane::Bulk]);
    let authorized = ask(&platform, &Liveness::new(), &request(acme)).unwrap();
    assert_eq!(*lanes(&authorized.claims), usual, "lists give none");
    let everybody = "permit(principal, action == Action::\"reach\", resource);";
    let reach = "action == Action::\"reach\", resource";
    for (rules, expected) in [
        (String::new(), &usual),
        ("@lane(\"media\") permit(principal, action, resource);".to_owned(), &with_media),
        (
            format!("@lane(\"media\") permit(principal == User::\"acme-user\", {reach});"),
            &with_media,
        ),
        (format!("@lane(\"media\") permit(principal == User::\"acme-admin\", {reach});"), &usual),
        (
            "@lane(\"media\") permit(principal, action == Action::\"resource.read\", resource);"
                .to_owned(),
            &usual,
        ),
        // A release before this one let it be written.
        ("@lane(\"urgent\") permit(principal, action, resource);".to_owned(), &usual),
        (
            "@lane(\"media\") forbid(principal, action == Action::\"resource.read\", resource);"
                .to_owned(),
            &usual,
        ),
    ] {
        rewrite(&mut platform, acme, &format!("{rules} {everybody}"));
        let authorized = ask(&platform, &Liveness::new(), &request(acme)).unwrap();
        assert_eq!(lanes(&authorized.claims), expected, "{rules}");
    }
}

#[test]
fn the_log_says_what_was_signed() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    rewrite(&mut platform, acme, "@lane(\"media\") permit(principal, action, resource);");
    let first = ask(&platform, &Liveness::new(), &request(acme)).unwrap();
    let refreshed = platform.world.request(&refresh(acme), acme.session).unwrap();
    let (resource, kind) = (first.claims.resource, first.claims.kind);
    for (Authorized { claims, grant, basis, .. }, asked) in
        [(first, request(acme)), (refreshed, refresh(acme))]
    {
        let requested = SessionRequested {
            organization: asked.organization,
            user: asked.user,
            asked: String::new(),
            resource: Some(resource),
            client_key: asked.client_key,
        };
        let attachment = claims.attachment;
        let opening = Grant { token: MessageId::from_uuid(uuid(1)), ..grant.clone() };
        let authorized = SessionAuthorized { resource, kind, attachment, grant: opening, basis };
        let cluster = claims.cluster;
        let said = granted_claims(cluster, claims.session, &requested, &authorized, &grant);
        assert_eq!(said, claims);
        assert!(lanes(&said).contains(&Lane::Media));
    }
}

#[test]
fn a_resource_is_asked_for_by_name_within_its_organization() {
    let platform = Platform::new();
    let named = |text| AccessRequest { asked: Asked::Name(name(text)), ..request(platform.acme) };
    assert!(ask(&platform, &Liveness::new(), &named("acme-ssh")).is_ok());
    assert_eq!(code(&platform, &named("globex-ssh")), RefusalCode::AccessDenied);
}

#[test]
fn what_no_policy_permits_is_denied() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let by_admin = AccessRequest { user: acme.admin, ..request(acme) };
    let denied = ask(&platform, &Liveness::new(), &by_admin).unwrap_err();
    assert_eq!(denied.code, RefusalCode::AccessDenied);
    assert_eq!(denied.resource, Some(acme.resource));
    assert_eq!(denied.reason, "no policy permits it; 1 permit it to others");
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
    assert_eq!(code(&platform, &request(acme)), RefusalCode::AccessDenied);
}

#[test]
fn another_organizations_resource_is_denied_like_an_absent_one() {
    let platform = Platform::new();
    let asked = |id| AccessRequest { asked: Asked::Id(id), ..request(platform.acme) };
    let foreign = ask(&platform, &Liveness::new(), &asked(platform.globex.resource)).unwrap_err();
    let absent = rap_proto::ResourceId::from_uuid(uuid(0xdead));
    assert_eq!(ask(&platform, &Liveness::new(), &asked(absent)).unwrap_err(), foreign);
    let as_if_there =
        AccessRequest { organization: platform.globex.id, ..asked(platform.globex.resource) };
    assert_eq!(code(&platform, &as_if_there), RefusalCode::AccessDenied);
}

#[test]
fn each_obstacle_is_named_to_the_auditor_and_to_nobody_else() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let at = WeekHour::of(platform.world.now);
    let obstacle = |platform: &Platform| {
        assert_eq!(code(platform, &request(acme)), RefusalCode::AccessDenied);
        explain(platform.state(), acme.id, acme.user, acme.resource, at).obstacle
    };
    let membership = rap_events::keys::membership_id(acme.id, acme.user);
    platform.must::<Organization>(
        acme.id.uuid(),
        OrganizationCommand::Suspend { reason: String::new() },
    );
    assert_eq!(obstacle(&platform), Some(Obstacle::OrganizationClosed));
    platform.must::<Organization>(acme.id.uuid(), OrganizationCommand::Resume);
    platform.must::<User>(acme.user.uuid(), UserCommand::Disable { reason: String::new() });
    assert_eq!(obstacle(&platform), Some(Obstacle::UserInactive));
    platform.must::<User>(acme.user.uuid(), UserCommand::Enable);
    platform.must::<Membership>(membership, MembershipCommand::Revoke);
    assert_eq!(obstacle(&platform), Some(Obstacle::NotAMember));
    platform.world.member(acme.id, acme.user, OrganizationRole::User);
    platform.must::<Resource>(acme.resource.uuid(), ResourceCommand::Remove);
    assert_eq!(obstacle(&platform), Some(Obstacle::NoSuchResource));
}

#[test]
fn a_policy_matches_the_user_by_id_or_role_and_the_resource_by_id_or_kind() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let user = BTreeSet::from([acme.user]);
    let role = BTreeSet::from([OrganizationRole::User]);
    let resource = BTreeSet::from([acme.resource]);
    let kind = BTreeSet::from([ResourceKind::Ssh]);
    let none = PolicySpec::default;
    for (spec, permitted) in [
        (PolicySpec { users: user.clone(), resources: resource.clone(), ..none() }, true),
        (PolicySpec { users: user.clone(), kinds: kind.clone(), ..none() }, true),
        (PolicySpec { roles: role.clone(), resources: resource.clone(), ..none() }, true),
        (PolicySpec { roles: role.clone(), kinds: kind.clone(), ..none() }, true),
        (PolicySpec { users: user, kinds: BTreeSet::from([ResourceKind::Web]), ..none() }, false),
        (PolicySpec { users: BTreeSet::from([acme.admin]), kinds: kind, ..none() }, false),
        (
            PolicySpec {
                roles: BTreeSet::from([OrganizationRole::Owner]),
                resources: resource,
                ..none()
            },
            false,
        ),
    ] {
        platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Change { spec: spec.clone() });
        let found = permits(platform.state(), acme.id, acme.user, acme.resource, None);
        assert_eq!(found, permitted, "{spec:?}");
        let reached = reachable(platform.state(), acme.id, acme.user).count();
        assert_eq!(reached, usize::from(permitted));
        // What the egress is told agrees with what control decides.
        let compiled = compile(platform.state(), acme.egress).unwrap();
        let told = compiled.sections.values().flatten().copied().collect::<Vec<u8>>();
        let id = acme.user.uuid();
        assert_eq!(told.windows(16).any(|part| part == id.as_bytes()), permitted);
    }
}

#[test]
fn a_policy_of_another_organization_permits_nothing() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
    let spec = PolicySpec {
        users: BTreeSet::from([acme.user]),
        resources: BTreeSet::from([acme.resource]),
        ..PolicySpec::default()
    };
    platform.must::<Policy>(globex.policy.uuid(), PolicyCommand::Change { spec });
    assert!(!permits(platform.state(), acme.id, acme.user, acme.resource, None));
    assert!(!permits(platform.state(), globex.id, acme.user, acme.resource, None));
}

#[test]
fn a_draining_node_is_chosen_for_no_new_session() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    drain(&mut platform, acme.egress);
    assert_eq!(code(&platform, &request(acme)), RefusalCode::NodeDraining);
    platform.must::<Node>(acme.egress.uuid(), NodeCommand::EndDraining);
    let says_so = Live { seen_at: platform.world.now, snapshot_version: 0, draining: true };
    let live = Liveness::from([(platform.entry, says_so)]);
    let denied = ask(&platform, &live, &request(acme)).unwrap_err();
    assert_eq!(denied.code, RefusalCode::NodeDraining);
    assert!(ask(&platform, &Liveness::new(), &request(acme)).is_ok());
}

#[test]
fn a_node_without_the_role_or_the_pool_is_never_chosen() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    platform.must::<Node>(acme.egress.uuid(), NodeCommand::AssignRoles { roles: Vec::new() });
    assert_eq!(code(&platform, &request(acme)), RefusalCode::RoleNotAssigned);
    let pools = BTreeSet::new();
    platform.must::<Node>(acme.egress.uuid(), NodeCommand::AssignPools { pools });
    assert_eq!(code(&platform, &request(acme)), RefusalCode::PathUnavailable);
    let only_globex = Some(BTreeSet::from([platform.globex.id]));
    let roles = vec![RoleScope { role: NodeRole::EntryNode, organizations: only_globex }];
    platform.must::<Node>(platform.entry.uuid(), NodeCommand::AssignRoles { roles });
    assert_eq!(code(&platform, &request(acme)), RefusalCode::RoleNotAssigned);
}

#[test]
fn a_revoked_node_is_never_chosen() {
    let mut platform = Platform::new();
    let revoke = NodeCommand::Revoke { note: String::new() };
    platform.must::<Node>(platform.entry.uuid(), revoke);
    assert_eq!(code(&platform, &request(platform.acme)), RefusalCode::RoleNotAssigned);
}

fn more_entries(platform: &mut Platform, count: u128) -> Vec<NodeId> {
    let roles = vec![RoleScope { role: NodeRole::EntryNode, organizations: None }];
    (0..count)
        .map(|n| platform.world.node(0x40 + n, &format!("entry-{n}"), None, roles.clone(), &[]))
        .collect()
}

#[test]
fn nodes_that_were_heard_of_come_first_and_silent_ones_are_kept_as_a_last_resort() {
    let mut platform = Platform::new();
    let added = more_entries(&mut platform, 6);
    let now = platform.world.now;
    let heard = |ago| Live {
        seen_at: now - Duration::from_millis(ago),
        snapshot_version: 0,
        draining: false,
    };
    let live = Liveness::from([(added[3], heard(0)), (added[4], heard(LIVENESS_MS + 1))]);
    let chosen = ask(&platform, &live, &request(platform.acme)).unwrap().entries;
    assert_eq!(chosen[0], added[3]);
    assert_eq!(chosen.len(), 7);
}

#[test]
fn a_token_names_no_more_nodes_than_it_may() {
    let mut platform = Platform::new();
    more_entries(&mut platform, MAX_AUDIENCE as u128 + 4);
    let authorized = ask(&platform, &Liveness::new(), &request(platform.acme)).unwrap();
    assert_eq!(authorized.claims.entries.len(), MAX_AUDIENCE);
    assert_eq!(authorized.entries.len(), MAX_AUDIENCE);
}

#[test]
fn sessions_spread_over_equal_nodes() {
    let mut platform = Platform::new();
    more_entries(&mut platform, 3);
    let first = |n| {
        let (state, now) = (platform.state(), platform.world.now);
        let live = Liveness::new();
        authorize_session(state, &live, &request(platform.acme), ids(n), now).unwrap().entries[0]
    };
    let chosen: BTreeSet<NodeId> = (0..64).map(first).collect();
    assert_eq!(chosen.len(), 4);
}

fn refresh(tenant: Tenant) -> AccessRequest {
    AccessRequest { refresh: Some(tenant.session), ..request(tenant) }
}

#[test]
fn a_refresh_keeps_the_session_its_attachment_and_its_draining_nodes() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    drain(&mut platform, acme.egress);
    let entry = platform.entry;
    drain(&mut platform, entry);
    platform.world.advance(300_000);
    let refreshed = platform.world.request(&refresh(acme), SessionId::from_uuid(uuid(1))).unwrap();
    assert!(refreshed.refreshed);
    assert_eq!(refreshed.claims.session, acme.session);
    assert_eq!(refreshed.claims.attachment.uuid(), acme.session.uuid());
    assert_eq!(refreshed.claims.entries, BTreeSet::from([platform.entry]));
    let expires_at = platform.world.now + Duration::from_millis(GRANT_TTL_MS);
    let session = platform.state().sessions().get(acme.session).unwrap();
    assert_eq!(session.grant.as_ref().unwrap().expires_at, expires_at);
}

#[test]
fn a_refresh_is_for_the_holder_of_a_living_session() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let other_key = AccessRequest { client_key: key(78), ..refresh(acme) };
    assert_eq!(code(&platform, &other_key), RefusalCode::AccessDenied);
    let other_session = AccessRequest { refresh: Some(globex.session), ..refresh(acme) };
    assert_eq!(code(&platform, &other_session), RefusalCode::AccessDenied);
    let denied = ask(&platform, &Liveness::new(), &other_key);
    assert_eq!(other_key.command(&denied), None, "it leaves no trace in the session");

    let terminate = SessionCommand::Terminate { cause: TerminationCause::Requested };
    platform.world.session(acme.session, terminate);
    assert_eq!(code(&platform, &refresh(acme)), RefusalCode::SessionTerminated);
}

#[test]
fn a_session_that_its_entry_left_is_refreshed_while_its_tokens_count() {
    let ended = |reason| {
        let mut platform = Platform::new();
        let (acme, seen) =
            (platform.acme, Seen { node: platform.entry, sequence: 1, at: platform.world.now });
        let end = SessionCommand::RecordEnded { seen, reason, bytes_up: 0, bytes_down: 0 };
        platform.world.session(acme.session, end);
        let session = platform.state().sessions().get(acme.session).unwrap();
        assert_eq!(session.phase, SessionPhase::Ended);
        (platform, refresh(acme))
    };
    let over = RefusalCode::SessionTerminated;
    let (mut platform, refresh) = ended(EndReason::NodeLeft);
    platform.world.advance(GRANT_TTL_MS + CLOCK_SKEW_MS);
    assert!(ask(&platform, &Liveness::new(), &refresh).is_ok(), "by its last token");
    platform.world.advance(1);
    assert_eq!(code(&platform, &refresh), over);
    let (mut platform, refresh) = ended(EndReason::NodeLeft);
    platform.world.request(&refresh, SessionId::from_uuid(uuid(1))).unwrap();
    let session = platform.state().sessions().get(platform.acme.session).unwrap();
    assert!(session.is_alive(), "it takes its place in the quota again");
    let (mut platform, refresh) = ended(EndReason::NodeLeft);
    let terminate = SessionCommand::Terminate { cause: TerminationCause::Requested };
    platform.world.session(platform.acme.session, terminate);
    assert_eq!(code(&platform, &refresh), over);
    for reason in [EndReason::ClientClosed, EndReason::ClientLost] {
        let (platform, refresh) = ended(reason);
        assert_eq!(code(&platform, &refresh), over, "{reason}");
    }
}

#[test]
fn a_refresh_does_not_follow_a_resource_to_another_place() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let target = Target { host: "elsewhere.acme.example".to_owned(), port: 22, allow_local: false };
    platform.must::<Resource>(
        acme.resource.uuid(),
        ResourceCommand::Change { kind: ResourceKind::Ssh, target, pool: acme.pool },
    );
    assert_eq!(code(&platform, &refresh(acme)), RefusalCode::SessionTerminated);
    assert!(ask(&platform, &Liveness::new(), &request(acme)).is_ok());
}

#[test]
fn a_denial_is_recorded_with_what_was_asked() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let by_admin = AccessRequest { user: acme.admin, ..request(acme) };
    let session = SessionId::from_uuid(uuid(0x7001));
    platform.world.request(&by_admin, session).unwrap_err();
    let recorded = platform.state().sessions().get(session).unwrap();
    assert_eq!(recorded.denial, Some(RefusalCode::AccessDenied));
    assert_eq!(recorded.resource, Some(acme.resource));
    assert!(recorded.grant.is_none() && recorded.nodes.is_empty());
    let last = platform.world.log.last().unwrap();
    assert_eq!((last.event_type.as_str(), last.organization), ("session.denied", Some(acme.id)));
}

#[test]
fn the_floor_rises_with_what_an_egress_is_told_and_not_with_renewals() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let floor = |platform: &Platform| {
        let authorized = ask(platform, &Liveness::new(), &request(acme)).unwrap();
        authorized.claims.egresses[&acme.egress]
    };
    let before = floor(&platform);
    let cluster = platform.cluster.uuid();
    platform.must::<rap_events::cluster::Cluster>(
        cluster,
        rap_events::cluster::ClusterCommand::RenewSnapshots,
    );
    assert_eq!(floor(&platform), before);
    let policy = PolicyId::from_uuid(uuid(0x7002));
    let spec = PolicySpec {
        users: BTreeSet::from([acme.admin]),
        kinds: BTreeSet::from([ResourceKind::Ssh]),
        ..PolicySpec::default()
    };
    let create = PolicyCommand::Create { organization: acme.id, name: name("more"), spec };
    platform.must::<Policy>(policy.uuid(), create);
    assert_eq!(floor(&platform), platform.state().position());
}

/// A second egress of the tenant's pool.
fn second_egress(platform: &mut Platform, tenant: Tenant) -> NodeId {
    let organizations = Some(BTreeSet::from([tenant.id]));
    let roles = vec![RoleScope { role: NodeRole::StreamWorker, organizations }];
    platform.world.node(0x150, "second", Some(tenant.id), roles, &[tenant.pool])
}

#[test]
fn a_carried_resource_is_reached_from_the_holder_of_its_lease_and_from_no_other() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let second = second_egress(&mut platform, acme);
    let reached = |platform: &Platform| {
        let authorized = ask(platform, &Liveness::new(), &request(acme)).unwrap();
        assert_eq!(authorized.claims.leased, authorized.grant.leased);
        let egresses: Vec<NodeId> = authorized.claims.egresses.keys().copied().collect();
        (egresses, authorized.claims.leased)
    };
    assert_eq!(reached(&platform), (vec![acme.egress, second], None));
    platform.carry(acme);
    let lease = |generation| {
        let generation = Generation::new(generation);
        Some(Leased { connection: acme.connection, generation })
    };
    assert_eq!(reached(&platform), (vec![acme.egress], lease(1)));
    platform.release(acme);
    let denied = ask(&platform, &Liveness::new(), &request(acme)).unwrap_err();
    let reason = "no node holds the lease of its connection";
    assert_eq!((denied.code, denied.reason.as_str()), (RefusalCode::LeaseNotHeld, reason));
    platform.grant(acme, second, 2);
    assert_eq!(reached(&platform), (vec![second], lease(2)));
    // A node that carries the connection without being an egress of the pool.
    platform.release(acme);
    let relay = platform.relay;
    platform.grant(acme, relay, 3);
    let denied = ask(&platform, &Liveness::new(), &request(acme)).unwrap_err();
    let reason = "the holder of its connection's lease is no egress of its pool";
    assert_eq!((denied.code, denied.reason.as_str()), (RefusalCode::LeaseNotHeld, reason));
    let none = ResourceCommand::Carry { connection: None };
    platform.must::<Resource>(acme.resource.uuid(), none);
    assert_eq!(reached(&platform), (vec![acme.egress, second], None));
}

#[test]
fn the_connection_of_another_organization_carries_nothing() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let foreign = ResourceCommand::Carry { connection: Some(globex.connection) };
    platform.must::<Resource>(acme.resource.uuid(), foreign);
    assert_eq!(code(&platform, &request(acme)), RefusalCode::LeaseNotHeld);
}

#[test]
fn a_session_is_refreshed_under_the_generation_that_it_began_with() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    assert!(ask(&platform, &Liveness::new(), &refresh(acme)).is_ok());
    platform.carry(acme);
    assert_eq!(code(&platform, &refresh(acme)), RefusalCode::SessionTerminated);
    let session = SessionId::from_uuid(uuid(0x7001));
    platform.world.connect(acme, acme.user, session).unwrap();
    let again = AccessRequest { refresh: Some(session), ..request(acme) };
    let refreshed = ask(&platform, &Liveness::new(), &again).unwrap();
    assert_eq!(refreshed.claims.leased.unwrap().generation, Generation::new(1));
    platform.release(acme);
    assert_eq!(code(&platform, &again), RefusalCode::LeaseNotHeld);
    platform.grant(acme, acme.egress, 2);
    assert_eq!(code(&platform, &again), RefusalCode::SessionTerminated);
}

#[test]
fn what_an_egress_is_told_of_a_carried_resource_is_newer_than_its_connection() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    platform.carry(acme);
    let carried = platform.state().position();
    let authorized = ask(&platform, &Liveness::new(), &request(acme)).unwrap();
    assert_eq!(authorized.claims.egresses[&acme.egress], carried);
    let compiled = compile(platform.state(), acme.egress).unwrap();
    let resources = &compiled.sections[&compiled.manifest.sections[Resources::NAME]];
    let told = Resources::from_bytes(resources).unwrap().resources;
    assert_eq!(told[0].carried, Some(acme.connection));
}
